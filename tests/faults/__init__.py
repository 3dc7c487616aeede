"""Faults on purpose: runs that are killed, or refused by the system, at a chosen system call."""
