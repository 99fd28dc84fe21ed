"""The peak of memory, of work whose needs are known."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor

from peak_memory import peak_bytes

MEBI = 2**20


def _doubled(mebibytes: int) -> Callable[[], Tensor]:
    """Prepare one tensor; the work makes two more at a time, and then one."""
    given = torch.ones(mebibytes * MEBI, dtype=torch.uint8)

    def work() -> Tensor:
        first = given + 1
        second = first + 1
        del first
        return second + 1

    return work


@pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's own numbers")
def test_is_what_exists_at_a_time_beyond_what_was_there() -> None:
    peak = peak_bytes(partial(_doubled, 64), torch.device("cpu"))
    assert 128 * MEBI <= peak < 140 * MEBI
