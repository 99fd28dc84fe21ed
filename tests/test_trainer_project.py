"""The page for a Trainer project of one's own: its scripts run, on a model, a text and a length that are tiny."""

from __future__ import annotations

import json
import os
import re
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from headstart.race import command_function
from quote_figures import ROOT

WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad", "film", "the", "was")
SHORTER = {
    "steps=2000": "steps=4",
    "distilbert/distilbert-base-uncased": "new",
    "stanfordnlp/imdb": "data",
    "per_device_train_batch_size=32": "per_device_train_batch_size=16",
}
PAGE = (ROOT / "docs" / "your-trainer-project.md").read_text(encoding="utf-8")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with an old model, a new one, data and the page's two scripts, which is the present one."""
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("datasets")
    save_models(transformers, tmp_path, {"runs/old": WORDS, "new": WORDS})
    (tmp_path / "data").mkdir()
    rows = [f"the film was {word},{label}" for label, word in enumerate(("bad", "good"))]
    for split in ("train", "test"):
        (tmp_path / "data" / f"{split}.csv").write_text("\n".join(["text,label", *rows * 80]))
    for name, code in zip(("train.py", "look.py"), re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL), strict=True):
        for long, short in SHORTER.items():
            assert long in PAGE
            code = code.replace(long, short)
        (tmp_path / name).write_text(code)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setattr(sys, "argv", sys.argv)
    monkeypatch.delitem(sys.modules, "train", raising=False)
    path = os.pathsep.join(filter(None, (str(ROOT / "src"), os.environ.get("PYTHONPATH"))))
    for name, value in {"HF_DATASETS_CACHE": str(tmp_path / "cache"), "PYTHONPATH": path}.items():
        monkeypatch.setenv(name, value)
    return tmp_path


def save_models(transformers: Any, folder: Path, vocabularies: dict[str, tuple[str, ...]]) -> None:
    """Classifiers, each with its tokenizer beside it."""
    for name, words in vocabularies.items():
        (folder / "vocabulary.txt").write_text("\n".join(words))
        width = 16 if name == "runs/old" else 8
        sizes = {"hidden_size": width, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": width}
        config = transformers.BertConfig(vocab_size=len(words), num_labels=2, max_position_embeddings=64, **sizes)
        transformers.BertForSequenceClassification(config).save_pretrained(folder / name)
        transformers.BertTokenizerFast(vocab=str(folder / "vocabulary.txt")).save_pretrained(folder / name)


def run(script: str, *options: str) -> dict[str, Any]:
    sys.argv = [script, *options]
    return runpy.run_path(script, run_name="__main__")


def test_the_scripts_of_the_page_run(project: Path) -> None:
    run("train.py", "--arm", "distill", "--steps", "4", "--save", "runs/new", "--record", "record.json")
    record = json.loads((project / "record.json").read_text())
    assert set(record) == {"quality", "seconds", "metric"}
    assert {path.name for path in (project / "runs" / "new").iterdir()} >= set(
        re.findall(r"`((?:config|model|tokenizer)[\w.]*\.\w+)`", PAGE)
    )
    looked = run("look.py")
    assert len(looked["batches"]) == 8
    assert looked["check"].teacher == "" and looked["check"].name in ("cost", "memory"), "the last checks are reached"
    job = looked["trainer"]("distill", steps=4, seed=0)
    fresh = looked["trainer"]("baseline", steps=4, seed=0)
    assert torch.equal(job.model.classifier.weight, fresh.model.classifier.weight), "one seed, one new head"
    job.train()
    assert job.distiller.last.step == 1  # of 4, the first half is distilled


@pytest.mark.slow
def test_the_race_of_the_page_runs(project: Path) -> None:
    (template,) = re.findall(r'headstart race --cmd "(.*?)"', PAGE)
    function = command_function(template.replace("python", sys.executable, 1), project / "race")
    record = function("distill", 2, 0)
    assert (record.metric, record.seconds > 0) == ("accuracy", True)


def test_a_teacher_with_another_tokenizer_is_refused(project: Path) -> None:
    import transformers

    from headstart.errors import TeacherError

    save_models(transformers, project, {"runs/old": (*WORDS[:5], *reversed(WORDS[5:]))})
    with pytest.raises(TeacherError, match="was trained with another tokenizer than the student"):
        run("train.py", "--arm", "distill", "--steps", "4")
