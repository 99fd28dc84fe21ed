"""From a spec to a ready teacher: run folders, files with a builder, other people's checkpoints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from headstart.errors import TeacherError
from headstart.tasks.images import load_images
from headstart.tasks.images.resnet import ResNet
from headstart.teachers import DESCRIPTION_KEY, TeacherOptions, find_teacher, load_teacher
from tests.tiny import write_run

IMAGES = torch.rand(4, 3, 8, 8)
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "run", mean=MEAN, std=STD)


def build() -> nn.Module:
    return ResNet(8, classes=3, width=4)


def describe(path: Path, description: Any) -> Path:
    """Write a run's weights again with another description, or none."""
    metadata = None if description is None else {DESCRIPTION_KEY: json.dumps(description)}
    save_file(load_file(path / "model.safetensors"), path / "model.safetensors", metadata)
    return path


def test_a_run_folder_is_a_frozen_teacher_with_the_runs_weights(run: Path) -> None:
    teacher = load_teacher(run)
    model, weights = build(), load_file(run / "model.safetensors")
    model.load_state_dict(weights)
    assert teacher.name == "run" and not teacher.module.training
    assert not any(p.requires_grad for p in teacher.module.parameters())
    assert all(torch.equal(value, weights[name]) for name, value in teacher.module.state_dict().items())
    # Some processors round a convolution otherwise in the memory format that teachers use.
    torch.testing.assert_close(teacher.logits(IMAGES), model.eval()(IMAGES))


def test_so_is_the_weights_file_in_it(run: Path) -> None:
    teacher = load_teacher(run / "model.safetensors")
    assert teacher.name == "model"
    assert torch.equal(teacher.logits(IMAGES), load_teacher(run).logits(IMAGES))


@pytest.mark.parametrize("name", ["baseline-b0.5-s0", "T=4, half", "v1.0"])
def test_a_run_folder_may_have_a_dot_in_its_name(name: str, tmp_path: Path) -> None:
    assert load_teacher(write_run(tmp_path / name)).name == name


def test_the_record_beside_the_weights_is_found(run: Path, tmp_path: Path) -> None:
    found = find_teacher(run)
    assert found.record is not None and found.record.quality == 0.9
    assert found.description["classes"] == ["0", "1", "2"]
    alone = tmp_path / "alone.safetensors"
    (run / "model.safetensors").rename(alone)
    assert find_teacher(alone).record is None


@pytest.mark.parametrize("suffix", ["safetensors", "pt"])
def test_a_file_of_weights_needs_a_builder(suffix: str, tmp_path: Path) -> None:
    path, model = tmp_path / f"weights.{suffix}", build().eval()
    save_file(model.state_dict(), path) if suffix == "safetensors" else torch.save(model.state_dict(), path)
    teacher = load_teacher(path, build=build, name="old")
    assert teacher.name == "old"
    assert torch.equal(teacher.logits(IMAGES), model(IMAGES))
    with pytest.raises(TeacherError, match=r"weights.*load_teacher\(path, build=lambda: MyModel\(\)\)"):
        load_teacher(path)


def test_other_normalisation_of_the_student_is_undone(run: Path) -> None:
    """On raw images: what the teacher computes from the student's inputs is what it computes from its own."""
    mean, std = (0.1, 0.3, 0.5), (0.5, 0.3, 0.7)
    expected = load_teacher(run).module(normalised(MEAN, STD))
    found = load_teacher(run, mean=mean, std=std).logits(normalised(mean, std))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(load_teacher(run).logits(normalised(mean, std)), expected, atol=1e-2)


def normalised(mean: tuple[float, ...], std: tuple[float, ...]) -> torch.Tensor:
    return (IMAGES - torch.tensor(mean).view(1, 3, 1, 1)) / torch.tensor(std).view(1, 3, 1, 1)


def test_equal_normalisation_costs_nothing(run: Path) -> None:
    assert load_teacher(run, mean=MEAN, std=STD).prepare is None


