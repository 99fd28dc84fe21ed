"""Draws the speed-ups of a race's arms, each with its interval, from a result file: docs/images/NAME.png.

Usage: python tools/speedup_picture.py race-reproduction [--figure speedup_over_overlap] [--clock calibrated]
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

from matplotlib.figure import Figure

ROOT = Path(__file__).resolve().parent.parent
INK, SOFT = "#1b1f24", "#56606b"
COLOURS = {"faster": "#009e73", "slower": "#d55e00", "not resolved": SOFT}


def speedups(figures: dict[str, dict[str, float]], figure: str, clock: str) -> dict[str, dict[str, float]]:
    """The figures of all arms by name, from the smallest to the largest."""
    found = {
        name.split(".")[1]: value
        for name, value in figures.items()
        if name.startswith(f"{figure}.") and name.endswith(f".{clock}")
    }
    return dict(sorted(found.items(), key=lambda item: item[1]["value"]))


def verdict(estimate: dict[str, float]) -> str:
    """What an interval says: all of it above 1, all below, or neither."""
    low, high = estimate.get("low", 0.0), estimate.get("high", math.inf)
    return "faster" if low > 1 else "slower" if high < 1 else "not resolved"


def draw(arms: dict[str, dict[str, float]], path: Path) -> None:
    """One line an arm; an interval with an open end goes on to the edge."""
    figure = Figure(figsize=(7.0, 0.27 * len(arms) + 0.9), layout="constrained")
    axes = figure.add_subplot()
    least = min(estimate.get("low") or estimate["value"] for estimate in arms.values()) / 1.08
    most = max(estimate.get("high") or estimate["value"] for estimate in arms.values()) * 1.08
    for place, estimate in enumerate(arms.values()):
        ends = [estimate.get("low") or least, estimate.get("high") or most]
        colour = COLOURS[verdict(estimate)]
        axes.plot(ends, [place, place], color=colour, linewidth=2.0)
        axes.plot([estimate["value"]], [place], "o", color=colour, markersize=6)
    axes.axvline(1.0, color=INK, linewidth=1.0)
    axes.set_xscale("log")
    axes.set_xlim(least, most)
    ticks = [tick for tick in (0.5, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 2.5, 3.0) if least <= tick <= most]
    axes.set_xticks(ticks, [f"{tick:g}x" for tick in ticks])
    axes.minorticks_off()
    axes.set_yticks(range(len(arms)), list(arms))
    axes.grid(axis="x", color="#e3e7eb")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.set_xlabel("speed-up, with its 95 % interval")
    figure.savefig(path, dpi=150)


def main() -> None:
    """Read the result file and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="of a file in benchmarks/results, without .json")
    parser.add_argument("--figure", default="speedup_over_overlap")
    parser.add_argument("--clock", default="calibrated")
    arguments = parser.parse_args()
    content = json.loads((ROOT / "benchmarks" / "results" / f"{arguments.name}.json").read_text(encoding="utf-8"))
    path = ROOT / "docs" / "images" / f"{arguments.name}.png"
    draw(speedups(content["figures"], arguments.figure, arguments.clock), path)
    print(f"wrote {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
