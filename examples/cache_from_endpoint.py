"""Asks an OpenAI-compatible server for the log-probabilities of a recipe's text, for `headstart cache --import`.

    headstart cache recipes/clm-small-text.yaml data.documents_apart=false --prompts prompts.jsonl
    python examples/cache_from_endpoint.py prompts.jsonl answers.jsonl --url http://localhost:8000/v1 --model NAME
    headstart cache recipes/clm-small-text.yaml data.documents_apart=false --import answers.jsonl --out runs/served
    headstart train recipes/clm-small-text.yaml data.documents_apart=false distill.cache=runs/served --out runs/taught

A server that is given a sequence sees all documents in it; with data.documents_apart=false the student does so, too.
The server's model must have the recipe's tokenizer. Start vLLM with --no-enable-prefix-caching, as it tells nothing of
tokens that it has in its cache; other servers are asked in OpenAI's own way by --echo. The same command goes on where
it was stopped.
"""

import argparse
import json
import sys
import urllib.error
import urllib.request

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("prompts", help="what headstart cache RECIPE --prompts wrote")
parser.add_argument("answers", help="file to write, .jsonl")
parser.add_argument("--url", required=True, help="of the server, for example http://localhost:8000/v1")
parser.add_argument("--model", required=True, help="its name there")
parser.add_argument("--top", type=int, default=20, help="log-probabilities of each token")
parser.add_argument("--echo", action="store_true", help="ask by echo and logprobs, not by vLLM's prompt_logprobs")
args = parser.parse_args()


def ask(tokens):
    """What the server says of a sequence: of each token, how probable it was and what else might have come."""
    how = {"echo": True, "logprobs": args.top, "max_tokens": 0, "return_tokens_as_token_ids": True}
    if not args.echo:
        how = {"prompt_logprobs": args.top, "max_tokens": 1, "return_token_ids": True}
    body = {"model": args.model, "prompt": tokens, "temperature": 1.0, "add_special_tokens": False, **how}
    request = urllib.request.Request(
        f"{args.url.rstrip('/')}/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


done, size = set(), 0
with open(args.answers, "ab+") as answers:
    answers.seek(0)
    for line in answers:
        if line.endswith(b"\n"):  # else it was stopped in the middle of it
            done.add(json.loads(line)["sample"])
            size += len(line)
    answers.truncate(size)

with open(args.prompts, encoding="utf-8") as prompts, open(args.answers, "a", encoding="utf-8") as answers:
    for number, line in enumerate(prompts, start=1):
        prompt = json.loads(line)
        if prompt["sample"] in done:
            continue
        try:
            response = ask(prompt["input_ids"])
        except urllib.error.URLError as error:
            told = error.read().decode(errors="replace") if isinstance(error, urllib.error.HTTPError) else ""
            sys.exit(f"{args.url}: {error} {told}".strip() + "; the same command goes on with this sequence")
        answers.write(json.dumps({**prompt, "response": response}) + "\n")
        answers.flush()
        if number % 100 == 0:
            print(f"{number} sequences")
print(f"all sequences: {args.answers}")
