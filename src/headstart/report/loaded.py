"""A speed-up with the teachers' training counted in; where that is known in FLOPs alone, in FLOPs, and why."""

from __future__ import annotations

from headstart.records import ArmResult, RaceRecord, TeacherCost
from headstart.report import figures
from headstart.report.figures import CLOCK_NAMES, NOTHING


def loaded_text(record: RaceRecord, result: ArmResult) -> str:
    """The loaded speed-up on the result's clock, else in FLOPs, which says so; a dash where neither is known."""
    if result.teacher_cost is not None:
        return NOTHING if result.loaded_speedup is None else figures.times(result.loaded_speedup)
    other = in_flops(record, result)
    loaded = None if other is None else other.loaded_speedup
    return NOTHING if loaded is None else f"{figures.times(loaded)} (FLOPs)"


def in_flops(record: RaceRecord, result: ArmResult) -> ArmResult | None:
    """The arm's result in FLOPs, where the teachers' training is known in these."""
    wanted = (result.arm, "flops")
    return next(
        (other for other in record.results if (other.arm, other.clock) == wanted and other.teacher_cost is not None),
        None,
    )


def why_unknown(record: RaceRecord, result: ArmResult) -> str:
    """Why the teachers' training is not known on the result's clock, a sentence for the first of which it is not."""
    teachers = {teacher.name: teacher for run in record.runs if run.arm == result.arm for teacher in run.teachers}
    reasons = (_why(record, result, teacher) for teacher in teachers.values())
    return next((reason for reason in reasons if reason), "")


def _why(record: RaceRecord, result: ArmResult, teacher: TeacherCost) -> str:
    if (teacher.flops if result.clock == "flops" else teacher.seconds) is None:
        return f"No record tells what training {teacher.name} cost."
    if result.clock != "calibrated":
        return ""
    told = f"The training of {teacher.name} is not known in {CLOCK_NAMES['calibrated']}: "
    if not teacher.steps:
        return f"{told}its record counts no steps."
    timed, left_out = (record.calibration.kinds, record.calibration.left_out) if record.calibration else ({}, {})
    missing = [kind for kind in teacher.steps if kind not in timed]
    reason = next((left_out[kind] for kind in missing if kind in left_out), "its kind of step was not timed")
    return f"{told}{reason}." if missing else ""
