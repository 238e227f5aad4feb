"""Programs for maintainers, run in a clone's root: they make files from the code, and images
from real runs. None is installed. `python -m tools.NAME`; CONTRIBUTING.md says when.
"""
