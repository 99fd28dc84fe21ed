"""headstart can make training faster by distilling from models you already have, and measures by how much.

Importing it loads nothing heavy; a name is loaded when it is first used (PEP 562).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headstart.distill import Distiller, Teacher, TeacherPool, Window
    from headstart.distill.probing import Auto, Probe, auto, probe
    from headstart.errors import HeadstartError
    from headstart.init import Inherited, init_from
    from headstart.race import race, race_table, read_race
    from headstart.records import RaceRecord, RunRecord
    from headstart.teachers import load_teacher
    from headstart.teachers.doctor import doctor

__version__ = "0.1.0"

_HOMES = {
    "Auto": "distill.probing",
    "Distiller": "distill",
    "HeadstartError": "errors",
    "Inherited": "init",
    "Probe": "distill.probing",
    "RaceRecord": "records",
    "RunRecord": "records",
    "Teacher": "distill",
    "TeacherPool": "distill",
    "Window": "distill",
    "auto": "distill.probing",
    "doctor": "teachers.doctor",
    "init_from": "init",
    "load_teacher": "teachers",
    "probe": "distill.probing",
    "race": "race",
    "race_table": "race",
    "read_race": "race",
}

__all__ = [
    "Auto",
    "Distiller",
    "HeadstartError",
    "Inherited",
    "Probe",
    "RaceRecord",
    "RunRecord",
    "Teacher",
    "TeacherPool",
    "Window",
    "auto",
    "doctor",
    "init_from",
    "load_teacher",
    "probe",
    "race",
    "race_table",
    "read_race",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
