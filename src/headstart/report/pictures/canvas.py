"""What every picture shares: size, colours, axes, and how it becomes a PNG, an SVG file and a part of the page.

The page colours its pictures with CSS variables, so that they follow the reader's light or dark setting. The pictures
are drawn in the light palette; in the page's copy each of its colours is replaced by the variable of the same role.
"""

from __future__ import annotations

import html
import io
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headstart.files import write_atomically
from headstart.records import Clock, RaceRecord
from headstart.report import figures

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PAPER, INK, SOFT, GRID = "#ffffff", "#1b1f24", "#56606b", "#e3e7eb"
# Okabe and Ito's palette without its yellow, which is lost on white; the baseline has the ink's colour.
ARM_COLOURS = (INK, "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<")
_LINES = ("-", "-", "--", "-.", ":")
STUDENT, TEACHER, DATA = "#56b4e9", "#e69f00", "#a6aeb6"
ON_COLOUR = "#101418"  # text on those three, legible on them whatever the page's background

_VARIABLES = {
    PAPER: "--paper",
    SOFT: "--soft",
    GRID: "--grid",
    **{colour: f"--arm-{number}" for number, colour in enumerate(ARM_COLOURS)},
}
_SIZE = (4.9, 3.5)
_LONGEST = 28
_LEGEND_ROW = 0.21  # inches
_STYLE: Any = {  # matplotlib types its keys, but not in all of its versions
    "font.family": "DejaVu Sans",
    "font.size": 10.0,
    "text.color": INK,
    "axes.edgecolor": SOFT,
    "axes.labelcolor": SOFT,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "savefig.dpi": 200,
    "text.parse_math": False,  # names come from users: a dollar sign is a dollar sign
    "svg.fonttype": "none",  # text stays text: it can be searched, read aloud, and set in the page's own font
}


@dataclass(frozen=True)
class Picture:
    """A picture, drawn.

    Attributes:
        name: Name of its files, without suffix.
        title: What it shows, for its head.
        caption: How to read it, for the line below it.
        alt: What is to be seen, in words.
    """

    name: str
    title: str
    caption: str
    alt: str
    figure: Figure

    def save(self, folder: Path) -> None:
        """Write `NAME.png` and `NAME.svg`; the same picture gives the same SVG, byte for byte."""
        write_atomically(folder / f"{self.name}.png", self._render("png"))
        write_atomically(folder / f"{self.name}.svg", self._render("svg", Title=self.title))

    def inline(self) -> str:
        """The picture as an `<svg>` element for a page that defines the CSS variables of its colours."""
        svg = self._render("svg").decode()
        svg = svg[svg.index("<svg") :]
        svg = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", svg, flags=re.DOTALL)
        # Names are unique in a page only with the picture's own in front.
        svg = re.sub(r'\bid="', f'id="{self.name}-', svg)
        svg = re.sub(r'xlink:href="#|\bhref="#', f'href="#{self.name}-', svg)
        svg = svg.replace("url(#", f"url(#{self.name}-")
        for colour, variable in _VARIABLES.items():
            svg = svg.replace(colour, f"var({variable})")
        opening = f'<svg role="img" aria-labelledby="{self.name}-title {self.name}-text" viewBox="{_view_box(svg)}">'
        words = "".join(
            f'<{tag} id="{self.name}-{part}">{html.escape(text)}</{tag}>'
            for tag, part, text in (("title", "title", self.title), ("desc", "text", self.alt))
        )
        return opening + words + svg[svg.index(">") + 1 :]

    def _render(self, kind: str, **metadata: str | None) -> bytes:
        import matplotlib

        buffer = io.BytesIO()
        if kind == "svg":
            metadata |= {"Date": None, "Creator": None}  # would differ from day to day, and from version to version
        with matplotlib.rc_context({**_STYLE, "svg.hashsalt": self.name}):
            self.figure.savefig(buffer, format=kind, metadata=metadata)
        return buffer.getvalue()


