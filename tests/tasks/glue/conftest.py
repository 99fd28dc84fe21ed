"""Made-up GLUE data and a checkpoint."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tasks.glue.tiny import write_checkpoint

pytest.importorskip("transformers", reason="GLUE needs headstart[text]")
pytest.importorskip("sklearn", reason="GLUE needs headstart[text]")


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that HEADSTART_DATA names, empty as yet."""
    folder = tmp_path / "data"
    monkeypatch.setenv("HEADSTART_DATA", str(folder))
    return folder


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of one layer with its tokenizer."""
    return write_checkpoint(tmp_path_factory.mktemp("checkpoints") / "bert")
