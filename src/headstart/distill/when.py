"""On which steps to distil: inside the window, where that is not left to what training shows."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from headstart.distill.stopping import AutomaticStop, Opened, Opening, Stopped
from headstart.distill.window import Window

logger = logging.getLogger(__name__)


@dataclass
class When:
    """A window, and what opens and closes it by itself.

    Attributes:
        window: As it is fixed; what opens and closes by itself does so inside it.
        total_steps: Optimiser steps of the whole training.
        opening: What it waits for, if anything.
        automatic: What closes it, if anything does before its end.
    """

    window: Window
    total_steps: int
    opening: Opening | None = None
    automatic: AutomaticStop | None = None

    @property
    def by_labels(self) -> bool:
        """Whether students are judged by labels."""
        return self.automatic is not None or self.opening is not None

    @property
    def opened(self) -> Opened | None:
        """Since when it is open, where it opened by itself."""
        return None if self.opening is None else self.opening.opened

    @property
    def stopped(self) -> Stopped | None:
        """When and why it closed by itself; nothing that never opened did."""
        if self.automatic is None or (self.opening is not None and self.opening.opened is None):
            return None
        return self.automatic.stopped

    def scale(self, step: int) -> float:
        """The factor on the weight at a step."""
        if self.opening is not None and self.opening.shut(step):
            return 0.0
        scale = self.window.scale(step, self.total_steps)
        if scale and self.opened is not None and self.window.ramp_up:  # it rises from where it opened
            scale = min(scale, (step - self.opened.step + 0.5) / (self.window.ramp_up * self.total_steps))
        return scale if self.automatic is None else min(scale, self.automatic.scale(step))

    def closed(self, step: int) -> bool:
        """Whether no step from this one on is distilled."""
        stopped = self.automatic is not None and self.automatic.closed(step)
        return stopped or self.window.closed(step, self.total_steps)

    def awaits(self, step: int) -> Opening | None:
        """What has to look at a step's batch, to see whether the window may open."""
        if self.opening is None or self.closed(step) or not self.opening.looks(step, self.total_steps):
            return None
        return self.opening

    def hand_over(self, step: int, following: int, *, distilled: bool) -> bool:
        """End a step, and decide.

        Args:
            step: It.
            following: The next one.
            distilled: Whether it was, in any process.

        Returns:
            Whether the window has just been closed by itself.
        """
        if self.automatic is not None and self.automatic.stopped is None:
            self.automatic.hand_over(step, following, self.window, self.total_steps, distilled=distilled)
            if self.automatic.stopped is not None:
                if self.stopped is not None:
                    logger.info("%s", self.stopped)
                return True
        if self.opening is not None and not self.closed(step):
            before = self.opening.opened
            self.opening.hand_over(step, following, self.window, self.total_steps)
            if before is None and self.opening.opened is not None:
                logger.info("%s", self.opening.opened)
        return False

    def state_dict(self) -> dict[str, Any]:
        """What has been measured, in plain numbers; empty where nothing is."""
        parts = {"automatic_stop": self.automatic, "opening": self.opening}
        return {name: part.state_dict() for name, part in parts.items() if part is not None}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go back to where `state_dict` was taken; what it does not have stays as it is."""
        if self.automatic is not None and "automatic_stop" in state:
            self.automatic.load_state_dict(state["automatic_stop"])
        if self.opening is not None and "opening" in state:
            self.opening.load_state_dict(state["opening"])
