"""A LightningModule for handwritten digits, taught by an earlier run.

python tools/example_diffs.py examples/lightning_module.py --save runs/digits.pt  # the earlier run
python examples/lightning_module.py --teacher runs/digits.pt
"""

from __future__ import annotations

import time

import lightning as L
import torch
from shared import Net, accuracy, digits, options, write_record
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader

from headstart import load_teacher  # headstart
from headstart.adapters.lightning import DistillCallback, distill  # headstart


class Classifier(L.LightningModule):
    """The network, and how it is trained."""

    def __init__(self) -> None:
        super().__init__()
        self.network = Net()

    def training_step(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        """The loss of a batch."""
        images, labels = batch
        logits = self.network(images)
        loss = F.cross_entropy(logits, labels)
        return distill(self, loss, logits, images)  # headstart: return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """SGD."""
        return torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9)


def main() -> None:
    """Train, test, save."""
    parser = options(__doc__)
    parser.add_argument("--teacher", required=True, help="weights of an earlier run")  # headstart
    parser.add_argument("--stop", type=float, default=0.5, help="fraction of training to distil in")  # headstart
    args = parser.parse_args()
    L.seed_everything(args.seed, verbose=False)
    train, test = digits()
    model = Classifier()
    trainer = L.Trainer(
        max_steps=args.steps,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        callbacks=[DistillCallback(load_teacher(args.teacher, build=Net), stop=args.stop)],  # headstart
    )
    begin = time.perf_counter()
    trainer.fit(model, DataLoader(train, batch_size=64, shuffle=True))
    seconds = time.perf_counter() - begin
    write_record(args.record, accuracy(model.network.cpu(), test), seconds, metric="accuracy")
    if args.save:
        torch.save(model.network.state_dict(), args.save)


if __name__ == "__main__":
    main()
