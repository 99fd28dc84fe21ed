"""What `headstart teachers` and `headstart doctor` print."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from rich.table import Column, Table
from rich.text import Text
from torch import nn

from headstart.distill import Teacher
from headstart.distill.flops import count_flops
from headstart.distill.inputs import each_tensor
from headstart.errors import HeadstartError, TeacherError
from headstart.precision import AUTOCAST, chosen_for
from headstart.tasks.hub import one_line
from headstart.teachers import Found, expand_spec, find_teacher, read_weights
from headstart.teachers.doctor import Check
from headstart.teachers.hugging_face import outline_transformers
from headstart.teachers.loaded import Loaded
from headstart.teachers.modules import load_module
from headstart.train.costs.clock import timed

_REPEATS = 5
_PIXELS = 128 * 32 * 32  # of a batch, about; and so many tokens
_TOKENS = 8 * 128
_MOST_BYTES, _MOST_FLOPS = 4e9, 2e12  # of a model that is tried: some 10 s on a slow processor
_FIELDS = (
    *("kind", "task", "model", "classes", "parameters", "bytes", "quality", "metric"),
    *("inputs", "forward_ms", "forward_flops"),
)
_STYLES = {"pass": "green", "warn": "yellow", "fail": "red"}


def list_teachers(specs: Iterable[str]) -> list[dict[str, Any]]:
    """What there is to know of teachers, and what their forwards cost.

    Args:
        specs: As in `find_teacher`, or patterns.

    Returns:
        One mapping per teacher: `spec`, `kind`, `task`, `model`, `classes` (or tokens), `parameters`, `bytes` (of
        weights), `quality` and `metric`; `inputs` (the shape of the batch tried), `forward_ms` (the best of a few
        forwards of it on the CPU) and `forward_flops`. What is not known is None; a file of weights alone is not tried.
        Of what cannot be read, all is None but the `reason`. A folder of transformers with a model that is too large to
        be tried here (see `_too_large`) is told of by its configuration: its weights are not read, and it is not timed.

    Raises:
        TeacherError: There is nothing where a spec leads.
    """
    return [_row(spec) for given in specs for spec in expand_spec(str(given))]


def _row(spec: str) -> dict[str, Any]:
    """What there is to know of one, or why nothing is: others are listed all the same."""
    try:
        found = find_teacher(spec)
    except TeacherError as error:
        if not Path(spec).expanduser().exists():
            raise
        return {"spec": spec, **dict.fromkeys(_FIELDS), "reason": str(error)}
    try:
        return {**_described(found), "reason": None}
    except Exception as error:  # whatever a library makes of a damaged file
        reason = str(error) if isinstance(error, HeadstartError) else one_line(error)
        return {"spec": spec, **dict.fromkeys(_FIELDS), "kind": found.kind, "reason": reason}


def teachers_table(found: Iterable[Mapping[str, Any]]) -> Table:
    """The list as a table for the terminal."""
    # Words keep whole in a narrow terminal; what gives way, by lines and not by cuts, is the path.
    table = Table(Column("teacher", overflow="fold"), padding=(0, 0), pad_edge=False)
    for name in ("model", "classes", "parameters", "MB", "quality", "forward", "GFLOPs"):
        table.add_column(name, no_wrap=name == "model")
    for item in found:
        if item["reason"] is not None:
            table.add_row(Text(item["spec"]), Text(""), *[""] * 6)
            continue
        forward = f"{item['forward_ms']:.1f} ms for {item['inputs']}" if item["forward_ms"] is not None else "?"
        if item["forward_ms"] is None and item["inputs"] is not None:
            forward = f"not timed, {item['inputs']}"
        flops = f"{item['forward_flops'] / 1e9:.3g}" if item["forward_flops"] is not None else "?"
        table.add_row(
            Text(item["spec"]),
            Text(item["model"] or "?"),
            str(item["classes"] or "?"),
            f"{item['parameters']:,}",
            f"{item['bytes'] / 1e6:.2f}",
            Text("?" if item["quality"] is None else f"{item['quality']:.4f} {item['metric']}"),
            forward,
            flops,
        )
    return table


def unread(found: Iterable[Mapping[str, Any]]) -> list[str]:
    """Why some could not be read, a sentence each."""
    return [f"not read: {item['reason']}" for item in found if item["reason"] is not None]


def checks_table(checks: Iterable[Check]) -> Table:
    """The doctor's findings as a table for the terminal."""
    table = Table("check", "teacher", "", "finding", "what to do")
    for check in checks:
        status = f"[{_STYLES[check.status]}]{check.status}[/]"
        table.add_row(check.name, Text(check.teacher), status, Text(check.finding), Text(check.advice))
    return table


