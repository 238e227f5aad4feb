"""Restoring tensors: the tasks, the exposure, `auto`, coarse to fine, frozen statistics."""