def draw(paint: Callable[[Axes], None], *, legend: bool = True) -> Figure:
    """A new figure in the report's style: one pair of axes, painted by `paint`, and a legend above it if wanted."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=_SIZE, layout="constrained")
        FigureCanvasAgg(figure)
        paint(figure.add_subplot())
        if legend:
            _add_legend(figure)
        # Laid out once: laying out anew for every file would move things by a hair, depending on the files before.
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
    return figure


def _add_legend(figure: Figure) -> None:
    """Above the axes, in as many columns as there is room for; the picture gets higher where it has many rows."""
    names = len(figure.axes[0].get_legend_handles_labels()[1])
    for columns in (3, 2, 1):
        figure.set_figheight(_SIZE[1] + _LEGEND_ROW * max(0, math.ceil(names / columns) - 2))
        legend = figure.legend(loc="outside upper left", ncols=columns, borderaxespad=0.2, handlelength=2.6)
        figure.draw_without_rendering()
        if columns == 1 or legend.get_window_extent().x1 <= figure.bbox.x1:
            return
        legend.remove()


def plain(name: str) -> str:
    """A name from a race for a picture: printable, not long, and not hidden from the legend by a leading `_`."""
    name = "".join(character if character.isprintable() else " " for character in name)
    name = name if len(name) <= _LONGEST else name[: _LONGEST - 1] + "\N{HORIZONTAL ELLIPSIS}"
    return f" {name}" if name.startswith("_") else name


def arm_numbers(record: RaceRecord) -> dict[str, int]:
    """The number of each arm's colour: 0 for the baseline, 1 for the primary arm, the others on from there."""
    others = len(ARM_COLOURS) - 1
    return {arm: 1 + (place - 1) % others if place else 0 for place, arm in enumerate(_arms(record))}


def look(record: RaceRecord, arm: str) -> dict[str, Any]:
    """How an arm is drawn: no two of the first few dozen arms share colour, marker and line."""
    place = _arms(record).index(arm)
    return {
        "color": ARM_COLOURS[arm_numbers(record)[arm]],
        "marker": _MARKERS[place % len(_MARKERS)],
        "linestyle": _LINES[place % len(_LINES)],
        "linewidth": 1.8,
        "markersize": 6.0,
    }


def cost_axis(axes: Axes, clock: Clock, largest: float) -> None:
    """Make the horizontal axis one of costs: logarithmic, ticks at round numbers of the unit that suits the largest.

    Args:
        axes: With everything drawn: the ticks follow from its limits.
        clock: What the costs are.
        largest: The largest cost, in the clock's unit.
    """
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    unit, name = figures.cost_unit(largest, clock)
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    axes.xaxis.set_major_locator(FixedLocator([tick * unit for tick in round_ticks(low / unit, high / unit)]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value / unit:,.6g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel(f"Training cost, {name}" if clock == "flops" else f"Training time, {name}")


def plain_logarithmic(axes: Axes) -> None:
    """Make the vertical axis logarithmic with plain round numbers; call it with everything drawn."""
    axes.set_yscale("log")
    ticks = round_ticks(*axes.get_ylim())
    axes.set_yticks(ticks, [f"{tick:.6g}" for tick in ticks])
    axes.minorticks_off()


def round_ticks(low: float, high: float, most: int = 7) -> list[float]:
    """Round numbers between two positive ones, evenly spread on a logarithmic axis and no more than `most`.

    Example:
        >>> round_ticks(45.0, 800.0)
        [50.0, 100.0, 200.0, 300.0, 500.0]
    """
    exponents = range(-12, 25)
    for digits in ((1, 1.5, 2, 3, 4, 5, 6, 8), (1, 2, 3, 5), (1, 2, 5), (1, 3), (1,)):
        ticks = [float(f"{digit}e{exponent}") for exponent in exponents for digit in digits]
        ticks = [tick for tick in ticks if low <= tick <= high]
        if len(ticks) <= most:
            return ticks
    return ticks[:: -(-len(ticks) // most)]


def _arms(record: RaceRecord) -> list[str]:
    return list(dict.fromkeys([record.baseline, record.primary, *(arm.name for arm in record.arms)]))


def _view_box(svg: str) -> str:
    found = re.search(r'viewBox="([^"]+)"', svg)
    if found is None:  # matplotlib always writes one
        raise AssertionError("SVG without a viewBox")
    return found.group(1)
