"""What the machine offers: memory, files, terminal, signals."""
