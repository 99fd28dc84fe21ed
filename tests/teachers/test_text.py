"""Teachers of masked and causal language modelling: the same tokenizer, by content, and logits for its tokens alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("transformers")

from headstart.errors import TeacherError
from headstart.records import RunRecord
from headstart.tasks.text import MaskedLM
from headstart.teachers import TeacherOptions, find_teacher, load_teacher
from headstart.teachers.doctor import doctor
from headstart.train.state.run_folder import RunFolder
from tests.tasks.text import tiny
from tests.tiny import tiny_recipe

COLUMNS = len(tiny.TOKENS)


def task(family: str = "bert", **settings: Any) -> MaskedLM:
    return MaskedLM(tiny.model(family, **settings), tiny.data(), tiny.corpus())


def write_run(folder: Path, family: str = "bert") -> Any:
    """What a finished run of masked-language pretraining leaves."""
    made = task(family)
    model = made.build_model()
    place = RunFolder(folder, tiny_recipe(folder))
    place.save_weights(model, made.describe())
    place.finish(RunRecord(quality=4.5, metric="masked-LM loss", seconds=1.0))
    made.save_beside(folder)
    return model.eval()


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_a_run_is_a_teacher_of_masked_rows(family: str, tmp_path: Path) -> None:
    model = write_run(tmp_path / "run", family)
    student = task()
    teacher = load_teacher(tmp_path / "run", tokenizer=student.corpus.tokenizer)
    batch = student.batch(0, 4)
    logits = teacher.logits(batch.inputs)
    assert logits.shape == (len(batch.labels), COLUMNS)
    everywhere = model(input_ids=batch.inputs["input_ids"]).logits
    torch.testing.assert_close(logits, everywhere.flatten(0, 1)[batch.inputs["masked_rows"]])
    assert find_teacher(tmp_path / "run").quality == {"masked-LM loss": 4.5}


def test_a_run_is_one_for_transformers_too(tmp_path: Path) -> None:
    """Its folder is that of `save_pretrained`, and `hf:` leads to the same teacher."""
    write_run(tmp_path / "run")
    inputs = task().batch(0, 4).inputs
    teachers = [load_teacher(spec, tokenizer=tiny.tokenizer()) for spec in (tmp_path / "run", f"hf:{tmp_path / 'run'}")]
    assert torch.equal(teachers[0].logits(inputs), teachers[1].logits(inputs))


def save_checkpoint(
    folder: Path, *, pad_to: int = COLUMNS, tokenizer: Any = None, kind: str = "BertForMaskedLM"
) -> Any:
    """Somebody else's model, with its tokenizer beside it."""
    import transformers

    config = transformers.BertConfig(
        vocab_size=pad_to, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        is_decoder=kind == "BertLMHeadModel",
    )  # fmt: skip
    model = getattr(transformers, kind)(config).eval()
    model.save_pretrained(folder)
    (tokenizer or tiny.tokenizer()).save_pretrained(folder)
    return model


def test_a_padded_vocabulary_is_cut_to_the_tokenizers(tmp_path: Path) -> None:
    model = save_checkpoint(tmp_path, pad_to=128)
    teacher = load_teacher(tmp_path, tokenizer=tiny.tokenizer())
    batch = task().batch(0, 4)
    expected = model(input_ids=batch.inputs["input_ids"]).logits.flatten(0, 1)[batch.inputs["masked_rows"], :COLUMNS]
    torch.testing.assert_close(teacher.logits(batch.inputs), expected)
    assert teacher.logits({"input_ids": batch.inputs["input_ids"]}).shape == (4, tiny.LENGTH, COLUMNS)


def test_a_causal_teacher_is_cut_as_well(tmp_path: Path) -> None:
    model = save_checkpoint(tmp_path, pad_to=128, kind="BertLMHeadModel")
    ids = task().batch(0, 2).inputs["input_ids"]
    teacher = load_teacher(tmp_path, tokenizer=tiny.tokenizer())
    torch.testing.assert_close(teacher.logits({"input_ids": ids}), model(input_ids=ids).logits[..., :COLUMNS])


def test_a_causal_model_needs_no_mask_token(tmp_path: Path) -> None:
    tokenizer = tiny.tokenizer()
    tokenizer.mask_token = tokenizer.pad_token = None
    save_checkpoint(tmp_path, kind="BertLMHeadModel", tokenizer=tokenizer)
    assert load_teacher(tmp_path, tokenizer=tokenizer).logits(torch.arange(4).view(1, 4)).shape == (1, 4, COLUMNS)
    with pytest.raises(TeacherError, match="special token mask is null there and 4 here"):
        load_teacher(tmp_path, tokenizer=tiny.tokenizer())


def test_the_students_padding_can_be_kept(tmp_path: Path) -> None:
    """A student whose own vocabulary is padded has as many logits as that."""
    save_checkpoint(tmp_path, pad_to=128, kind="BertLMHeadModel")
    teacher = load_teacher(tmp_path, tokenizer=tiny.tokenizer(), options=TeacherOptions(vocabulary=112))
    assert teacher.logits(task().batch(0, 2).inputs["input_ids"]).shape[-1] == 112


