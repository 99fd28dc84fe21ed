"""Programs with a training loop of their own: nanoGPT's and timm's train.py, and a Lightning program of ours."""

from __future__ import annotations

import pickle
import shlex
from pathlib import Path

import numpy as np

from real_programs.made_up import write_image_folder
from real_programs.program import Edit, Setup

_TOKENS = 50


def _nanogpt_data(folder: Path) -> None:
    draw = np.random.default_rng(0)
    for part in ("train", "val"):
        draw.integers(0, _TOKENS, 500).astype(np.uint16).tofile(folder / f"{part}.bin")
    (folder / "meta.pkl").write_bytes(pickle.dumps({"vocab_size": _TOKENS}))


def _nothing(folder: Path) -> None:
    """For a program that makes its data."""


_MODEL = "from model import GPTConfig, GPT\n"
_MFU = "running_mfu = -1.0\n"
_LOOP = "while True:\n\n"
_LOGITS = "            logits, loss = model(X, Y)\n            loss = loss / "
_BY_HAND = "from by_hand import frozen, mixed, rows_kl\n"

NANOGPT = Setup(
    name="nanogpt",
    title="nanoGPT's train.py, 2 micro-batches",
    script="nanoGPT/train.py",
    page="plain.md",
    prepare=_nanogpt_data,
    options=shlex.split(
        "--dataset={data} --out_dir={out} --device=cpu --compile=False --dtype=float32 --eval_interval=3 "
        "--eval_iters=1 --gradient_accumulation_steps=2 --batch_size=3 --block_size=8 --n_layer=2 --n_head=2 "
        "--n_embd=16 --dropout=0.1 --max_iters=5 --warmup_iters=1 --lr_decay_iters=5"
    ),
    lines=[
        Edit(_MODEL, _MODEL + "from headstart import Distiller, load_teacher\n"),
        Edit(
            _MFU,
            _MFU + "distiller = Distiller(load_teacher(TEACHER, build=lambda: GPT(gptconf)), total_steps=max_iters, "
            "stop=STOP)\n",
        ),
        Edit(_LOOP, "while True:\n    distiller.current_step = iter_num\n\n"),
        Edit(
            _LOGITS,
            "            logits, loss = model(X, Y)\n            loss = distiller(loss, logits, (X, Y), labels=Y)\n"
            "            loss = loss / ",
        ),
    ],
    by_hand=[
        Edit(_MODEL, _MODEL + _BY_HAND),
        Edit(
            _MFU,
            _MFU + "teacher = frozen(lambda: GPT(gptconf))\n"
            "teacher.load_state_dict(torch.load(TEACHER, weights_only=True)['model'])\n",
        ),
        Edit(
            _LOGITS,
            "            logits, loss = model(X, Y)\n            with torch.no_grad():\n"
            "                taught, _ = teacher(X, Y)\n"
            "            loss = mixed(loss, rows_kl(logits, taught).mean())\n            loss = loss / ",
        ),
    ],
    resume=["--init_from=resume", "--out_dir={first}"],
    teacher="ckpt.pt",
    local=[
        Edit(
            "optimizer = model.configure_optimizers(weight_decay, learning_rate, (beta1, beta2), device_type)\n",
            "optimizer = torch.optim.SGD(model.parameters(), lr=learning_rate)\n",
        ),
    ],
)

_SCALER = "from timm.utils import NativeScaler\n"
_RESULTS = "    results = []\n    try:\n"
_CALL = "                task=task,\n                device=device,\n                lr_scheduler"
_SIGNATURE = "        task=None,\n        device=torch.device('cuda'),\n"
_NEEDED = "        update_idx = batch_idx // accum_steps\n"
_LOSS = "                _loss = result['loss']\n"
_BUILD = "lambda: create_model(args.model, num_classes=args.num_classes)"


