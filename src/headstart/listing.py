"""What `headstart teachers` lists."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from rich.table import Table

from headstart.teachers import find_teacher, load_teacher
from headstart.train.clock import timed

_BATCH = 128
_REPEATS = 5


def list_teachers(specs: Iterable[str]) -> list[dict[str, Any]]:
    """Parameters, bytes, quality (where its record says) and forward cost of teachers.

    Args:
        specs: Run folders, or safetensors files of runs.

    Returns:
        One mapping per teacher; `forward_ms` is the best of a few forwards of 128 images of 28 x 28 pixels on the CPU.

    Raises:
        TeacherError: A spec leads to no teacher.
    """
    return [_describe(spec) for spec in specs]


def teachers_table(found: Iterable[Mapping[str, Any]]) -> Table:
    """The list as a table for the terminal."""
    table = Table("teacher", "model", "classes", "parameters", "MB", "quality", "forward (128 images)")
    for item in found:
        quality = "not known" if item["quality"] is None else f"{item['quality']:.4f} {item['metric']}"
        size = f"{item['bytes'] / 1e6:.2f}"
        forward = f"{item['forward_ms']:.1f} ms"
        table.add_row(
            item["spec"], item["model"], str(item["classes"]), f"{item['parameters']:,}", size, quality, forward
        )
    return table


def _describe(spec: str) -> dict[str, Any]:
    found, teacher = find_teacher(spec), load_teacher(spec)
    images = torch.zeros(_BATCH, int(found.description["channels"]), 28, 28).contiguous(
        memory_format=torch.channels_last
    )
    times = [timed(lambda: teacher.logits(images), images.device) for _ in range(_REPEATS)]
    return {
        "spec": spec,
        "model": found.description["model"]["name"],
        "classes": len(found.description["classes"]),
        "parameters": sum(parameter.numel() for parameter in teacher.module.parameters()),
        "bytes": found.path.stat().st_size,
        "quality": found.record.quality if found.record else None,
        "metric": found.record.metric if found.record else None,
        "forward_ms": min(times) * 1000,
    }
