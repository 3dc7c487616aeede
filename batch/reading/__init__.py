"""Reports read back as rows, checked, and compared."""
