"""Makes PyPI's torchvision (built for CUDA) importable beside a torch without CUDA.

Its compiled part cannot be loaded there. It goes without, but for two operators that its Python
part describes and nobody has declared: they are declared here, as soon as torchvision is looked
for. Installed into the test host's environment, where a .pth file imports it at start.
"""

import importlib.abc
import sys


class DeclareOperators(importlib.abc.MetaPathFinder):
    """Finds nothing; only notices that torchvision is about to be imported."""

    library = None

    def find_spec(self, name, path=None, target=None):
        if name == "torchvision" and DeclareOperators.library is None:
            sys.meta_path.remove(self)
            import torch

            if not torch.version.cuda and not torch.version.hip:
                library = DeclareOperators.library = torch.library.Library("torchvision", "DEF")
                for operator in ("nms", "qnms"):
                    library.define(f"{operator}(Tensor dets, Tensor scores, float iou) -> Tensor")


sys.meta_path.insert(0, DeclareOperators())
