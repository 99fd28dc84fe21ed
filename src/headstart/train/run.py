"""One run of a recipe, from the first step to the record."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch

from headstart.distill.last_call import LastCall
from headstart.errors import Diverged
from headstart.recipe.cycles import cycle_ends
from headstart.recipe.recipe import Recipe
from headstart.records import OpenedRecord, RunRecord, StoppedRecord
from headstart.tasks import Evaluation, Task
from headstart.train import ranks
from headstart.train.costs.clock import Clock
from headstart.train.costs.energy import EnergyMeter
from headstart.train.costs.known_before import known_before
from headstart.train.judging import check_judging, judged, judged_by_glue
from headstart.train.precision import settled_in
from headstart.train.probing import decide
from headstart.train.probing import told as auto_told
from headstart.train.session import Session
from headstart.train.state.checkpoint import checkpoints, remove_checkpoints
from headstart.train.state.lock import claimed
from headstart.train.state.resume import resume, save
from headstart.train.state.run_folder import RECIPE, RunFolder, peak_memory
from headstart.train.state.signals import Requests, leaving
from headstart.train.state.take_over import take_over
from headstart.train.trackers import Trackers

Note = Callable[[str], None]

_DIVERGED = "a lower train.lr, a longer train.warmup or train.clip_norm usually help"
_GO_ON = "a checkpoint is written, and the same command goes on from there"


class Progress(Protocol):
    """Told how far a run is, every `train.log_every` steps."""

    def __call__(self, step: int, total_steps: int, loss: float) -> None:
        """After `step` of `total_steps` optimiser steps; `loss` is the last one's."""
        ...  # pragma: no cover


def train(
    recipe: Recipe,
    folder: str | Path,
    *,
    teacher_paths: Mapping[str, Path] | None = None,
    progress: Progress | None = None,
    labels: Mapping[str, Any] | None = None,
    preemptible: bool = False,
    shorter: Sequence[Path] = (),
    note: Note | None = None,
) -> RunRecord:
    """Train a recipe; a run that was interrupted goes on from its checkpoint, a finished one is not done again.

    Of several processes (`torchrun`, `accelerate launch`) all call it, with the same folder; one writes.

    Args:
        recipe: What to train.
        folder: The run folder.
        teacher_paths: Run folders of the teachers that the recipe describes.
        progress: Told how far it is, and then each fine-tuning where the recipe has a `glue` section.
        labels: Fields of the record that a race knows: arm, budget, seed.
        preemptible: Whether SIGTERM or SIGINT (Ctrl-C) during training, to any of the processes, makes all write a
            checkpoint and leave; one that comes during the evaluation at the end is obeyed once the run is finished.
        shorter: Run folders of the same training in fewer cycles, the shortest first: it goes on from the longest that
            has finished, whose checkpoint is then dropped.
        note: Told, line by line, what a look at the teachers made of the settings that the recipe leaves to it.

    Raises:
        Preempted: SIGTERM came, and the checkpoint is written; its kind `Interrupted`: it was Ctrl-C.
        HeadstartError: The folder holds another run, cannot be written, or another process trains there; the loss is
            not finite; or anything that the recipe, data, or teachers got wrong.
    """
    ranks.connect()
    recipe = settled_in(recipe, Path(folder) / RECIPE)
    place = RunFolder(Path(folder), recipe)
    if record := ranks.from_main(place.finished):
        return record
    place.require_shared()
    with claimed(place.path):
        if record := ranks.from_main(place.finished):  # by the one that held it
            return record
        return _train(recipe, place, teacher_paths or {}, progress, labels or {}, preemptible, shorter, note)


def _train(
    recipe: Recipe,
    place: RunFolder,
    teacher_paths: Mapping[str, Path],
    progress: Progress | None,
    labels: Mapping[str, Any],
    preemptible: bool,
    shorter: Sequence[Path],
    note: Note | None,
) -> RunRecord:
    """See `train`."""
    ranks.from_main(lambda: take_over(shorter, recipe, place.path))
    check_judging(recipe)
    begun = bool(ranks.from_main(lambda: checkpoints(place.path)))
    session = Session(
        recipe, teacher_paths, initialise=not begun, decide=partial(_decide, place, teacher_paths, note or _silent)
    )
    place.keep_initial(session.initial)
    auto = ranks.from_main(place.auto)
    # Before the first step: an operator whose FLOPs are not known must not be found after hours of training.
    known = known_before(session, teacher_paths, ranks.from_main(place.initial), auto)
    if session.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(session.device)
    # A score of GLUE takes hours, and goes on from what is there: a signal need not wait for it.
    with Trackers(recipe, place.path, labels) as trackers, ExitStack() as until_finished:
        requests = until_finished.enter_context(Requests(preemptible))
        seconds, joules = _train_steps(session, place, progress, requests, trackers)
        evaluation = _evaluate(session, place, session.total_steps)
        memory, opened, stopped = peak_memory(session.device), _opened(session), _stopped(session)
        record = RunRecord(
            quality=evaluation.quality,
            losses=dict(evaluation.others),
            seconds=seconds,
            energy_joules=joules,
            memory_bytes=None if memory is None else int(ranks.largest(memory)),
            opened=opened,
            stopped=stopped,
            **known.fields(
                opened.begin(session.total_steps) if opened is not None else 0,
                stopped.end if stopped is not None else None,
            ),
            **labels,
        )
        place.save_weights(session.result, session.task.describe())
        if judged_by_glue(recipe):
            until_finished.close()
        if not ranks.is_main():
            return place.wait_until_finished()
        session.task.save_beside(place.path)
        record = judged(record, recipe, place.path, progress)
        place.finish(record)
        for path in shorter:
            remove_checkpoints(path)
        trackers.log_result(record, session.total_steps)
        return record


