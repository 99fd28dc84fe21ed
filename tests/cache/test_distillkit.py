"""DistillKit's compressed form, written here byte by byte from what its settings mean."""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import Any

import pytest
import torch

from headstart.cache.distillkit import Compression, following_of, read_compression
from headstart.errors import TeacherError

SETTINGS: dict[str, Any] = {"d": 1000, "k": 5, "exact_k": 2, "residual_bins": []}


def record(ids: list[int], rest: bytes) -> dict[str, Any]:
    stream = "".join(f"{number:010b}" for number in ids) + "0" * (-10 * len(ids) % 8)
    packed = [int(stream[place : place + 8], 2) for place in range(0, len(stream), 8)]
    return {"bytepacked_indices": [packed] * 2, "compressed_logprobs": [list(rest)] * 2}


@pytest.mark.parametrize("normalized", [False, True])
def test_a_curve_and_bins_on_top_of_it(normalized: bool) -> None:
    """Values -0.5, -1.5, then 2 - 3 t + 0.5 sqrt(t) of three points, and what bins add to the first two of them."""
    settings = Compression(
        **{**SETTINGS, "polynomial_terms": [0, 1, "sqrt"], "delta_encoding": False, "normalize_t": normalized,
           "residual_bins": [{"scale_dtype": "float32", "element_bits": 4, "num_elements": 1},
                             {"scale_dtype": "float16", "element_bits": 1, "num_elements": 1}]}
    )  # fmt: skip
    rest = struct.pack("<2f3f", -0.5, -1.5, 2.0, -3.0, 0.5) + struct.pack("<f", 0.25) + bytes([0b0011_0000])
    rest += struct.pack("<e", 0.125) + bytes([0b1000_0000])
    (ids, values), second = following_of(record([7, 999, 0, 512, 1], rest), settings)
    assert ids == [7, 999, 0, 512, 1] == second[0]
    points = [0, 0.5, 1] if normalized else [0, 1, 2]
    curve = [2 - 3 * t + 0.5 * math.sqrt(t) for t in points]
    expected = [-0.5, -1.5, curve[0] + (3 - 8) * 0.25, curve[1] + 0.125, curve[2]]
    assert values == pytest.approx(expected, abs=1e-6) == second[1]


def test_differences_are_summed_and_halves_are_read() -> None:
    settings = Compression(**{**SETTINGS, "k": 3, "exact_k": 3, "exact_dtype": "float16"})
    ((_, values), _) = following_of(record([1, 2, 3], struct.pack("<3e", -0.5, -1.0, -0.25)), settings)
    assert values == [-0.5, -1.5, -1.75]


@pytest.mark.parametrize(
    ("rest", "message"),
    [(b"\0" * 11, "1 bytes a row too few for compression_config.yaml"), (b"\0" * 13, "1 bytes a row too many")],
)
def test_bytes_that_do_not_add_up_are_refused(rest: bytes, message: str) -> None:
    settings = Compression(**{**SETTINGS, "k": 3, "exact_k": 3})
    with pytest.raises(ValueError, match=message):
        following_of(record([1, 2, 3], rest), settings)
    with pytest.raises(ValueError, match="7 bytes a row, and 3 numbers of 10 bits take 4"):
        following_of(record([1, 2, 3, 4, 5], b"\0" * 12), settings)


def test_a_settings_file_of_another_form_is_named(tmp_path: Path) -> None:
    with pytest.raises(TeacherError, match=r"compression_config\.yaml: is missing"):
        read_compression(tmp_path)
    (tmp_path / "compression_config.yaml").write_text("k: many")
    with pytest.raises(TeacherError, match=r"compression_config\.yaml: cannot be read"):
        read_compression(tmp_path)
    (tmp_path / "compression_config.yaml").write_text("{d: 9, k: 2, exact_k: 2, residual_bins: []}")
    ids = read_compression(tmp_path).token_ids(torch.tensor([[0b1000_0001]], dtype=torch.uint8))
    assert ids.tolist() == [[8, 1]]
