"""Targets made elsewhere: each form read, trained from to the same weights, and what does not fit refused by name."""

from __future__ import annotations

import itertools
import json
import math
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

from headstart.cache import CachedTeacher, Keep
from headstart.cache.formats import TopKRows
from headstart.cache.reader import CacheFile
from headstart.distill.targets.source import Keys
from headstart.distill.targets.sparse import TopK, top_k_target
from headstart.errors import RecipeError, TeacherError
from headstart.experiment.fill_cache import cache_recipe
from headstart.experiment.import_targets import import_targets, write_prompts
from headstart.recipe.recipe import Recipe
from headstart.train.run import train
from headstart.train.session import Session
from tests.tiny import weight_bits
from tests.train.test_causal_lm import recipe, smaller
from tests.train.test_masked_lm import write_text

K, CLASSES = 4, 292
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
    train(not_apart(smaller(text)), folder)
    return str(folder)


def taught(text: Path, name: str, **more: Any) -> Recipe:
    """Of sequences that hold several documents, which nobody keeps apart."""
    distill = {"teachers": [name], "stop": 0.25, "temperature": 1.0, "weight": 0.5, **more}
    return not_apart(recipe(text, distill=distill))


def not_apart(given: Recipe) -> Recipe:
    return given.model_copy(update={"data": given.data.model_copy(update={"documents_apart": False})})


