"""The fine-tunings of one task: which are done, and doing the others."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from headstart.errors import HeadstartError
from headstart.extras import recipes_extra
from headstart.precision import Chosen, chosen_for
from headstart.records import Record, read_record, write_record
from headstart.tasks.glue.checkpoint import Checkpoint, Classifier, load_classifier, save_encoder
from headstart.tasks.glue.data import GlueData
from headstart.tasks.glue.finetune import count_steps, finetune, predict
from headstart.tasks.glue.metrics import measure
from headstart.tasks.glue.options import GlueOptions
from headstart.tasks.glue.protocol import GlueTask
from headstart.tasks.glue.results import Making, SeedScore
from headstart.tasks.glue.tokens import TokenSet, tokenize

with recipes_extra():
    from accelerate import PartialState

MNLI = "mnli"


@dataclass(frozen=True, eq=False)
class Job:
    """The fine-tunings of a task, one for each seed.

    Attributes:
        data: The task, and where its data is.
        checkpoint: What is scored.
        options: Less than the whole protocol.
        folder: Where the results of all tasks go.
        with_mnli: Whether MNLI is among the tasks, so that others can start from it.
    """

    data: GlueData
    checkpoint: Checkpoint
    options: GlueOptions
    folder: Path
    with_mnli: bool

    @property
    def task(self) -> GlueTask:
        """The task and its settings."""
        return replace(self.data.task, lr=self.data.task.lr * self.options.lr_scale)

    @property
    def seeds(self) -> range:
        """0, 1, ..."""
        return range(min(self.task.seeds, self.options.seeds or self.task.seeds))

    @property
    def precision(self) -> Chosen:
        """What `auto` stands for where it runs."""
        return chosen_for(self.options.precision, PartialState().device)

    @property
    def made(self) -> Making:
        """What its results are made of."""
        return Making(
            checkpoint=self.checkpoint.fingerprint,
            start=self.task.start if self.with_mnli else "pretraining",
            epochs=min(self.task.epochs, self.options.epochs or self.task.epochs),
            lr_scale=self.options.lr_scale,
            precision=self.precision,
            max_length=self.checkpoint.max_length,
        )

    def unfinished(self) -> list[int]:
        """The seeds that are still to do.

        Raises:
            HeadstartError: A result in the folder was made otherwise.
        """
        results = {seed: self._finished(seed) for seed in self.seeds}
        redo = self.task.name == MNLI and not self._encoder.is_dir()
        return [seed for seed, result in results.items() if result is None or redo]

    def results(self) -> list[SeedScore]:
        """The results so far."""
        return [result for seed in self.seeds if (result := self._finished(seed)) is not None]

    def tokens(self) -> dict[str, TokenSet]:
        """All splits, read, checked and tokenised."""
        return {split: tokenize(self.checkpoint, self.data.read(split)) for split in ("train", *self.task.validation)}

    def run(self, seed: int, splits: Mapping[str, TokenSet], progress: Callable[[int, int, float], None]) -> SeedScore:
        """Fine-tune, judge and save."""
        begin = time.perf_counter()
        made, samples = self.made, len(splits["train"].labels)
        steps = count_steps(self.task, samples, made.epochs)
        classifier = self._finetuned(seed, splits["train"], steps, progress)
        score = SeedScore(
            task=self.task.name,
            seed=seed,
            metrics=self._metrics(classifier.model, splits),
            made=made,
            samples=samples,
            steps=steps,
            seconds=round(time.perf_counter() - begin, 3),
        )
        if self.task.name == MNLI:
            save_encoder(classifier, self._encoder)
        write_result(score, self._path(seed))
        return score

    def _finetuned(
        self, seed: int, train: TokenSet, steps: int, progress: Callable[[int, int, float], None]
    ) -> Classifier:
        device = PartialState().device
        source = self._encoder if self.made.start == MNLI else self.checkpoint.source
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            classifier = load_classifier(source, self.task.classes, seed=seed, device=device)
            finetune(
                classifier.model,
                train,
                self.task,
                steps=steps,
                seed=seed,
                padding=self.checkpoint.padding,
                precision=self.precision,
                progress=progress,
            )
        return classifier

    def _metrics(self, model: nn.Module, splits: Mapping[str, TokenSet]) -> dict[str, float]:
        metrics = {}
        for split in self.task.validation:
            tokens = splits[split]
            outputs = predict(model, tokens, padding=self.checkpoint.padding, precision=self.precision)
            for metric in self.task.metrics:
                metrics[metric + split.removeprefix("validation")] = measure(metric, outputs, tokens.labels)
        return metrics

    @property
    def _encoder(self) -> Path:
        """What MNLI's fine-tuning leaves for others to start from."""
        return self.folder / MNLI / "encoder"

    def _path(self, seed: int) -> Path:
        return self.folder / self.task.name / f"seed-{seed}.json"

    def _finished(self, seed: int) -> SeedScore | None:
        path = self._path(seed)
        if not path.exists():
            return None
        score, now = read_record(SeedScore, path), self.made.model_dump()
        changes = [f"{name} was {was!r}, is now {now[name]!r}" for name, was in score.made if was != now[name]]
        if changes:
            raise HeadstartError(
                f"{path}: this result was made otherwise ({'; '.join(changes)}); give another folder for the results, "
                "or delete this one to make it again"
            )
        return score


def write_result(record: Record, path: Path) -> None:
    """Write a record, atomically.

    Raises:
        HeadstartError: It cannot be written.
    """
    try:
        write_record(record, path)
    except OSError as error:
        raise HeadstartError(
            f"{path}: cannot be written ({error.strerror or error}); finished results are kept, so make room there or "
            "give another folder, then start again"
        ) from None
