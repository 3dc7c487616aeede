"""Fault injection: runs that are killed, or get an error, at a chosen system call."""
