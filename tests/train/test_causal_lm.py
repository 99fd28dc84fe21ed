"""Recipes of causal language models from end to end: distilled, cached, killed, resumed, in two processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("transformers", reason="needs transformers: pip install 'headstart[text]'")

from headstart.cache.reader import CacheFile
from headstart.errors import TeacherError
from headstart.experiment.fill_cache import By, cache_recipe
from headstart.recipe.load import parse_recipe
from headstart.recipe.recipe import Recipe
from headstart.records import RunRecord, read_record
from headstart.train.run import train
from headstart.train.session import Session
from tests.tiny import weight_bits
from tests.train.dying import train_until_killed
from tests.train.processes import run_together
from tests.train.test_distributed import check_equal_weights, train_each
from tests.train.test_masked_lm import write_text

MODEL: dict[str, Any] = {
    "name": "llama",
    "config": {
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "intermediate_size": 32,
        "tie_word_embeddings": True,
    },
}
SMALLER = {"model.config": {**MODEL["config"], "hidden_size": 8, "num_hidden_layers": 1, "head_dim": 4}}
TRAIN: dict[str, Any] = {
    "steps": 12,
    "batch_size": 8,
    "optimizer": "adamw",
    "lr": 0.01,
    "schedule": "wsd",
    "warmup": 0.1,
    "precision": "fp32",
    "log_every": 2,
    "checkpoint_every": 4,
    "deterministic": torch.cuda.is_available(),
}


def recipe(text: Path, **more: Any) -> Recipe:
    data = {"name": str(text), "vocab_size": 330, "length": 16, "evaluate_sequences": 20}
    return parse_recipe({"task": "clm", "model": MODEL, "data": data, "train": TRAIN, **more}, "tiny causal LM")


def smaller(text: Path) -> Recipe:
    """Of half the width."""
    return recipe(text, model={**MODEL, "config": SMALLER["model.config"]}, train={**TRAIN, "seed": 7})


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_text(tmp_path_factory.mktemp("text") / "sentences")
    for path in folder.iterdir():  # many short documents, so that sequences hold several
        path.write_text(path.read_text(encoding="utf-8").replace("\n", "\n\n"), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def teacher(text: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A smaller model's run."""
    folder = tmp_path_factory.mktemp("causal-lm") / "teacher"
    train(smaller(text), folder)
    return str(folder)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_a_killed_and_resumed_training_gives_the_same_bits(
    family: str, text: Path, teacher: str, tmp_path: Path
) -> None:
    names = MODEL["config"] if family != "gpt2" else {"n_embd": 16, "n_layer": 2, "n_head": 2}
    distilled = recipe(text, model={"name": family, "config": names}, distill={"teachers": [teacher], "stop": 0.75})
    train(distilled, tmp_path / "whole")
    train_until_killed(distilled, tmp_path / "killed", "after the first checkpoint")
    train(distilled, tmp_path / "killed")
    assert weight_bits(tmp_path / "killed") == weight_bits(tmp_path / "whole")


def test_a_killed_and_resumed_stream_gives_the_same_bits(text: Path, tmp_path: Path) -> None:
    data = {"name": str(text), "streaming": True, "vocab_size": 330, "length": 16, "evaluate_sequences": 20}
    streamed = recipe(text, data=data)
    whole = train(streamed, tmp_path / "whole")
    train_until_killed(streamed, tmp_path / "killed", "after the first checkpoint")
    assert train(streamed, tmp_path / "killed").quality == whole.quality
    assert weight_bits(tmp_path / "killed") == weight_bits(tmp_path / "whole")


@pytest.mark.parametrize("loss", [None, "kl", "dist"])
def test_micro_batches_train_like_the_whole(loss: str | None, text: Path, teacher: str) -> None:
    """But for `dist`, whose value depends on how a batch is cut, which makes its logits in full."""
    plain = {**TRAIN, "optimizer": "sgd", "lr": 0.5, "momentum": 0.0}  # Adam would hide the size of a gradient
    taught = {} if loss is None else {"distill": {"teachers": [teacher], "loss": loss, "stop": 1.0}}
    runs = {}
    for parts in (1, 4):
        session = Session(recipe(text, train={**plain, "accumulate": parts}, **taught))
        for step in range(4):
            session.train_step(step)
        runs[parts] = {name: value.clone() for name, value in session.student.state_dict().items()}
    for name, value in runs[1].items():
        if loss == "dist":
            assert runs[4][name].isfinite().all()
        else:
            torch.testing.assert_close(runs[4][name], value, rtol=1e-4, atol=1e-6)


