"""Fuzzer: real input files of every kind, broken in many ways, and checks of the results."""
