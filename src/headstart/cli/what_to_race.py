"""What `headstart race` races, a recipe or a command: as a whole, or in parts for a batch system."""

from __future__ import annotations

import os
import shlex
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headstart.cli.common import stderr
from headstart.errors import RaceError, RecipeError

if TYPE_CHECKING:
    from headstart.experiment.ray_cluster import Cluster
    from headstart.race import Run
    from headstart.records import RaceRecord


@dataclass(frozen=True)
class Raced(ABC):
    """Something to race, and the race folder."""

    out: Path

    def plan(self) -> list[str]:
        """A command line for each part that is still to be done, teachers first."""
        return [shlex.join([*self.words(), "--only", part]) for part in self.unfinished()]

    @abstractmethod
    def words(self) -> list[str]:
        """The command that races it."""

    @abstractmethod
    def unfinished(self) -> list[str]:
        """The parts that are still to be done, by their folder in the race folder."""

    @abstractmethod
    def do(self, part: str) -> None:
        """Do one part."""

    @abstractmethod
    def race(self, workers: int, cluster: Cluster | None, hours: float | None) -> RaceRecord:
        """Do all that is still to be done, or what there is time for, and judge."""


@dataclass(frozen=True)
class RacedRecipe(Raced):
    """A recipe with a race section."""

    path: Path
    overrides: list[str]

    def words(self) -> list[str]:  # noqa: D102 - as in the base
        return ["headstart", "race", str(self.path), *self.overrides, "--out", str(self.out)]

    def unfinished(self) -> list[str]:  # noqa: D102
        from headstart.experiment.race_parts import unfinished_parts
        from headstart.recipe.load import load_recipe

        return unfinished_parts(load_recipe(self.path, self.overrides), self.out)

    def do(self, part: str) -> None:
        """Do one part; where torchrun started several processes, they do it together."""
        from headstart.commands.console import Display
        from headstart.experiment.race_parts import train_part
        from headstart.recipe.load import load_recipe
        from headstart.train.ranks import disconnect

        with Display(stderr(quiet=int(os.environ.get("RANK", "0")) > 0)) as display:
            train_part(load_recipe(self.path, self.overrides), self.out, part, watcher=display)
        disconnect()

    def race(self, workers: int, cluster: Cluster | None, hours: float | None) -> RaceRecord:  # noqa: D102
        from headstart.commands.console import Display
        from headstart.experiment.arms import planned_runs
        from headstart.experiment.race import race_recipe
        from headstart.recipe.load import load_recipe

        recipe, command = load_recipe(self.path, self.overrides), shlex.join(self.words())
        with Display(stderr(), planned_runs(recipe, limited=hours is not None), workers, self.out) as display:
            return race_recipe(
                recipe, self.out, watcher=display, command=command, workers=workers, cluster=cluster, hours=hours
            )


@dataclass(frozen=True)
class RacedCommand(Raced):
    """Any command, as a template."""

    template: str
    arms: str
    budgets: str
    seeds: str

    def words(self) -> list[str]:  # noqa: D102
        given = {"cmd": self.template, "arms": self.arms, "budgets": self.budgets, "seeds": self.seeds}
        options = [word for name, value in given.items() for word in (f"--{name}", value)]
        return ["headstart", "race", *options, "--out", str(self.out)]

    def unfinished(self) -> list[str]:  # noqa: D102
        from headstart.race.one_run import unfinished_runs

        return list(unfinished_runs(self.out, self._runs()))

    def do(self, part: str) -> None:  # noqa: D102
        from headstart.race import Definition, command_function, run_once
        from headstart.race.run_names import run_part

        run = next((run for run in self._runs() if run_part(*run) == part), None)
        if run is None:
            raise RaceError(
                f"{part} is no part of this race; the same command with --plan lists those still to be done"
            )
        definition = Definition(command=self.template, budget_unit="budget")
        run_once(command_function(self.template, self.out), self.out, run, definition)

    def race(self, workers: int, cluster: Cluster | None, hours: float | None) -> RaceRecord:  # noqa: D102
        from headstart.commands.console import Display
        from headstart.race import command_function
        from headstart.race import race as run_race

        names, lengths, numbers = self._axes()
        function = command_function(self.template, self.out)
        with Display(stderr(), self._runs(limited=hours is not None), workers, self.out) as display:
            return run_race(
                function if cluster is None else lambda *run: cluster.call(function, *run),
                arms=names,
                budgets=lengths,
                seeds=numbers,
                folder=self.out,
                command=self.template,
                listener=display,
                workers=workers,
                hours=hours,
            )

    def _axes(self) -> tuple[list[str], list[float], list[int]]:
        names = [name.strip() for name in self.arms.split(",") if name.strip()]
        return names, _numbers(self.budgets, "--budgets", float), _numbers(self.seeds, "--seeds", int)

    def _runs(self, *, limited: bool = False) -> list[Run]:
        from headstart.race import most_telling_first, plan_race

        plan = plan_race(*self._axes())
        return most_telling_first(plan) if limited else plan.runs


def cluster_of(on: str, cpus: float, gpus: float) -> AbstractContextManager[Cluster | None]:
    """The cluster that `--on` names; None for this machine.

    Raises:
        RecipeError: It names none.
        HeadstartError: Ray is not installed.
    """
    if on == "local":
        return nullcontext()
    if on != "ray" and not on.startswith("ray://"):
        raise RecipeError(f"--on={on!r}: give local, ray, or ray://HOST:PORT")
    from headstart.experiment.ray_cluster import Cluster

    return Cluster(None if on == "ray" else on, cpus=cpus, gpus=gpus)


def _numbers(text: str, option: str, kind: Callable[[str], Any]) -> list[Any]:
    try:
        return [kind(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise RecipeError(f"{option}={text!r}: give numbers with commas between them, for example 1,2,4") from None
