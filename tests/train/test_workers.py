"""Processes that train side by side."""

from __future__ import annotations

import math
import os

import pytest
import torch

from headstart.errors import HeadstartError
from headstart.train.workers import Workers


def test_a_process_that_dies_is_told_of_and_replaced() -> None:
    with Workers(1) as workers:
        assert workers.call(torch.get_num_threads) == (os.cpu_count() or 1)
        assert workers.call(os.getpid) != os.getpid()
        with pytest.raises(ValueError, match=r"math domain error|nonnegative"):
            workers.call(math.sqrt, -1)
        with pytest.raises(HeadstartError, match=r"died without a word, .* try fewer --workers"):
            workers.call(os._exit, 1)
        assert workers.call(math.sqrt, 4) == 2
