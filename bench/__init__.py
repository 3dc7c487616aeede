"""Measures the command on the machine at hand: speed, memory, waits, and agreement of labels.

``python -m bench`` measures speed and memory, ``python -m bench.agreement`` the labels; see
docs/performance.md for what is measured and why so.
"""
