"""A training run from its start, or from a state, to its end."""
