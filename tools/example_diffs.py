"""Shows what headstart changes in the examples: writes it into the docs, or runs an example as it was before.

Usage: python tools/example_diffs.py                              # write the diffs into the pages
       python tools/example_diffs.py examples/plain.py [OPTIONS]  # run the script without headstart

In an example a line that headstart adds ends in `# headstart`, and one that it changes in `# headstart: ` and the line
as it was. A page shows an example's diff between `<!-- diff: NAME -->` and `<!-- end -->`.
"""

from __future__ import annotations

import difflib
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "examples"
MARK = re.compile(r"(?P<code>(?P<indent> *).*?)  # headstart(?:: (?P<before>.*))?$")
SHOWN = re.compile(r"(<!-- diff: (?P<name>\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def before(script: str) -> str:
    r"""A script as it was without headstart.

    Example:
        >>> before("a = 1\nb = 2  # headstart\n  c(a, b)  # headstart: c(a)\n")
        'a = 1\n  c(a)\n'
    """
    lines = []
    for line in script.splitlines():
        mark = MARK.match(line)
        if mark is None:
            lines.append(line)
        elif mark["before"]:
            lines.append(mark["indent"] + mark["before"])
    return "\n".join(lines) + "\n"


def after(script: str) -> str:
    r"""A script with headstart, without the marks.

    Example:
        >>> after("a = 1\nb = 2  # headstart\n")
        'a = 1\nb = 2\n'
    """
    return "\n".join(MARK.sub(lambda mark: mark["code"], line) for line in script.splitlines()) + "\n"


def diff(script: str) -> list[str]:
    """The lines of a script's diff, with three lines around each change."""
    return list(difflib.unified_diff(before(script).splitlines(), after(script).splitlines(), lineterm=""))[2:]


def written(page: str) -> str:
    """A page with the diffs as they are now."""

    def shown(match: re.Match[str]) -> str:
        lines = diff((EXAMPLES / f"{match['name']}.py").read_text(encoding="utf-8"))
        lines = ["@@" if line.startswith("@@") else line for line in lines]  # line numbers would say nothing
        return "\n".join([match[1] + "```diff", *lines, "```", match[3]])

    return SHOWN.sub(shown, page)


def run(path: Path, options: list[str]) -> None:
    """Run a script as it was before."""
    sys.argv = [str(path), *options]
    sys.path.insert(0, str(path.parent.resolve()))
    code = compile(before(path.read_text(encoding="utf-8")), str(path), "exec")
    exec(code, {"__name__": "__main__", "__file__": str(path), "__doc__": None})


def main() -> None:
    """Run a script, or bring all pages up to date."""
    if sys.argv[1:]:
        run(Path(sys.argv[1]), sys.argv[2:])
        return
    for page in sorted(ROOT.glob("docs/*.md")):
        text = page.read_text(encoding="utf-8")
        if written(text) != text:
            page.write_text(written(text), encoding="utf-8")
            print(f"wrote {page.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
