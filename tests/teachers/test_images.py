"""Image processors of transformers, as a normalisation of values from 0 to 1."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from headstart.errors import TeacherError
from headstart.teachers import load_teacher
from headstart.teachers.images import normalisation_of


@pytest.mark.parametrize(
    ("processor", "wanted"),
    [
        ({"image_mean": [0.5], "image_std": [0.25]}, lambda pixels: (pixels / 255 - 0.5) / 0.25),
        ({"do_normalize": False, "image_mean": [0.5], "image_std": [0.25]}, lambda pixels: pixels / 255),
        ({"do_rescale": False, "do_normalize": False}, lambda pixels: pixels),
        ({"do_rescale": False, "image_mean": [123.0], "image_std": [58.0]}, lambda pixels: (pixels - 123) / 58),
        ({"rescale_factor": 1 / 127.5, "image_mean": [1.0], "image_std": [0.5]}, lambda p: (p / 127.5 - 1) / 0.5),
        ({"rescale_factor": 1 / 127.5, "offset": True, "do_normalize": False}, lambda pixels: pixels / 127.5 - 1),
    ],
)
def test_it_does_what_the_processor_does(processor: dict[str, Any], wanted: Any) -> None:
    pixels = torch.tensor([0.0, 51.0, 255.0], dtype=torch.float64)
    found = normalisation_of({"do_rescale": True, **processor}, 1)
    assert found is not None
    ((mean,), (std,)) = found
    torch.testing.assert_close((pixels / 255 - mean) / std, wanted(pixels))


def test_nothing_is_made_up() -> None:
    assert normalisation_of({"size": 3}, 3) is None
    assert normalisation_of({"do_normalize": True}, 3) is None


def test_a_folder_whose_processor_flips_channels_is_given_bgr(tmp_path: Path) -> None:
    """Its own normalisation, of values from 0 to 1, and then the channels the other way round."""
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    config = transformers.ViTConfig(image_size=8, patch_size=4, num_labels=3, **sizes)
    model = transformers.ViTForImageClassification(config).eval()
    model.save_pretrained(tmp_path)
    processor = {"image_processor_type": "MobileViTImageProcessor", "do_flip_channel_order": True, "do_rescale": True}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(processor))
    raw = torch.rand(2, 3, 8, 8)
    mean, std = [0.5, 0.4, 0.3], [0.2, 0.25, 0.3]
    given = (raw - torch.tensor(mean).view(1, 3, 1, 1)) / torch.tensor(std).view(1, 3, 1, 1)
    teacher = load_teacher(tmp_path, mean=mean, std=std)
    with torch.no_grad():
        torch.testing.assert_close(teacher.logits(given), model(raw.flip(1)).logits, rtol=1e-4, atol=1e-5)


def test_teachers_without_rows_are_refused_by_name() -> None:
    transformers = pytest.importorskip("transformers")
    from headstart.teachers.hugging_face import model_class

    for name in ("Wav2Vec2ForCTC", "DetrForObjectDetection", "MaskFormerForInstanceSegmentation"):
        with pytest.raises(TeacherError, match=f"{name} cannot be distilled: .*What can be: classes"):
            model_class(transformers.PreTrainedConfig(architectures=[name]))
