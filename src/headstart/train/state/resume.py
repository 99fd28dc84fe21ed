"""Leaving a run and coming back to it. All processes have to call both, at the same step."""

from __future__ import annotations

from pathlib import Path

from headstart.errors import HeadstartError
from headstart.train import ranks
from headstart.train.session import Session
from headstart.train.state.checkpoint import checkpoints, load_checkpoint, load_newest, save_checkpoint
from headstart.train.state.sharded_checkpoint import load_sharded, save_sharded


def save(session: Session, folder: Path, step: int, seconds: float) -> None:
    """Write a checkpoint: one file, or the shards where the recipe shards the student.

    Args:
        session: What is trained.
        folder: The run folder.
        step: Steps done.
        seconds: Training time so far.

    Raises:
        HeadstartError: It could not be written; those before are still there.
        TeacherError: A teacher gave non-finite outputs.
    """
    seconds = ranks.largest(seconds)
    state = session.state_dict()
    if _sharded(session):
        small = {"distiller": state["distiller"]}
        save_sharded(folder, step, seconds, session.student, session.optimizer, small, session.beside_student())
    elif ranks.is_main():
        save_checkpoint(folder, {"step": step, "seconds": seconds, **state})


def resume(session: Session, folder: Path) -> tuple[int, float]:
    """Go back to the newest checkpoint that every process can read; to the beginning where there are none.

    The number of processes may be another one than that which wrote it.

    Returns:
        Steps done, and training time so far in seconds.

    Raises:
        HeadstartError: There are checkpoints, but none can be read.
    """
    found = ranks.from_main(lambda: checkpoints(folder))
    progress = load_newest(found, lambda path: _load_sharded(session, path) if path.is_dir() else _load(session, path))
    return progress or (0, 0.0)


def _load(session: Session, path: Path) -> tuple[int, float]:
    state, reason = None, HeadstartError(f"{path}: cannot be read by another process")
    try:
        state = load_checkpoint(path)
    except HeadstartError as error:
        reason = error
    if not ranks.everywhere(state is not None) or state is None:
        raise reason
    session.load_state_dict(state)
    return int(state["step"]), float(state["seconds"])


def _load_sharded(session: Session, path: Path) -> tuple[int, float]:
    step, seconds, small, whole = load_sharded(path, session.student, session.optimizer)
    session.load_beside_student(step, whole)
    if session.distiller is not None:
        session.distiller.load_state_dict(small.get("distiller") or {"current_step": step})
    return step, seconds


def _sharded(session: Session) -> bool:
    return session.recipe.train.sharding == "fsdp"
