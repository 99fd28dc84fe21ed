"""What `headstart plan` prints."""

from __future__ import annotations

from collections.abc import Iterator

from rich.table import Column, Table
from rich.text import Text

from headstart.commands.console import duration
from headstart.files import size_told
from headstart.records import StepTime
from headstart.train.costs.pilot import PilotForecast
from headstart.train.costs.planned import PlannedTeacher, PlanRecord, Way

_UNSURE = 0.1  # of a step: an interval wider than this says that the machine was not quiet


def plan_tables(plan: PlanRecord) -> Iterator[Table | str]:
    """The plan as tables and lines for the terminal, in the order to read them."""
    epochs = "a stream" if plan.epochs is None else f"{plan.epochs:.3g} times through its data"
    yield f"{plan.recipe}: {plan.steps} steps of {plan.batch_size} samples, {epochs}; on {plan.device}"
    yield _steps(plan)
    if plan.teachers:
        yield _teachers(plan)
    yield _memory(plan)
    yield _ways(plan)
    yield from _warnings(plan)
    yield f"Recommended: {plan.recommended}."
    yield from (f"  {reason}." for reason in plan.reasons)
    if plan.pilot is not None:
        yield from pilot_told(plan.pilot)


def pilot_told(pilot: PilotForecast) -> Iterator[str]:
    """What a pilot has shown, in sentences."""
    runs = f"{pilot.budget:g} {pilot.unit} ({pilot.fraction:.0%} of the shortest budget), {pilot.seeds} seeds"
    yield f"Pilot, {runs}, judged on {pilot.judged}: {_shown(pilot)}."
    if pilot.verdict == "not resolved":
        seeds = f"; about {pilot.more_seeds} more seeds would resolve it as it stands" if pilot.more_seeds else ""
        yield f"  More pilot is needed: a larger --pilot{seeds}. Nothing is forecast."
        return
    saved = pilot.saved_seconds
    if saved is not None:
        low = "" if saved.low is None else f"{_time(saved.low)} to "
        high = "any time" if saved.high is None else _time(saved.high)
        yield (
            f"  If it stayed in proportion, the shortest budget's plain run would be shortened by {_time(saved.value)} "
            f"({low}{high})."
        )
    yield "  How the saving changes with longer budgets a pilot cannot tell: race at your own."


def _shown(pilot: PilotForecast) -> str:
    if pilot.speedup is None:
        return f"the plain run's quality was not reached, {pilot.verdict}"
    speedup = pilot.speedup
    least = "at least " if pilot.status == "at least" else ""
    low = "0" if speedup.low is None else f"{speedup.low:.2f}"
    high = "no upper end" if speedup.high is None else f"{speedup.high:.2f}"
    interval = "" if speedup.low is None and speedup.high is None else f" ({low} to {high})"
    return f"the plain run's quality {least}{speedup.value:.2f}x sooner{interval}, {pilot.verdict}"


def _time(seconds: float) -> str:
    return f"{'-' if seconds < 0 else ''}{duration(abs(seconds))}"


def _steps(plan: PlanRecord) -> Table:
    """What a step takes, and what of it."""
    table = Table("of a step", "ms", "95 % interval", "GFLOPs", title="Step times", title_justify="left")
    _row(table, "plain step", plan.plain, plan.student_flops)
    if plan.distilled is not None and plan.loss is not None:
        asked = sum(teacher.share * teacher.flops for teacher in plan.teachers)
        _row(table, "distilled step", plan.distilled, plan.student_flops + asked)
        loss = plan.loss
        interval = "" if loss.low is None or loss.high is None else f"{loss.low * 1e3:.2f} to {loss.high * 1e3:.2f}"
        table.add_row("  of it the loss, and the rest", f"{loss.value * 1e3:.2f}", interval, "")
    if plan.cache is not None:
        _row(table, f"step with cached targets ({plan.cache.kind})", plan.cache.step, plan.student_flops)
    table.add_row(f"making its batch{', ahead' if plan.data_ahead else ''}", f"{plan.data_seconds * 1e3:.2f}", "", "")
    return table


