"""Lets torchvision be imported where its compiled part does not fit this torch: PyPI has no build for a CPU's torch.

Python imports a module of this name when it starts, if its folder is in PYTHONPATH: the programs that tests start have
it too. Nothing happens before torchvision is imported, nor where its operators load.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


class _BeforeTorchvision(MetaPathFinder):
    """Finds nothing; it is asked for torchvision before those that find it."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname == "torchvision":
            sys.meta_path.remove(self)
            spec = PathFinder.find_spec("torchvision")
            if spec is not None and spec.origin is not None:
                _declare_operators(Path(spec.origin).parent)
        return None


def _declare_operators(folder: Path) -> None:
    """Tell torch of the operators that importing torchvision looks for, if its own file of them does not load."""
    import torch

    try:
        for library in (*folder.glob("_C.so"), *folder.glob("_C.pyd")):
            torch.ops.load_library(library)  # type: ignore[no-untyped-call]
    except OSError:
        for name in ("nms", "qnms"):
            torch.library.define(f"torchvision::{name}", _SCHEMA)


# Not twice, where both the start of Python and the tests' set-up import this.
if not any(type(finder).__name__ == _BeforeTorchvision.__name__ for finder in sys.meta_path):
    sys.meta_path.insert(0, _BeforeTorchvision())
