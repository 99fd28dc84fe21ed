"""A cache filled from an endpoint: a stub of a few lines, asked in both ways; its runs are those on our cache."""

from __future__ import annotations

import json
import runpy
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("transformers", reason="needs transformers: pip install 'headstart[text]'")

from example_diffs import EXAMPLES
from headstart.cache import Keep
from headstart.experiment.fill_cache import cache_recipe
from headstart.experiment.import_targets import import_targets, write_prompts
from headstart.recipe.recipe import Recipe
from headstart.train.run import train
from tests.tiny import weight_bits
from tests.train.test_causal_lm import recipe, smaller
from tests.train.test_masked_lm import write_text

TOP = 4


def answer(model: Any, body: dict[str, Any]) -> dict[str, Any]:
    """What an OpenAI-compatible server, or vLLM, says of a prompt of token numbers, by transformers' own model."""
    tokens = body["prompt"]
    with torch.no_grad():
        logprobs = model(input_ids=torch.tensor([tokens])).logits[0].log_softmax(-1)
    top = logprobs.topk(body.get("prompt_logprobs") or body["logprobs"])
    pairs = [
        [*zip(ids, values, strict=True)] for ids, values in zip(top.indices.tolist(), top.values.tolist(), strict=True)
    ]
    for place, token in enumerate(tokens[1:]):  # the token itself is told, too, though it be not among the first
        if token not in dict(pairs[place]):
            pairs[place].append((token, float(logprobs[place, token])))
    if body.get("echo"):
        assert body["return_tokens_as_token_ids"] and body["max_tokens"] == 0
        entries = [{f"token_id:{token}": value for token, value in place} for place in pairs[:-1]]
        return {"choices": [{"text": "", "logprobs": {"top_logprobs": [None, *entries]}}]}
    told = [
        {str(token): {"logprob": value, "rank": 1, "decoded_token": ""} for token, value in place} for place in pairs
    ]
    return {"choices": [{"text": "x", "prompt_logprobs": [None, *told[:-1]]}]}


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One document, of which no part is kept from another: a server knows of none."""
    return write_text(tmp_path_factory.mktemp("text") / "sentences")


@pytest.fixture(scope="module")
def teacher(text: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("endpoint") / "teacher"
    train(_whole(smaller(text)), folder)
    return str(folder)


def _whole(given: Recipe) -> Recipe:
    return given.model_copy(update={"data": given.data.model_copy(update={"documents_apart": False})})


def taught(text: Path, name: str, **more: Any) -> Recipe:
    return _whole(recipe(text, distill={"teachers": [name], "stop": 0.25, "temperature": 1.0, "weight": 0.5, **more}))


@pytest.fixture
def url(teacher: str) -> Iterator[tuple[str, list[int]]]:
    """The server's address, and how many it has answered; it fails once, in the middle."""
    from transformers import AutoModelForCausalLM

    model, asked = AutoModelForCausalLM.from_pretrained(teacher), [0]

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked[0] += 1
            broken = asked[0] == 6 or self.path != "/v1/completions" or body["model"] != "served"
            content = b"out of memory" if broken else json.dumps(answer(model, body)).encode()
            self.send_response(500 if broken else 200)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/v1/", asked
        server.shutdown()


@pytest.mark.parametrize("way", [[], ["--echo"]], ids=["vllm", "echo"])
def test_runs_on_it_are_those_on_a_cache_of_ours(
    way: list[str],
    url: tuple[str, list[int]],
    text: Path,
    teacher: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    address, asked = url
    prompts, answers = tmp_path / "prompts.jsonl", tmp_path / "answers.jsonl"
    count = write_prompts(taught(text, "served"), prompts)
    arguments = [str(prompts), str(answers), "--url", address, "--model", "served", "--top", str(TOP), *way]
    monkeypatch.setattr(sys, "argv", ["cache_from_endpoint.py", *arguments])
    script = str(EXAMPLES / "cache_from_endpoint.py")
    with pytest.raises(
        SystemExit, match=r"HTTP Error 500.* out of memory; the same command goes on with this sequence"
    ):
        runpy.run_path(script)
    with open(answers, "a", encoding="utf-8") as file:
        file.write('{"sample": 1, "inp')  # as one that was killed leaves
    runpy.run_path(script)
    assert asked[0] == count + 1 and len(answers.read_text().splitlines()) == count
    import_targets(taught(text, "served"), tmp_path / "served", [answers])
    cache_recipe(taught(text, teacher), tmp_path / "ours", keep=Keep("top-k", TOP))
    train(taught(text, "served", cache=str(tmp_path / "served")), tmp_path / "run")
    train(taught(text, teacher, cache=str(tmp_path / "ours")), tmp_path / "expected")
    header, bits = weight_bits(tmp_path / "run")
    expected = weight_bits(tmp_path / "expected")
    found, right = (torch.frombuffer(bytearray(one), dtype=torch.float32) for one in (bits, expected[1]))
    assert header == expected[0]
    torch.testing.assert_close(found, right, rtol=1e-3, atol=1e-4)
