"""Code that torch.compile leaves as it is."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import torch

P = ParamSpec("P")
R = TypeVar("R")


def outside_graphs(function: Callable[P, R]) -> Callable[P, R]:
    """A function at which `torch.compile` breaks its graph, as what it does changes from step to step.

    Compiled, the number of the step would be part of the graph: it would be made anew for each, or not at all.

    Example:
        >>> outside_graphs(max)(1, 2)
        2
    """

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        if torch.compiler.is_compiling():  # `disable` loads the compiler, which takes seconds, so not without need
            disabled: Callable[..., Any] = torch.compiler.disable(function)  # type: ignore[no-untyped-call]
            result: R = disabled(*args, **kwargs)
            return result
        return function(*args, **kwargs)

    return call
