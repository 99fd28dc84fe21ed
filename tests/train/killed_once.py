"""`headstart` in one of the processes of torchrun, of which the second is killed once, in mid-training.

Usage: torchrun ... killed_once.py MARKER STEP train RECIPE --out FOLDER
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any
from unittest import mock

from headstart.cli import main
from headstart.train.session import Session


def kill_once(marker: Path, step: int) -> None:
    """Let the second process be killed before a step, unless the marker tells that it has been."""
    train_step = Session.train_step

    def dying(self: Session, number: int) -> Any:
        if number == step and os.environ["RANK"] == "1" and not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return train_step(self, number)

    mock.patch.object(Session, "train_step", dying).start()


if __name__ == "__main__":
    kill_once(Path(sys.argv[1]), int(sys.argv[2]))
    sys.argv = ["headstart", *sys.argv[3:]]
    main()
