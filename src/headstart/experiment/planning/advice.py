"""Which way a plan recommends: by arithmetic, and by what recorded races have shown. No gain is invented."""

from __future__ import annotations

from collections.abc import Sequence

from headstart.recipe.recipe import Recipe
from headstart.train.costs.planned import PlannedCache, PlannedTeacher, Way, named, runs_to_pay

# Docs/defaults.md: with a teacher well ahead of the student both races there reached the baseline's best in about half
# of its steps. What needs more than that has never been seen to pay.
SEEN = 0.5
# The same page: a teacher that had seen as many samples as the run it taught no longer helped, one that had seen twice
# as many did.
AHEAD = 2.0
MOST_EPOCHS = 16.0  # of the races there: beyond, docs/window.md warns of automatic stops that come too early


def recommended(
    recipe: Recipe,
    ways: Sequence[Way],
    teachers: Sequence[PlannedTeacher],
    epochs: float | None,
    cache: PlannedCache | None = None,
) -> tuple[str, list[str]]:
    """The name of a way, and why, in sentences.

    Args:
        recipe: What is planned.
        ways: See `ways_of`.
        teachers: What is known of them.
        epochs: How often the run goes through its data; None: a stream.
        cache: Where targets can be cached.
    """
    taught = _taught(recipe, ways, epochs)
    reasons = []
    if taught is not None and taught.saving < SEEN:
        chosen = taught
        reasons += _of_taught(recipe, taught, epochs)
    elif (cached := named(ways, "cached")) is not None and cached.saving < SEEN:
        chosen = cached
        reasons.append(
            f"asking live teachers needs more than {SEEN:.0%} of the steps saved, which no race of docs/defaults.md "
            f"has shown; a run that reads cached targets needs {cached.saving:.1%}"
        )
    else:
        chosen = named(ways, "init") or ways[0]
        if taught is not None:
            reasons.append(
                f"asking these teachers needs {taught.saving:.0%} of the steps saved, and no race of docs/defaults.md "
                "has saved more than about half; take a smaller teacher, fewer pixels for it (size), or a fraction"
            )
    return chosen.name, [*reasons, *_of_init(ways), *_of_cache(ways, taught, cache), *_of_teachers(teachers)]


def _taught(recipe: Recipe, ways: Sequence[Way], epochs: float | None) -> Way | None:
    """The way that asks live teachers, if one is to go it."""
    if recipe.distill is None:
        return None
    automatic, windows = named(ways, "automatic"), [way for way in ways if way.kind == "window" and not way.refused]
    if automatic is not None and (epochs is None or epochs <= MOST_EPOCHS):
        return automatic
    own = next((way for way in windows if way.own), None)
    return own or next((way for way in windows if way.name == "window 0.5"), None) or next(iter(windows), None)


def _of_taught(recipe: Recipe, taught: Way, epochs: float | None) -> list[str]:
    needs = f"it has to save {taught.saving:.1%} of the steps to be no slower"
    if taught.kind == "automatic":
        return [
            f"{needs}, at most: it ends by itself where the teachers no longer help (docs/window.md), and at its cap "
            "otherwise; whether they help that much, headstart race or --pilot tells"
        ]
    found = [f"{needs}; whether its teachers help that much, headstart race or --pilot tells"]
    if epochs is not None and epochs > MOST_EPOCHS:
        found.append(
            f"the run goes through its data {epochs:.0f} times: with few data and many epochs an automatic stop comes "
            "too early (docs/window.md), so the window is a fixed one"
        )
    return found


def _of_init(ways: Sequence[Way]) -> list[str]:
    init = named(ways, "init")
    if init is None:
        return []
    return [
        f"starting from the older model's weights costs {init.overhead:.2%} of a plain run, which is all that it has "
        "to save; race it alone, too, at a learning rate of its own, often a quarter (docs/init.md)"
    ]


def _of_cache(ways: Sequence[Way], taught: Way | None, cache: PlannedCache | None) -> list[str]:
    cached = named(ways, "cached")
    live = next((way for way in ways if way.own and way.kind != "cached"), taught)
    if cached is None or live is None or (runs := runs_to_pay(live, cached)) is None:
        return []
    command = "headstart cache" + (" --by view" if cache is not None and cache.by == "view" else "")
    return [f"cached targets cost less than {live.name} from run {runs} on that reads the same cache ({command})"]


def _of_teachers(teachers: Sequence[PlannedTeacher]) -> list[str]:
    found = []
    for teacher in teachers:
        if teacher.seen is not None and teacher.seen < AHEAD:
            found.append(
                f"teacher {teacher.name} has seen {teacher.seen:.2g} times as many samples as this run will: in the "
                "race of docs/defaults.md one of as many as the run no longer helped, one of twice as many did"
            )
    return found
