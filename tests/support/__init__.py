"""Shared test helpers: servers, hostile files, small models and runs of the command."""