def test_two_processes_learn_what_one_learns(text: Path, teacher: str, tmp_path: Path) -> None:
    """Their gradients reach the head's weight from outside the model's forward, and its tied embedding from inside."""

    def cut(**changes: Any) -> Recipe:
        distill = {"teachers": [teacher], "stop": 0.75, "residence": changes.pop("residence", "device")}
        return recipe(text, train={**TRAIN, "lr": 1e-3, "clip_norm": 1.0, **changes}, distill=distill)

    train(cut(accumulate=2), tmp_path / "one")
    several = {"ddp": cut(), "fsdp": cut(sharding="fsdp"), "sharded": cut(sharding="fsdp", residence="sharded")}
    run_together(train_each, [(run, tmp_path / name) for name, run in several.items()])
    one = read_record(RunRecord, tmp_path / "one" / "record.json")
    for name in several:
        check_equal_weights(tmp_path / "one", tmp_path / name, tolerance=1e-4)
        other = read_record(RunRecord, tmp_path / name / "record.json")
        assert other.quality == pytest.approx(one.quality, rel=1e-4)
        assert other.losses == pytest.approx(one.losses, rel=1e-4)
        assert (other.flops, other.teacher_flops) == (one.flops, one.teacher_flops)


def let(text: Path, teacher: str, **changes: Any) -> Recipe:
    """The setting of LET, with a teacher half as wide."""
    distill = {"teachers": [teacher], "weight": 0, "stop": 0.5, "hidden": {"weight": 0.5}}
    return recipe(text, train={**TRAIN, "lr": 1e-3, "clip_norm": 1.0, **changes}, distill=distill)


def test_two_processes_align_hidden_states_as_one_does(text: Path, teacher: str, tmp_path: Path) -> None:
    train(let(text, teacher, accumulate=2), tmp_path / "one")
    several = {"ddp": let(text, teacher), "fsdp": let(text, teacher, sharding="fsdp")}
    run_together(train_each, [(run, tmp_path / name) for name, run in several.items()])
    one = read_record(RunRecord, tmp_path / "one" / "record.json")
    for name in several:
        check_equal_weights(tmp_path / "one", tmp_path / name, tolerance=1e-4)
        other = read_record(RunRecord, tmp_path / name / "record.json")
        assert (other.flops, other.teacher_flops) == (one.flops, one.teacher_flops)


def test_hidden_states_are_learnt_and_a_killed_training_goes_on(text: Path, teacher: str, tmp_path: Path) -> None:
    run = let(text, teacher)
    record = train(run, tmp_path / "whole")
    train_until_killed(run, tmp_path / "killed", "after the first checkpoint")
    train(run, tmp_path / "killed")
    assert weight_bits(tmp_path / "killed") == weight_bits(tmp_path / "whole")
    layer = 8 * 16 * (2 * 8 * (2 * 8 + 2 * 4) + 3 * 2 * 8 * 32 + 2 * 2 * 16 * 8)  # and no head
    assert record.teacher_flops == pytest.approx(6 * layer, rel=0.01)
    plain = train(recipe(text, train={**TRAIN, "lr": 1e-3, "clip_norm": 1.0}), tmp_path / "plain")
    assert record.flops == (plain.flops or 0) + (record.teacher_flops or 0) + 6 * 6 * (8 * 16) * 16 * 8
    assert weight_bits(tmp_path / "plain") != weight_bits(tmp_path / "whole")


