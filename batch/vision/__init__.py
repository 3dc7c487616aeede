"""From a file's bytes to its row: decode, find faces, crop, classify, decide."""
