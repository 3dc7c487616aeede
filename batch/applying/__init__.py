"""Applying a report: copies, links, moves, lists and sidecars of the photos whose rows match."""
