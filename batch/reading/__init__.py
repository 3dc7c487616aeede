"""Reports read back, and compared."""
