"""The way of a photo: from its bytes to its row."""
