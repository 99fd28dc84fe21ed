"""Draws the pictures of a race in docs/images: its tradeoff curves, and its report in a headless Chromium.

Usage: python tools/report_pictures.py runs/race-fashion-mnist [--out docs/images]
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from browser import Browser, find_browser
from headstart.race import judge, read_race
from headstart.report import write_report

_WIDTH, _HEIGHT = 1180, 820


def main() -> None:
    """Judge the race, write its report, and take the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    arguments = parser.parse_args()
    program = find_browser()
    if program is None:
        parser.error("there is no Chromium or Chrome on the PATH")
    page = write_report(judge(read_race(arguments.folder)), arguments.folder)
    shutil.copy(page.parent / "curves.png", arguments.out / "race-fashion-mnist.png")
    with Browser(program) as browser:
        browser.open(page, width=_WIDTH, height=_HEIGHT)
        (arguments.out / "report.png").write_bytes(browser.picture())


if __name__ == "__main__":
    main()
