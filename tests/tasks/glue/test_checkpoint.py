"""Checkpoints: what of them is used, and which are refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from headstart.errors import HeadstartError
from headstart.recipe.load import parse_recipe
from headstart.records import RunRecord
from headstart.tasks.glue.checkpoint import Classifier, load_classifier, open_checkpoint, save_encoder
from headstart.tasks.text import MaskedLM
from headstart.train.state.run_folder import RunFolder
from tests.tasks.glue.tiny import POSITIONS, masked_lm, tokenizer, write_checkpoint
from tests.tasks.text import tiny as text

CPU = torch.device("cpu")
# The weights of the new head, and those of the masked-LM checkpoint that are used.
FAMILIES = {
    "bert": {"classifier.weight", "classifier.bias"},
    "roberta": {"classifier.dense.weight", "classifier.dense.bias"}
    | {"classifier.out_proj.weight", "classifier.out_proj.bias"},
    "distilbert": {"pre_classifier.weight", "pre_classifier.bias", "classifier.weight", "classifier.bias"},
    "modernbert": {"classifier.weight", "classifier.bias"},
}


@pytest.fixture
def copy(checkpoint: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(checkpoint, tmp_path / "copy"))


def load(folder: Path, *, classes: int = 2, seed: int = 0) -> Classifier:
    return load_classifier(folder, classes, seed=seed, device=CPU)


def weights(classifier: Classifier) -> dict[str, torch.Tensor]:
    return dict(classifier.model.state_dict())


@pytest.mark.parametrize("kind", FAMILIES)
def test_the_encoder_is_the_checkpoints_and_the_head_is_new(kind: str, tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / kind, kind)
    kept, loaded = load_file(folder / "model.safetensors"), load(folder, classes=3)
    assert loaded.head == FAMILIES[kind]
    shared = set(weights(loaded)) & set(kept)
    assert len(shared) >= 10 and all(torch.equal(weights(loaded)[name], kept[name]) for name in shared)
    assert not loaded.head & shared
    logits = loaded.model(input_ids=torch.tensor([[2, 5, 3]]), attention_mask=torch.ones(1, 3)).logits
    assert logits.shape == (1, 3)


@pytest.mark.parametrize("kind", FAMILIES)
def test_the_head_follows_from_the_seed(kind: str, tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / kind, kind)
    first, again, other = load(folder), load(folder), load(folder, seed=1)
    assert all(torch.equal(weights(again)[name], value) for name, value in weights(first).items())
    changed = {name for name, value in weights(first).items() if not torch.equal(weights(other)[name], value)}
    matrices = {name for name in first.head if name.endswith("weight")}
    assert matrices <= changed
    assert all(name in first.head or ".pooler." in name for name in changed)


@pytest.mark.parametrize("kind", FAMILIES)
def test_what_a_masked_lm_run_leaves_can_be_fine_tuned(kind: str, tmp_path: Path) -> None:
    task = MaskedLM(text.model(kind), text.data(), text.corpus())
    student, recipe = task.build_model(), {"task": "mlm", "data": {"name": "x"}, "train": {"steps": 1}, "model": {}}
    task.save_beside(tmp_path)
    record = RunRecord(quality=1, seconds=1)
    place = RunFolder(tmp_path, parse_recipe(recipe, "here"))
    place.save_weights(student, task.describe())
    place.finish(record)
    opened, loaded = open_checkpoint(tmp_path), load(tmp_path)
    assert opened.tokenizer.get_vocab() == text.tokenizer().get_vocab()
    pretrained = {name: value for name, value in student.state_dict().items() if name in weights(loaded)}
    base = str(student.base_model_prefix)
    encoder = {f"{base}.{name}" for name in student.get_submodule(base).state_dict()}
    assert len(encoder) > 10 and encoder <= set(pretrained)
    assert all(torch.equal(weights(loaded)[name], value) for name, value in pretrained.items())


def test_weights_of_lower_precision_are_fine_tuned_in_float32(copy: Path) -> None:
    halves = {name: value.bfloat16() for name, value in load_file(copy / "model.safetensors").items()}
    save_file(halves, copy / "model.safetensors", metadata={"format": "pt"})
    assert {value.dtype for value in weights(load(copy)).values() if value.is_floating_point()} == {torch.float32}


@pytest.mark.parametrize(("kind", "length"), [("bert", 24), ("modernbert", 24), ("roberta", 23), ("distilbert", 24)])
def test_inputs_are_as_long_as_the_model_can_read(kind: str, length: int, tmp_path: Path) -> None:
    # RoBERTa's positions begin behind the padding token's number, here 0.
    opened = open_checkpoint(write_checkpoint(tmp_path / kind, kind))
    assert opened.max_length == length <= POSITIONS
    inputs = torch.full((1, opened.max_length), 7)
    model = load(tmp_path / kind).model.eval()
    assert model(input_ids=inputs, attention_mask=torch.ones_like(inputs)).logits.isfinite().all()


def test_inputs_are_never_longer_than_the_protocol_says(tmp_path: Path) -> None:
    assert open_checkpoint(write_checkpoint(tmp_path / "long", max_position_embeddings=512)).max_length == 256


def test_the_fingerprint_follows_the_weights_and_not_the_place(checkpoint: Path, copy: Path, tmp_path: Path) -> None:
    assert open_checkpoint(copy).fingerprint == open_checkpoint(checkpoint).fingerprint
    other = write_checkpoint(tmp_path / "other", seed=1)
    assert open_checkpoint(other).fingerprint != open_checkpoint(checkpoint).fingerprint
    assert open_checkpoint(other).tokenizer_key == open_checkpoint(checkpoint).tokenizer_key


def test_what_mnli_leaves_has_everything_but_the_head(checkpoint: Path, tmp_path: Path) -> None:
    tuned = load(checkpoint, classes=3)
    with torch.no_grad():
        for value in tuned.model.parameters():
            value.add_(1.0)
    (tmp_path / "encoder").mkdir()
    (tmp_path / "encoder" / "left over").touch()
    save_encoder(tuned, tmp_path / "encoder")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["encoder"]
    started = load(tmp_path / "encoder", classes=2, seed=5)
    assert started.head == tuned.head
    inside = set(weights(tuned)) - tuned.head
    assert "bert.pooler.dense.weight" in inside
    assert all(torch.equal(weights(started)[name], weights(tuned)[name]) for name in inside)
    assert weights(started)["classifier.weight"].abs().max() < 0.5


def check_refused(source: str | Path, message: str) -> None:
    with pytest.raises(HeadstartError) as caught:
        load_classifier(open_checkpoint(source).source, 2, seed=0, device=CPU)
    assert str(caught.value).startswith(f"{source}: ") and message in str(caught.value)


@pytest.mark.parametrize("kind", FAMILIES)
def test_a_checkpoint_without_tokenizer_is_refused(kind: str, tmp_path: Path) -> None:
    masked_lm(kind).save_pretrained(tmp_path / kind)
    check_refused(tmp_path / kind, "tokenizer")


def test_a_tokenizer_with_more_tokens_than_the_model_is_refused(copy: Path) -> None:
    tokenizer(tuple(f"word{number}" for number in range(20))).save_pretrained(copy)
    check_refused(copy, "its tokenizer has 25 tokens and the model 19; they do not belong together")


def test_a_tokenizer_without_padding_is_refused(copy: Path) -> None:
    given = tokenizer()
    given.pad_token = None
    given.save_pretrained(copy)
    check_refused(copy, "its tokenizer has no padding token")


def test_a_folder_that_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    check_refused(tmp_path, "no config.json in this folder; give a run of an mlm recipe")


def test_weights_that_would_execute_code_are_refused(copy: Path) -> None:
    (copy / "model.safetensors").unlink()
    torch.save({}, copy / "pytorch_model.bin")
    check_refused(copy, "no weights in safetensors in this folder; the run has not finished, or they are in another")


def test_damaged_weights_are_refused(copy: Path) -> None:
    path = copy / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-50])
    check_refused(copy, "its weights cannot be read")


def test_a_checkpoint_is_known_by_its_weights_and_not_by_the_order_of_its_header(copy: Path) -> None:
    made = open_checkpoint(copy).fingerprint
    weights = load_file(copy / "model.safetensors")
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt", "more": "metadata"})
    assert open_checkpoint(copy).fingerprint == made
    weights["bert.embeddings.word_embeddings.weight"][0, 0] += 1
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    assert open_checkpoint(copy).fingerprint != made


def test_weights_of_another_model_are_refused(copy: Path) -> None:
    masked_lm("distilbert").save_pretrained(copy / "other")
    shutil.copy(copy / "other" / "model.safetensors", copy)
    check_refused(copy, "weights of a BertModel are not there, bert.embeddings.")


def test_a_configuration_of_no_known_model_is_refused(copy: Path) -> None:
    (copy / "config.json").write_text('{"model_type": "birds"}')
    check_refused(copy, "cannot be read as a checkpoint")


def test_a_hub_id_without_a_network_is_refused() -> None:
    check_refused("nobody/nothing", "cannot be read as a checkpoint")


def test_looking_at_a_checkpoint_says_nothing(checkpoint: Path, capfd: pytest.CaptureFixture[str]) -> None:
    from transformers.utils import logging

    level = logging.get_verbosity()
    load(Path(open_checkpoint(checkpoint).source))
    assert capfd.readouterr() == ("", "") and logging.get_verbosity() == level
