"""Scripts of transformers for images: their classes, and those of their pixels."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from real_programs.made_up import SIZE, images, prepared, write_image_folder
from real_programs.program import Edit, Refused
from real_programs.trainer_scripts import script

_NAMES = {0: "sky", 1: "tree", 2: "road"}
_BLOCK = 8  # side of a patch of one label, so that a small map has the labels of the large one


def _vit() -> Any:
    from transformers import ViTConfig, ViTForImageClassification

    config = ViTConfig(  # type: ignore[call-arg]  # keys of all configurations
        image_size=SIZE,
        patch_size=8,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        hidden_dropout_prob=0.1,
        initializer_range=0.3,
        num_labels=3,
    )
    return ViTForImageClassification(config)


def _segformer() -> Any:
    from transformers import SegformerConfig, SegformerForSemanticSegmentation

    config = SegformerConfig(  # type: ignore[call-arg]  # keys of all configurations
        depths=[1, 1, 1, 1],
        hidden_sizes=[8, 16, 16, 16],
        num_attention_heads=[1, 1, 1, 1],
        decoder_hidden_size=16,
        initializer_range=0.3,
        num_labels=len(_NAMES),
    )
    return SegformerForSemanticSegmentation(config)


def _mae() -> Any:
    from transformers import ViTMAEConfig, ViTMAEForPreTraining

    config = ViTMAEConfig(
        image_size=SIZE,
        patch_size=8,
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
        decoder_hidden_size=32,
        decoder_num_hidden_layers=1,
        decoder_num_attention_heads=2,
        decoder_intermediate_size=64,
    )
    return ViTMAEForPreTraining(config)


def _processor(kind: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        import transformers

        getattr(transformers, f"{kind}ImageProcessor")(size={"height": SIZE, "width": SIZE}).save_pretrained(folder)

    return write


def _scenes(folder: Path) -> None:
    from datasets import Dataset, Features
    from datasets import Image as ImageColumn

    draw = np.random.default_rng(2)
    blocks = draw.choice([*_NAMES, 255], (24, SIZE // _BLOCK, SIZE // _BLOCK)).astype(np.uint8)
    maps = [Image.fromarray(np.kron(one, np.ones((_BLOCK, _BLOCK), np.uint8))) for one in blocks]
    columns = Features({"image": ImageColumn(), "label": ImageColumn()})
    rows = Dataset.from_dict({"image": images(24), "label": maps}, features=columns)
    place = folder / "scenes"
    place.mkdir()
    for part in ("train", "validation"):
        rows.to_parquet(place / f"{part}.parquet")
    (place / "id2label.json").write_text(json.dumps(_NAMES), encoding="utf-8")


IMAGES = [
    script(
        "run_image_classification",
        "run_image_classification.py, ViT",
        "image-classification/run_image_classification.py",
        prepared(_vit, _processor("ViT"), write_image_folder),
        "--train_dir {data}/images/train --validation_dir {data}/images/validation --remove_unused_columns False",
        model="AutoModelForImageClassification",
        value="classes",
        load="load_teacher",
    ),
    script(
        "run_semantic_segmentation",
        "run_semantic_segmentation.py, SegFormer",
        "semantic-segmentation/run_semantic_segmentation.py",
        prepared(_segformer, _processor("Segformer"), _scenes),
        "--dataset_name {data}/scenes --remove_unused_columns False",
        model="AutoModelForSemanticSegmentation",
        value="pixels",
        local=[
            Edit(
                "        data_args.dataset_name, cache_dir=model_args.cache_dir, "
                "trust_remote_code=model_args.trust_remote_code\n",
                "        data_args.dataset_name, cache_dir=model_args.cache_dir\n",
            ),
            Edit('hf_hub_download(repo_id, filename, repo_type="dataset")', "os.path.join(repo_id, filename)"),
            # Its augmentations are seeded by nothing: without this, no two runs of it are alike.
            Edit("    train_transforms = A.Compose(\n", "    train_transforms = partial(A.Compose, seed=1)(\n"),
        ],
    ),
]

MASKED_IMAGES = Refused(
    script(
        "run_mae",
        "run_mae.py, a masked autoencoder",
        "image-pretraining/run_mae.py",
        prepared(_mae, _processor("ViT"), write_image_folder),
        "--dataset_name imagefolder --train_dir {data}/images/train/** --validation_dir {data}/images/validation/** "
        "--remove_unused_columns False",
        model="ViTMAEForPreTraining",
        value="classes",
        local=[
            Edit("        trust_remote_code=data_args.trust_remote_code,\n    )\n\n    # If we", "    )\n\n    # If we")
        ],
    ),
    says="ViTMAEForPreTraining cannot be distilled",
    instead="its outputs are pixels, no distribution that a loss here means something for",
)
