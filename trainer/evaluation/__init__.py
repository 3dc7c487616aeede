"""How right models are, measured."""
