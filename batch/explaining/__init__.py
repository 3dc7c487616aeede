"""Occlusion maps: which parts of a photo its answer depends on, as a picture and as text."""
