"""Labelling backends: this machine, or a Ray cluster."""
