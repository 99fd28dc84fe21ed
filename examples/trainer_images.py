"""Transformers' Trainer on handwritten digits: a small vision transformer, taught by an earlier run.

python tools/example_diffs.py examples/trainer_images.py --save runs/vit  # the earlier run
python examples/trainer_images.py --teacher runs/vit
"""

from __future__ import annotations

from typing import Any

from shared import digits, options, write_record
from transformers import TrainingArguments, ViTConfig, ViTForImageClassification, set_seed

from headstart.adapters.trainer import DistillTrainer  # headstart: from transformers import Trainer


def right(prediction: Any) -> dict[str, float]:
    """The accuracy."""
    return {"accuracy": float((prediction.predictions.argmax(-1) == prediction.label_ids).mean())}


def main() -> None:
    """Train, test, save."""
    parser = options(__doc__)
    parser.add_argument("--teacher", required=True, help="an earlier run")  # headstart
    parser.add_argument("--stop", type=float, default=0.5, help="fraction of training to distil in")  # headstart
    args = parser.parse_args()
    set_seed(args.seed)
    config = ViTConfig(
        image_size=8,
        patch_size=2,
        num_channels=1,
        hidden_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=96,
        num_labels=10,
    )
    train, test = ([{"pixel_values": image, "labels": int(label)} for image, label in part] for part in digits())
    trainer = DistillTrainer(  # headstart: trainer = Trainer(
        ViTForImageClassification(config),
        TrainingArguments(
            output_dir="runs/trainer",
            max_steps=args.steps,
            seed=args.seed,
            per_device_train_batch_size=64,
            learning_rate=2e-3,
            save_strategy="no",
            report_to="none",
        ),
        train_dataset=train,
        eval_dataset=test,
        compute_metrics=right,
        teachers=ViTForImageClassification.from_pretrained(args.teacher),  # headstart
        distill={"stop": args.stop},  # headstart
    )
    seconds = trainer.train().metrics["train_runtime"]
    write_record(args.record, trainer.evaluate()["eval_accuracy"], seconds, metric="accuracy")
    if args.save:
        trainer.save_model(args.save)


if __name__ == "__main__":
    main()
