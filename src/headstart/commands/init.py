"""What `headstart init` does: a model cut or grown out of an older one, as a checkpoint that its library reads."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from headstart.commands.like import built, changed_config, check_tokens, read_like
from headstart.errors import HeadstartError, InitError, RecipeError
from headstart.init import Inherited, init_from
from headstart.tasks.hub import one_line, quiet
from headstart.teachers.rows import rows_of
from headstart.teachers.source import Source, load_source, read_tokenizer

# What transformers writes beside weights, and what of it stays true whatever the shape.
_TOKENIZER = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.txt",
    "vocab.json", "merges.txt", "tokenizer.model", "spiece.model", "chat_template.jinja",
)  # fmt: skip
_BESIDE = ("preprocessor_config.json", "processor_config.json")
_GENERATION = "generation_config.json"
_SPECIAL = ("bos_token_id", "eos_token_id", "pad_token_id")
_SEQUENCES, _LENGTH = 8, 128  # of a batch to score by


class Way(NamedTuple):
    """How the source's weights are taken, as `init_from` has it."""

    how: str = "auto"
    scores: str = "spaced"
    compensate: bool = False
    shrink: float = 1.0
    perturb: float = 0.0
    require: float = 0.0

    @property
    def runs(self) -> bool:
        """Whether the source has to work."""
        return self.scores == "activation" or self.compensate

    @property
    def mixes(self) -> bool:
        """Whether fresh weights are mixed into what is inherited."""
        return (self.shrink, self.perturb) != (1.0, 0.0)


def write_init(
    spec: str, like: str, out: Path, way: Way, *, text: Path | None = None, batches: int = 8, seed: int = 0
) -> Inherited:
    """Cut or grow a model out of an older one, and write it as a checkpoint of its library.

    Args:
        spec: The older model, as in `find_teacher`: of transformers, or of timm.
        like: The shape of the new one: a `config.json` or its folder, or changes to the older one's configuration
            (`num_hidden_layers=2,hidden_size=128`); of timm `timm:NAME`.
        out: The folder; refused where it holds something.
        way: How weights are taken.
        text: Text to score by, for language models.
        batches: Of it, each of 8 sequences of up to 128 tokens.
        seed: Of what stays fresh.

    Returns:
        What was taken over.

    Raises:
        HeadstartError: The folder is not empty; the source or the shape cannot be read; they do not fit.
    """
    if out.exists() and any(out.iterdir()):
        raise RecipeError(f"--out={out}: holds something already; give an empty folder, or one that does not exist")
    if way.runs and text is None:
        raise RecipeError(
            "--scores activation and --compensate look at the source at work: give text of its kind with --text FILE "
            "(images: in a recipe, init.scores)"
        )
    torch.manual_seed(seed)
    source = load_source(spec, runs=way.runs)
    if like.startswith("timm:"):
        return _write_timm(source, like.removeprefix("timm:"), out, way)
    shown = [] if text is None else _read_batches(source, text, batches)
    return _write_transformers(make_model(source, like, way, shown), source, out)


class Made(NamedTuple):
    """A model of transformers with its first weights, what it took over, and where its tokenizer lies, if anywhere."""

    model: Any
    inherited: Inherited
    tokenizer: Path | None


def make_model(source: Source, like: str, way: Way, batches: list[Any]) -> Made:
    """Build a model of transformers and fill it from an older one.

    Args:
        source: The older model.
        like: As in `write_init`.
        way: How weights are taken.
        batches: To look at the source at work, where `way` asks for it.

    Raises:
        HeadstartError: As `write_init`.
    """
    own = _own_config(source)
    changed = "=" in like
    config, kind, folder = changed_config(own, like, first=way.scores == "first") if changed else read_like(like, own)
    place = next((each for each in (folder, source.folder) if each is not None and _files(each, _TOKENIZER)), None)
    tokenizer = None if place is None else read_tokenizer(str(place), str(place))
    check_tokens(config, tokenizer, like)
    # Fresh weights cost more time than all the rest, and most often none of them is left in the end.
    model = built(kind, config, fresh=way.mixes)
    rows = rows_of(model, source, classes=_classes(config), tokenizer=tokenizer)
    told = way._replace(scores="spaced", compensate=False)  # what stays fresh does not depend on them
    if not way.mixes and _leaves_fresh(_filled(model, source, told, [], own, rows, writing="nothing")):
        model = built(kind, config, fresh=True)
    return Made(model, _filled(model, source, way, batches, own, rows), place)


def _classes(config: Any) -> list[str] | None:
    """Names of the new model's classes, in their order; None where it has no such head."""
    from headstart.teachers.hugging_face import label_names

    return label_names(config) if "Classification" in (config.architectures or [""])[0] else None


