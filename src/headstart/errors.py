"""The errors that headstart raises for things a user can put right."""

ONE_REQUEST = 1.0  # seconds in which a second signal is the first one again, sent to a process and to its group


class HeadstartError(Exception):
    """Something the user can put right: the message names what was wrong, where, and what to do.

    The command prints the message without a traceback and exits with `exit_code`.

    Example:
        >>> raise HeadstartError("window: stop=1.5 is past the end; give a fraction between 0 and 1")
        Traceback (most recent call last):
        ...
        headstart.errors.HeadstartError: window: stop=1.5 is past the end; give a fraction between 0 and 1
    """

    exit_code = 1


class RecipeError(HeadstartError):
    """A recipe or an override that cannot be used: unknown key, wrong type, impossible value."""

    exit_code = 2


class Diverged(HeadstartError):
    """A training whose loss or quality is no finite number any more."""


class DataError(HeadstartError):
    """Data that is missing, unreadable or does not fit the task."""

    exit_code = 3


class TeacherError(HeadstartError):
    """A teacher that cannot be read, does not fit the student, or returns unusable outputs."""

    exit_code = 4


class InitError(HeadstartError):
    """A model whose weights a student cannot start from: unrelated, of a shape that the way does not take, damaged."""

    exit_code = 4


class Preempted(HeadstartError):
    """SIGTERM asked a run to leave: it has written a checkpoint, and the same command goes on from there."""

    exit_code = 75  # sysexits.h: EX_TEMPFAIL, try again


class Interrupted(Preempted):
    """Ctrl-C (SIGINT) asked a run to leave, as `Preempted`."""

    exit_code = 130  # as shells tell it: 128 and the signal's number


class RaceError(HeadstartError):
    """A race that cannot go on, or ended with runs that failed."""

    exit_code = 5
