"""The report of a race: the verdict in a sentence, a table for the terminal, and one page with everything."""

from __future__ import annotations

from headstart.report.compare import write_comparison
from headstart.report.money import Price
from headstart.report.page import write_report
from headstart.report.sentences import quality_sentence, verdict_sentence
from headstart.report.terminal import races_table, results_table

__all__ = [
    "Price",
    "quality_sentence",
    "races_table",
    "results_table",
    "verdict_sentence",
    "write_comparison",
    "write_report",
]
