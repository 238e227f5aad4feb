"""The streaming engine: runs a generator on images of any size within a memory bound."""
