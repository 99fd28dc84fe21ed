"""The report of a race: the verdict in a sentence, a table for the terminal, and one page with everything."""

from __future__ import annotations

from headstart.report._page import write_report
from headstart.report._terminal import results_table
from headstart.report._verdict import verdict_sentence

__all__ = ["results_table", "verdict_sentence", "write_report"]
