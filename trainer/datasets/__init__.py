"""Data sets of labelled pictures: readers, splits, near duplicates and reviews."""