@pytest.fixture(scope="module")
def ours(text: Path, teacher: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that we wrote ourselves."""
    folder = tmp_path_factory.mktemp("ours") / "cache"
    cache_recipe(taught(text, teacher), folder, keep=Keep("top-k", K))
    return folder


@pytest.fixture(scope="module")
def told(text: Path, teacher: str, ours: Path, tmp_path_factory: pytest.TempPathFactory) -> Records:
    """What our cache holds of every sequence that is asked for, read back: the form of ours."""
    path = tmp_path_factory.mktemp("prompts") / "prompts.jsonl"
    count = write_prompts(taught(text, "served"), path)
    records = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(records) == count == 3 * 8 == len({record["sample"] for record in records})
    samples = torch.tensor([record["sample"] for record in records])
    target = CachedTeacher(ours, teacher).targets(None, Keys(samples, epoch=0))
    assert isinstance(target, TopK) and target.classes == CLASSES
    logprobs = target.logits.float().log_softmax(-1)[:, :-1].view(count, 15, K)  # the last class is all the others
    for record, ids, values in zip(records, target.indices.view(count, 15, K), logprobs, strict=True):
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


def with_own(record: dict[str, Any]) -> list[dict[int, float]]:
    """Servers list the text's own token, too. What that had is not in our cache; it shares what is left alike."""
    entries = []
    for token, ids, values in zip(record["input_ids"][1:], record["token_ids"], record["logprobs"], strict=True):
        left = (1.0 - math.fsum(map(math.exp, values))) / (CLASSES - K)
        entries.append({token: math.log(left)} | dict(zip(ids, values, strict=True)))
    return entries


def vllm(record: dict[str, Any]) -> dict[str, Any]:
    """As its completions endpoint answers with prompt_logprobs, in a batch's output."""
    entries = [
        {
            str(token): {"logprob": value, "rank": rank, "decoded_token": "?"}
            for rank, (token, value) in enumerate(entry.items())
        }
        for entry in with_own(record)
    ]
    choice = {"index": 0, "text": "", "prompt_logprobs": [None, *entries], "prompt_token_ids": record["input_ids"]}
    return {
        "custom_id": str(record["sample"]),
        "response": {"body": {"object": "text_completion", "choices": [choice]}},
    }


def openai(record: dict[str, Any]) -> dict[str, Any]:
    """As an OpenAI-compatible completions endpoint answers with echo and logprobs, tokens by their numbers."""
    entries = [{f"token_id:{token}": value for token, value in entry.items()} for entry in with_own(record)]
    tokens = [f"token_id:{token}" for token in record["input_ids"]]
    choice = {"logprobs": {"top_logprobs": [None, *entries], "tokens": tokens}}
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
def expected(text: Path, teacher: str, ours: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The weights of a run that reads what we cached ourselves."""
    folder = tmp_path_factory.mktemp("expected")
    train(taught(text, teacher, cache=str(ours)), folder / "run")
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


def divided(record: dict[str, Any], places: int = 15) -> dict[str, Any]:
    whole = torch.tensor(record["logprobs"], dtype=torch.float64).log_softmax(-1).tolist()
    return {**record, "logprobs": [*whole[:places], *record["logprobs"][places:]]}


def test_probabilities_that_somebody_has_made_sum_to_one_are_refused(
    text: Path, told: Records, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Also where one sequence alone is like that, or one place is not; but not where a file says that it is so."""
    whole = [divided(record) for record in told]
    for records in (whole, [whole[0], *told[1:]], [divided(told[0], places=14), *told[1:]]):
        file = save(tmp_path / "targets.parquet", [axolotl(record) for record in records])
        with pytest.raises(
            TeacherError, match=r"the probabilities sum to 1 .*axolotl does .* say so .* complete: true"
        ):
            import_targets(taught(text, "served"), tmp_path / "cache", [file])
    file = save(tmp_path / "complete.parquet", [axolotl(record) | {"complete": True} for record in whole])
    assert import_targets(taught(text, "served"), tmp_path / "complete", [file]).exists()
    assert not caplog.messages
    file = save(tmp_path / "some.parquet", [divided(told[0], places=3), *told[1:]])
    assert import_targets(taught(text, "served"), tmp_path / "some", [file]).exists()
    assert [line for line in caplog.messages if "at 3 of 360 places the probabilities sum to 1" in line]


def test_a_list_of_all_classes_is_taken_but_for_the_last(text: Path, told: Records, tmp_path: Path) -> None:
    logits = torch.randn(15, CLASSES, generator=torch.Generator().manual_seed(0))
    values, ids = logits.log_softmax(-1).topk(CLASSES)
    every = [{**record, "token_ids": ids.tolist(), "logprobs": values.tolist()} for record in told]
    path = import_targets(taught(text, "served"), tmp_path / "cache", [save(tmp_path / "all.jsonl", every)])
    rows = CacheFile(path).header.rows
    assert isinstance(rows, TopKRows) and rows.k == CLASSES - 1


def knowing(told: Records, off: int) -> Records:
    """What one who is right in half of the cases would say, put some places later."""
    generator = torch.Generator().manual_seed(0)
    records = []
    for record in told:
        ids = torch.tensor(record["input_ids"])[1:].roll(off)
        ids = torch.where(torch.rand(15, generator=generator) < 0.5, ids, (ids + 100) % CLASSES)
        pairs = torch.stack([ids, (ids + 1) % CLASSES], 1)
        records.append({**record, "token_ids": pairs.tolist(), "logprobs": [[math.log(0.5), math.log(0.1)]] * 15})
    return records


def test_targets_one_place_off_are_refused_in_each_file(text: Path, told: Records, tmp_path: Path) -> None:
    for off, message in ((1, "one place too late"), (-1, "one place too early")):
        wrong, right = knowing(told, off), knowing(told, 0)
        for name, records in (("all", [wrong]), ("half", [right[:12], wrong[12:]])):
            files = [save(tmp_path / f"{name}-{part}.jsonl", some) for part, some in enumerate(records)]
            with pytest.raises(TeacherError, match=rf"{files[-1].name}: over \d+ places .* {message}"):
                import_targets(taught(text, "served"), tmp_path / "cache", files)
    file = save(tmp_path / "right.jsonl", knowing(told, 0))
    assert import_targets(taught(text, "served"), tmp_path / "right", [file]).exists()


def test_small_files_that_are_off_are_judged_together(text: Path, told: Records, tmp_path: Path) -> None:
    files = [save(tmp_path / f"{place}.jsonl", [record]) for place, record in enumerate(knowing(told, 1))]
    with pytest.raises(TeacherError, match=r"0\.jsonl, .*: over 336 places .* one place too late"):
        import_targets(taught(text, "served"), tmp_path / "cache", files)


def cut(record: dict[str, Any], counts: dict[int, int]) -> dict[str, Any]:
    def shorter(name: str) -> list[Any]:
        return [one[: counts.get(place, K)] for place, one in enumerate(record[name])]

    return {**record, "token_ids": shorter("token_ids"), "logprobs": shorter("logprobs")}


def test_a_few_places_do_not_cut_all_others_short(
    text: Path, told: Records, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    file = save(tmp_path / "one.jsonl", [told[0], cut(told[1], {6: 1}), *told[2:]])
    sample = told[1]["sample"]
    message = rf"1 of 360 places list fewer than the usual 4 classes; the fewest, 1, place 6 of sample {sample} \("
    with pytest.raises(TeacherError, match=message):
        import_targets(taught(text, "served"), tmp_path / "cache", [file])
    caplog.clear()
    file = save(tmp_path / "two.jsonl", [told[0], cut(told[1], {6: 2}), *told[2:]])
    path = import_targets(taught(text, "served"), tmp_path / "two", [file])
    assert any("place 6 of sample" in line and "Only the 2 most probable" in line for line in caplog.messages)
    rows = CacheFile(path).header.rows
    assert isinstance(rows, TopKRows) and rows.k == 2
    caplog.clear()
    import_targets(taught(text, "served"), tmp_path / "all", [save(tmp_path / "all.jsonl", told)])
    assert [line for line in caplog.messages if "the 4 most probable classes of each place are kept" in line]


def test_a_sequence_that_occurs_twice_needs_no_samples(tmp_path: Path) -> None:
    folder = tmp_path / "text"
    folder.mkdir()
    words = "one two three four five six seven eight nine ten eleven twelve "
    for split in ("train", "test"):
        (folder / f"{split}.txt").write_text(words * 400, encoding="utf-8")
    given = taught(folder, "served", stop=1.0)
    prompts = tmp_path / "prompts.jsonl"
    write_prompts(given, prompts)
    records = [json.loads(line) for line in prompts.read_text().splitlines()]
    different = {tuple(record["input_ids"]): record for record in records}
    assert len(different) < len(records)
    place = {"token_ids": [[1, 2]] * 15, "logprobs": [[-0.7, -1.5]] * 15}
    file = save(tmp_path / "targets.jsonl", [{"input_ids": tokens, **place} for tokens in different])
    assert import_targets(given, tmp_path / "cache", [file]).exists()


def test_packed_documents_that_the_student_sees_apart_are_refused(text: Path, told: Records, tmp_path: Path) -> None:
    given = recipe(text, distill={"teachers": ["served"], "stop": 0.25, "temperature": 1.0})
    message = (
        r"documents_apart=true: of the 24 sequences that the run distils on \d+ hold more than one document, .*=false"
    )
    with pytest.raises(RecipeError, match=message):
        write_prompts(given, tmp_path / "prompts.jsonl")
    with pytest.raises(RecipeError, match=message):
        import_targets(given, tmp_path / "cache", [save(tmp_path / "targets.jsonl", told)])
    assert not (tmp_path / "prompts.jsonl").exists()
    alone = write_text(tmp_path / "alone")  # one document, so that there is nothing to be kept apart
    apart = recipe(alone, distill={"teachers": ["served"], "stop": 0.25, "temperature": 1.0})
    assert write_prompts(apart, tmp_path / "prompts.jsonl") == 24


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
