"""The page for a Trainer project of one's own: its code runs, on a model, a text and a length that are tiny."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from quote_figures import ROOT

WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad", "film", "the", "was")
SHORTER = {
    "steps=2000": "steps=4",
    "[500, 1000, 2000]": "[1, 2]",
    "seeds=[0, 1, 2]": "seeds=[0, 1]",
    "distilbert/distilbert-base-uncased": "new",
    "stanfordnlp/imdb": "data",
}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with an old model, a new one and data, which is the present one."""
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("datasets")
    (tmp_path / "vocabulary.txt").write_text("\n".join(WORDS))
    tokenizer = transformers.BertTokenizerFast(vocab=str(tmp_path / "vocabulary.txt"))
    for name, width in (("runs/old", 16), ("new", 8)):
        sizes = {"hidden_size": width, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": width}
        config = transformers.BertConfig(vocab_size=len(WORDS), num_labels=2, max_position_embeddings=64, **sizes)
        transformers.BertForSequenceClassification(config).save_pretrained(tmp_path / name)
        tokenizer.save_pretrained(tmp_path / name)
    (tmp_path / "data").mkdir()
    rows = [f"the film was {word},{label}" for label, word in enumerate(("bad", "good"))]
    for split in ("train", "test"):
        (tmp_path / "data" / f"{split}.csv").write_text("\n".join(["text,label", *rows * 40]))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    return tmp_path


def test_the_code_of_the_page_runs(project: Path) -> None:
    page = (ROOT / "docs" / "your-trainer-project.md").read_text(encoding="utf-8")
    code = "\n".join(re.findall(r"```python\n(.*?)```", page, re.DOTALL))
    for long, short in SHORTER.items():
        assert long in code
        code = code.replace(long, short)
    names: dict[str, Any] = {}
    exec(compile(code, "your-trainer-project.md", "exec"), names)
    assert names["job"].distiller.last.step == 1  # of 4, the first half is distilled
    assert {check.status for check in names["checks"] if check.name in ("forward", "classes", "frozen")} == {"pass"}
    assert len(names["record"].runs) == 2 * 2 * 2
    assert (project / "runs" / "new" / "model.safetensors").exists()
