"""Stands in for the package of this name, whose metrics are programs on the Hub: no program is asked to evaluate."""

from __future__ import annotations

from typing import Any


class Metric:
    """Any metric."""

    def compute(self, **_: Any) -> Any:
        """Refuse."""
        raise NotImplementedError("a stand-in for evaluate: the programs are run without evaluation")


def load(*_: Any, **__: Any) -> Metric:
    """Give one."""
    return Metric()
