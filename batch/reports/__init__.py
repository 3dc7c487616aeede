"""Reports written and published, as files or datasets."""
