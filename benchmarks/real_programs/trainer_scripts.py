"""The example scripts of transformers that train by its Trainer."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from real_programs.made_up import bert, prepared, sentences, write_lines, write_tokenizer
from real_programs.program import Edit, Refused, Setup

SCRIPTS = "transformers/examples/pytorch"
COMMON = shlex.split(
    "--use_cpu --max_steps 6 --per_device_train_batch_size 4 --optim sgd --learning_rate 0.05 "
    "--save_steps 3 --logging_steps 1 --report_to none --seed 3 --model_name_or_path {init} --output_dir {out}"
)
RESUME = ("--resume_from_checkpoint", "{first}/checkpoint-3")
_IMPORTS = "from transformers.utils import check_min_version\n"


def trainer_lines(model: str, trainer: str = "Trainer", distill: str = '{"stop": STOP}') -> list[Edit]:
    """What docs/trainer.md says: another class, and what to distil from."""
    call = f"    trainer = {trainer}(\n"
    ours, load, imported = "DistillTrainer", f"{model}.from_pretrained(TEACHER)", ""
    if model == "load_teacher":
        load, imported = "load_teacher(TEACHER)", "from headstart import load_teacher\n"
    imported += "from headstart.adapters.trainer import DistillTrainer\n"
    behind = ""
    if trainer != "Trainer":
        ours, behind = "Mine", f"    class Mine(DistillTrainer, {trainer}):\n        pass\n\n"
    return [
        Edit(_IMPORTS, imported + _IMPORTS),
        Edit(call, f"{behind}    trainer = {ours}(\n        teachers={load},\n        distill={distill},\n"),
    ]


def by_hand(model: str, value: str, trainer: str = "Trainer") -> list[Edit]:
    """The same by hand."""
    model = f"frozen(lambda: {model}.from_pretrained(TEACHER))"
    return [
        Edit(
            f"    trainer = {trainer}(\n",
            f"    import by_hand\n    from by_hand import ByHand, frozen\n    class Taught(ByHand, {trainer}):\n"
            f"        pass\n    trainer = Taught(\n        teacher={model},\n        value=by_hand.{value},\n",
        )
    ]


def script(
    name: str,
    title: str,
    path: str,
    prepare: Callable[[Path], None],
    options: str,
    *,
    model: str,
    value: str,
    trainer: str = "Trainer",
    distill: str = '{"stop": STOP}',
    load: str | None = None,
    local: Sequence[Edit] = (),
) -> Setup:
    """A script with its lines."""
    return Setup(
        name=name,
        title=title,
        script=f"{SCRIPTS}/{path}",
        page="trainer.md",
        prepare=prepare,
        options=["--do_train", *COMMON, *shlex.split(options)],
        lines=trainer_lines(load or model, trainer, distill),
        by_hand=by_hand(model, value, trainer),
        resume=RESUME,
        local=local,
    )


def _rows(make: Callable[[], Any], rows: Callable[[], Sequence[object]]) -> Callable[[Path], None]:
    def data(folder: Path) -> None:
        for part in ("train", "validation"):
            write_lines(folder / f"{part}.json", rows())

    return prepared(make, write_tokenizer, data)


def _labelled(label: Callable[[int], object]) -> Callable[[], list[dict[str, object]]]:
    texts = sentences(24)
    return lambda: [{"sentence": text, "label": label(index)} for index, text in enumerate(texts)]


def _named() -> list[dict[str, object]]:
    names = ("B-place", "I-place", "O")
    texts = [text.split() for text in sentences(48)]
    return [{"tokens": text, "ner_tags": [names[(len(word) + i) % 3] for i, word in enumerate(text)]} for text in texts]


_CLASSES = _rows(bert("SequenceClassification", num_labels=3), _labelled(lambda index: index % 3))
_VALUES = _rows(bert("SequenceClassification", num_labels=1), _labelled(lambda index: index / 10))
_LABELS = _rows(
    bert("SequenceClassification", num_labels=3),
    _labelled(lambda index: [f"l{label}" for label in range(3) if (index + label) % 2]),
)
_NER = _rows(bert("TokenClassification", num_labels=3), _named)
FILES = "--train_file {data}/train.json --validation_file {data}/validation.json"
_SHORT = FILES + " --max_seq_length 16"
_SEQUENCE = "AutoModelForSequenceClassification"
_GLUE = "text-classification/run_glue.py"
_CLASSIFICATION = "text-classification/run_classification.py"

CLASSIFYING = [
    script("run_glue-classes", "run_glue.py, classes", _GLUE, _CLASSES, _SHORT, model=_SEQUENCE, value="classes"),
    script(
        "run_glue-accumulated",
        "run_glue.py, classes, 2 micro-batches",
        _GLUE,
        _CLASSES,
        _SHORT + " --gradient_accumulation_steps 2 --pad_to_max_length False",
        model=_SEQUENCE,
        value="classes",
        load="load_teacher",
    ),
    script(
        "run_glue-smoothed",
        "run_glue.py, `--label_smoothing_factor`",
        _GLUE,
        _CLASSES,
        _SHORT + " --label_smoothing_factor 0.1",
        model=_SEQUENCE,
        value="classes",
    ),
    script(
        "run_glue-values",
        "run_glue.py, regression",
        _GLUE,
        _VALUES,
        _SHORT,
        model=_SEQUENCE,
        value="values",
        distill='{"stop": STOP, "loss": "mse"}',
    ),
    script(
        "run_classification-labels",
        "run_classification.py, several labels",
        _CLASSIFICATION,
        _LABELS,
        _SHORT + " --text_column_names sentence --label_column_name label --do_regression False",
        model=_SEQUENCE,
        value="labels",
        local=[Edit('features["label"].dtype == "list"', 'features["label"].__class__.__name__ == "List"')],
    ),
    script(
        "run_ner",
        "run_ner.py, 2 micro-batches",
        "token-classification/run_ner.py",
        _NER,
        FILES + " --gradient_accumulation_steps 2",
        model="AutoModelForTokenClassification",
        value="tokens",
    ),
    script(
        "run_ner-load_teacher",
        "run_ner.py, `load_teacher`",
        "token-classification/run_ner.py",
        _NER,
        FILES,
        model="AutoModelForTokenClassification",
        value="tokens",
        load="load_teacher",
    ),
]

DEFAULT_LOSS = Refused(
    script(
        "run_glue-kl",
        "run_glue.py, regression without a `loss`",
        _GLUE,
        _VALUES,
        _SHORT,
        model=_SEQUENCE,
        value="values",
    ),
    says="loss='kl'",
    instead='the default `kl` means nothing for a value; `distill={"loss": "mse", ...}` does',
)
