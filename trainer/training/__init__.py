"""Training a network: settings, initial weights, augmentation, the loop, cross-validation."""
