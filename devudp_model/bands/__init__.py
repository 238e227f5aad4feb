"""Images in bands of rows: reading and writing them, the workers, temporary files."""