def _decide(
    place: RunFolder, paths: Mapping[str, Path], note: Note, recipe: Recipe, task: Task, device: torch.device
) -> Recipe:
    """What the recipe leaves to a look at its teachers, as it was once decided in this run folder."""
    known = ranks.from_main(place.auto)
    recipe, auto = decide(recipe, task, device, paths, known)
    if auto is not None and known is None:
        place.keep_auto(auto)
    for line in auto_told(auto) if auto is not None and ranks.is_main() else []:
        note(line)
    return recipe


def _silent(line: str) -> None:
    """Ignored."""


def _train_steps(
    session: Session, place: RunFolder, progress: Progress | None, requests: Requests, trackers: Trackers
) -> tuple[float, float | None]:
    """Train from the checkpoint, or the beginning, to the end; the seconds and joules it took in all."""
    config, total = session.recipe.train, session.total_steps
    troughs = cycle_ends(total, config.cycles)
    saved_at_end = judged_by_glue(session.recipe) or config.first_cycle is not None
    first, seconds = resume(session, place.path)
    if first == 0:
        seconds += sum(spent.seconds for spent in (session.initial, ranks.from_main(place.auto)) if spent is not None)
    place.go_on_from(first)
    meter = EnergyMeter(session.device)
    if first > 0 or session.accelerator.num_processes > 1:  # a part only is measured here
        meter.give_up()
    clock = Clock(session.device, seconds, meter)
    clock.start()
    for done in range(first + 1, total + 1):
        loss = session.train_step(done - 1)
        if done % config.log_every == 0 or done in troughs:
            clock.stop()
            line = _measure(session, place, done, float(loss), clock.seconds)
            if done in troughs[:-1]:
                line["quality"] = _evaluate(session, place, done).quality
            place.append_metrics({**line, "total_steps": total})  # who looks from outside sees how far it is
            trackers.log(line, done)
            if progress is not None:
                progress(done, total, line["loss"])
            clock.start()
        signalled = requests.asked() if done < total else 0
        if signalled or (saved_at_end if done == total else done % config.checkpoint_every == 0):
            clock.stop()
            save(session, place.path, done, clock.seconds)
            if signalled:
                ranks.wait_for_all()  # a launcher ends all as soon as one has left, and one still writes
                raise leaving(signalled, str(place.path), f"after step {done} of {total}; {_GO_ON}")
            clock.start()
    clock.stop()
    return ranks.largest(clock.seconds), meter.joules


def _opened(session: Session) -> OpenedRecord | None:
    """Since when a window was open that waited for the student."""
    distill, distiller = session.recipe.distill, session.distiller
    if distiller is None or distill is None or distill.open_at is None:
        return None
    if (opened := distiller.opened) is not None:
        return OpenedRecord(step=opened.step, told=str(opened))
    told = f"distillation did not begin: the student's Brier score was not seen to come down to {distill.open_at:g}"
    return OpenedRecord(step=None, told=told)


def _stopped(session: Session) -> StoppedRecord | None:
    """When and why an automatic stop has closed the window."""
    stopped = session.distiller.stopped if session.distiller is not None else None
    if stopped is None:
        return None
    return StoppedRecord(
        step=stopped.step,
        end=stopped.end,
        total_steps=stopped.total_steps,
        reason=stopped.reason,
        told=str(stopped),
    )


def _evaluate(session: Session, place: RunFolder, step: int) -> Evaluation:
    """Held-out quality; a student that diverged after its last measured loss is found here."""
    evaluation = session.evaluate()
    for name, value in {session.task.metric: evaluation.quality, **evaluation.others}.items():
        if not math.isfinite(value):
            raise Diverged(f"{place.path}: {name} is {value} after step {step}; {_DIVERGED}")
    return evaluation


def _measure(session: Session, place: RunFolder, step: int, loss: float, seconds: float) -> dict[str, float]:
    """A line of metrics, means over the processes."""
    last = session.distiller.last if session.distiller is not None else None
    aligned = session.hidden.last if session.hidden is not None else None
    parts = {} if last is None or last.step != step - 1 else _parts(last)
    hidden = {} if aligned is None or aligned.step != step - 1 else {"hidden_loss": float(aligned.loss)}
    loss, *means = ranks.mean([loss, *parts.values(), *hidden.values()])
    if not math.isfinite(loss):
        raise Diverged(f"{place.path}: the loss is {loss} at step {step}; {_DIVERGED}")
    line = {"step": step, "seconds": round(seconds, 4), "loss": loss, "lr": session.optimizer.param_groups[0]["lr"]}
    line |= dict(zip([*parts, *hidden], means, strict=True))
    if last is not None and parts:
        line["weight"] = last.weight
    if aligned is not None and hidden:
        line["hidden_weight"] = aligned.weight
    return line


def _parts(last: LastCall) -> dict[str, float]:
    """What the losses of a distilled step were, and how far student and teacher agree where the same pass told it."""
    parts = {"task_loss": last.task_loss, "distill_loss": last.distill_loss}
    return parts if last.agreement is None else {**parts, "agreement": last.agreement}
