"""Fits, evaluates and exports the networks that ``batch-label`` runs."""
