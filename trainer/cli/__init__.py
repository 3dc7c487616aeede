"""Command line of the trainer, one module per command."""
