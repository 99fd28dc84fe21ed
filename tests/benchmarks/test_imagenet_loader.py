"""The benchmark of the image loader: both loaders give the same kind of batches, and a short run writes its result."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from imagenet_loader import BATCH, SIZE, bare, main, ours, write_images
from results_file import Result
from tests.tasks.images.photos import torchvision_works

pytestmark = pytest.mark.skipif(not torchvision_works(), reason="needs torchvision: pip install 'headstart[vision]'")


def test_both_loaders_give_batches_of_the_same_images(tmp_path: Path) -> None:
    write_images(tmp_path, 40)
    for loader in (ours(tmp_path / "tree", 0), ours(tmp_path / "parquet", 0), bare(tmp_path / "tree", 0)):
        images = next(loader(0))
        assert images.shape == (BATCH, 3, SIZE, SIZE) and images.dtype == torch.uint8
        assert 60 < float(images.float().mean()) < 200


@pytest.mark.slow
def test_a_short_run_writes_its_result(tmp_path: Path) -> None:
    main(["--pairs", "1", "--batches", "1", "--images", "40", "--workers", "1", "--out", str(tmp_path)])
    result = Result.model_validate_json((tmp_path / "imagenet-loader.json").read_text())
    assert {"images_per_second_ratio", "parquet_images_per_second_ratio"} <= set(result.figures)
    assert all(figure.value > 0 for figure in result.figures.values())
