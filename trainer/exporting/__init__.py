"""From a trained network to a model file that keeps the contract."""
