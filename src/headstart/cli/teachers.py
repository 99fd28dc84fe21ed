"""`headstart teachers` and `headstart doctor`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from headstart.cli.common import Json, Overrides, fail, guarded, stdout
from headstart.errors import HeadstartError, TeacherError

if TYPE_CHECKING:
    from headstart.teachers.doctor import Check


def teachers(
    specs: Annotated[list[str], typer.Argument(help="Run folders, checkpoints, patterns, or names such as timm:NAME.")],
    as_json: Json = False,
) -> None:
    """List what could teach: model, parameters, bytes, quality, and what a forward costs.

    Nothing is trained or written; names with hf:, timm: and torchvision: are downloaded, once.

    [bold]headstart teachers runs/demo/teachers/*[/]
    [bold]headstart teachers timm:resnet18.a1_in1k hf:google-bert/bert-base-uncased[/]
    """
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
    teachers: Annotated[
        Path, typer.Option(help="Where the teachers lie that the recipe trains itself, each in a folder of its name.")
    ] = Path("runs/run/teachers"),
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
