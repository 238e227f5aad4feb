"""Programs for maintainers, run in a clone's root: they make files from the code, images from
real runs, mutants. None is installed. `python -m tools.NAME`; CONTRIBUTING.md says when.
"""