def _described(found: Found) -> dict[str, Any]:
    metric, quality = next(iter(found.quality.items()), (None, None))
    known = {"spec": found.spec, "kind": found.kind, "quality": quality, "metric": metric}
    if found.kind == "weights" and found.path is not None:
        tensors = list(read_weights(found.path).values())
        unknown = dict.fromkeys(("task", "model", "classes", "inputs", "forward_ms", "forward_flops"))
        return {**known, **unknown, "parameters": sum(map(torch.numel, tensors)), "bytes": _bytes(tensors)}
    outline = _outline(found)
    loaded = load_module(found) if outline is None else outline
    return {
        **known,
        "task": loaded.task,
        "model": found.description["model"]["name"] if found.kind == "run" else type(loaded.module).__name__,
        "classes": len(loaded.classes) if loaded.classes is not None else None,
        "parameters": sum(parameter.numel() for parameter in loaded.module.parameters()),
        "bytes": _bytes([*loaded.module.parameters(), *loaded.module.buffers()]),
        **_tried_if_possible(loaded),
    }


def _outline(found: Found) -> Loaded | None:
    """A model that is too large to be tried, without its weights; None for any other."""
    if found.kind != "transformers" or found.path is None:
        return None
    outline = outline_transformers(found.place)
    return outline if _too_large(outline) else None


def _too_large(outline: Loaded) -> bool:
    """Whether reading a model may fill this machine's memory, or a few forwards take minutes."""
    if _bytes([*outline.module.parameters(), *outline.module.buffers()]) > _MOST_BYTES:
        return True
    return (_tried_if_possible(outline)["forward_flops"] or 0) > _MOST_FLOPS


def _bytes(tensors: Iterable[torch.Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _tried_if_possible(loaded: Loaded) -> dict[str, Any]:
    """What a forward costs, where it takes images or tokens alone; without weights it is not timed."""
    try:
        return _tried(loaded)
    except Exception:  # it needs other inputs: a decoder's, another modality's
        return dict.fromkeys(("inputs", "forward_ms", "forward_flops"))


def _tried(loaded: Loaded) -> dict[str, Any]:
    """A forward of a batch such as the teacher was trained on."""
    inputs = _example(loaded)
    if inputs is None:
        return dict.fromkeys(("inputs", "forward_ms", "forward_flops"))
    given = inputs if inputs.dim() == 4 else {"input_ids": inputs}
    seen: dict[str, Any] = {"inputs": " x ".join(map(str, inputs.shape)), "forward_ms": None, "forward_flops": None}
    with suppress(Exception):  # an operator whose FLOPs are not known, or a model that looks at values
        seen |= _by_shapes(loaded.module, given)
    if next(loaded.module.parameters()).is_meta:
        return seen
    # As a run on this processor computes it.
    autocast = AUTOCAST[chosen_for("auto", inputs.device)]
    memory_format = torch.channels_last if inputs.dim() == 4 else None
    teacher = Teacher(loaded.module, autocast=autocast, memory_format=memory_format)
    times = [timed(lambda: teacher.logits(given), inputs.device) for _ in range(_REPEATS)]
    return {**seen, "forward_ms": min(times) * 1000, "classes": teacher.logits(given).shape[-1]}


def _by_shapes(module: nn.Module, inputs: Any) -> dict[str, Any]:
    """The FLOPs of a forward, and how many classes it gives, without computing anything."""
    from torch._subclasses.fake_tensor import FakeTensorMode  # which models know for a forward that has no values

    on_meta = each_tensor(lambda tensor: tensor.to("meta"), inputs)
    teacher, logits = Teacher(copy.deepcopy(module).to("meta")), list[torch.Tensor]()
    with FakeTensorMode(allow_non_fake_inputs=True) as fake:
        given = each_tensor(fake.from_tensor, on_meta)
        flops = count_flops(lambda: logits.append(teacher.logits(given)))
    return {"forward_flops": flops, "classes": logits[0].shape[-1]}


def _example(loaded: Loaded) -> torch.Tensor | None:
    """A batch of black images, or of the first token."""
    if loaded.size is not None:
        height, width = loaded.size
        dtype = next(loaded.module.parameters()).dtype
        count = max(1, _PIXELS // (height * width))
        return torch.zeros(count, loaded.channels, height, width, dtype=dtype)
    if loaded.length is not None:
        return torch.zeros(max(1, _TOKENS // loaded.length), loaded.length, dtype=torch.int64)
    return None
