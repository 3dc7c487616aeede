"""Labelling on a Ray cluster."""