def _teachers(plan: PlanRecord) -> Table:
    """The teachers. What a probe finds out about each is to be columns here."""
    columns = ("parameters", "memory", "forward, ms", "of a plain step", "asked at", "quality", "training")
    table = Table(Column("teacher", overflow="fold"), *columns, title="Teachers", title_justify="left")
    for teacher in plan.teachers:
        table.add_row(
            Text(teacher.name),
            f"{teacher.parameters:,}",
            size_told(teacher.bytes),
            f"{teacher.forward.seconds * 1e3:.2f}",
            f"{teacher.forward.seconds / plan.plain.seconds:.0%}",
            f"{teacher.share:.0%}",
            Text("?" if teacher.quality is None else f"{teacher.quality:.4f} {teacher.metric}"),
            _training(teacher, plan),
        )
    return table


def _training(teacher: PlannedTeacher, plan: PlanRecord) -> str:
    """What training it took, in plain runs of the recipe."""
    if teacher.training_flops is None:
        return "?"
    runs = teacher.training_flops / (plan.student_flops * plan.steps)
    return f"{runs:.2g} runs' FLOPs{'' if teacher.trained else ', ahead'}"


def _memory(plan: PlanRecord) -> Table:
    """What takes memory; what is measured comes last."""
    memory = plan.memory
    by_view = " (--by view)" if plan.cache is not None and plan.cache.by == "view" else ""
    table = Table("memory", "", title="Memory", title_justify="left")
    for name, size in (
        ("student", memory.parameters),
        ("gradients", memory.gradients),
        ("optimiser", memory.optimizer),
        ("average of the weights", memory.average),
        ("teachers", memory.teachers),
        ("activations and the rest", memory.rest),
        ("measured peak, plain", memory.plain_peak),
        ("measured peak, distilled", memory.distilled_peak),
        ("of this process on the host", memory.host_peak),
        (f"cached targets, on disk{by_view}", plan.cache.bytes if plan.cache is not None else None),
    ):
        if size:
            table.add_row(name, size_told(size))
    return table


def _ways(plan: PlanRecord) -> Table:
    columns = ("time", "overhead", "in FLOPs", "steps it must save", "once before")
    table = Table(Column("way", overflow="fold"), *columns, title="Ways, at equal steps", title_justify="left")
    for way in plan.ways:
        name = Text(f"{way.name}{' (the recipe)' if way.own else ''}")
        if way.refused:
            table.add_row(name, Text("not here"), "", "", "", "")
            continue
        most = "up to " if way.at_most else ""
        flops = "" if way.flops_overhead is None else f"{most}{way.flops_overhead:.1%}"
        once = duration(way.once) if way.once else ""
        table.add_row(name, f"{most}{duration(way.seconds)}", f"{most}{way.overhead:.1%}", flops, _saving(way), once)
    return table


def _saving(way: Way) -> str:
    if way.saving >= 1:
        return "more than all"
    return "none" if way.saving <= 0 else f"{'up to ' if way.at_most else ''}{way.saving:.1%}"


def _warnings(plan: PlanRecord) -> Iterator[str]:
    for way in plan.ways:
        if way.refused:
            yield f"Not here: {way.name}: {way.refused}"
    if not plan.data_keeps_up:
        yield (
            f"Data: a batch takes {plan.data_seconds * 1e3:.1f} ms to make and a step {plan.plain.seconds * 1e3:.1f}: "
            "steps will wait for it, and distilling costs less than it seems; more data.workers, if there are cores"
        )
    low, high = plan.plain.low, plan.plain.high
    if low is not None and high is not None and high - low > _UNSURE * plan.plain.seconds:
        yield (
            f"The machine is not quiet: a plain step takes {low * 1e3:.1f} to {high * 1e3:.1f} ms. Times may be wrong "
            "by as much; hold the FLOPs beside them, or plan again"
        )
    if any(not teacher.trained for teacher in plan.teachers):
        yield "Teachers that are still to be trained were timed with fresh weights, which take as long."


def _row(table: Table, name: str, step: StepTime, flops: float) -> None:
    low, high = step.low or 0.0, step.high or 0.0
    table.add_row(name, f"{step.seconds * 1e3:.2f}", f"{low * 1e3:.2f} to {high * 1e3:.2f}", f"{flops / 1e9:.3g}")
