"""The commands of ``batch-label``, a module each."""
