"""Teachers: from a spec to a ready frozen module."""

from headstart.teachers.config import TeacherEntry, TeacherOptions
from headstart.teachers.find import Found, expand_spec, find_teacher, find_teachers
from headstart.teachers.load import load_teacher
from headstart.teachers.weights import DESCRIPTION_KEY, read_weights

__all__ = [
    "DESCRIPTION_KEY",
    "Found",
    "TeacherEntry",
    "TeacherOptions",
    "expand_spec",
    "find_teacher",
    "find_teachers",
    "load_teacher",
    "read_weights",
]
