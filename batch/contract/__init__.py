"""The contract of models, and those that come along."""
