"""The page: everything about a race in one HTML file that needs nothing beside it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from headstart.files import write_atomically
from headstart.records import RaceRecord
from headstart.report import (
    answers,
    figures,
    html,
    init_tables,
    money,
    result_tables,
    run_table,
    sentences,
    setup_tables,
)
from headstart.report.auto_table import auto_table
from headstart.report.figures import CLOCK_NAMES
from headstart.report.money import Price
from headstart.report.pictures import canvas
from headstart.report.pictures.canvas import Picture
from headstart.report.pictures.curves import speedup_picture, tradeoff_picture
from headstart.report.pictures.time_split import time_picture
from headstart.report.pictures.training import training_pictures
from headstart.report.tuning_table import tuning_table

PAGE = "report.html"


def write_report(record: RaceRecord, folder: str | os.PathLike[str], *, price: Price | None = None) -> Path:
    """Write the report of a race: `report.html`, and its pictures as PNG and SVG beside it.

    The page is one self-contained file: it needs no network, no script and none of the other files. Everything that
    comes from the race is escaped. The same race folder gives the same page.

    Args:
        record: A race, judged (`headstart.race.judge`), finished or not.
        folder: The race folder: losses over training are read from its runs, and their files linked. Made if missing.
            Files of the same names are replaced.
        price: Of the machine; with it the page tells costs in money, too.

    Returns:
        The path of `report.html`. The pictures are `curves` (on the headline clock), `speedup`, `time`, `flops`,
        `task-loss`, `distill-loss` and `agreement`; one that the race has no data for is left out, and the page says
        why.

    Raises:
        RaceError: The runs do not all measure the same metric.
        HeadstartError: The folder cannot be written.

    Example:
        >>> import tempfile
        >>> from headstart.records import Arm, RaceRecord
        >>> race = RaceRecord(arms=[Arm(name="a"), Arm(name="b")], baseline="a", primary="b", budgets=[1], seeds=[0])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_report(race, folder).name
        'report.html'
    """
    folder = Path(folder)
    page = folder / PAGE
    pictures, missing = draw_pictures(record, folder)
    with html.writing(page):
        folder.mkdir(parents=True, exist_ok=True)
        for picture in pictures:
            picture.save(folder)
        write_atomically(page, render_page(record, pictures, missing, folder=folder, price=price).encode())
    return page


def draw_pictures(record: RaceRecord, folder: Path | None = None) -> tuple[list[Picture], list[str]]:
    """The pictures of a race, and for each that cannot be drawn a sentence that says why."""
    clock = record.headline_clock
    why_no_time = (
        "its calibration lacks kinds of step that the runs took" if record.calibration else "it was not calibrated"
    )
    drawn = [
        (
            tradeoff_picture(record, clock, "curves"),
            f"Tradeoff curves are not drawn: of no arm are all costs known in {CLOCK_NAMES[clock]}.",
        ),
        (
            speedup_picture(record),
            "Speed-up against quality is not drawn: no arm has a stretch of quality in common with the baseline.",
        ),
        (
            time_picture(record),
            f"Where the time goes cannot be shown: the race does not know the parts of a step, {why_no_time}.",
        ),
    ]
    if clock != "flops":
        sentence = "Curves in FLOPs are not drawn: the runs do not count them."
        drawn.append((tradeoff_picture(record, "flops", "flops"), sentence))
    during, undrawn = training_pictures(record, folder)
    pictures = [picture for picture, _ in drawn if picture is not None]
    return pictures + during, [sentence for picture, sentence in drawn if picture is None] + undrawn


def render_page(
    record: RaceRecord,
    pictures: Sequence[Picture],
    missing: Sequence[str],
    *,
    folder: Path | None = None,
    price: Price | None = None,
) -> str:
    """The page as HTML, from templates/race.html.j2."""
    return html.render(
        "race.html.j2",
        title=f"Race: {record.name}",
        mood=answers.mood(record),
        verdict=sentences.judgement(record),
        caveats=sentences.caveats(record),
        answers=answers.answers(record, price),
        pictures=[shown(picture) for picture in pictures],
        missing=missing,
        arm_numbers=canvas.arm_numbers(record),
        results=result_tables.result_tables(record),
        money=money.money_table(record, price) if price is not None and record.results else None,
        cells=result_tables.cell_table(record),
        teachers=result_tables.teacher_table(record),
        autos=auto_table(record),
        inits=init_tables.init_table(record),
        trained_on=init_tables.trained_on_sentences(record),
        failures=result_tables.failure_table(record),
        step_times=result_tables.step_table(record),
        arms=setup_tables.arm_table(record),
        tuning=tuning_table(record),
        differences=setup_tables.difference_table(record),
        environment=setup_tables.environment_table(record),
        runs=run_table.run_table(record, folder),
        files=run_table.race_files(folder),
        primary=record.primary,
        date=figures.moment(record.date),
        command=record.command,
        recipe=record.recipe,
    )


def shown(picture: Picture) -> dict[str, str]:
    """A picture as the templates take it."""
    return {"title": picture.title, "caption": picture.caption, "svg": html.markup(picture.inline())}
