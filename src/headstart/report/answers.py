"""The first screen of the page: is it faster, by how much, how sure is that, and what did it cost."""

from __future__ import annotations

from dataclasses import dataclass

from headstart.records import ArmResult, RaceRecord
from headstart.report import figures
from headstart.report.figures import NOTHING, QualityScale
from headstart.report.loaded import in_flops, why_unknown
from headstart.report.money import Price, saved_seconds
from headstart.report.result_tables import speedup_text
from headstart.report.sentences import primary_result


@dataclass(frozen=True)
class Answer:
    """A question, its answer in a few characters, and a line that says what the answer means."""

    question: str
    figure: str
    note: str


def mood(record: RaceRecord) -> str:
    """`faster`, `slower` or `open`: what colours the verdict."""
    result = primary_result(record)
    return "open" if result is None or result.verdict == "not resolved" else result.verdict


def answers(record: RaceRecord, price: Price | None = None) -> list[Answer]:
    """The four answers about the primary arm on the headline clock, and a fifth in money where there is a price."""
    result = primary_result(record)
    if result is None or result.status == "no data":
        return [Answer("Is it faster?", "Not known", f"There is nothing to compare {record.primary} by.")]
    found = [_faster(record, result), _how_much(record, result), _how_sure(record, result), _cost(record, result)]
    return found if price is None or result.clock == "flops" else [*found, _money(result, price)]


def _faster(record: RaceRecord, result: ArmResult) -> Answer:
    word = {"faster": "Yes", "slower": "No, slower", "not resolved": "Not resolved"}[result.verdict]
    scale = QualityScale.of(record)
    goal = NOTHING if result.target_quality is None else scale.text(result.target_quality)
    note = f"{result.arm} to {scale.metric} {goal}, the baseline's best"
    if result.reference_budget is not None:
        note += f" ({figures.budget(result.reference_budget, record.budget_unit)})"
    chance = " What was measured may be chance." if result.verdict == "not resolved" else ""
    return Answer("Is it faster?", word, f"{note}.{chance}")


def _how_much(record: RaceRecord, result: ArmResult) -> Answer:
    scale = QualityScale.of(record)
    notes = []
    if result.arm_cost is not None and result.baseline_cost is not None:
        costs = (figures.amount(cost, result.clock) for cost in (result.arm_cost, result.baseline_cost))
        notes.append("{} instead of {}{}.".format(*costs, " (calibrated)" if result.clock == "calibrated" else ""))
    if result.gain is not None:
        equal = "equal FLOPs" if result.clock == "flops" else "equal time"
        notes.append(f"At {equal}: {scale.difference(result.gain.value)}{'' if scale.percent else ' ' + scale.metric}.")
    if result.overlap_speedup is not None:
        interval = figures.in_brackets(figures.speedup_interval(result.overlap_speedup))
        notes.append(f"Over all qualities that both reach: {figures.times(result.overlap_speedup.value)}{interval}.")
    return Answer("By how much?", figures.capitalised(speedup_text(result)), " ".join(notes))


def _how_sure(record: RaceRecord, result: ArmResult) -> Answer:
    interval = figures.speedup_interval(result.speedup) if result.speedup else ""
    note = "95 % interval of the speed-up"
    if not result.speedup and result.gain:
        scale = QualityScale.of(record)
        interval = figures.gain_interval(result.gain, scale)
        note = "95 % interval of the gain at equal cost" + (", points" if scale.percent else "")
    if not interval:
        note = "One run a budget gives no interval; race two seeds or more"
    runs, seeds = figures.count(len(record.runs), "run"), figures.count(len(record.seeds), "seed")
    failed = f", {len(record.failures)} failed" if record.failures else ""
    return Answer(
        "How sure is that?", figures.capitalised(interval) or NOTHING, f"{note}. {runs} with {seeds}{failed}."
    )


def _cost(record: RaceRecord, result: ArmResult) -> Answer:
    question = "What did the teachers cost?"
    why = "" if result.teacher_cost is not None else why_unknown(record, result)
    known = result if result.teacher_cost is not None else in_flops(record, result)
    if known is None or known.teacher_cost is None:
        counted = "The speed-up counts their work during the run, not their own training."
        return Answer(question, "Not known", " ".join(filter(None, (counted, why))))
    notes = ["Nothing more if they are at hand."]
    here = " in FLOPs" if known is not result else ""
    if known.loaded_speedup is not None:
        notes.append(f"Their training counted in once: {figures.times(known.loaded_speedup)}{here}.")
    if known.break_even is None:
        notes.append(f"Their training does not pay for itself{here}.")
    else:
        notes.append(f"Paid back after {figures.count(known.break_even, 'training')}{here}.")
    return Answer(
        question, figures.amount(known.teacher_cost, known.clock), " ".join([*notes, *([why] if why else [])])
    )


def _money(result: ArmResult, price: Price) -> Answer:
    question, rate = "And in money?", f"At {price.text(3600)} an hour."
    saved = saved_seconds(result)
    if saved is None or result.arm_cost is None or result.baseline_cost is None:
        return Answer(question, "Not known", f"{result.arm} never reaches the baseline's best. {rate}")
    change = "saved" if saved >= 0 else "lost"
    costs = f"{price.text(result.arm_cost)} instead of {price.text(result.baseline_cost)} a training."
    teachers = "" if result.teacher_cost is None else f" The teachers' training: {price.text(result.teacher_cost)}."
    return Answer(question, f"{price.text(abs(saved))} {change}", f"{costs}{teachers} {rate}")
