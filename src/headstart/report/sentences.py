"""The verdict of a race in a sentence."""

from __future__ import annotations

from headstart.race import speedup_at_quality
from headstart.records import ArmResult, RaceRecord
from headstart.report import figures
from headstart.report.figures import CLOCK_NAMES, QualityScale
from headstart.report.tuning import tuning_sentences


def primary_result(record: RaceRecord) -> ArmResult | None:
    """The primary arm's result on the headline clock; None where the race has not been judged on it."""
    wanted = (record.primary, record.headline_clock)
    return next((result for result in record.results if (result.arm, result.clock) == wanted), None)


def verdict_sentence(record: RaceRecord) -> str:
    """The verdict on the primary arm in plain text: how much faster, to what, how sure, and what is missing.

    Args:
        record: A race, judged (`headstart.race.judge`).

    Returns:
        One sentence, and one more for each thing a reader has to know beside it: the quality at equal cost where the
        speed-up alone says little, runs that failed, runs still to come. No markup; arm names stand as they are.

    Example:
        >>> from headstart.records import Arm, ArmResult, Estimate, RaceRecord
        >>> result = ArmResult(
        ...     arm="early", clock="seconds", status="reached", verdict="faster", target_quality=0.92,
        ...     speedup=Estimate(value=1.7, low=1.5, high=1.9),
        ... )
        >>> arms = [Arm(name="baseline"), Arm(name="early")]
        >>> race = RaceRecord(arms=arms, baseline="baseline", primary="early", budgets=[], seeds=[], results=[result])
        >>> verdict_sentence(race)
        "early is faster: 1.70x (95 % interval 1.50 to 1.90) to the baseline's best, quality 0.92, in raw seconds."
    """
    return " ".join([judgement(record), *caveats(record)])


def judgement(record: RaceRecord) -> str:
    """The verdict itself, without what limits it."""
    result = primary_result(record)
    if result is None:
        return f"No verdict: {record.primary} has not been judged in {CLOCK_NAMES[record.headline_clock]}."
    return _SENTENCES[result.status](record, result)


def caveats(record: RaceRecord) -> list[str]:
    """What limits the verdict, a sentence each: seeds that it lacks, runs that failed or are still to come, tuning."""
    planned = sum(len(record.budgets_of(arm)) * len(record.seeds_of(arm)) for arm in record.arms)
    failed = len(record.failures)
    missing = planned - failed - len(record.runs)
    sentences = []
    result = primary_result(record)
    if result is not None and result.more_seeds is not None:
        more = figures.count(result.more_seeds, "more seed")
        sentences.append(f"About {more} would resolve it, if quality and noise stay as measured.")
    if failed:
        sentences.append(f"{failed} of {planned} runs failed and {'is' if failed == 1 else 'are'} left out.")
    if missing > 0:
        why = ": there was no time for more" if record.cut_short else ""
        sentences.append(f"{missing} of {planned} runs {'is' if missing == 1 else 'are'} still to come{why}.")
    return [*sentences, *tuning_sentences(record)]


def quality_sentence(record: RaceRecord, quality: float) -> str:
    """The primary arm's speed-up to a given quality, on the headline clock.

    Args:
        record: A race.
        quality: In the metric's own unit: 0.92 for an accuracy of 92 %.

    Example:
        >>> from headstart.records import Arm, RaceRecord
        >>> arms = [Arm(name="baseline"), Arm(name="early")]
        >>> race = RaceRecord(arms=arms, baseline="baseline", primary="early", budgets=[1], seeds=[0])
        >>> quality_sentence(race, 0.9)
        'To quality 0.9: not known, as the two do not both cross it within the budgets raced.'
    """
    scale = QualityScale.of(record)
    goal = f"To {scale.text(quality)} {scale.metric}" if scale.percent else f"To {scale.metric} {scale.text(quality)}"
    if scale.percent and quality > 1:
        return f"{goal}: no {scale.metric} is above 1; for {figures.plain_number(quality)} % give {quality / 100:.6g}."
    found = speedup_at_quality(record, record.primary, record.headline_clock, quality)
    if found is None:
        return f"{goal}: not known, as the two do not both cross it within the budgets raced."
    interval = figures.in_brackets(figures.speedup_interval(found), "95 % interval ")
    return f"{goal}: {record.primary} {figures.times(found.value)}{interval}, in {CLOCK_NAMES[record.headline_clock]}."


def _reached(record: RaceRecord, result: ArmResult) -> str:
    return _speedup_sentence(record, result, bound="")


def _at_least(record: RaceRecord, result: ArmResult) -> str:
    sentence = _speedup_sentence(record, result, bound="at least ")
    return sentence[:-1] + "; it is better than that already at its smallest budget."


def _speedup_sentence(record: RaceRecord, result: ArmResult, bound: str) -> str:
    """The sentence for a result that has a speed-up."""
    if result.speedup is None:
        return _no_data(record, result)
    interval = figures.speedup_interval(result.speedup)
    measured = bound + figures.times(result.speedup.value) + figures.in_brackets(interval, "95 % interval ")
    goal = f"to {_target(record, result)}, in {CLOCK_NAMES[result.clock]}"
    if not interval:
        return f"Not resolved: {result.arm} measured {measured} {goal}, but with one run a budget there is no interval."
    if result.verdict == "not resolved":
        return f"Not resolved: {result.arm} measured {measured} {goal}."
    return f"{result.arm} is {result.verdict}: {measured} {goal}."


def _not_reached(record: RaceRecord, result: ArmResult) -> str:
    opening = f"{result.arm} is slower: it" if result.verdict == "slower" else f"Not resolved: {result.arm}"
    sentence = f"{opening} never reaches {_target(record, result)}, within the budgets raced."
    if result.gain is None:
        return sentence
    scale = QualityScale.of(record)
    interval = figures.gain_interval(result.gain, scale)
    cost = "equal FLOPs" if result.clock == "flops" else "equal time"
    gain = scale.difference(result.gain.value) + figures.in_brackets(interval, "95 % interval ")
    return f"{sentence} At {cost} its gain is {gain}."


def _no_data(record: RaceRecord, result: ArmResult) -> str:
    ran = {run.arm for run in record.runs}
    absent = [name for name in (record.baseline, record.primary) if name not in ran]
    if absent:
        return f"No verdict: no run of {' and none of '.join(absent)} has finished."
    return (
        f"No verdict: too few runs of {record.baseline} and {result.arm} have {CLOCK_NAMES[result.clock]} to compare."
    )


def _target(record: RaceRecord, result: ArmResult) -> str:
    """What there was to reach: `the baseline's best, 92.3 % accuracy`."""
    if result.target_quality is None:
        return "the baseline's best"
    scale = QualityScale.of(record)
    value = scale.text(result.target_quality)
    return (
        f"the baseline's best, {value} {scale.metric}"
        if scale.percent
        else f"the baseline's best, {scale.metric} {value}"
    )


_SENTENCES = {"reached": _reached, "at least": _at_least, "not reached": _not_reached, "no data": _no_data}
