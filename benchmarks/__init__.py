"""How fast restoring is, how much memory it takes, and what 16 bits cost.

python -m benchmarks --help
"""
