"""`headstart teachers`."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from headstart.cli.common import Json, guarded, stdout


def teachers(
    specs: Annotated[list[str], typer.Argument(help="Run folders, or safetensors files of runs.")],
    as_json: Json = False,
) -> None:
    """List what could teach: model, parameters, bytes, quality, and what a forward costs."""
    from headstart.listing import list_teachers, teachers_table

    found = guarded(lambda: list_teachers(specs))
    if as_json:
        print(json.dumps(found, indent=1))
    else:
        stdout().print(teachers_table(found))
