"""Targets made elsewhere: each form read, trained from to the same weights, and what does not fit refused by name."""

from __future__ import annotations

import itertools
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
from pyarrow import parquet
from torch import Tensor

pytest.importorskip("transformers", reason="needs transformers: pip install 'headstart[text]'")

from headstart.cache import Keep
from headstart.distill import Teacher
from headstart.distill.targets.sparse import top_k_target
from headstart.errors import RecipeError, TeacherError
from headstart.experiment.fill_cache import cache_recipe
from headstart.experiment.import_targets import import_targets, write_prompts
from headstart.recipe.recipe import Recipe
from headstart.teachers import load_teacher
from headstart.train.run import train
from headstart.train.session import Session
from tests.tiny import weight_bits
from tests.train.test_causal_lm import recipe, smaller
from tests.train.test_masked_lm import write_text

K = 4
Records = list[dict[str, Any]]


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_text(tmp_path_factory.mktemp("text") / "sentences")
    for path in folder.iterdir():
        path.write_text(path.read_text(encoding="utf-8").replace("\n", "\n\n"), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def teacher(text: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("import") / "teacher"
    train(smaller(text), folder)
    return str(folder)


def taught(text: Path, name: str, **more: Any) -> Recipe:
    distill = {"teachers": [name], "stop": 0.25, "temperature": 1.0, "weight": 0.5, **more}
    return recipe(text, distill=distill)


@pytest.fixture(scope="module")
def told(text: Path, teacher: str, tmp_path_factory: pytest.TempPathFactory) -> Records:
    """What the teacher says of every sequence that is asked for: the form of ours."""
    path = tmp_path_factory.mktemp("prompts") / "prompts.jsonl"
    count = write_prompts(taught(text, "served"), path)
    records = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(records) == count == 3 * 8 == len({record["sample"] for record in records})
    served: Teacher = load_teacher(teacher, tokenizer=Session(smaller(text)).task.corpus.tokenizer)  # type: ignore[attr-defined]
    rows = torch.arange(16 * count).view(count, 16)[:, :-1].flatten()
    tokens = torch.tensor([record["input_ids"] for record in records])
    positions = Session(taught(text, teacher)).task  # documents are apart, as the student has them
    inputs, _ = positions._shifted(tokens)  # type: ignore[attr-defined]
    assert torch.equal(inputs["next_token_rows"], rows)
    logprobs = served.logits(inputs).log_softmax(-1).view(count, 15, -1)
    for record, one in zip(records, logprobs, strict=True):
        values, ids = one.topk(K)
        record |= {"token_ids": ids.tolist(), "logprobs": values.tolist()}
    return records


def axolotl(record: dict[str, Any]) -> dict[str, Any]:
    """An entry for each token, of that token; the first has none, and is filled up with what nothing is."""
    return {
        "input_ids": record["input_ids"],
        "target_token_ids": [list(range(K)), *record["token_ids"]],
        "target_logprobs": [[-torch.inf] * K, *record["logprobs"]],
        "target_mask": [[0] * K, *[[1] * K] * 15],
        "labels": record["input_ids"],
        "attention_mask": [1] * 16,
    }


def axolotl_of_the_next(record: dict[str, Any]) -> dict[str, Any]:
    """As its README of later versions tells: an entry for each token, of the next one; the last has none."""
    return {
        "input_ids": record["input_ids"],
        "target_token_ids": [*record["token_ids"], [0] * K],
        "target_logprobs": [*record["logprobs"], [-1e9] * K],
        "target_mask": [*[[1] * K] * 15, [0] * K],
        "labels": record["input_ids"],
        "attention_mask": [1] * 16,
    }


def distillkit(record: dict[str, Any]) -> dict[str, Any]:
    """As its sampler of vLLM's log-probabilities compresses them, by the settings of `DISTILLKIT`."""
    rows = []
    for values in record["logprobs"]:
        deltas = [values[0], *(after - before for before, after in itertools.pairwise(values))]
        scale = max(map(abs, deltas[2:])) / 2**15
        numbers = [max(-(2**15), min(2**15 - 1, round(delta / scale))) + 2**15 for delta in deltas[2:]]
        rows.append([*struct.pack("<2f", *deltas[:2]), *struct.pack("<f", scale), *packed(numbers, 16)])
    return {
        "input_ids": record["input_ids"],
        "compressed_logprobs": rows,
        "bytepacked_indices": [packed(ids, 9) for ids in record["token_ids"]],
    }


DISTILLKIT = """d: 331
k: 4
exact_k: 2
exact_dtype: float32
polynomial_terms: null
term_dtype: float32
residual_bins: [{scale_dtype: float32, element_bits: 16, num_elements: 2}]
delta_encoding: true
error_diffusion: false
normalize_t: false
"""


def packed(numbers: list[int], bits: int) -> list[int]:
    """Numbers one after the other, most significant bit first, filled up with zeros to whole bytes."""
    stream = "".join(f"{number:0{bits}b}" for number in numbers)
    stream += "0" * (-len(stream) % 8)
    return [int(stream[place : place + 8], 2) for place in range(0, len(stream), 8)]


def vllm(record: dict[str, Any]) -> dict[str, Any]:
    """As its completions endpoint answers with prompt_logprobs, in a batch's output."""
    entries = [
        {
            str(token): {"logprob": value, "rank": rank, "decoded_token": "?"}
            for rank, (token, value) in enumerate(pairs)
        }
        for pairs in (zip(*pair, strict=True) for pair in zip(record["token_ids"], record["logprobs"], strict=True))
    ]
    choice = {"index": 0, "text": "", "prompt_logprobs": [None, *entries], "prompt_token_ids": record["input_ids"]}
    return {
        "custom_id": str(record["sample"]),
        "response": {"body": {"object": "text_completion", "choices": [choice]}},
    }


def openai(record: dict[str, Any]) -> dict[str, Any]:
    """As an OpenAI-compatible completions endpoint answers with echo and logprobs, tokens by their numbers."""
    entries = [
        {f"token_id:{token}": value for token, value in zip(*pair, strict=True)}
        for pair in zip(record["token_ids"], record["logprobs"], strict=True)
    ]
    choice = {"logprobs": {"top_logprobs": [None, *entries], "tokens": ["?"] * 16}}
    return {"sample": record["sample"], "input_ids": record["input_ids"], "choices": [choice]}


def without_samples(record: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in record.items() if key != "sample"}


def save(path: Path, records: Records) -> Path:
    if path.suffix == ".parquet":
        parquet.write_table(pa.Table.from_pylist(records), path)
    else:
        path.write_text("\n".join(map(json.dumps, records)), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def expected(text: Path, teacher: str, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The weights of a run that reads what we cached ourselves."""
    folder = tmp_path_factory.mktemp("ours")
    cache_recipe(taught(text, teacher), folder / "cache", keep=Keep("top-k", K))
    train(taught(text, teacher, cache=str(folder / "cache")), folder / "run")
    return weight_bits(folder / "run")


@pytest.mark.parametrize(
    ("form", "suffix"),
    [(dict, ".parquet"), (dict, ".jsonl"), (without_samples, ".jsonl"), (axolotl, ".parquet"),
     (axolotl_of_the_next, ".parquet"), (distillkit, ".parquet"), (vllm, ".jsonl"), (openai, ".jsonl")],
)  # fmt: skip
def test_each_form_trains_to_the_weights_of_a_cache_of_ours(
    form: Callable[[dict[str, Any]], dict[str, Any]],
    suffix: str,
    text: Path,
    told: Records,
    expected: Any,
    tmp_path: Path,
) -> None:
    (tmp_path / "compression_config.yaml").write_text(DISTILLKIT)
    file = save(tmp_path / f"targets{suffix}", [form(record) for record in told])
    import_targets(taught(text, "served"), tmp_path / "cache", [file])
    record = train(taught(text, "served", cache=str(tmp_path / "cache")), tmp_path / "run")
    assert record.teacher_flops == 0
    header, bits = weight_bits(tmp_path / "run")
    assert header == expected[0]
    found, right = (torch.frombuffer(bytearray(one), dtype=torch.float32) for one in (bits, expected[1]))
    torch.testing.assert_close(found, right, rtol=1e-3, atol=1e-4)


def test_files_may_share_the_sequences_and_hold_others(text: Path, told: Records, tmp_path: Path) -> None:
    other = {**told[0], "sample": 10**6}
    files = [save(tmp_path / f"{part}.jsonl", [*told[part::2], other]) for part in range(2)]
    assert import_targets(taught(text, "served"), tmp_path / "cache", files).exists()


def changed(told: Records, **changes: Any) -> Records:
    return [{**told[0], **changes}, *told[1:]]


def test_what_does_not_fit_is_refused(text: Path, told: Records, tmp_path: Path) -> None:
    first, tokens = told[0], told[0]["input_ids"]
    places = len(first["logprobs"])
    probabilities = torch.tensor(first["logprobs"]).exp().tolist()
    logits = (torch.tensor(first["logprobs"]) + 3).tolist()
    cases: dict[str, Records] = {
        rf"token 3 of sample {first['sample']} is 299 .* there and {tokens[3]} .* in the text; these": (
            changed(told, input_ids=[*tokens[:3], 299, *tokens[4:]])
        ),
        r"its 16 tokens are none of the 24 sequences that the run distils on": (
            [{**without_samples(first), "input_ids": tokens[::-1]}]
        ),
        r"has 15 tokens, and sample \d+ has 16": changed(told, input_ids=tokens[:-1]),
        r"does not tell the tokens that it is of": changed(told, input_ids=None),
        r"row 0: class 99999 is none of the \d+ that the student has; .* another vocabulary": (
            changed(told, token_ids=[[99999, 1, 2, 3]] * places)
        ),
        r"are no log-probabilities, .*; they look like probabilities": changed(told, logprobs=probabilities),
        r"are no log-probabilities, .*; they look like logits": changed(told, logprobs=logits),
        r"a log-probability is -inf": changed(told, logprobs=[[0.0, *[-torch.inf] * 3]] * places),
        r"a class stands there twice": changed(told, token_ids=[[1, 1, 2, 3]] * places),
        r"tells what follows 3 places, and a sequence has 15": (
            changed(told, token_ids=first["token_ids"][:3], logprobs=first["logprobs"][:3])
        ),
        r"of the 24 sequences that the run distils on 23 have no targets, sample \d+ the first; .* --prompts": told[:1],
        r"compression_config\.yaml: is missing, and DistillKit's compressed files cannot be read without it": (
            [distillkit(first)]
        ),
        r"packed_indices is DistillKit's older compressed form": [{"input_ids": tokens, "packed_indices": [[1]]}],
        r"target_mask has to leave out the first token, .* or the last": (
            [{**axolotl(first), "target_mask": [[1] * K] * 16}]
        ),
        r"no known form, with text": [{"text": "hello"}],
        r"token 5 is masked, and so has no target": (
            [{**axolotl(first), "target_mask": [[int(place not in (0, 5))] * K for place in range(16)]}]
        ),
        r"'\?\?' is the text of no token, or of several; .*return_tokens_as_token_ids": (
            [{**openai(first), "choices": [{"logprobs": {"top_logprobs": [None, {"??": -1.0}]}}]}]
        ),
        r"the answer has neither prompt_logprobs nor": [{**openai(first), "choices": [{"text": "hello"}]}],
        r"there is nothing of token 1": [
            {**openai(first), "choices": [{"prompt_logprobs": [None, None, {"1": {"logprob": -1.0}}]}]}
        ],
    }
    for message, records in cases.items():
        file = save(tmp_path / "bad.jsonl", records)
        with pytest.raises(TeacherError, match=message):
            import_targets(taught(text, "served"), tmp_path / "cache", [file])
        assert not (tmp_path / "cache").exists(), message


def test_a_vocabulary_of_more_tokens_is_refused(text: Path, told: Records, tmp_path: Path) -> None:
    """A served model's own further tokens, as one padded or extended beyond the recipe's tokenizer may give."""
    classes = Session(smaller(text)).task.num_classes
    further = [[classes, *ids[1:]] for ids in told[0]["token_ids"]]
    file = save(tmp_path / "further.jsonl", changed(told, token_ids=further))
    with pytest.raises(TeacherError, match=rf"class {classes} is none of the {classes} that the student has"):
        import_targets(taught(text, "served"), tmp_path / "cache", [file])


def test_probabilities_that_somebody_has_made_sum_to_one_are_told_of(
    text: Path, told: Records, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = [
        {**record, "logprobs": torch.tensor(record["logprobs"], dtype=torch.float64).log_softmax(-1).tolist()}
        for record in told
    ]
    for records, count in ((told, 0), (whole, 1)):
        caplog.clear()
        file = save(tmp_path / "targets.parquet", [axolotl(record) for record in records])
        import_targets(taught(text, "served"), tmp_path / str(count), [file])
        assert sum("divided by their sum (axolotl does" in line for line in caplog.messages) == count


def test_recipes_that_such_targets_are_not_good_for_are_refused(text: Path, tmp_path: Path) -> None:
    for given, message in (
        (taught(text, "served", temperature=2.0), r"imported log-probabilities are a softmax's at temperature 1"),
        (taught(text, "served", teachers=["a", "b"]), r"files are one teacher's; name one, not a, b"),
        (recipe(text), r"has no distill section"),
    ):
        with pytest.raises(RecipeError, match=message):
            import_targets(given, tmp_path / "cache", [])


def test_files_that_cannot_be_read_are_named(text: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.jsonl").write_text("{", encoding="utf-8")
    for name, message in (
        ("bad.jsonl", "cannot be read"),
        ("none.parquet", "cannot be read"),
        ("a.csv", "are read from"),
    ):
        with pytest.raises(TeacherError, match=rf"{name}: .*{message}"):
            import_targets(taught(text, "served"), tmp_path / "cache", [tmp_path / name])


def test_the_others_of_a_row_are_one_class_more() -> None:
    from headstart.cache import target_of_logprobs

    logits = torch.randn(5, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    logprobs: Tensor = logits.log_softmax(-1)
    values, ids = logprobs.topk(3)
    found, right = target_of_logprobs(ids, values, classes=9), top_k_target(logits, 3, 1.0)
    torch.testing.assert_close(found.logits.log_softmax(-1), right.logits.log_softmax(-1))
