"""What an init refuses before it looks at shapes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from headstart.errors import InitError
from headstart.init.side import Side

# Names that quantised weights have beside them or in their place: bitsandbytes, GPTQ, AWQ, compressed-tensors, fp8.
_QUANTISED = re.compile(r".*\.(qweight|qzeros|weight_packed|weight_scale(_inv)?|SCB|absmax|quant_map|quant_state\..*)")

_ADAPTER = re.compile(r".*\.lora_(A|B|embedding_A|embedding_B)\..*")

WAYS = ("auto", "copy", "select", "grow")
SCORES = ("spaced", "first", "activation")
WRITING = ("together", "each", "nothing")


def check_options(
    how: str, scores: str, compensate: bool, batches: Any, shrink: float, perturb: float, writing: str
) -> None:
    """Refuse options that are none, or that need others.

    Raises:
        InitError: They are.
    """
    for name, value, known in (("how", how, WAYS), ("scores", scores, SCORES), ("writing", writing, WRITING)):
        if value not in known:
            raise InitError(f"{name}={value!r} is unknown; give {', '.join(known)}")
    if batches is None and (scores == "activation" or compensate):
        asked = "scores='activation'" if scores == "activation" else "compensate"
        raise InitError(f"{asked} looks at the source at work: give batches, some batches of inputs")
    if (shrink, perturb) != (1.0, 0.0) and how not in ("auto", "copy"):
        raise InitError(f"shrink and perturb are for how='copy', not for {how!r}; leave them out")


def check_sides(student: Side, source: Side) -> None:
    """Refuse a student that cannot be filled, a source that is quantised, and adapters that are not merged.

    Raises:
        InitError: They are such.
    """
    for name, tensor in student.tensors.items():
        if tensor.is_meta:
            raise InitError(
                f"student: {name} is on the meta device; give it memory first (to_empty, then its own init)"
            )
        if hasattr(tensor, "placements"):
            raise InitError(f"student: {name} is sharded over processes; call init_from before the model is sharded")
    for side in (student, source):
        adapter = next((name for name in side.names if _ADAPTER.fullmatch(name)), None)
        if adapter is not None:
            what = "merge them first (peft: merge_and_unload)" if side is source else "put them on after init_from"
            raise InitError(f"{side.who}: has LoRA adapters beside its weights ({adapter}); {what}")
    known = source.tensors.items() if isinstance(source.tensors, dict) else ()
    found = next((name for name in source.names if _QUANTISED.fullmatch(name)), None) or next(
        (name for name, value in known if name.endswith("weight") and _is_quantised(value)), None
    )
    if found is not None:
        raise InitError(
            f"source: {found} is quantised; give the weights as they were before quantisation, or dequantise them first"
        )


def check_rows(rows: Mapping[str, Tensor], axes: set[str], student: Side) -> None:
    """Refuse rows of what the student does not have.

    Raises:
        InitError: There is no such axis or tensor.
    """
    for name in rows:
        if name not in axes and name not in student.names.values():
            known = ", ".join(sorted(axes)) or "none, as its family is not known"
            raise InitError(f"rows[{name!r}]: the student has no such axis or tensor; its axes of content: {known}")


def _is_quantised(value: Any) -> bool:
    return isinstance(value, Tensor) and (not value.dtype.is_floating_point or value.dtype.itemsize == 1)


def check_classes(student: Side, source: Side, rows: Mapping[str, Tensor], heads: list[str]) -> None:
    """Refuse to take rows of a head for classes of other names.

    Args:
        student: The student.
        source: The source.
        rows: Rows matched by content.
        heads: The student's tensors with a row a class.

    Raises:
        InitError: Both say what their classes are called, there are as many, and they are not called the same.
    """
    old, new = (_class_names(side) for side in (source, student))
    matched = "classes" in rows or any(student.names[name] in rows for name in heads)
    if old is None or new is None or len(old) != len(new) or not heads or matched:
        return
    if [name.casefold() for name in old] != [name.casefold() for name in new]:
        raise InitError(
            f"classes: {', '.join(old[:4])}... in the source, {', '.join(new[:4])}... in the student; say which row is "
            "which: rows={'classes': torch.tensor([...])}, for each of the student's classes the source's, or -1"
        )


def _class_names(side: Side) -> list[str] | None:
    """What a configuration calls its classes; None: it only numbers them."""
    names = side.setting("id2label")
    if not isinstance(names, Mapping):
        return None
    ordered = [str(names[key]) for key in sorted(names, key=int)]
    return None if any(re.fullmatch(r"(LABEL_)?\d+", name) for name in ordered) else ordered
