"""A loop on Accelerate, with gradient accumulation, on handwritten digits, taught by an earlier run.

python tools/example_diffs.py examples/accelerate_loop.py --save runs/digits.pt  # the earlier run
accelerate launch examples/accelerate_loop.py --teacher runs/digits.pt
"""

from __future__ import annotations

import time

import torch
from accelerate import Accelerator
from shared import Net, accuracy, digits, options, write_record
from torch.nn import functional as F
from torch.utils.data import DataLoader, RandomSampler

from headstart import Distiller, load_teacher  # headstart

ACCUMULATE = 2


def main() -> None:
    """Train, test, save."""
    parser = options(__doc__)
    parser.add_argument("--teacher", required=True, help="weights of an earlier run")  # headstart
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    accelerator = Accelerator(gradient_accumulation_steps=ACCUMULATE)
    train, test = digits()
    loader = DataLoader(train, batch_size=32, sampler=RandomSampler(train, num_samples=32 * ACCUMULATE * args.steps))
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    distiller = Distiller(load_teacher(args.teacher, build=Net), total_steps=args.steps)  # headstart
    begin = time.perf_counter()
    for images, labels in loader:
        with accelerator.accumulate(model):
            logits = model(images)
            loss = F.cross_entropy(logits, labels)
            loss = distiller(loss, logits, images)  # headstart
            accelerator.backward(loss)
            optimizer.step()
            optimizer.zero_grad()
            if accelerator.sync_gradients:  # headstart
                distiller.step()  # headstart
    seconds = time.perf_counter() - begin
    model = accelerator.unwrap_model(model).cpu()
    write_record(args.record, accuracy(model, test), seconds, metric="accuracy")
    if args.save:
        torch.save(model.state_dict(), args.save)


if __name__ == "__main__":
    main()
