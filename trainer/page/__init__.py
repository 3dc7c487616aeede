"""The HTML page of a training: curves, metrics, mistakes and problems of the data."""
