"""Measures whether our loader of larger images keeps up with a bare torchvision loader.

Usage: python benchmarks/imagenet_loader.py [--pairs 16] [--workers N] [--out benchmarks/results]

Images: JPEGs of 500x375, made up with a fixed seed: blurred noise with some fine noise over it, about as many bytes as
the photographs of ImageNet have. Both loaders cut a random part out of each, resize it to 224, mirror half of them, and
give batches of 32 in uint8 with as many workers.

The bare loader is torch's DataLoader over torchvision's ImageFolder and transforms v2. `images_per_second_ratio` is our
images per second over its, from an image folder; `parquet_images_per_second_ratio` the same from parquet files. The two
are timed in turn (ABBA), each with workers started anew and warmed up, so that none decodes while the other is timed.
The ratios' median comes with its order-statistic 95 % interval; the goal is met when the lower end meets it.

Run it on a quiet machine: about 6 minutes on 2 cores.
"""

from __future__ import annotations

import argparse
import importlib
import io
import itertools
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import datasets
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from headstart.tasks.images.config import Augment, ImageData
from headstart.tasks.images.data.streamed import StreamedImages
from results_file import RESULTS, Figure, command_line, new_result, write_result
from step_times import median_figure
from torchdistill_box import import_torchvision

SIZE, BATCH, CLASSES = 224, 32, 8
WIDTH, HEIGHT = 500, 375
GOAL = 0.95
Loader = Callable[[int], Iterator[Tensor]]  # from a number that each start has of its own to batches


def made_up(generator: np.random.Generator) -> bytes:
    """A JPEG that is about as hard to decode as a photograph."""
    coarse = Image.fromarray(generator.integers(0, 256, (19, 25, 3), dtype=np.uint8))
    pixels = np.asarray(coarse.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC), np.int16)
    pixels = pixels + generator.normal(0, 12, (HEIGHT, WIDTH, 1)).astype(np.int16)
    buffer = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=92)
    return buffer.getvalue()


def write_images(folder: Path, count: int) -> None:
    """Write the same images as `tree/train/<class>/<image>` and as `parquet/train.parquet`, each with a test split."""
    generator = np.random.default_rng(0)
    images = [made_up(generator) for _ in range(count)]
    labels = [number * CLASSES // count for number in range(count)]
    for split in ("train", "test"):
        for number, (image, label) in enumerate(zip(images, labels, strict=True)):
            path = folder / "tree" / split / str(label) / f"{number:05}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(image)
        names = datasets.ClassLabel(names=[str(label) for label in range(CLASSES)])
        features = datasets.Features({"image": datasets.Image(), "label": names})
        content = {"image": [{"bytes": image, "path": None} for image in images], "label": labels}
        (folder / "parquet").mkdir(exist_ok=True)
        datasets.Dataset.from_dict(content, features=features).to_parquet(str(folder / "parquet" / f"{split}.parquet"))


def ours(folder: Path, workers: int) -> Loader:
    """Our loader."""
    data = ImageData(name=str(folder), size=SIZE, workers=workers, augment=Augment(flip=True))
    feed = StreamedImages(data, seed=0, device="cpu")

    def batches(start: int) -> Iterator[Tensor]:
        for step in itertools.count(1000 * start):  # out of turn: workers start anew
            yield feed.training(step, BATCH, part=0, parts=1).images

    return batches


def bare(folder: Path, workers: int) -> Loader:
    """Torchvision's images and transforms in torch's loader."""
    v2 = importlib.import_module("torchvision.transforms.v2")
    transform = v2.Compose([v2.RandomResizedCrop(SIZE), v2.RandomHorizontalFlip(), v2.PILToTensor()])
    images = importlib.import_module("torchvision.datasets").ImageFolder(folder / "train", transform)

    def batches(start: int) -> Iterator[Tensor]:
        endless = torch.utils.data.RandomSampler(images, replacement=True, num_samples=1_000_000)
        loader = torch.utils.data.DataLoader(images, BATCH, sampler=endless, num_workers=workers)
        for pixels, _ in loader:
            yield pixels

    return batches


def images_per_second(loader: Loader, start: int, warm_up: int, timed: int) -> float:
    """Of a loader that begins anew, once it is warm."""
    batches = loader(start)
    for _ in range(warm_up):
        next(batches)
    begin = time.perf_counter()
    for _ in range(timed):
        next(batches)
    seconds = time.perf_counter() - begin
    del batches  # and with it the workers
    return timed * BATCH / seconds


def rates(loader: Loader, reference: Loader, options: argparse.Namespace) -> list[tuple[float, float]]:
    """Images per second of a loader and of its reference, in pairs made in turn; the first one does not count."""
    warm_up, timed = 2 * options.workers + 2, options.batches
    pairs = []
    for index in range(-1, options.pairs):
        order = (reference, loader) if index % 2 == 0 else (loader, reference)
        found = {each: images_per_second(each, index + 2, warm_up, timed) for each in order}
        if index >= 0:
            pairs.append((found[loader], found[reference]))
    return pairs


def measure(options: argparse.Namespace) -> Iterator[tuple[str, Figure]]:
    """All figures, as they come."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["HEADSTART_CACHE"] = str(folder / "cache")
        write_images(folder, options.images)
        reference = bare(folder / "tree", options.workers)
        for prefix, form in (("", "tree"), ("parquet_", "parquet")):
            found = rates(ours(folder / form, options.workers), reference, options)
            yield f"{prefix}images_per_second_ratio", median_figure([mine / theirs for mine, theirs in found])
            if form == "tree":
                for who, values in zip(("", "bare_"), zip(*found, strict=True), strict=True):
                    yield f"{who}images_per_second", Figure(value=statistics.median(values), unit="1/s", n=len(values))
        yield "workers", Figure(value=options.workers)


def table_line(name: str, figure: Figure) -> str:
    """A figure as a line of the table."""
    interval = "" if figure.low is None else f"   {figure.low:.4f} to {figure.high:.4f}"
    goal = f"   {GOAL}: {'met' if (figure.low or 0) >= GOAL else 'missed'}" if name.endswith("ratio") else ""
    return f"{name:34s} {figure.value:9.4f}{interval}{goal}"


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=16, help="of timings, per ratio; fewer only for a trial")
    parser.add_argument("--batches", type=int, default=96, help="timed at once; fewer only for a trial")
    parser.add_argument("--images", type=int, default=512, help="in the data set; fewer only for a trial")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes that decode")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for imagenet-loader.json")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> None:
    """Measure, print a table line by line, and write the result file."""
    options = parse_arguments(arguments)
    import_torchvision()
    begin = time.perf_counter()
    figures = {}
    for name, figure in measure(options):
        figures[name] = figure
        print(table_line(name, figure), flush=True)
    result = new_result(
        "imagenet-loader",
        figures,
        command=command_line(__file__, arguments),
        device=torch.device("cpu"),
        seconds=time.perf_counter() - begin,
        packages=("torchvision", "pillow", "datasets"),
    )
    print(f"{write_result(result, options.out)}, {result.seconds:.0f} s on {result.device}")


if __name__ == "__main__":
    main(sys.argv[1:])
