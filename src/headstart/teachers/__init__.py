"""Teachers: from a spec to a ready frozen module."""

from headstart.teachers.load import Found, find_teacher, load_teacher
from headstart.teachers.weights import DESCRIPTION_KEY, read_weights

__all__ = ["DESCRIPTION_KEY", "Found", "find_teacher", "load_teacher", "read_weights"]
