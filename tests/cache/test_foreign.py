"""Each foreign form as its own project writes it, read: see foreign/README.md for how the samples were made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from headstart.cache.foreign import Told, read_told

SAMPLES = Path(__file__).parent / "foreign"
TOLD: dict[str, Any] = json.loads((SAMPLES / "told.json").read_text(encoding="utf-8"))


def token_of(text: str) -> int | None:
    return TOLD["texts"].index(text) if text in TOLD["texts"] else None


def read(name: str) -> list[Told]:
    found = list(read_told(SAMPLES / name, token_of))
    assert all(one.tokens == TOLD["input_ids"] and not one.complete for one in found)
    return found


def check(found: Told, ids: Any, logprobs: Any, *, atol: float = 1e-6) -> None:
    """That these are the most probable ones of each place; a server lists the text's own token, too."""
    assert len(found.following) == len(TOLD["input_ids"]) - 1
    for place, (classes, values) in enumerate(found.following):
        pairs = sorted(zip(values, classes, strict=True), reverse=True)[: len(ids[place])]
        assert [token for _, token in pairs] == ids[place]
        assert [value for value, _ in pairs] == pytest.approx(logprobs[place], abs=atol)


@pytest.mark.parametrize(("name", "records"), [("vllm.jsonl", 1), ("openai.jsonl", 2)])
def test_what_a_server_answers(name: str, records: int) -> None:
    found = read(name)
    assert len(found) == records and {one.sample for one in found} == {0}
    for one in found:
        check(one, TOLD["token_ids"], TOLD["logprobs"])
        for place, token in enumerate(TOLD["input_ids"][1:]):
            own = dict(zip(*one.following[place], strict=True))[token]
            assert own == pytest.approx(TOLD["of_the_text"][place], abs=1e-6)


def test_what_distillkit_samples() -> None:
    """Curve, bins and halves lose a little: it is read as DistillKit itself reads it, which is near what was there."""
    (found,) = read("distillkit/data_0.parquet")
    check(found, TOLD["distillkit"]["token_ids"], TOLD["distillkit"]["logprobs"], atol=2e-3)
    check(found, TOLD["token_ids"], TOLD["logprobs"], atol=0.2)


def test_what_axolotl_prepares() -> None:
    """Divided by the sum of what is listed; and with another kd_temperature of another temperature."""
    logprobs = torch.tensor(TOLD["logprobs"], dtype=torch.float64)
    legacy, second, tempered = read("axolotl.parquet")
    for one in (legacy, second):
        check(one, TOLD["token_ids"], logprobs.log_softmax(-1).tolist())
    check(tempered, TOLD["token_ids"], (logprobs / 2).log_softmax(-1).tolist())


def changed(tmp_path: Path, name: str, change: Any) -> Path:
    record = json.loads((SAMPLES / name).read_text(encoding="utf-8").splitlines()[0])
    change(record, record["response"]["choices"][0])
    path = tmp_path / "changed.jsonl"
    path.write_text(json.dumps(record), encoding="utf-8")
    return path


def test_a_record_says_that_it_is_complete(tmp_path: Path) -> None:
    path = changed(tmp_path, "vllm.jsonl", lambda record, _: record.update(complete=True))
    assert next(read_told(path, token_of)).complete
