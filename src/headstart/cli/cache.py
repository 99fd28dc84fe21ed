"""`headstart cache`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from headstart.cli.common import Json, Overrides, guarded, stderr

if TYPE_CHECKING:
    from headstart.cache import Forecast, Keep
    from headstart.experiment.fill_cache import By


def cache(
    recipe: Annotated[Path, typer.Argument(help="A recipe with a distill section.")],
    overrides: Overrides = None,
    out: Annotated[Path, typer.Option(help="The cache folder; start again with the same one to go on.")] = Path(
        "runs/cache"
    ),
    keep: Annotated[
        str, typer.Option(help="full, top-k or sampled targets; by default full up to 1000 classes, else sampled.")
    ] = "",
    count: Annotated[
        int | None, typer.Option(help="Classes of top-k (default 10), or draws (default 32).", show_default=False)
    ] = None,
    by: Annotated[
        str,
        typer.Option(
            help="epoch: targets of what the run distils on; view: of all ways that samples are seen in, where a flip "
            "is all that is drawn, or nothing, for runs of any seed, length and window."
        ),
    ] = "epoch",
    take: Annotated[
        list[Path] | None,
        typer.Option(
            "--import",
            help="Instead: log-probabilities made elsewhere, .parquet or .jsonl; give it once for each file.",
        ),
    ] = None,
    prompts: Annotated[
        Path | None, typer.Option(help="Instead: write the sequences to ask a server for, as .jsonl.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Run a recipe's teachers once over what its run distils on, and keep what they give.

    [bold]headstart cache recipes/fashion-mnist.yaml data.seed=0 --out runs/cache[/]
    [bold]headstart train recipes/fashion-mnist.yaml data.seed=0 distill.cache=runs/cache --out runs/one[/]

    Many runs can read it: other students, seeds and losses on the same data with the same data.seed.
    With --by view also those of another data.seed, longer ones, and ones with a wider window.

    A causal language model's log-probabilities can come from a server or another project instead: --prompts writes
    what to ask it for, --import reads the answers. A server sees all documents of a sequence, and so must the student.

    [bold]headstart cache recipes/clm-small-text.yaml data.documents_apart=false --prompts prompts.jsonl[/]
    [bold]headstart cache recipes/clm-small-text.yaml data.documents_apart=false --import answers.jsonl[/]
    """
    changes = overrides or []
    if prompts is not None:
        print(f"{guarded(lambda: _write_prompts(recipe, changes, prompts, by))} sequences: {prompts}")
        return
    files = guarded(
        lambda: (
            _import(recipe, changes, out, take, by) if take else _cache(recipe, changes, out, _keep(keep, count), by)
        )
    )
    if as_json:
        print(json.dumps({file.name: file.stat().st_size for file in files}, indent=1))
    else:
        print(f"cached: {', '.join(map(str, files))}; read it with distill.cache={out}")


class _Lines:
    """Tells how it comes along, in lines."""

    def __init__(self) -> None:
        self._tenth = 0

    def forecast(self, forecast: Forecast) -> None:
        """What it will take."""
        print(forecast, file=sys.stderr)

    def cached(self, done: int, total: int) -> None:
        """How far it is, ten times."""
        if 10 * done // total > self._tenth:
            self._tenth = 10 * done // total
            print(f"  {done}/{total} batches", file=sys.stderr)


def _write_prompts(path: Path, overrides: list[str], to: Path, by: str) -> int:
    from headstart.experiment.import_targets import write_prompts
    from headstart.recipe.load import load_recipe

    return write_prompts(load_recipe(path, overrides), to, by=_by(by))


def _import(path: Path, overrides: list[str], out: Path, files: list[Path], by: str) -> list[Path]:
    from headstart.experiment.import_targets import import_targets
    from headstart.recipe.load import load_recipe

    return [import_targets(load_recipe(path, overrides), out, files, by=_by(by))]


def _cache(path: Path, overrides: list[str], out: Path, keep: Keep, by: str) -> list[Path]:
    from headstart.commands.console import Display
    from headstart.experiment.fill_cache import cache_recipe
    from headstart.experiment.train_teachers import teacher_recipes, train_teachers
    from headstart.recipe.checks import check_cacheable
    from headstart.recipe.load import load_recipe

    kind = _by(by)
    recipe = load_recipe(path, overrides).model_copy(update={"race": None})
    check_cacheable(recipe, by_view=kind == "view")
    with Display(stderr()) as display:
        paths = train_teachers(teacher_recipes(recipe, [recipe]), out / "teachers", watcher=display)
    return cache_recipe(recipe, out, keep=keep, by=kind, teacher_paths=paths, progress=_Lines())


def _by(word: str) -> By:
    from typing import cast, get_args

    from headstart.errors import RecipeError
    from headstart.experiment.fill_cache import By

    if word not in get_args(By):
        raise RecipeError(f"--by={word}: choose one of {', '.join(get_args(By))}")
    return cast("By", word)


def _keep(kind: str, count: int | None) -> Keep:
    from typing import cast, get_args

    from headstart.cache import Keep
    from headstart.cache.formats import Kind
    from headstart.errors import RecipeError

    if kind and kind not in get_args(Kind):
        raise RecipeError(f"--keep={kind}: choose one of {', '.join(get_args(Kind))}")
    return Keep(cast("Kind | None", kind or None), count)
