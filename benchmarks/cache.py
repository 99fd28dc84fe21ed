"""Measures cached targets: bytes of a record, what reading costs a step, whether damage is ever overlooked.

Usage: python benchmarks/cache.py [--pairs 200] [--corruptions 1000] [--out benchmarks/results]

Images have 1000 classes, masked tokens a vocabulary of 30522. Steps are of a ResNet-20 on images of 32x32x3, batch 128,
and of a small encoder with 608 masked tokens; each ratio is of pairs of steps, interleaved in ABBA order. Run it on a
quiet machine: about 10 minutes on 2 cores.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from cache_damage import count_unnoticed
from cache_files import bytes_per_row, peaked_logits
from cache_steps import IMAGE_CLASSES, MASKED, SEQUENCES, VOCABULARY, Student, live_teacher
from overhead_steps import Autocast
from torch.nn import functional as F

from headstart import Distiller, TeacherPool
from headstart.cache import Batches, CachedTeacher, Keep, write_cache
from headstart.distill import Teacher
from headstart.distill.targets.source import Keys, TargetSource
from headstart.tasks import Batch
from headstart.tasks.images.resnet import ResNet
from results_file import RESULTS, Figure, command_line, finish
from step_times import Step, median_figure, paired_ratios

TOP_10, DRAWS_32 = Keep("top-k", 10), Keep("sampled", 32)
GOALS = {
    "bytes_per_image": 48.0,
    "bytes_per_token": 100.0,
    "unnoticed": 0.0,
    "full_run_difference": 0.0,
    "read_ratio": 1.03,
    "read_ratio_shuffled": 1.03,
    "read_ratio_top_k": 1.03,
    "read_ratio_sampled": 1.03,
}


class RandomImages:
    """Batches of noise that follow from step and part alone."""

    samples = 1 << 20

    def batch(self, step: int, size: int, *, part: int = 0, parts: int = 1) -> Batch:
        """As in `Task`."""
        number, count = step * parts + part, size // parts
        generator = torch.Generator().manual_seed(number)
        images = torch.randn(count, 3, 32, 32, generator=generator).contiguous(memory_format=torch.channels_last)
        labels = torch.randint(10, (count,), generator=generator)
        return Batch(images, labels, torch.arange(count) + number * count, 0)


def sizes(folder: Path) -> dict[str, Figure]:
    """Bytes of a record, with its share of all that is in the file."""
    images, tokens = peaked_logits(128, IMAGE_CLASSES), peaked_logits(SEQUENCES * MASKED, VOCABULARY)
    image = bytes_per_row(folder / "images", images, TOP_10, samples=128, blocks=100)
    token = bytes_per_row(folder / "tokens", tokens, DRAWS_32, samples=SEQUENCES, blocks=20)
    return {
        "bytes_per_image": Figure(value=image, unit="bytes", n=128 * 100),
        "bytes_per_token": Figure(value=token, unit="bytes", n=SEQUENCES * MASKED * 20),
    }


def damage(folder: Path, tries: int) -> dict[str, Figure]:
    """How much damage was done, and how much of it overlooked."""
    return {
        "corruptions": Figure(value=tries),
        "unnoticed": Figure(value=count_unnoticed(folder, tries), n=tries),
    }


def full_run_difference(folder: Path, *, steps: int = 10) -> float:
    """The largest difference between weights trained on full records and those trained with the live teacher."""
    torch.manual_seed(0)
    teacher = Teacher(ResNet(8, classes=10), name="old", autocast=torch.bfloat16)
    batches = Batches(RandomImages(), range(steps), size=16)
    write_cache(folder, [teacher], batches, data={}, use=Distiller(teacher, total_steps=steps).use)
    live, cached = _trained(teacher, batches), _trained(CachedTeacher(folder, "old"), batches)
    return max(float((a - b).abs().max()) for a, b in zip(live, cached, strict=True))


def _trained(source: TargetSource, batches: Batches) -> list[torch.Tensor]:
    torch.manual_seed(1)
    student = Autocast(ResNet(8, classes=10))
    optimizer = torch.optim.SGD(student.parameters(), lr=0.1, momentum=0.9)
    distiller = Distiller(TeacherPool([source]), total_steps=len(batches.steps), stop=1.0)
    for step, part in batches.plan:
        batch = batches.batch(step, part)
        logits = student(batch.inputs)
        task, keys = F.cross_entropy(logits, batch.labels), Keys(batch.samples, batch.epoch)
        torch.autograd.backward(distiller(task, logits, batch.inputs, keys=keys))
        optimizer.step()
        optimizer.zero_grad()
        distiller.step()
    return [value.detach().double() for value in student.state_dict().values()]


def comparisons(folder: Path, options: argparse.Namespace) -> Iterator[tuple[str, Step, Step]]:
    """Figures, the step measured, and the one it is compared with; made when it is their turn, as files are large."""
    device, blocks = options.device, 2 * options.pairs + 50
    student = Student.of_images(options.depth, options.batch_size, device)
    for name, keep, shuffled in [
        ("read_ratio", Keep("full"), False),
        ("read_ratio_shuffled", Keep("full"), True),
        ("read_ratio_top_k", TOP_10, False),
    ]:
        yield name, *student.reading_steps(folder / name, keep, blocks=blocks, shuffled=shuffled)
    reading, _ = student.reading_steps(folder / "compared", TOP_10, blocks=blocks)
    yield "cached_to_plain_ratio", reading, student.plain_step()
    live = student.distilling_step(live_teacher(options.depth, device))
    yield "cached_to_live_ratio", reading, live
    tokens = Student.of_tokens(device)
    yield "read_ratio_sampled", *tokens.reading_steps(folder / "sampled", DRAWS_32, blocks=blocks)


def table_line(name: str, figure: Figure) -> str:
    """A figure as a line of the table; a goal is met when the interval's upper end meets it."""
    high = figure.value if figure.high is None else figure.high
    interval = "" if figure.low is None else f"{figure.low:.4f} to {high:.4f}"
    line = f"{name:24s} {figure.value:9.4f}   {interval:18s}"
    return f"{line} {GOALS[name]:g}: {'met' if high <= GOALS[name] else 'missed'}" if name in GOALS else line.rstrip()


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=200, help="of steps, per ratio; fewer than 200 only for a trial")
    parser.add_argument("--corruptions", type=int, default=1000, help="of files; fewer than 1000 only for a trial")
    parser.add_argument("--depth", type=int, default=20, help="layers of the ResNets; other than 20 only for a trial")
    parser.add_argument("--batch-size", type=int, default=128, help="other than 128 only for a trial")
    parser.add_argument("--device", type=torch.device, default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for cache.json")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> None:
    """Measure, print a table line by line, and write the result file."""
    options = parse_arguments(arguments)
    begin = time.perf_counter()
    torch.manual_seed(0)
    print(f"{'figure':24s}     value   95 % interval      goal")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        figures = {**sizes(folder), **damage(folder / "damage", options.corruptions)}
        figures["full_run_difference"] = Figure(value=full_run_difference(folder / "full"))
        for name, figure in figures.items():
            print(table_line(name, figure), flush=True)
        for name, step, reference in comparisons(folder, options):
            figures[name] = median_figure(paired_ratios(step, reference, pairs=options.pairs, device=options.device))
            print(table_line(name, figures[name]), flush=True)
    finish(
        "cache",
        figures,
        command=command_line(__file__, arguments),
        device=options.device,
        begin=begin,
        folder=options.out,
    )


if __name__ == "__main__":
    main(sys.argv[1:])
