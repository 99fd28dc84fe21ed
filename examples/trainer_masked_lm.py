"""Transformers' Trainer on a masked language model: a small ModernBERT on bytes, taught by an earlier run.

python tools/example_diffs.py examples/trainer_masked_lm.py --save runs/bert  # the earlier run
python examples/trainer_masked_lm.py --teacher runs/bert
"""

from __future__ import annotations

from shared import options, text_blocks, write_record
from transformers import (
    DataCollatorForLanguageModeling,
    ModernBertConfig,
    ModernBertForMaskedLM,
    PerceiverTokenizer,
    TrainingArguments,
    set_seed,
)

from headstart.adapters.trainer import DistillTrainer  # headstart: from transformers import Trainer


def main() -> None:
    """Train, test, save."""
    parser = options(__doc__)
    parser.add_argument("--teacher", required=True, help="an earlier run")  # headstart
    parser.add_argument("--stop", type=float, default=0.5, help="fraction of training to distil in")  # headstart
    args = parser.parse_args()
    set_seed(args.seed)
    tokenizer = PerceiverTokenizer()  # of bytes, so that it needs no file
    special = {
        f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("pad", "bos", "eos", "cls", "sep")
    }
    config = ModernBertConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=128,
        **special,
    )
    train, test = text_blocks(tokenizer, length=64)
    trainer = DistillTrainer(  # headstart: trainer = Trainer(
        ModernBertForMaskedLM(config),
        TrainingArguments(
            output_dir="runs/trainer",
            max_steps=args.steps,
            seed=args.seed,
            per_device_train_batch_size=32,
            learning_rate=2e-3,
            save_strategy="no",
            report_to="none",
        ),
        data_collator=DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.15),
        train_dataset=train,
        eval_dataset=test,
        teachers=ModernBertForMaskedLM.from_pretrained(args.teacher),  # headstart
        distill={"stop": args.stop},  # headstart
    )
    seconds = trainer.train().metrics["train_runtime"]
    write_record(args.record, trainer.evaluate()["eval_loss"], seconds, metric="loss", higher_is_better=False)
    if args.save:
        trainer.save_model(args.save)


if __name__ == "__main__":
    main()
