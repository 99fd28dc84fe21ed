"""Imports what most of the programs import, once for all of them; what is not installed is left out."""

from __future__ import annotations

import contextlib
import importlib

for _name in (
    "headstart",
    "datasets",
    "transformers.trainer",
    "transformers.models.bert.modeling_bert",
    "headstart.adapters.trainer",
    "torchvision",
    "torch._dynamo",
    "lightning",
    "timm",
    "trl",
):
    with contextlib.suppress(ImportError):
        importlib.import_module(_name)
