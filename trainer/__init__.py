"""Trains, evaluates and exports the models that ``batch-label`` runs."""
