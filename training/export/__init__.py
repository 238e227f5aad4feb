"""From a run to files for others: checkpoints with their cards, ONNX, and how well they agree."""

from .checkpoint import export_run, export_weights

__all__ = ["export_run", "export_weights"]
