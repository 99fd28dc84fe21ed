"""Searches twelve settings twice: each training from nothing, and each taught by the best one before it.

python examples/optuna_search.py

What is compared is the time of training until the best quality of the first search is reached. Each search proposes
settings by what it has seen, so that the two try different ones after the first few; one pair of searches is an
anecdote. Repeat it with several seeds before you believe it.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from pathlib import Path

import optuna
import torch
from shared import Net, accuracy, digits
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, RandomSampler, TensorDataset

from headstart import Distiller


class Search:
    """The trials of a search; with `recycle` the best model so far teaches the next one."""

    def __init__(self, steps: int, seed: int, *, recycle: bool) -> None:
        self.steps, self.seed, self.recycle = steps, seed, recycle
        images, labels = digits()[0].tensors
        aside = torch.arange(len(labels)) % 5 == 0  # to choose by: the test set is for the model that is chosen
        self.train, self.judged = (TensorDataset(images[part], labels[part]) for part in (~aside, aside))
        self.best: nn.Module | None = None
        self.trials: list[tuple[float, float]] = []  # seconds and quality

    def __call__(self, trial: optuna.Trial) -> float:
        """Train with the settings of a trial; its accuracy on the samples set aside."""
        torch.manual_seed(self.seed + trial.number)
        model = Net()
        optimizer = torch.optim.SGD(
            model.parameters(),
            lr=trial.suggest_float("lr", 1e-3, 0.3, log=True),
            momentum=trial.suggest_float("momentum", 0.8, 0.98),
            weight_decay=trial.suggest_float("weight_decay", 1e-6, 1e-2, log=True),
        )
        seconds = self._train(model, optimizer)
        quality = accuracy(model, self.judged)
        if not self.trials or quality > max(quality for _, quality in self.trials):
            self.best = copy.deepcopy(model)
        self.trials.append((seconds, quality))
        return quality

    def _train(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> float:
        sampler = RandomSampler(self.train, num_samples=64 * self.steps)
        teacher = self.best if self.recycle else None
        distiller = Distiller(teacher, total_steps=self.steps, stop=0.3) if teacher is not None else None
        begin = time.perf_counter()
        for images, labels in DataLoader(self.train, batch_size=64, sampler=sampler):
            logits = model(images)
            loss = F.cross_entropy(logits, labels)
            if distiller is not None:
                loss = distiller(loss, logits, images)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            if distiller is not None:
                distiller.step()
        return time.perf_counter() - begin

    def seconds_to(self, quality: float) -> float | None:
        """Seconds of training until a trial is as good; None: none is."""
        spent = 0.0
        for seconds, reached in self.trials:
            spent += seconds
            if reached >= quality:
                return spent
        return None


def main() -> None:
    """Search twice, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=12, help="of each search")
    parser.add_argument("--steps", type=int, default=150, help="of each training")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--record", type=Path, help="where to write what was found, as JSON")
    args = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    found = {}
    target = 0.0
    for name in ("from nothing", "recycling"):
        search = Search(args.steps, args.seed, recycle=name == "recycling")
        study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=args.seed))
        study.optimize(search, n_trials=args.trials)
        target = target or study.best_value
        total, reached = sum(seconds for seconds, _ in search.trials), search.seconds_to(target)
        found[name] = {"best": study.best_value, "seconds": total, "seconds_to_target": reached}
        when = "never" if reached is None else f"after {reached:.1f} s"
        print(f"{name:12s}: best {study.best_value:.4f} in {total:.1f} s of training; {target:.4f} {when}")
    if args.record is not None:
        args.record.write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main()