def _timm(name: str, title: str, options: str) -> Setup:
    return Setup(
        name=name,
        title=title,
        script="pytorch-image-models/train.py",
        page="plain.md",
        prepare=write_image_folder,
        options=shlex.split(
            "--data-dir {data}/images --train-split train --val-split validation --num-classes 3 --img-size 32 "
            "--device cpu --no-prefetcher --workers 0 --batch-size 4 --epochs 2 --warmup-epochs 0 --cooldown-epochs 0 "
            "--opt sgd --lr 0.05 --seed {seed} --output {out} --experiment run " + options
        ),
        lines=[
            Edit(_SCALER, _SCALER + "from headstart import Distiller, load_teacher\n"),
            Edit(
                _RESULTS,
                f"    teacher = load_teacher(TEACHER, build={_BUILD})\n"
                "    distiller = Distiller(teacher, total_steps=num_epochs * updates_per_epoch, stop=STOP)\n"
                + _RESULTS,
            ),
            Edit(_CALL, "                distiller=distiller,\n" + _CALL),
            Edit(_SIGNATURE, "        distiller=None,\n" + _SIGNATURE),
            Edit(_NEEDED, _NEEDED + "        distiller.current_step = num_updates\n"),
            Edit(_LOSS, _LOSS + "                _loss = distiller(_loss, result['output'], input)\n"),
        ],
        by_hand=[
            Edit(_SCALER, _SCALER + _BY_HAND),
            Edit(
                _RESULTS,
                f"    teacher = frozen({_BUILD})\n"
                "    teacher.load_state_dict(torch.load(TEACHER, weights_only=False)['state_dict'])\n" + _RESULTS,
            ),
            Edit(_CALL, "                teacher=teacher,\n" + _CALL),
            Edit(_SIGNATURE, "        teacher=None,\n" + _SIGNATURE),
            Edit(
                _LOSS,
                _LOSS + "                with torch.no_grad():\n                    taught = teacher(input)\n"
                "                _loss = mixed(_loss, rows_kl(result['output'], taught).mean())\n",
            ),
        ],
        resume=["--resume", "{first}/run/checkpoint-0.pth.tar"],
        teacher="run/last.pth.tar",
    )


TIMM = [
    _timm("timm-resnet", "timm's train.py, a ResNet, 2 micro-batches", "--model test_resnet --grad-accum-steps 2"),
    _timm("timm-mixup", "timm's train.py, a ViT, mixup and CutMix", "--model test_vit --mixup 0.2 --cutmix 1.0"),
]

LIGHTNING = Setup(
    name="lightning",
    title="a Lightning program",
    script="own:own/lightning_program.py",
    page="lightning.md",
    prepare=_nothing,
    options=["--seed", "{seed}", "--out", "{out}"],
    lines=[
        Edit(
            "from torch import nn\n",
            "from torch import nn\nfrom headstart import load_teacher\n"
            "from headstart.adapters.lightning import DistillCallback, distill\n",
        ),
        Edit("        return loss\n", "        return distill(self, loss, logits, images)\n"),
        Edit(
            "        callbacks=[ModelCheckpoint(",
            "        callbacks=[DistillCallback(load_teacher(TEACHER, build=network), stop=STOP), ModelCheckpoint(",
        ),
    ],
    by_hand=[
        Edit("from torch import nn\n", "from torch import nn\n" + _BY_HAND),
        Edit(
            "        return loss\n",
            "        with torch.no_grad():\n            taught = TAUGHT[0](images)\n"
            "        return mixed(loss, rows_kl(logits, taught).mean())\n",
        ),
        Edit(
            "class Classifier(",
            "TAUGHT = [frozen(network)]\n"
            "TAUGHT[0].load_state_dict({name.removeprefix('network.'): weight for name, weight in "
            "torch.load(TEACHER, weights_only=False)['state_dict'].items() if name.startswith('network.')})\n\n\n"
            "class Classifier(",
        ),
    ],
    resume=["--resume", "{first}/after-0.ckpt"],
    teacher="after-1.ckpt",
)
