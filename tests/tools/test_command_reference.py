"""The page of the command line says what the command says."""

from __future__ import annotations

import inspect
import re
import shlex
from collections.abc import Callable
from typing import Any, get_type_hints

import pytest
from typer.models import ArgumentInfo

from command_reference import PAGE, examples, reference, subcommands
from headstart.cli import app
from quote_figures import ROOT

FUNCTIONS: dict[str, Callable[..., Any]] = {
    info.callback.__name__: info.callback for info in app.registered_commands if info.callback is not None
}
EACH_COMMAND = pytest.mark.parametrize("name", FUNCTIONS)


def section(name: str) -> str:
    return reference().split(f"## `headstart {name}`\n")[1].split("\n## ")[0]


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == reference(), "run python tools/command_reference.py"


def test_every_command_is_there() -> None:
    assert re.findall(r"^## `headstart (\w+)`$", reference(), re.M) == list(FUNCTIONS) == list(subcommands())


@EACH_COMMAND
def test_every_parameter_of_the_function_is_there_with_its_default_and_meaning(name: str) -> None:
    hints = get_type_hints(FUNCTIONS[name], include_extras=True)
    lines = section(name).splitlines()
    for parameter in inspect.signature(FUNCTIONS[name]).parameters.values():
        (info,) = hints[parameter.name].__metadata__
        meaning = info.help.replace("\\[", "[").replace("|", "\\|")
        if isinstance(info, ArgumentInfo):
            assert any(re.match(rf"\| `{parameter.name.upper()}[.]*` \| ", line) and meaning in line for line in lines)
            continue
        spelled = f"--{parameter.name.replace('_', '-')}"
        option = info.default if isinstance(info.default, str) else spelled  # typer.Option("--json")
        (line,) = (line for line in lines if line.startswith(f"| `{option}` |"))
        assert line.endswith(f" | {meaning} |")
        if parameter.default is inspect.Parameter.empty:
            assert " | required | " in line
        elif parameter.default not in (None, "", False):
            assert f" | `{parameter.default}` | " in line


@EACH_COMMAND
def test_examples_use_what_there_is(name: str) -> None:
    options = {option for part in subcommands()[name].params for option in part.opts}
    found = examples(subcommands()[name])
    assert any(line.startswith(f"headstart {name} ") for line in found)
    for line in found:
        assert f"\n{line}\n" in section(name)
        words = shlex.split(line)
        if words[:2] == ["headstart", name]:
            assert {word for word in words if word.startswith("--")} <= options
        for recipe in re.findall(r"recipes/[\w-]+\.yaml", line):
            assert (ROOT / recipe).is_file()


def test_there_are_no_marks_of_a_terminal() -> None:
    usages = re.compile(r"\[[A-Z]+[.]*\]")
    assert not re.search(r"[\u2500-\u257f]|\[/?\w*\]|\x1b", usages.sub("", reference()))
