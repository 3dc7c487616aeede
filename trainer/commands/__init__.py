"""The commands of the trainer, a module each; they and ``cli.py`` alone print."""
