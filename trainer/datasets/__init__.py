"""Labelled pictures: the layouts they are read from, and the data sets made of them."""
