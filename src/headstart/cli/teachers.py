"""`headstart teachers` and `headstart doctor`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from headstart.cli.common import Json, Overrides, TeachersFolder, fail, guarded, stderr, stdout
from headstart.errors import HeadstartError, TeacherError

if TYPE_CHECKING:
    from headstart.teachers.doctor import Check


def teachers(
    specs: Annotated[
        list[str] | None,
        typer.Argument(help="Run folders, checkpoints, patterns, or names such as timm:NAME.", show_default=False),
    ] = None,
    probe: Annotated[
        Path | None,
        typer.Option(
            help="A recipe: look at its teachers, or those given, on its training data, and say what each knows, costs "
            "and may be worth to its student. Nothing is trained.",
            show_default=False,
        ),
    ] = None,
    trained: Annotated[
        Path, typer.Option(help="With --probe: where the teachers lie that the recipe trains itself, by name.")
    ] = Path("runs/run/teachers"),
    as_json: Json = False,
) -> None:
    """List what could teach: model, parameters, bytes, quality, and what a forward costs.

    Nothing is trained or written; names with hf:, timm: and torchvision: are downloaded, once.

    [bold]headstart teachers runs/demo/teachers/*[/]
    [bold]headstart teachers timm:resnet18.a1_in1k hf:google-bert/bert-base-uncased[/]
    [bold]headstart teachers --probe recipes/fashion-mnist.yaml --trained runs/fashion-mnist/teachers[/]
    """
    if probe is not None:
        guarded(lambda: _probe(probe, specs or [], trained, as_json))
        return
    if not specs:
        fail(HeadstartError("give teachers, or --probe RECIPE to look at those of a recipe"), 2)
    from headstart.commands.teachers import list_teachers, teachers_table, unread

    found = guarded(lambda: list_teachers(specs))
    if as_json:
        print(json.dumps(found, indent=1))
    else:
        stdout().print(teachers_table(found))
        for reason in unread(found):
            stdout().print(reason, markup=False, highlight=False)


def doctor(
    recipe: Annotated[Path | None, typer.Argument(help="A recipe with a distill section.", show_default=False)] = None,
    overrides: Overrides = None,
    teachers: TeachersFolder = Path("runs/run/teachers"),
    script: Annotated[
        Path | None,
        typer.Option(
            help="Instead of a recipe: a Python file of yours, which is run. It defines model, teachers and batches, "
            "and may define other arguments of headstart.doctor.",
            show_default=False,
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Examine a distillation, of a recipe or of your own loop, on a few batches; nothing is trained or written.

    [bold]headstart doctor recipes/fashion-mnist.yaml --teachers runs/fashion-mnist/teachers[/]
    [bold]headstart doctor --script set_up.py[/]

    Exit code 4 if a check fails.
    """
    checks = guarded(lambda: _examine(recipe, overrides or [], teachers, script))
    if as_json:
        print(json.dumps([check.model_dump(mode="json") for check in checks], indent=1))
    else:
        from headstart.commands.teachers import checks_table

        stdout().print(checks_table(checks))
    failed = sum(check.status == "fail" for check in checks)
    if failed:
        fail(TeacherError(f"{failed} check{'s' if failed > 1 else ''} failed"), TeacherError.exit_code)


def _probe(path: Path, specs: list[str], trained: Path, as_json: bool) -> None:
    from headstart.commands.console import Display
    from headstart.commands.probe import probe_json, probe_recipe, probe_table
    from headstart.recipe.load import load_recipe

    recipe = load_recipe(path).model_copy(update={"race": None})
    with Display(stderr()) as display:
        looked, lines = probe_recipe(recipe, specs, trained, display.probing_step)
    if as_json:
        print(json.dumps(probe_json(looked, lines), indent=1))
        return
    stdout().print(probe_table(looked.probe))
    for line in [*looked.probe.notes(), *lines]:
        stdout().print(line, markup=False, highlight=False, soft_wrap=True)


def _examine(path: Path | None, overrides: list[str], teachers: Path, script: Path | None) -> list[Check]:
    if script is not None:
        from headstart.commands.doctor_script import doctor_script

        if path is not None:
            raise HeadstartError(f"{path}: a recipe and --script exclude each other; give one of them")
        return doctor_script(script)
    if path is None:
        raise HeadstartError("give a recipe, or --script FILE with a Python file that defines your set-up")
    from headstart.commands.doctor import doctor_recipe
    from headstart.recipe.load import load_recipe

    return doctor_recipe(load_recipe(path, overrides).model_copy(update={"race": None}), teachers)
