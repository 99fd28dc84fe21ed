"""Manners for calls of transformers."""

from __future__ import annotations

import pytest

from headstart.tasks.hub import one_line, quiet


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
