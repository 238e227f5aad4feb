"""Image files: reading, writing, metadata."""
