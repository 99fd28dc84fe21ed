"""A Lightning program of an ordinary kind: a small convolutional network, a schedule, checkpoints, validation.

Usage: python lightning_program.py --out FOLDER [--seed N] [--resume CHECKPOINT]
"""

from __future__ import annotations

import argparse
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset


def network() -> nn.Module:
    """The network."""
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Dropout(0.1),
        nn.Linear(32, 5),
    )


class Classifier(L.LightningModule):
    """Trains it."""

    def __init__(self) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.network = network()

    def training_step(self, batch: Any, batch_index: int) -> torch.Tensor:
        """The loss of a batch."""
        images, labels = batch
        logits = self.network(images)
        loss = F.cross_entropy(logits, labels)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch: Any, batch_index: int) -> None:
        """Tell the accuracy."""
        images, labels = batch
        self.log("accuracy", (self.network(images).argmax(-1) == labels).float().mean())

    def configure_optimizers(self) -> Any:
        """SGD with a schedule by steps."""
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 6)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def main() -> None:
    """Train."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--resume")
    args = parser.parse_args()
    L.seed_everything(args.seed)
    draw = torch.Generator().manual_seed(0)
    data = TensorDataset(torch.randn(24, 1, 8, 8, generator=draw), torch.randint(5, (24,), generator=draw))
    trainer = L.Trainer(
        max_epochs=2,
        accelerator="cpu",
        accumulate_grad_batches=2,
        callbacks=[ModelCheckpoint(args.out, filename="after-{epoch}", auto_insert_metric_name=False, save_top_k=-1)],
        default_root_dir=args.out,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    loaders = DataLoader(data, batch_size=4, shuffle=True), DataLoader(data, batch_size=4)
    trainer.fit(Classifier(), *loaders, ckpt_path=args.resume)


if __name__ == "__main__":
    main()
