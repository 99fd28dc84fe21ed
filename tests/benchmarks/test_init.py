"""What the benchmark of cutting measures, on a model of a few thousand weights."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

pytest.importorskip("transformers", reason="needs transformers: pip install 'headstart[text]'")

from init import figures_of, half_of, make_source


@pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's own numbers")
def test_a_small_model_is_cut_to_about_half_and_all_of_it_is_inherited(tmp_path: Path) -> None:
    make_source(tmp_path, layers=4, width=512, vocabulary=100, part=4_000_000)
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 2
    figures = figures_of(tmp_path, half_of(4, 512), repeats=1)
    ratio = figures["student_parameters"].value / figures["source_parameters"].value
    assert 0.15 < ratio < 0.6 and figures["share_inherited"].value == 1.0
    assert figures["read_seconds"].value > 0 and figures["peak_over_both"].value > 0
