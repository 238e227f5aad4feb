"""The paper's method, and what was added to it."""