def test_the_cost_is_that_of_the_models_multiplications(text: Path, teacher: str, tmp_path: Path) -> None:
    distilled = recipe(text, distill={"teachers": [teacher], "stop": 0.5})
    record = train(distilled, tmp_path / "run")
    tokens, vocabulary = 8 * 16, Session(distilled).task.num_classes

    def forward(width: int, key: int, layers: int) -> int:
        linear = 2 * width * (2 * width + 2 * key) + 3 * 2 * width * 32
        attention = 2 * 2 * 16 * width
        return tokens * layers * (linear + attention) + 8 * 15 * 2 * width * vocabulary

    assert record.teacher_flops == pytest.approx(6 * forward(8, 4, 1), rel=0.01)
    assert (record.flops or 0) - (record.teacher_flops or 0) == pytest.approx(12 * 3 * forward(16, 8, 2), rel=0.03)


@pytest.mark.parametrize("by", ["epoch", "view"])
@pytest.mark.parametrize("keep", ["full", "sampled", "top-k"])
def test_targets_are_cached(keep: Any, by: By, text: Path, teacher: str, tmp_path: Path) -> None:
    from headstart.cache import Keep

    distill = {"teachers": [teacher], "stop": 0.5, "temperature": 1.0}
    online = recipe(text, distill=distill)
    (path,) = cache_recipe(online, tmp_path / "targets", keep=Keep(keep), by=by)
    assert CacheFile(path).header.rows_per_sample == 15
    reading = recipe(text, distill={**distill, "cache": str(tmp_path / "targets")})
    live, cached = (train(run, tmp_path / name) for run, name in ((online, "online"), (reading, "reading")))
    assert cached.teacher_flops == 0
    assert cached.quality == pytest.approx(live.quality, rel=1e-5 if keep == "full" else 0.1)
    other = recipe(text, data={**reading.data.model_dump(), "documents_apart": False}, distill=reading.distill)
    with pytest.raises(TeacherError, match=r"data\.documents_apart: True in the cache, False now"):
        Session(other)


def test_a_teacher_that_sees_beyond_documents_is_refused(text: Path, tmp_path: Path) -> None:
    data = {"name": str(text), "vocab_size": 330, "length": 16, "documents_apart": False}
    bloom = {"name": "bloom", "config": {"hidden_size": 16, "n_layer": 1, "n_head": 2}}
    train(recipe(text, model=bloom, data=data), tmp_path / "bloom")
    distill = {"teachers": [str(tmp_path / "bloom")]}
    Session(recipe(text, data=data, distill=distill))
    with pytest.raises(TeacherError, match="cannot keep the documents of a sequence apart, as the student does"):
        Session(recipe(text, distill=distill))


def test_a_run_is_a_checkpoint_of_transformers_a_teacher_there_and_a_start(
    text: Path, teacher: str, tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    loaded: Any = AutoModelForCausalLM.from_pretrained(teacher, output_loading_info=True)
    model, info = loaded
    assert not info["missing_keys"] and not info["unexpected_keys"]
    assert len(AutoTokenizer.from_pretrained(teacher)) == model.config.vocab_size
    runs = [recipe(text, distill={"teachers": [spec], "stop": 0.5}) for spec in (teacher, f"hf:{teacher}")]
    qualities = [train(run, tmp_path / str(number)).quality for number, run in enumerate(runs)]
    assert qualities[0] == qualities[1]
    Session(smaller(text).model_copy(update={"train": smaller(text).train.model_copy(update={"init_from": teacher})}))


def test_a_teacher_of_another_tokenizer_is_refused_before_the_first_step(teacher: str, tmp_path: Path) -> None:
    other = write_text(tmp_path / "other", seed=1)
    for more in ({}, {"weight": 0, "hidden": {"weight": 0.1}}):  # it reads the student's tokens all the same
        with pytest.raises(TeacherError, match="was trained with another tokenizer than the student"):
            train(recipe(other, distill={"teachers": [teacher], **more}), tmp_path / f"run-{len(more)}")


def test_teachers_in_half_precision_and_bfloat16_students(text: Path, teacher: str) -> None:
    entry = {"spec": teacher, "dtype": "bf16"}
    session = Session(recipe(text, train={**TRAIN, "precision": "bf16"}, distill={"teachers": [entry]}))
    assert all(session.train_step(step).isfinite() for step in range(2))
