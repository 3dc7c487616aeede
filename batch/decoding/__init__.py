"""Files read and pictures decoded, and what they may cost."""
