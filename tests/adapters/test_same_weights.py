"""In every loop the same training ends with the same weights, stopped in the middle or not."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

pytest.importorskip("transformers", reason="needs transformers: pip install headstart[trainer]")
pytest.importorskip("lightning", reason="needs lightning: pip install headstart[lightning]")

from tests.adapters.loops import LOOPS, Training, plain


@pytest.mark.parametrize("loss", ["kl", "mse", "dkd", "dist"])
@pytest.mark.parametrize("loop", [name for name in LOOPS if name != "plain"])
def test_every_loop_trains_to_the_weights_of_the_plain_one(loop: str, loss: str, tmp_path: Path) -> None:
    training = Training(tmp_path, {"loss": loss, "stop": 0.75, "every": 2})
    weights, expected = LOOPS[loop](training), plain(training)
    torch.testing.assert_close(weights, expected, rtol=0, atol=1e-6)
    undistilled = plain(Training(tmp_path, {"stop": 0.0}))
    assert max((undistilled[name] - expected[name]).abs().max() for name in expected) > 1e-3


@pytest.mark.parametrize("loop", LOOPS)
def test_a_run_stopped_in_the_middle_ends_as_one_that_was_not(loop: str, tmp_path: Path) -> None:
    training = Training(tmp_path, {"stop": 0.75})
    LOOPS[loop](training, stop=True)
    smallest_teacher = min(sum(p.nbytes for p in teacher.parameters()) for teacher in training.teachers())
    assert 0 < sum(path.stat().st_size for path in tmp_path.glob("**/*")) < smallest_teacher
    torch.testing.assert_close(LOOPS[loop](training, resume=True), LOOPS[loop](training), rtol=0, atol=0)
