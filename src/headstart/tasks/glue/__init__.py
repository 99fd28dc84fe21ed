"""GLUE: pretrained encoders fine-tuned and scored on eight tasks."""

from headstart.tasks.glue.options import GlueOptions
from headstart.tasks.glue.protocol import GLUE_TASKS, GlueTask
from headstart.tasks.glue.results import GlueRecord, SeedScore, TaskScore
from headstart.tasks.glue.score import GlueWatcher, SilentGlueWatcher, at_hand, glue_score

__all__ = [
    "GLUE_TASKS",
    "GlueOptions",
    "GlueRecord",
    "GlueTask",
    "GlueWatcher",
    "SeedScore",
    "SilentGlueWatcher",
    "TaskScore",
    "at_hand",
    "glue_score",
]