def _leaves_fresh(inherited: Inherited) -> bool:
    """Some of the student's values stay as they are."""
    return any(row.what == "fresh" or row.reason for row in inherited.tensors)


def _write_transformers(made: Made, source: Source, out: Path) -> Inherited:
    with quiet():
        made.model.save_pretrained(out)
    _copy_files(made.tokenizer, _TOKENIZER, out)
    _copy_files(source.folder, _BESIDE, out)
    if source.folder is None or not _files(source.folder, (_GENERATION,)):
        return made.inherited
    if _same_tokens(made, source):
        shutil.copyfile(source.folder / _GENERATION, out / _GENERATION)  # save_pretrained has written a bare one
        return made.inherited
    note = f"{_GENERATION}: not copied, as its tokens are not the new model's; set sampling and stop tokens anew"
    return replace(made.inherited, notes=(*made.inherited.notes, note))


def _same_tokens(made: Made, source: Source) -> bool:
    """Tokens have the same numbers in both, so that what the source says of them holds."""
    own = _own_config(source)
    special = all(getattr(made.model.config, name, None) == getattr(own, name, None) for name in _SPECIAL)
    return made.tokenizer in (None, source.folder) and special


def _write_timm(source: Source, name: str, out: Path, way: Way) -> Inherited:
    from headstart.tasks.images import ImageModel, build_model
    from headstart.tasks.images.models import vision_library

    if way.runs:
        raise RecipeError("--scores activation and --compensate need images, which a recipe has: init.scores")
    classes = getattr(source.weights, "num_classes", None)
    if not isinstance(source.weights, nn.Module) or not isinstance(classes, int):
        raise InitError(f"{source.spec}: is no model of timm, and --like timm:{name} is; give one of timm")
    model = build_model(ImageModel(name=f"timm:{name}"), classes=classes, channels=3)
    inherited = _filled(model, source, way, [], None, {})
    vision_library("timm.models._hub").save_for_hf(model, str(out), safe_serialization=True)
    return inherited


def _own_config(source: Source) -> Any:
    """The source's configuration of transformers.

    Raises:
        InitError: It has none.
    """
    from transformers import AutoConfig

    if hasattr(source.config, "to_dict"):
        return source.config
    if source.folder is None or not (source.folder / "config.json").is_file():
        raise InitError(
            f"{source.spec}: is no model of transformers (it has no config.json), and no library would read what comes "
            "of it; a recipe takes it as it is: init: {from: ...}"
        )
    try:
        return AutoConfig.from_pretrained(source.folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # each type checks in its own way
        raise InitError(f"{source.spec}: its config.json cannot be read ({one_line(error)})") from None


def _filled(
    model: nn.Module,
    source: Source,
    way: Way,
    batches: list[Any],
    config: Any,
    rows: dict[str, Tensor],
    *,
    writing: str = "each",
) -> Inherited:
    return init_from(
        model,
        source.weights,
        way.how,
        scores=way.scores,
        batches=batches or None,
        compensate=way.compensate,
        shrink=way.shrink,
        perturb=way.perturb,
        rows=rows,
        source_config=config,
        require=way.require,
        writing=writing,
    )


def _read_batches(source: Source, text: Path, count: int) -> list[Any]:
    """Batches of token sequences, cut out of a text one after the other."""
    try:
        content = text.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise HeadstartError(f"--text={text}: cannot be read ({error}); give a plain text file") from None
    if source.tokenizer is None:
        raise InitError(f"{source.spec}: has no tokenizer, so that no text can be given to it")
    tokenizer = read_tokenizer(source.tokenizer, source.spec)
    tokens = torch.tensor(tokenizer(content, add_special_tokens=False, verbose=False)["input_ids"], dtype=torch.int64)
    size = _SEQUENCES * min(_LENGTH, max(1, len(tokens) // _SEQUENCES))
    if len(tokens) < _SEQUENCES:
        raise HeadstartError(f"--text={text}: holds {len(tokens)} tokens; give some pages of text")
    rows = tokens[: len(tokens) // size * size].view(-1, _SEQUENCES, size // _SEQUENCES)
    return [{"input_ids": batch} for batch in rows[:count]]


def _files(folder: Path, names: tuple[str, ...]) -> list[Path]:
    return [folder / name for name in names if (folder / name).is_file()]


def _copy_files(folder: Path | None, names: tuple[str, ...], out: Path) -> None:
    for path in [] if folder is None else _files(folder, names):
        if not (out / path.name).exists():
            shutil.copyfile(path, out / path.name)
