"""How often the intervals and verdicts of races are right, by simulation: coverage.json.

Usage: python benchmarks/interval_coverage.py [--races 1000] [--out benchmarks/results]

Every combination of a shape of curve, a spread between seeds and an arm (synthetic_races.py) is a setting, raced
`--races` times with 2, 3, 5 and 10 seeds.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import numpy as np
import torch
from scipy import stats

from headstart.race.statistics.cells import FloatArray
from results_file import RESULTS, Figure, command_line, new_result, write_result
from synthetic_races import ARMS, SHAPES, SPREADS, Counts, Flags, simulate

SEEDS = (2, 3, 5, 10)

Setting = tuple[str, str, str]


def run_settings(races: int, seeds: int) -> dict[Setting, Counts]:
    """Simulate every setting, by the names of its shape, its spread and its arm."""
    results = {}
    for number, (shape, spread, arm) in enumerate(product(SHAPES, SPREADS, ARMS)):
        rng = np.random.default_rng([seeds, number])
        results[shape, spread, arm] = simulate(SHAPES[shape], SPREADS[spread], ARMS[arm], seeds, races, rng)
    return results


def figures_of(results: dict[Setting, Counts], seeds: int) -> dict[str, Figure]:
    """The figures for one number of seeds, over all settings and by kind of arm."""
    every, same = list(results.values()), [counts for (_, _, arm), counts in results.items() if arm == "same"]
    worst = min(every, key=lambda counts: float(counts.covered.mean()))
    told = [counts.faster | counts.slower for counts in same]
    figures = {
        f"coverage_{seeds}_seeds": _share([counts.covered for counts in every]),
        f"worst_coverage_{seeds}_seeds": _share([worst.covered]),
        f"known_speedup_coverage_{seeds}_seeds": _share([counts.known for counts in every]),
        f"overlap_coverage_{seeds}_seeds": _share([counts.overlap for counts in every]),
        f"aa_false_rate_{seeds}_seeds": _share(told),
        f"aa_false_faster_rate_{seeds}_seeds": _share([counts.faster for counts in same]),
        f"aa_worst_false_rate_{seeds}_seeds": _share([max(told, key=np.mean)]),
    }
    for spread in SPREADS:
        chosen = [counts for (_, name, _), counts in results.items() if name == spread]
        figures[f"coverage_{seeds}_seeds.{spread}"] = _share([counts.covered for counts in chosen])
    for arm in ARMS:
        chosen = [counts for (_, _, name), counts in results.items() if name == arm]
        figures[f"unresolved_{seeds}_seeds.{arm}"] = _share([~(c.faster | c.slower) for c in chosen])
        figures |= _widths(f"{seeds}_seeds.{arm}", chosen)
    return figures | _widths(f"{seeds}_seeds", every)


def _widths(name: str, chosen: Sequence[Counts]) -> dict[str, Figure]:
    """The share of open intervals, and the median of the upper over the lower end of the others."""
    widths = np.concatenate([counts.width for counts in chosen])
    closed = widths[np.isfinite(widths)]
    figures = {f"open_{name}": _share([~np.isfinite(widths)])}
    if len(closed):
        figures[f"median_width_{name}"] = Figure(value=float(np.median(closed)), unit="high / low", n=len(closed))
    return figures


def _share(parts: Sequence[FloatArray | Flags]) -> Figure:
    """The share of races, NaN left out, with the 95 % interval of the simulation's own error."""
    values = np.concatenate([np.asarray(part, dtype=np.float64) for part in parts])
    values = values[~np.isnan(values)]
    successes, number = int(values.sum()), len(values)
    ends = stats.binomtest(successes, number).proportion_ci(method="wilson")
    return Figure(value=successes / number, low=float(ends.low), high=float(ends.high), n=number)


def main() -> None:
    """Simulate, print, write the result file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--races", type=int, default=1000, help="per setting and number of seeds")
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    begin = time.perf_counter()
    figures: dict[str, Figure] = {}
    told, faster = [], []
    for seeds in SEEDS:
        results = run_settings(arguments.races, seeds)
        figures |= figures_of(results, seeds)
        same = [counts for (_, _, arm), counts in results.items() if arm == "same"]
        told += [counts.faster | counts.slower for counts in same]
        faster += [counts.faster for counts in same]
        print(f"{seeds} seeds: coverage {figures[f'coverage_{seeds}_seeds'].value:.3f}", flush=True)
    figures |= {"aa_false_rate": _share(told), "aa_false_faster_rate": _share(faster)}
    result = new_result(
        "coverage",
        dict(sorted(figures.items())),
        command=command_line(__file__, sys.argv[1:]),
        device=torch.device("cpu"),
        seconds=time.perf_counter() - begin,
        packages=["scipy"],
    )
    print(f"wrote {write_result(result, arguments.out)}")


if __name__ == "__main__":
    main()
