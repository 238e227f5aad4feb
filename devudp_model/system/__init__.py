"""Asks the machine: memory, files, terminal, signals."""
