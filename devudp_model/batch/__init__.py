"""Many files in one run: the plan, the pipeline, the outcome."""
