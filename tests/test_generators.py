"""Loading a teacher draws nothing from the generators that training draws from."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from headstart.generators import generators_untouched
from headstart.teachers import load_teacher


def draws() -> tuple[float, float, float]:
    return float(torch.rand(())), float(np.random.rand()), random.random()


def seed() -> None:
    torch.manual_seed(1)
    np.random.seed(1)
    random.seed(1)


def test_what_is_drawn_afterwards_is_what_would_have_been_drawn() -> None:
    seed()
    expected = draws()
    seed()
    with generators_untouched():
        assert draws() == expected
    assert draws() == expected


def test_also_where_loading_fails() -> None:
    seed()
    expected = draws()
    seed()
    with pytest.raises(ValueError, match="no"), generators_untouched():
        draws()
        raise ValueError("no")
    assert draws() == expected


def test_a_teacher_is_loaded_without_a_trace(tmp_path: Path) -> None:
    def build() -> nn.Module:
        draws()
        return nn.Linear(2, 3)

    torch.save(nn.Linear(2, 3).state_dict(), tmp_path / "old.pt")
    seed()
    expected = draws()
    seed()
    load_teacher(tmp_path / "old.pt", build=build)
    assert draws() == expected
