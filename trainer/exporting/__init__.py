"""Export of trained networks as model files, with cards and checksums."""
