"""Video files: reading, writing, scenes."""
