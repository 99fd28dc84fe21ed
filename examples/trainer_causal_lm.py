"""Transformers' Trainer on a causal language model: a small Llama on bytes, grown out of and taught by a smaller one.

python tools/example_diffs.py examples/trainer_causal_lm.py --width 32 --save runs/llama  # the earlier run
python examples/trainer_causal_lm.py --teacher runs/llama
"""

from __future__ import annotations

from shared import options, text_blocks, write_record
from transformers import (
    DataCollatorForLanguageModeling,
    LlamaConfig,
    LlamaForCausalLM,
    PerceiverTokenizer,
    TrainingArguments,
    set_seed,
)

from headstart import init_from  # headstart
from headstart.adapters.trainer import DistillTrainer  # headstart: from transformers import Trainer


def main() -> None:
    """Train, test, save."""
    parser = options(__doc__)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--teacher", required=True, help="an earlier run")  # headstart
    parser.add_argument("--stop", type=float, default=0.5, help="fraction of training to distil in")  # headstart
    args = parser.parse_args()
    set_seed(args.seed)
    tokenizer = PerceiverTokenizer()  # of bytes, so that it needs no file
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=args.width,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=2 * args.width,
    )
    model = LlamaForCausalLM(config)
    init_from(model, LlamaForCausalLM.from_pretrained(args.teacher))  # headstart
    train, test = text_blocks(tokenizer, length=64)
    trainer = DistillTrainer(  # headstart: trainer = Trainer(
        model,
        TrainingArguments(
            output_dir="runs/trainer",
            max_steps=args.steps,
            seed=args.seed,
            per_device_train_batch_size=32,
            learning_rate=2e-3,
            save_strategy="no",
            report_to="none",
        ),
        data_collator=DataCollatorForLanguageModeling(tokenizer, mlm=False),
        train_dataset=train,
        eval_dataset=test,
        teachers=LlamaForCausalLM.from_pretrained(args.teacher),  # headstart
        distill={"stop": args.stop},  # headstart
    )
    seconds = trainer.train().metrics["train_runtime"]
    write_record(args.record, trainer.evaluate()["eval_loss"], seconds, metric="loss", higher_is_better=False)
    if args.save:
        trainer.save_model(args.save)


if __name__ == "__main__":
    main()