def test_another_tokenizer_is_refused_with_the_first_difference(tmp_path: Path) -> None:
    write_run(tmp_path / "run")
    swapped = (*tiny.TOKENS[:5], "other", *tiny.TOKENS[6:])
    with pytest.raises(
        TeacherError, match=r'another tokenizer than the student \(token 5 is "a" there and "other" here\)'
    ):
        load_teacher(tmp_path / "run", tokenizer=tiny.tokenizer(swapped))
    save_checkpoint(tmp_path / "hub", tokenizer=tiny.tokenizer(swapped))
    with pytest.raises(TeacherError, match=r'token 5 is "other" there and "a" here'):
        load_teacher(tmp_path / "hub", tokenizer=tiny.tokenizer(), name="old")


def test_a_tokenizer_of_another_name_is_the_same_by_content(tmp_path: Path) -> None:
    renamed = tiny.tokenizer()
    renamed.name_or_path = "something/else"
    save_checkpoint(tmp_path, tokenizer=renamed)
    inputs = task().batch(0, 4).inputs
    assert load_teacher(tmp_path, tokenizer=tiny.tokenizer()).logits(inputs).shape[-1] == COLUMNS


def test_without_a_tokenizer_beside_it_nothing_can_be_compared(tmp_path: Path) -> None:
    save_checkpoint(tmp_path)
    for path in tmp_path.glob("tokenizer*"):
        path.unlink()
    with pytest.raises(
        TeacherError, match=r"holds no tokenizer that can be read .*tokenizer.save_pretrained\(folder\)"
    ):
        load_teacher(tmp_path, tokenizer=tiny.tokenizer())


def test_a_tokenizer_without_the_form_of_tokenizers_is_refused(tmp_path: Path) -> None:
    save_checkpoint(tmp_path)
    with pytest.raises(
        TeacherError, match="the student's tokenizer is a object, which has no form of the `tokenizers`"
    ):
        load_teacher(tmp_path, tokenizer=object())


@pytest.mark.parametrize("kind", ["BertForSequenceClassification", "BertForTokenClassification"])
def test_a_classifier_has_to_read_the_students_tokens(kind: str, tmp_path: Path) -> None:
    save_checkpoint(tmp_path, kind=kind)
    teacher = load_teacher(tmp_path, tokenizer=tiny.tokenizer())
    assert teacher.logits(torch.arange(4).view(1, 4)).shape[-1] == 2, "its logits are classes, of which none is cut off"
    swapped = (*tiny.TOKENS[:5], "other", *tiny.TOKENS[6:])
    with pytest.raises(TeacherError, match=r'another tokenizer than the student \(token 5 is "a" there'):
        load_teacher(tmp_path, tokenizer=tiny.tokenizer(swapped))


def test_a_teacher_that_reads_no_text_is_refused(tmp_path: Path) -> None:
    from tests.tiny import write_run as write_image_run

    write_image_run(tmp_path / "run")
    with pytest.raises(TeacherError, match=r"teacher 'run' is not known to read text .ResNet"):
        load_teacher(tmp_path / "run", tokenizer=tiny.tokenizer())


@pytest.mark.parametrize("prefix", ["", "hf:"])
def test_sequences_must_not_be_longer_than_its_positions(prefix: str, tmp_path: Path) -> None:
    model = write_run(tmp_path / "run")
    spec, most = f"{prefix}{tmp_path / 'run'}", model.config.max_position_embeddings
    load_teacher(spec, tokenizer=tiny.tokenizer(), length=most)
    with pytest.raises(
        TeacherError, match=rf"reads {most} tokens at most, and the student's sequences have {most + 1}"
    ):
        load_teacher(spec, tokenizer=tiny.tokenizer(), length=most + 1)


def test_a_run_whose_description_is_broken_is_refused(tmp_path: Path) -> None:
    import json

    from safetensors.torch import load_file, save_file

    write_run(tmp_path)
    path = tmp_path / "model.safetensors"
    save_file(load_file(path), path, {"headstart": json.dumps({"task": "mlm", "length": 32})})
    with pytest.raises(
        TeacherError, match=r"model.safetensors: its description does not name a model that can be built"
    ):
        load_teacher(tmp_path, tokenizer=tiny.tokenizer())


def test_the_doctor_examines_masked_rows(tmp_path: Path) -> None:
    write_run(tmp_path)
    student = task()
    batches = [(batch.inputs, batch.labels) for batch in (student.batch(step, 20) for step in range(2))]
    parts = [(batch.inputs, batch.labels) for batch in (student.batch(0, 20, part=part, parts=2) for part in range(2))]
    teacher = load_teacher(tmp_path, tokenizer=student.corpus.tokenizer)
    found = doctor(student.build_model(), teacher, batches, forward=student.forward, parts=parts)
    passed = {check.name for check in found if check.status == "pass"}
    assert passed >= {"label range", "separate", "frozen", "classes", "finite", "loss at agreement", "micro-batches"}
    # Text of random letters can be told by nobody.
    assert "labels" not in passed and "better than the student" not in passed