def test_renormalising_keeps_the_dtype(run: Path) -> None:
    teacher = load_teacher(run, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    assert teacher.prepare is not None and teacher.prepare(IMAGES.bfloat16()).dtype == torch.bfloat16


def test_images_of_other_channels_are_refused(run: Path) -> None:
    with pytest.raises(TeacherError, match="run: the teacher takes images of 3 channels, the student's have 1"):
        load_teacher(run, mean=(0.5,), std=(0.2,))


def test_weights_of_another_architecture_are_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(TeacherError, match="the weights do not fit Linear: weight is missing, and 1 more"):
        load_teacher(run / "model.safetensors", build=lambda: nn.Linear(2, 3))
    with pytest.raises(TeacherError, match=r"the weights do not fit ResNet: .{1,200}$"):
        load_teacher(run / "model.safetensors", build=lambda: ResNet(20, classes=3, width=4))
    with pytest.raises(TeacherError, match="size mismatch"):
        load_teacher(run / "model.safetensors", build=lambda: ResNet(8, classes=4, width=4))


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    for spec in (tmp_path / "none", tmp_path / "none.safetensors"):
        with pytest.raises(TeacherError, match=f"{spec.name}: no such run folder or file"):
            load_teacher(spec)
    with pytest.raises(
        TeacherError, match=r"no model.safetensors in this folder; the run has not finished, or it is no"
    ):
        load_teacher(tmp_path)


@pytest.mark.parametrize("share", [0.0, 0.02, 0.9])
def test_truncated_weights_of_a_run_are_refused(share: float, run: Path) -> None:
    path = run / "model.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(TeacherError, match=r"model.safetensors: cannot be read as safetensors"):
        load_teacher(run)


@pytest.mark.parametrize(
    ("description", "message"),
    [
        (None, "does not say which model it is for .no run of headstart wrote it.; give a builder"),
        ([1], "does not say which model"),
        ({}, "does not name a model that can be built"),
        ({"model": {"name": "vgg"}, "classes": ["a"], "channels": 3}, "that can be built .model.name='vgg' is unknown"),
        ({"model": {"nam": "resnet8"}, "classes": ["a"], "channels": 3}, "that can be built"),
        ({"model": {"name": "resnet8", "width": 4}, "classes": 3, "channels": 3}, "that can be built"),
    ],
    ids=["none", "list", "empty", "unknown model", "unknown key", "no classes"],
)
def test_a_file_that_does_not_say_what_it_holds_is_refused(description: Any, message: str, run: Path) -> None:
    with pytest.raises(TeacherError, match=message):
        load_teacher(describe(run, description))


def test_a_description_without_normalisation_is_refused_where_it_is_needed(run: Path) -> None:
    described = {"model": {"name": "resnet8", "width": 4}, "classes": ["a", "b", "c"], "channels": 3}
    with pytest.raises(TeacherError, match="does not say how images are normalised"):
        load_teacher(describe(run, described), mean=MEAN, std=STD)


@pytest.mark.parametrize("depth", [20, 32, 44, 56])
def test_published_checkpoints_load_with_a_builder(depth: int, research_data: Path) -> None:
    files = sorted(research_data.glob(f"checkpoints/cifar10-resnet-akamaster/resnet{depth}-*.th"))
    if not files:
        pytest.skip("HEADSTART_DATA holds no checkpoints/cifar10-resnet-akamaster")
    teacher = load_teacher(files[0], build=lambda: ResNet(depth, classes=10))
    assert teacher.logits(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


def test_a_published_checkpoint_recognises_what_it_was_trained_for(research_data: Path) -> None:
    """It reaches 91.8 % on the original images and 82.5 % on this lossy copy: ours is the network it was made for."""
    files = sorted(research_data.glob("checkpoints/cifar10-resnet-akamaster/resnet20-*.th"))
    if not files or not (research_data / "cifar10-jpeg75").exists():
        pytest.skip("HEADSTART_DATA lacks the checkpoint or cifar10-jpeg75")
    data = load_images("cifar10-jpeg75", "test")
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    images = (data.images[:500] / 255 - mean.view(1, 3, 1, 1)) / std.view(1, 3, 1, 1)
    teacher = load_teacher(files[0], build=lambda: ResNet(20, classes=10))
    right = teacher.logits(images).argmax(1) == data.labels[:500]
    assert float(right.float().mean()) > 0.78


# Options, and the student's side.


def options(**given: Any) -> TeacherOptions:
    return TeacherOptions.model_validate(given)


def test_a_run_is_channels_last_unless_told_otherwise(run: Path) -> None:
    assert load_teacher(run).memory_format == torch.channels_last
    assert load_teacher(run, options=options(memory_format="contiguous")).memory_format == torch.contiguous_format
    assert load_teacher(run / "model.safetensors", build=build).memory_format is None


@pytest.mark.parametrize(
    ("word", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)]
)
def test_a_dtype_turns_autocast_off(word: str, dtype: torch.dtype, run: Path) -> None:
    teacher = load_teacher(run, autocast=torch.bfloat16, options=options(dtype=word))
    assert (teacher.dtype, teacher.autocast) == (dtype, None)
    assert load_teacher(run, autocast=torch.bfloat16).autocast == torch.bfloat16


def test_weights_in_half_precision_are_given_inputs_of_theirs(tmp_path: Path) -> None:
    torch.save(build().bfloat16().state_dict(), tmp_path / "half.pt")
    teacher = load_teacher(tmp_path / "half.pt", build=lambda: build().bfloat16(), autocast=torch.float16)
    assert teacher.logits(IMAGES).dtype == torch.bfloat16


def test_folding_size_and_device_reach_the_teacher(run: Path) -> None:
    expected = load_teacher(run).logits(IMAGES)
    folded = load_teacher(run, options=options(fold=True))
    torch.testing.assert_close(folded.logits(IMAGES), expected, rtol=1e-4, atol=1e-4)
    assert not any(isinstance(part, nn.BatchNorm2d) for part in folded.module.modules())
    small = load_teacher(run, options=options(size=6, device="meta"))
    assert small.size == (6, 6) and small.device == torch.device("meta")


def test_its_own_normalisation_can_be_said(run: Path) -> None:
    """What the options say comes before what the file says."""
    mean, std = (0.1, 0.3, 0.5), (0.5, 0.3, 0.7)
    told = load_teacher(run, mean=mean, std=std, options=options(mean=list(mean), std=list(std)))
    assert told.prepare is None
    torch.save(build().state_dict(), run / "w.pt")
    silent = load_teacher(run / "w.pt", build=build, mean=mean, std=std)
    assert silent.prepare is None
    told = load_teacher(run / "w.pt", build=build, mean=mean, std=std, options=options(mean=list(MEAN), std=list(STD)))
    expected = told.module(normalised(MEAN, STD))
    torch.testing.assert_close(told.logits(normalised(mean, std)), expected, rtol=1e-5, atol=1e-5)


def test_classes_are_put_into_the_students_order(run: Path) -> None:
    logits = load_teacher(run).logits(IMAGES)
    assert torch.equal(load_teacher(run, classes=["2", "0", "1"]).logits(IMAGES), logits[:, [2, 0, 1]])
    assert torch.equal(load_teacher(run, classes=["1"]).logits(IMAGES), logits[:, [1]])
    assert torch.equal(load_teacher(run, classes=["x", "y", "z"]).logits(IMAGES), logits)
    told = options(classes=["2", 0])
    assert torch.equal(load_teacher(run, classes=["x", "y"], options=told).logits(IMAGES), logits[:, [2, 0]])
    assert torch.equal(load_teacher(run, options=options(vocabulary=2)).logits(IMAGES), logits[:, :2])


def test_a_model_named_in_a_recipe_builds_what_a_file_of_weights_is_for(tmp_path: Path) -> None:
    model = build().eval()
    torch.save(model.state_dict(), tmp_path / "w.pt")
    named = options(model={"name": "resnet8", "width": 4})
    teacher = load_teacher(tmp_path / "w.pt", classes=["a", "b", "c"], mean=MEAN, std=STD, options=named)
    torch.testing.assert_close(teacher.logits(IMAGES), model(IMAGES))
    with pytest.raises(TeacherError, match=r"w.pt: a `model` for its weights needs the student's classes"):
        load_teacher(tmp_path / "w.pt", options=named)


def test_weights_of_a_lightning_module_are_found_under_its_model(tmp_path: Path) -> None:
    model = build().eval()
    state = {f"model.{name}": value for name, value in model.state_dict().items()} | {"loss.weight": torch.ones(3)}
    torch.save({"state_dict": state, "pytorch-lightning_version": "2.4.0"}, tmp_path / "last.ckpt")
    teacher = load_teacher(tmp_path, build=build)  # the folder's only checkpoint
    assert torch.equal(teacher.logits(IMAGES), model(IMAGES))
    with pytest.raises(TeacherError, match="give a builder"):
        load_teacher(tmp_path)


def test_a_part_of_a_model_is_not_taken_for_the_whole(run: Path) -> None:
    with pytest.raises(TeacherError, match="the weights do not fit Linear: weight is missing, and 1 more"):
        load_teacher(run, build=lambda: nn.Linear(16, 3))


def test_weights_that_the_module_has_no_place_for_are_refused(tmp_path: Path) -> None:
    torch.save({**nn.Linear(2, 3).state_dict(), "extra": torch.ones(1)}, tmp_path / "w.pt")
    with pytest.raises(TeacherError, match="do not fit Linear: it has no extra"):
        load_teacher(tmp_path / "w.pt", build=lambda: nn.Linear(2, 3))


class Tied(nn.Module):
    """Two names for one tensor, of which files keep one."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(5, 4)
        self.head = nn.Linear(4, 5, bias=False)
        self.head.weight = self.table.weight

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(self.table(ids))
        return logits


def test_tied_weights_need_to_be_there_once(tmp_path: Path) -> None:
    model, ids = Tied(), torch.arange(5)
    save_file({"table.weight": model.table.weight.detach()}, tmp_path / "w.safetensors")
    assert torch.equal(load_teacher(tmp_path / "w.safetensors", build=Tied).logits(ids), model(ids))


class Wrapping(nn.Module):
    """Calls a part of it what DDP calls what it wraps."""

    def __init__(self) -> None:
        super().__init__()
        self.module, self.head = nn.Linear(2, 4), nn.Linear(4, 3)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(self.module(inputs))
        return logits


@pytest.mark.parametrize("prefix", ["", "module.", "model."])
def test_a_module_may_call_its_parts_as_wrappers_do(prefix: str, tmp_path: Path) -> None:
    model, inputs = Wrapping(), torch.randn(5, 2)
    torch.save({prefix + name: value for name, value in model.state_dict().items()}, tmp_path / "old.pt")
    assert torch.equal(load_teacher(tmp_path / "old.pt", build=Wrapping).logits(inputs), model(inputs))


def test_a_builder_is_a_function(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 3).state_dict(), tmp_path / "old.pt")
    with pytest.raises(TeacherError, match=r"old.pt: build is a module; .* build=lambda: MyModel\(\)"):
        load_teacher(tmp_path / "old.pt", build=nn.Linear(2, 3))


def test_a_builder_is_for_files() -> None:
    pytest.importorskip("transformers")
    with pytest.raises(TeacherError, match="hf:org/name: builds its own module; leave out build"):
        load_teacher("hf:org/name", build=build)


@pytest.mark.slow
def test_a_checkpoint_that_lightning_wrote(tmp_path: Path) -> None:
    lightning = pytest.importorskip("lightning")

    class Module(lightning.LightningModule):  # type: ignore[misc, name-defined]
        def __init__(self, rate: float) -> None:
            super().__init__()
            self.save_hyperparameters()
            self.model = nn.Linear(4, 3)

        def training_step(self, batch: torch.Tensor) -> torch.Tensor:
            loss: torch.Tensor = self.model(batch[0]).square().mean()
            return loss

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.AdamW(self.parameters(), lr=self.hparams["rate"])

    module, data = Module(0.1), torch.utils.data.TensorDataset(torch.randn(8, 4))
    trainer = lightning.Trainer(
        max_steps=2, default_root_dir=tmp_path, logger=False, enable_progress_bar=False, enable_model_summary=False
    )
    trainer.fit(module, torch.utils.data.DataLoader(data, batch_size=4))
    teacher = load_teacher(tmp_path / "checkpoints", build=lambda: nn.Linear(4, 3))
    inputs = torch.randn(2, 4)
    assert torch.equal(teacher.logits(inputs), module.model(inputs))


@pytest.mark.parametrize("parts", [False, True])
def test_a_folder_that_accelerate_wrote(parts: bool, tmp_path: Path) -> None:
    accelerate = pytest.importorskip("accelerate")
    model = build().eval()
    accelerate.Accelerator().save_model(model, tmp_path, max_shard_size="20KB" if parts else "5GB")
    assert (tmp_path / "model.safetensors.index.json").exists() == parts
    assert torch.equal(load_teacher(tmp_path, build=build).logits(IMAGES), model(IMAGES))
