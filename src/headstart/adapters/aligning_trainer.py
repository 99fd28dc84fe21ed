"""A loss between hidden states inside the Trainer of Hugging Face's transformers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Trainer

from headstart.distill import HiddenLoss
from headstart.errors import HeadstartError

_FILE = "align.pt"  # in a checkpoint, beside optimizer.pt


class AligningTrainer(Trainer):
    """The Trainer, with a loss between hidden states beside its own. One of your own aligns as well, behind it.

    That is `class Mine(AligningTrainer, MyTrainer)`; with `DistillTrainer` behind it, logits are distilled, too. The
    projection is in the Trainer's optimiser and in its checkpoints. Micro-batches of one step weigh by their rows, as
    if they were one batch, whether the model divides its loss by all labels of the step or the Trainer by the number
    of micro-batches.

    Args:
        *args: The Trainer's, as are all others but one.
        align: The loss between states, made of the bare model.

    Raises:
        HeadstartError: Several GPUs in one process. While resuming: a checkpoint without the projection.
    """

    def __init__(self, *args: Any, align: HiddenLoss, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.align = align
        self._step_size: Tensor | None = None  # what the present step's micro-batches weigh, a mean over processes
        if (count := self.args.n_gpu) > 1:
            raise HeadstartError(
                f"one process has {count} GPUs, which the Trainer shares out by nn.DataParallel; its copies of the "
                f"student keep no states. Start a process for each GPU (torchrun --nproc-per-node {count} SCRIPT), or "
                "show it one (CUDA_VISIBLE_DEVICES=0)"
            )

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """The Trainer's own."""
        result = super().train(*args, **kwargs)
        self.align.current_step = self.state.global_step
        return result

    def create_optimizer(self, *args: Any, **kwargs: Any) -> torch.optim.Optimizer:
        """The Trainer's own, which trains the projection along."""
        optimizer: torch.optim.Optimizer = super().create_optimizer(*args, **kwargs)
        self.align.join(optimizer)
        return optimizer

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> Any:
        """The micro-batches of a step, which are counted while the window is open."""
        batches, items = super().get_batch_samples(*args, **kwargs)
        self.align.current_step = self.state.global_step
        self._step_size = self._size_of(batches) if self.align.active and batches else None
        return batches, items

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The Trainer's loss, and with it the loss between states where the present step is in its window."""
        found: Any = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        loss, *outputs = found if return_outputs else (found,)
        aligned = self.align.active and torch.is_grad_enabled()
        share = self._share(inputs, num_items_in_batch) if aligned else 1.0
        loss = self.align(loss, inputs, share=share)
        return (loss, *outputs) if return_outputs else loss

    def _size_of(self, batches: Sequence[Mapping[str, Any]]) -> Tensor:
        size = torch.as_tensor(sum(self.align.size(batch) for batch in batches), device=self.args.device)
        mean: Tensor = self.accelerator.reduce(size.float(), "mean")
        return mean.clamp(min=1.0)

    def _share(self, inputs: Mapping[str, Any], num_items: Any) -> float | Tensor:
        parts = self.current_gradient_accumulation_steps
        share = 1.0 / parts if self._step_size is None else self.align.size(inputs) / self._step_size
        return share if self._is_scaled(num_items) else share * parts

    def _is_scaled(self, num_items: Any) -> bool:
        """Whether the Trainer takes a loss as it is, and does not divide it by the number of micro-batches."""
        told: bool | None = getattr(self, "loss_is_scaled_for_ga", None)
        if told is not None:
            return told
        return bool(self.model_accepts_loss_kwargs and num_items is not None) or self.compute_loss_func is not None

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        self.align.current_step = self.state.global_step  # now, as a window that closes takes the projection out
        super()._save_optimizer_and_scheduler(output_dir)
        if self.args.should_save:
            torch.save(self.align.state_dict(), Path(output_dir) / _FILE)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is not None:
            self._load_align(Path(checkpoint) / _FILE)
        super()._load_optimizer_and_scheduler(checkpoint)

    def _load_align(self, path: Path) -> None:
        if path.exists():
            self.align.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
        elif self.align.projection is not None:
            raise HeadstartError(
                f"{path.parent} has no {_FILE}, and so no projection to go on with: it was written with "
                "save_only_model, or by a Trainer that does not align. Begin anew, or from another checkpoint"
            )
