"""How fast restoring is, how much memory it takes, and how precise 16 bits are.

python -m benchmarks --help
"""
