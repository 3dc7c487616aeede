"""Benchmarks of the command on this machine: speed, memory, waiting times, and labels.

``python -m bench`` measures speed and memory, ``python -m bench.agreement`` the labels;
docs/performance.md describes the methods.
"""
