"""Measures how fast restoring is, how much memory it takes, how precise 16 bits are.

python -m benchmarks --help
"""
