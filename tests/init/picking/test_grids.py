"""Position embeddings on another grid, checked against what timm does itself."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn
from torch.nn import functional as F

from headstart.init import init_from
from headstart.init.picking.grids import Grid, resampled, square
from tests.init.models import stirred
from tests.init.test_vision import library, timm_vit


def vit(image: Any, patch: Any = 4, width: int = 16) -> nn.Module:
    config = transformers.ViTConfig(  # type: ignore[call-arg]  # keys of all configurations
        hidden_size=width,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=24,
        image_size=image,
        patch_size=patch,
        num_labels=3,
    )
    model: nn.Module = transformers.ViTForImageClassification(config)
    return model.eval()


def by_timm(values: Tensor, size: tuple[int, int], before: int) -> Tensor:
    found = library("timm.layers").resample_abs_pos_embed(values, size, num_prefix_tokens=before)
    assert isinstance(found, Tensor)
    return found


@pytest.mark.parametrize(("image", "patch"), [(20, 4), (12, 4), (16, 2)])
def test_positions_of_timm_are_resampled_as_timm_does(image: int, patch: int) -> None:
    student, source = timm_vit(img_size=image, patch_size=patch), stirred(timm_vit())
    inherited = init_from(student, source)
    side = image // patch
    expected = by_timm(source.get_parameter("pos_embed").detach(), (side, side), 1)
    assert torch.allclose(student.get_parameter("pos_embed"), expected, atol=1e-6)
    row = next(row for row in inherited.tensors if row.name == "pos_embed")
    assert (row.what, row.shape, row.source_shape) == ("resampled", (1, 1 + side * side, 16), (1, 17, 16))
    assert inherited.notes == (
        f"positions: a grid of {side} x {side} out of one of 4 x 4, resampled (bicubic, antialiased)",
    )


def test_timm_reads_its_own_weights_the_same_way() -> None:
    """The student gives what timm's model of that size gives, loaded by timm's own rule for checkpoints."""
    student, loaded, source = timm_vit(img_size=24), timm_vit(img_size=24), stirred(timm_vit())
    init_from(student, source)
    rule = library("timm.models.vision_transformer").checkpoint_filter_fn
    loaded.load_state_dict(rule(dict(source.state_dict()), loaded))
    images = torch.randn(2, 3, 24, 24)
    with torch.no_grad():
        assert torch.allclose(student(images), loaded(images), atol=1e-5)


def test_tokens_that_have_no_position_are_not_taken_for_patches() -> None:
    more: dict[str, Any] = {"reg_tokens": 4, "no_embed_class": True}
    student, source = timm_vit(img_size=20, **more), stirred(timm_vit(**more))
    init_from(student, source)
    expected = by_timm(source.get_parameter("pos_embed").detach(), (5, 5), 0)
    assert torch.allclose(student.get_parameter("pos_embed"), expected, atol=1e-6)


def test_a_narrower_student_takes_its_channels_of_the_resampled_positions() -> None:
    student, source = timm_vit(img_size=20), stirred(timm_vit(2))
    inherited = init_from(student, source)
    expected = by_timm(source.get_parameter("pos_embed").detach(), (5, 5), 1)[:, :, ::2]
    assert torch.allclose(student.get_parameter("pos_embed"), expected, atol=1e-6)
    assert next(row.what for row in inherited.tensors if row.name == "pos_embed") == "resampled and selected"


@pytest.mark.parametrize("as_tensors", [False, True])
def test_positions_of_transformers_go_by_the_configuration(as_tensors: bool) -> None:
    student, source = vit((12, 24)), stirred(vit((16, 24)))
    given: Any = source.state_dict() if as_tensors else source
    init_from(student, given, source_config=source.config)
    name = "vit.embeddings.position_embeddings"
    theirs = source.get_parameter(name).detach()
    grid = theirs[:, 1:].reshape(1, 4, 6, 16).permute(0, 3, 1, 2)
    expected = F.interpolate(grid, (3, 6), mode="bicubic", antialias=True).permute(0, 2, 3, 1).reshape(1, 18, 16)
    assert torch.allclose(student.get_parameter(name)[:, 1:], expected, atol=1e-6)
    assert torch.equal(student.get_parameter(name)[:, :1], theirs[:, :1])


def test_as_many_positions_that_lie_otherwise_are_resampled_too() -> None:
    student, source = vit((8, 32)), stirred(vit(16))
    notes = init_from(student, source).notes
    assert notes == ("positions: a grid of 2 x 8 out of one of 4 x 4, resampled (bicubic, antialiased)",)
    name = "vit.embeddings.position_embeddings"
    assert not torch.allclose(student.get_parameter(name), source.get_parameter(name))


def test_without_a_class_token_before_them_positions_stay_fresh() -> None:
    student, source = timm_vit(class_token=False, global_pool="avg"), stirred(timm_vit())
    fresh = {row.name: row.reason for row in init_from(student, source).tensors if row.what == "fresh"}
    assert fresh["pos_embed"] == "positions: 16 here, 17 in the source, and how they lie is not known of both"


def test_a_grid_of_its_own_size_is_given_back() -> None:
    values = torch.randn(1, 1 + 9, 4)
    assert torch.allclose(resampled(values, 1, Grid(1, 3, 3), Grid(1, 3, 3)), values, atol=1e-6)
    assert square(10, 1) == Grid(1, 3, 3) and square(9, 1) is None and square(1, 1) is None
