"""The report of a race: the verdict in a sentence, a table for the terminal, and one page with everything."""

from __future__ import annotations

from headstart.report._compare import write_comparison
from headstart.report._money import Price
from headstart.report._page import write_report
from headstart.report._terminal import races_table, results_table
from headstart.report._verdict import quality_sentence, verdict_sentence

__all__ = [
    "Price",
    "quality_sentence",
    "races_table",
    "results_table",
    "verdict_sentence",
    "write_comparison",
    "write_report",
]
