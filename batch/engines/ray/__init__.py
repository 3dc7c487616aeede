"""The labelling backend of a Ray cluster."""
