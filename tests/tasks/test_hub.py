"""Manners for calls of transformers."""

from __future__ import annotations

from pathlib import Path

import pytest

from headstart.tasks import hub
from headstart.tasks.hub import from_hub, one_line, quiet


def test_an_error_becomes_one_short_line() -> None:
    assert one_line(ValueError("first\n\n  second")) == "ValueError: first second"
    assert one_line(ValueError("x" * 1000)) == "ValueError: " + "x" * 288


@pytest.mark.parametrize("bars", [True, False])
def test_transformers_says_as_much_afterwards_as_before(bars: bool) -> None:
    logging = pytest.importorskip("transformers").utils.logging
    level, shown = logging.get_verbosity(), logging.is_progress_bar_enabled()
    try:
        logging.set_verbosity_warning()
        (logging.enable_progress_bar if bars else logging.disable_progress_bar)()
        with pytest.raises(RuntimeError, match="while quiet"), quiet():
            assert logging.get_verbosity() == logging.ERROR and not logging.is_progress_bar_enabled()
            raise RuntimeError("while quiet")
        assert logging.get_verbosity() == logging.WARNING and logging.is_progress_bar_enabled() == bars
    finally:
        logging.set_verbosity(level)
        (logging.enable_progress_bar if shown else logging.disable_progress_bar)()


@pytest.fixture
def unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Hub whose address nothing answers at, asked as if the tests were not offline."""
    constants = pytest.importorskip("huggingface_hub").constants
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(hub, "_answers", hub._answers.__wrapped__)


def test_a_hub_that_does_not_answer_is_not_asked_again_and_again(unreachable: None) -> None:
    constants = pytest.importorskip("huggingface_hub").constants
    told = r"127.0.0.1:9 does not answer, and the cache has not all of some/model"
    with pytest.raises(ConnectionError, match=told), from_hub("some/model"):
        assert constants.HF_HUB_OFFLINE
        raise OSError("not cached")
    assert not constants.HF_HUB_OFFLINE


def test_for_a_folder_nothing_is_asked(unreachable: None, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="as it is"), from_hub(tmp_path):
        raise OSError("as it is")
