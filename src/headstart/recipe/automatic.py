"""`distill: auto`: the word, and what stands in its place before and after a probe."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from headstart.distill.probing import CAP, Choice
from headstart.distill.stopping import latest_stop
from headstart.recipe.distill_section import Distill
from headstart.teachers import TeacherEntry

WORD = "auto"
MEANS: Mapping[str, Any] = {
    "temperature": WORD, "weight": WORD, "open_at": WORD, "stop": WORD, "cap": CAP, "every": WORD, "weights": WORD,
}  # fmt: skip
"""What `distill: auto` says."""


def in_a_word(content: Any) -> Any:
    """A recipe's content with `distill: auto` spelled out.

    Args:
        content: As it was read. The teachers are those that it describes under `teachers`.

    Raises:
        ValueError: It describes none.

    Example:
        >>> in_a_word({"distill": "auto", "teachers": {"old": {}}})["distill"]["teachers"]
        ['old']
    """
    if not isinstance(content, Mapping) or content.get("distill") != WORD:
        return content
    described = content.get("teachers")
    names = list(described) if isinstance(described, Mapping) else []
    if not names:
        raise ValueError(
            "distill=auto asks the teachers that the recipe describes under `teachers`, and there are none; name "
            f"others with distill: {{teachers: [...], {', '.join(f'{key}: {value}' for key, value in MEANS.items())}}}"
        )
    return {**content, "distill": {"teachers": names, **MEANS}}


def as_override(content: Mapping[str, Any], value: Any) -> Any:
    """What an override of `distill` sets: of `auto`, all that it says, with the teachers that were there before."""
    before = content.get("distill")
    if value != WORD or not isinstance(before, Mapping) or not before.get("teachers"):
        return value
    return {"teachers": before["teachers"], **MEANS}


def provisional(distill: Distill) -> Distill:
    """A section as it may become at most, for whoever has to know before a probe: each teacher, on each step."""
    known = {"temperature": 1.0, "weight": 0.5, "open_at": None, "every": 1, "weights": None}
    return distill.model_copy(update={key: known[key] for key in distill.undecided})


def decided(distill: Distill, choice: Choice) -> Distill | None:
    """A section with what a probe has chosen in place of each `auto`, as fixed settings.

    Args:
        distill: As the recipe has it.
        choice: Of its teachers, named in its order.

    Returns:
        None where no teacher is of use, and the section left it open whom to ask.
    """
    undecided, names = distill.undecided, list(choice.weights)
    kept = list(range(len(names)))
    update: dict[str, Any] = {}
    if "weights" in undecided:
        kept = [place for place in kept if choice.weights[names[place]]]
        weights = [choice.weights[names[place]] for place in kept]
        update["weights"] = None if len(set(weights)) < 2 else weights
        if not kept:
            return None
    decisions = {"open_at": choice.open_at, "every": choice.every, "weight": choice.weight}
    update |= {key: value for key, value in decisions.items() if key in undecided}
    if "open_at" in undecided and distill.stop == WORD:
        shortest = distill.start + distill.ramp_up + distill.ramp_down
        update["cap"] = max(shortest, min(latest_stop(WORD, distill.cap), choice.cap))
    entries = [distill.teachers[place] for place in kept]
    if "temperature" in undecided:
        update["temperature"] = choice.temperature
        entries = [_calibrated(distill.teachers[place], choice.temperatures.get(names[place])) for place in kept]
    if isinstance(distill.draw, int):
        update["draw"] = min(distill.draw, len(kept))
    return distill.model_copy(update={**update, "teachers": entries})


def _calibrated(entry: TeacherEntry, temperature: float | None) -> TeacherEntry:
    whole = (entry.temperature or 1.0) * (temperature or 1.0)
    return entry if whole == 1.0 else entry.model_copy(update={"temperature": float(f"{whole:.6g}")})
