"""A plain PyTorch loop on handwritten digits, taught by an earlier run.

python tools/example_diffs.py examples/plain.py --save runs/digits.pt  # the earlier run: this script as it was before
python examples/plain.py --teacher runs/digits.pt
"""

from __future__ import annotations

import time

import torch
from shared import Net, accuracy, digits, options, write_record
from torch.nn import functional as F
from torch.utils.data import DataLoader, RandomSampler

from headstart import Distiller, load_teacher  # headstart


def main() -> None:
    """Train, test, save."""
    parser = options(__doc__)
    parser.add_argument("--teacher", required=True, help="weights of an earlier run")  # headstart
    parser.add_argument("--stop", type=float, default=0.5, help="fraction of training to distil in")  # headstart
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    train, test = digits()
    loader = DataLoader(train, batch_size=64, sampler=RandomSampler(train, num_samples=64 * args.steps))
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    distiller = Distiller(load_teacher(args.teacher, build=Net), total_steps=args.steps, stop=args.stop)  # headstart
    begin = time.perf_counter()
    for images, labels in loader:
        logits = model(images)
        loss = F.cross_entropy(logits, labels)
        loss = distiller(loss, logits, images)  # headstart
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        distiller.step()  # headstart
    seconds = time.perf_counter() - begin
    write_record(args.record, accuracy(model, test), seconds, metric="accuracy")
    if args.save:
        torch.save(model.state_dict(), args.save)


if __name__ == "__main__":
    main()
