"""The generator, its normalisation, and files of its weights."""
