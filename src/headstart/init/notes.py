"""What else is to be known of an init, in sentences."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from headstart.init.picking.axes import Axes
from headstart.init.picking.heads import tiled_evenly
from headstart.init.plan import Take, is_tied
from headstart.init.roles import OF_CONTENT, OF_HEADS
from headstart.init.view import View

# GPT-2's layers may divide by their own place in the stack.
_BY_PLACE = "scale_attn_by_inverse_layer_idx"
# What a layer computes with, beside its weights; several names where types call it differently.
_SETTINGS = (
    ("hidden_act", "hidden_activation", "activation", "activation_function"),
    ("rope_parameters",),
    ("local_attention", "sliding_window"),
    ("position_embedding_type",),
    ("rms_norm_eps", "layer_norm_eps", "norm_eps", "layer_norm_epsilon"),
    ("scale_attn_weights",),
    (_BY_PLACE,),
    ("pooler_act",),
)


def notes_of(student: View, source: View, axes: Axes, takes: Iterable[Take]) -> tuple[str, ...]:
    """Where a student does not give the source's outputs though shapes say so, and what of the source is not used."""
    return (
        *_widths(student, source),
        *_depths(student, source, axes),
        *_kinds(axes),
        *_places(student, source, axes),
        *_heads(student, source),
        *_head(student, source),
        *_positions(axes),
        *_unused(source, axes, takes),
        *_settings(student, source),
    )


def _widths(student: View, source: View) -> list[str]:
    if not student.family.norms:
        return []
    shared = [axis for axis in student.sizes if axis.layer < 0 and axis.base not in (*OF_CONTENT, *OF_HEADS)]
    pairs = [(axis.base, source.sizes.get(axis, 0), student.sizes[axis]) for axis in shared]
    return [
        f"{name}: {new} is no whole multiple of {old}, so that norms see other means: outputs are not preserved"
        for name, old, new in pairs
        if old and new > old and new % old
    ]


def _depths(student: View, source: View, axes: Axes) -> list[str]:
    grown = [stack for stack in axes.layers if student.stacks[stack] > source.stacks[stack]]
    return [
        f"{stack}: {student.stacks[stack]} layers out of {source.stacks[stack]}, stacked: outputs are not preserved"
        for stack in grown
        if None not in axes.layers[stack] or source.stacks[stack] > 1
    ]


def _kinds(axes: Axes) -> list[str]:
    """Layers that look at other positions than those that they come from."""
    found = []
    for stack, chosen in axes.layers.items():
        old, new = axes.kinds(stack) or ([], [])
        others: dict[tuple[str, str], list[int]] = {}
        for layer, (kind, origin) in enumerate(zip(new, chosen, strict=False)):
            if origin is not None and old[origin] != kind:
                others.setdefault((kind, old[origin]), []).append(layer)
        found += [
            f"{stack}: {kind} in {', '.join(map(str, each))}, {was} where they come from: outputs are not preserved"
            for (kind, was), each in others.items()
        ]
    return found


def _places(student: View, source: View, axes: Axes) -> list[str]:
    """Layers that divide by their place, at another one."""
    if not all(view.side.setting(_BY_PLACE) for view in (student, source)):
        return []
    return [
        f"{stack}: layers at other places than the source's divide by these ({_BY_PLACE}): outputs are not preserved"
        for stack, chosen in axes.layers.items()
        if any(origin != layer for layer, origin in enumerate(chosen))
    ]


def _heads(student: View, source: View) -> list[str]:
    if student.heads is None or source.heads is None or student.heads == source.heads:
        return []
    if (student.heads.size - source.heads.size) * (student.heads.count - source.heads.count) < 0:
        new, old = (f"{heads.count} of {heads.size} channels" for heads in (student.heads, source.heads))
        return [f"heads: {new} out of {old}, some cut and some taken twice: outputs are not preserved"]
    grown = student.heads.size > source.heads.size
    if grown and not tiled_evenly(source.heads, student.heads):
        return [
            f"heads: {student.heads.size} channels out of {source.heads.size} rotate by frequencies that the source "
            "does not compute: outputs are not preserved"
        ]
    return []


def _head(student: View, source: View) -> list[str]:
    """A head of the source's own, where the student's is its embedding."""
    if student.family.tied is None or not is_tied(student) or is_tied(source):
        return []
    own = next((name for name in source.side.names if re.fullmatch(student.family.tied[0], name)), None)
    # Tensors alone do not show that two of them are one; the configuration tells.
    told = source.side.module is not None or source.side.setting("tie_word_embeddings") is False
    if own is None or not told:
        return []
    return [f"the student's head is its embedding, the source's is not: the source's own ({own}) is not used"]


def _unused(source: View, axes: Axes, takes: Iterable[Take]) -> list[str]:
    """Parts of layers that are taken, biases or norms, that the student does not have."""
    used = {take.source for take in takes}
    left = [
        re.sub(rf"^{re.escape(place.stack)}\.\d+\.", "", name)
        for name, place in source.places.items()
        if place.layer in axes.layers.get(place.stack, ()) and place.stack and name not in used
    ]
    names = ", ".join(dict.fromkeys(left))
    return [f"the student has no {names}: the source's are not used, and outputs are not preserved"] if names else []


def _settings(student: View, source: View) -> list[str]:
    """Settings of the computation that differ; where only one configuration tells, nothing is known."""
    found = []
    for names in _SETTINGS:
        old, new = (_plain(view.side.setting(*names)) for view in (source, student))
        if old is not None and new is not None and old != new:
            told = "another one" if isinstance(old, Mapping) else old
            here = "" if isinstance(new, Mapping) else f", {new} in the student"
            name = next(name for name in names if student.side.setting(name) is not None)
            found.append(f"{name}: {told} in the source{here}: outputs are not preserved")
    return found


def _plain(value: Any) -> Any:
    """Without what is not set."""
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items() if inner is not None}
    return value


def _positions(axes: Axes) -> list[str]:
    if axes.grids is None or axes.grids[0] == axes.grids[1] or axes.grids[0].before != axes.grids[1].before:
        return []
    old, new = (f"{grid.height} x {grid.width}" for grid in axes.grids)
    return [f"positions: a grid of {new} out of one of {old}, resampled (bicubic, antialiased)"]
