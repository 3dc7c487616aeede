"""Lets ``python -m trainer`` run the command line."""

from trainer.cli.main import main

main()
