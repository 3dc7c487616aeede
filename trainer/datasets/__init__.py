"""Labelled pictures: where they come from, and how they are read and made into data."""
