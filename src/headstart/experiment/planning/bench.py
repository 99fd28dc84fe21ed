"""One session of a recipe whose step is taken in several ways, so that they can be timed beside each other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import NamedTuple

from headstart.cache import Batches, all_views
from headstart.cache.container import Header, file_bytes
from headstart.cache.reader import CacheFile
from headstart.distill import Distiller, Teacher, TeacherPool
from headstart.errors import RecipeError
from headstart.experiment.calibrate import WARM_UP, always_distilling, endless
from headstart.experiment.fill_cache import By, write_targets
from headstart.recipe.checks import check_cacheable, check_settings
from headstart.recipe.distill_section import Distill
from headstart.recipe.recipe import Recipe
from headstart.tasks import Task
from headstart.tasks.images.config import ImageData
from headstart.tasks.images.progressive import resized
from headstart.train.costs.clock import timed
from headstart.train.costs.known_before import shown_to_teachers
from headstart.train.session import Session, make_distiller
from headstart.train.setup.cached_targets import cached_teachers, few_views

BATCHES = 8  # of training, gone through again and again
_IN_A_ROW = 6  # batches made for the throughput of workers, after two that start them


class Bench:
    """A student, its teachers, and the steps that they can take together.

    Nothing is trained here that is kept: the learning rate is that of the first steps of an endless run.

    Args:
        recipe: With or without `distill`; of cached targets the live teachers are taken.
        paths: Where the teachers lie that the recipe describes.
        asked: The recipe as it was asked for, with what is still to be decided; it says which ways there are.

    Raises:
        HeadstartError: As `Session`.
    """

    def __init__(self, recipe: Recipe, paths: Mapping[str, Path], asked: Recipe) -> None:
        self._asked = asked if asked.distill is None else with_distill(asked, cache=None)
        live = recipe if recipe.distill is None else with_distill(recipe, cache=None)
        # Steps with a fixed window: those that look for an automatic stop are timed beside them.
        fixed = live if live.distill is None else with_distill(live, stop=1.0, cap=None, open_at=None)
        self.recipe = endless(live, None) if live.distill is None else always_distilling(fixed)
        self.session = Session(self.recipe, paths)
        self.pool: TeacherPool | None = self.session.pool
        self.distiller = self.session.distiller
        self._held: list[TemporaryDirectory[str]] = []
        self._paths = paths

    @property
    def teachers(self) -> list[Teacher]:
        """Those that run."""
        return self.pool.live if self.pool is not None else []

    @property
    def ahead(self) -> bool:
        """Whether workers make batches beside the steps."""
        return isinstance(self.recipe.data, ImageData) and self.recipe.data.size is not None

    def step(self, distiller: Distiller | None, side: int | None) -> Callable[[int], float]:
        """A timer of steps: with a Distiller or without, at a size of images."""

        def timer(index: int) -> float:
            number = index % BATCHES
            self.session.distiller = distiller
            if distiller is not None:
                distiller.current_step = number
            return timed(lambda: self.session.train_step(number, side=side), self.session.device)

        return timer

    def forward(self, teacher: Teacher, side: int | None) -> Callable[[int], float]:
        """A timer of a teacher's forwards of a step."""
        inputs = resized(shown_to_teachers(self.session), side)
        rounds = range(self.recipe.train.accumulate)
        assert self.pool is not None
        pool = self.pool

        def timer(index: int) -> float:
            pool.bring(teacher, self.session.device)
            return timed(lambda: [teacher.logits(inputs) for _ in rounds], self.session.device)

        return timer

    def batch(self, index: int) -> float:
        """The timer of making a step's batch; what workers have decoded is at hand for the steps after it."""
        return timed(lambda: self._make(index % BATCHES), self.session.device)

    def data_seconds(self) -> float:
        """Seconds a batch where one is made after the other and nothing else is done."""
        times = [timed(partial(self._make, step), self.session.device) for step in range(2 + _IN_A_ROW)]
        return median(times[2:])

    def automatic(self) -> Distiller:
        """A Distiller that looks for its stop.

        Raises:
            HeadstartError: The recipe cannot have one.
        """
        assert self.recipe.distill is not None and self.pool is not None
        automatic = self.recipe.distill.model_copy(update={"stop": "auto", "cap": 1.0, "open_at": None})
        check_settings(self._asked.model_copy(update={"distill": automatic}))
        return make_distiller(automatic, self.recipe.train, self.pool, self.session.total_steps)

    def cached(self) -> tuple[Distiller, list[Header], float]:
        """A Distiller that reads the targets of a few batches, made here.

        Returns:
            It; the headers of its files; seconds that making one batch's targets took, of all teachers.

        Raises:
            HeadstartError: The recipe's targets cannot be cached.
        """
        assert self.distiller is not None and self.pool is not None
        check_cacheable(self._asked)
        if not self.pool.stays:
            raise RecipeError(
                f"distill.residence={self.recipe.distill.residence if self.recipe.distill else ''}: caching asks all "
                "teachers for each batch, so it is not timed where they are not all on the device"
            )
        session, train = self.session, self.recipe.train
        place = TemporaryDirectory(prefix="headstart-plan-")
        self._held.append(place)
        batches = Batches(session.task, range(BATCHES), train.batch_size, train.accumulate)
        session.distiller = self.distiller  # of which the last step timed may have been without
        paths = write_targets(session, place.name, batches, teacher_paths=self._paths)
        files = [CacheFile(path) for path in paths]
        names = [teacher.name for teacher in self.teachers]
        live = dict(zip(names, self.teachers, strict=True))
        sources = cached_teachers(place.name, names, live, self.recipe, session.task)
        pool = TeacherPool(sources, draw=self.pool.draw, weights=self.pool.weights, seed=self.pool.seed)
        for source in sources:
            source.to(session.device)
        assert self.recipe.distill is not None
        distiller = make_distiller(self.recipe.distill, train, pool, session.total_steps)
        seconds = sum(file.cost.cache_seconds or 0.0 for file in files) / BATCHES
        return distiller, [file.header for file in files], seconds

    def asked(self, place: int) -> tuple[int, ...]:
        """Which teachers the step asks that is measured at a place of the lists of `interleaved`."""
        assert self.pool is not None
        return self.pool.chosen((WARM_UP + place // 2) % BATCHES)

    def shares(self) -> list[float]:
        """How many of the distilled steps ask each teacher, on average over draws."""
        if self.pool is None:
            return []
        count, weights = self.pool.draw, self.pool.weights
        if count == 1:
            return self.pool.mean_weights(range(len(weights)))
        return [count / len(weights)] * len(weights)

    def close(self) -> None:
        """Remove what was written."""
        for place in self._held:
            place.cleanup()

    def _make(self, step: int) -> None:
        for micro in range(self.recipe.train.accumulate):
            self.session.batch(step, micro)


def with_distill(recipe: Recipe, **changes: object) -> Recipe:
    """The recipe with some settings of its `distill` section changed."""
    assert recipe.distill is not None
    changed: Distill = recipe.distill.model_copy(update=changes)
    return recipe.model_copy(update={"distill": changed})


class CacheSize(NamedTuple):
    """How many targets a cache holds.

    Attributes:
        by: Of what.
        blocks: Micro-batches.
        samples: In these.
    """

    by: By
    blocks: int
    samples: int

    def bytes(self, headers: Sequence[Header]) -> int:
        """Of the finished files."""
        return sum(file_bytes(header, self.blocks, self.samples) for header in headers)


def smaller_cache(task: Task, blocks: int, size: int) -> CacheSize:
    """The smaller one of two caches: of the epochs that a run distils on, or of all views of its samples.

    Args:
        task: Of the run.
        blocks: Micro-batches that it distils on.
        size: Samples of each.
    """
    few = few_views(task)
    whole = None if few is None else all_views(few, size)
    if whole is not None and whole.samples < blocks * size:
        return CacheSize("view", len(whole.plan), whole.samples)
    return CacheSize("epoch", blocks, blocks * size)
