"""Writes docs/command.md, the reference of the command line, from the command itself.

Usage: python tools/command_reference.py
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args, get_type_hints

from typer.main import get_command

from headstart.cli import app

PAGE = Path(__file__).parent.parent / "docs" / "command.md"

HEAD = """# The command

`headstart COMMAND --help` says in the terminal what this page says. Results go to stdout, progress and messages to
stderr; `--json` prints the result for programs. In place of `headstart`, `python -m headstart` works too.

This page is written by `tools/command_reference.py` from the command itself.
"""

_EXAMPLE = re.compile(r"\[bold\](.*?)\[/\]", re.DOTALL)
_TYPES = {Path: "path", list[Path]: "path, several times", str: "text", int: "integer", float: "number"}


def reference() -> str:
    """The whole page."""
    commands = subcommands()
    lines = [HEAD, "| command | what it does |", "| --- | --- |"]
    for name, command in commands.items():
        purpose = _paragraphs(command.help)[0].partition(". ")[0].rstrip(".")
        lines.append(f"| [`headstart {name}`](#headstart-{name}) | {purpose} |")
    lines += ["", _exit_codes(), ""]
    for name, command in commands.items():
        lines += _section(name, command)
    return "\n".join(lines)


def subcommands() -> Mapping[str, Any]:
    """Typer's commands by name, in the order of `headstart --help`."""
    group: Any = get_command(app)
    commands: Mapping[str, Any] = group.commands
    return commands


def examples(command: Any) -> list[str]:
    """The command lines in a command's help."""
    return [" ".join(_plain(found).split()) for found in _EXAMPLE.findall(command.help)]


def _section(name: str, command: Any) -> list[str]:
    arguments = [part for part in command.params if part.param_type_name == "argument"]
    options = [part for part in command.params if part.param_type_name == "option"]
    usage = " ".join(["headstart", name, *map(_in_usage, arguments), "[OPTIONS]"])
    lines = [f"## `headstart {name}`", ""]
    for paragraph in _paragraphs(command.help):
        lines += [paragraph, ""]
    lines += [f"    {usage}", "", "| argument | meaning |", "| --- | --- |"]
    lines += [f"| `{_name(part)}` | {_cell(part.help)} |" for part in arguments]
    lines += ["", "| option | type | default | meaning |", "| --- | --- | --- | --- |"]
    types = get_type_hints(command.callback)
    for part in options:
        kind = "flag" if part.is_flag else _TYPES[_inner(types[part.name])]
        lines.append(f"| `{', '.join(part.opts)}` | {kind} | {_default(part)} | {_cell(part.help)} |")
    return [*lines, "", "```sh", *examples(command), "```", ""]


def _paragraphs(text: str) -> list[str]:
    """Help without its examples, a line a paragraph."""
    blocks = (" ".join(block.split()) for block in _EXAMPLE.sub("", text).split("\n\n"))
    return [_plain(block) for block in blocks if block]


def _exit_codes() -> str:
    return next(line for line in _paragraphs(str(app.info.help)) if line.startswith("Exit codes"))


def _name(argument: Any) -> str:
    return str(argument.name).upper() + ("..." if argument.nargs == -1 else "")


def _in_usage(argument: Any) -> str:
    return _name(argument) if argument.required else f"[{_name(argument)}]"


def _inner(annotation: Any) -> Any:
    """The type of an option that may be left out."""
    return next((part for part in get_args(annotation) if part is not type(None)), annotation)


def _default(option: Any) -> str:
    if option.is_flag:
        return "off"
    if option.required:
        return "required"
    return "none" if option.default in (None, "") else f"`{option.default}`"


def _cell(text: str) -> str:
    return _plain(text).replace("|", "\\|")


def _plain(text: str) -> str:
    """Text without rich's marks: what is escaped for it is not here."""
    return text.replace("\\[", "[")


if __name__ == "__main__":
    PAGE.write_text(reference(), encoding="utf-8")
    print(f"wrote {PAGE}")
