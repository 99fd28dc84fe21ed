"""Adapters of PEFT as teachers: merged into the base model on this machine."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from headstart.errors import TeacherError
from headstart.teachers import load_teacher

IDS = {"input_ids": torch.arange(12).view(2, 6)}


def save(folder: Path, kind: str, task: str, **settings: Any) -> Any:
    """A base model, and an adapter with random weights; what both give together."""
    transformers, peft = pytest.importorskip("transformers"), pytest.importorskip("peft")
    config = transformers.BertConfig(
        vocab_size=50, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, **settings
    )
    base = getattr(transformers, kind)(config)
    base.save_pretrained(folder / "base")
    lora = peft.LoraConfig(task_type=task, target_modules=["query", "value"], r=2, init_lora_weights=False)
    model = peft.get_peft_model(transformers.AutoModelForSequenceClassification.from_pretrained(folder / "base"), lora)
    model.peft_config["default"].base_model_name_or_path = str(folder / "base")
    model.save_pretrained(folder / "adapter")
    return model.eval()


def test_an_adapter_is_merged(tmp_path: Path) -> None:
    model = save(tmp_path, "BertForSequenceClassification", "SEQ_CLS", num_labels=3)
    teacher = load_teacher(tmp_path / "adapter")
    with torch.no_grad():
        torch.testing.assert_close(teacher.logits(IDS), model(**IDS).logits)


def test_one_whose_base_is_elsewhere_says_so(tmp_path: Path) -> None:
    save(tmp_path, "BertForSequenceClassification", "SEQ_CLS", num_labels=3)
    shutil.rmtree(tmp_path / "base")
    with pytest.raises(TeacherError, match=r"holds an adapter for .*base', which is not on this machine"):
        load_teacher(tmp_path / "adapter")
