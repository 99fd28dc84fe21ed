"""A teacher stays as it was, whatever surrounds it."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_sequence
from torch.optim.swa_utils import AveragedModel

from headstart.distill import Teacher
from headstart.distill.inputs import resize
from headstart.errors import TeacherError

Pair = namedtuple("Pair", ["left", "right"])
Named = namedtuple("Named", ["loss", "logits"])


class Restless(nn.Module):
    """A net with all that changes in train mode."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 3))

    def forward(self, inputs: Tensor) -> Tensor:
        output: Tensor = self.layers(inputs)
        return output


class Two(nn.Module):
    """Takes two named arguments."""

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        return left - right


def test_stays_in_eval_mode_under_a_parent_in_train_mode() -> None:
    module = Restless()
    module(torch.randn(16, 4))  # statistics that are not the initial ones
    teacher = Teacher(module)
    parent = nn.ModuleDict({"student": nn.Linear(4, 3), "teacher": module})
    before = {name: value.clone() for name, value in module.state_dict().items()}
    inputs = torch.randn(16, 4)
    first = teacher.logits(inputs)
    for _ in range(20):
        parent.train()
        assert torch.equal(teacher.logits(inputs), first)  # no dropout
        assert not any(part.training for part in module.modules())
        teacher.logits(torch.randn(16, 4) + 5)
    for name, value in module.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert parent["student"].training


def test_a_part_in_train_mode_is_put_back() -> None:
    module = Restless()
    teacher = Teacher(module)
    module.layers[1].train()
    teacher.logits(torch.randn(16, 4))
    assert module.layers[1].num_batches_tracked == 0
    assert not module.layers[1].training


def test_keeps_no_keys_and_values() -> None:
    """Of causal models of transformers, whose configuration says that they are to be kept for generation."""
    module: Any = nn.Linear(4, 3)
    module.config = SimpleNamespace(use_cache=True)
    assert Teacher(module).module.config == SimpleNamespace(use_cache=False)
    module.config = SimpleNamespace()
    assert Teacher(module).module.config == SimpleNamespace()


def test_is_frozen() -> None:
    teacher = Teacher(Restless().train())
    assert not teacher.module.training
    assert not any(parameter.requires_grad for parameter in teacher.module.parameters())
    inputs = torch.randn(2, 4, requires_grad=True)
    teacher.module.requires_grad_(True)  # as a parent might
    output = teacher.logits(inputs)
    assert not output.requires_grad
    assert torch.is_grad_enabled()
    assert not output.is_inference()


@pytest.mark.parametrize(
    "inputs",
    [
        (torch.ones(2, 3), torch.zeros(2, 3)),
        {"left": torch.ones(2, 3), "right": torch.zeros(2, 3)},
        SimpleNamespace,
    ],
    ids=["tuple", "mapping", "prepared"],
)
def test_inputs(inputs: Any) -> None:
    prepare = (lambda _: (torch.ones(2, 3), torch.zeros(2, 3))) if inputs is SimpleNamespace else None
    assert torch.equal(Teacher(Two(), prepare=prepare).logits(inputs), torch.ones(2, 3))


LOGITS = torch.ones(2, 3)


@pytest.mark.parametrize(
    "output",
    [
        LOGITS,
        {"logits": LOGITS, "loss": None},
        SimpleNamespace(logits=LOGITS),
        Named(loss=None, logits=LOGITS),
        (LOGITS, None),
        (LOGITS, torch.zeros(2, 3)),
        [LOGITS, torch.tensor(1.0)],
    ],
    ids=["tensor", "mapping", "object", "named tuple", "no loss", "auxiliary logits", "list with a loss"],
)
def test_outputs(output: Any, given: Callable[[Any], nn.Module]) -> None:
    assert Teacher(given(output)).logits(torch.zeros(2, 4)) is LOGITS


@pytest.mark.parametrize("output", [{"scores": LOGITS}, None, SimpleNamespace(logits=[1.0])])
def test_outputs_without_logits(output: Any, given: Callable[[Any], nn.Module]) -> None:
    message = rf"teacher 'old': its forward gave no logits; it must return a tensor.*not {type(output).__name__}"
    with pytest.raises(TeacherError, match=message):
        Teacher(given(output), name="old").logits(torch.zeros(2, 4))


@pytest.mark.parametrize("output", [(torch.tensor(1.0), LOGITS), (None, LOGITS), (torch.ones(2, 3).long(), LOGITS), ()])
def test_a_tuple_that_begins_with_something_else_is_refused(output: Any, given: Callable[[Any], nn.Module]) -> None:
    with pytest.raises(
        TeacherError, match=r"'old': its forward gave a tuple of \d that begins with .* wrap it in a mod"
    ):
        Teacher(given(output), name="old").logits(torch.zeros(2, 4))


@pytest.mark.parametrize(
    ("inputs", "advice"),
    [
        ([torch.ones(2, 3), torch.zeros(2, 3)], "give a tuple where"),
        ((torch.ones(2, 3),) * 3, "or a list where it takes one"),
    ],
)
def test_lists_and_tuples_that_are_mistaken_for_each_other(inputs: Any, advice: str) -> None:
    with pytest.raises(TeacherError, match=advice):
        Teacher(Two()).logits(inputs)


class Writing(nn.Module):
    """Writes into its inputs, in some of its calls."""

    def __init__(self, calls: set[int]) -> None:
        super().__init__()
        self.calls, self.call = calls, 0

    def forward(self, inputs: Tensor) -> Tensor:
        writes, self.call = self.call in self.calls, self.call + 1
        return inputs.mul_(2.0) if writes else inputs * 2.0


@pytest.mark.parametrize(
    "wrap", [lambda x: x, lambda x: {"inputs": x}, lambda x: ([x][0],)], ids=["one", "named", "tuple"]
)
def test_what_it_writes_never_reaches_the_batch(wrap: Callable[[Tensor], Any]) -> None:
    teacher, inputs = Teacher(Writing({0, 2})), torch.ones(2, 3)
    for _ in range(3):
        assert torch.equal(teacher.logits(wrap(inputs)), torch.full((2, 3), 2.0))
        assert torch.equal(inputs, torch.ones(2, 3))


def test_a_write_that_nothing_told_of_is_refused() -> None:
    teacher = Teacher(Writing({1}), name="old")
    teacher.logits(torch.ones(2, 3))
    with pytest.raises(TeacherError, match="'old' wrote into its inputs in place"):
        teacher.logits(torch.ones(2, 3))


def test_only_the_first_call_copies() -> None:
    module = Telling()
    teacher = Teacher(module)
    for _ in range(3):
        teacher.logits(IMAGES)
    assert [given is IMAGES for given in module.given] == [False, True, True]


def test_inputs_of_inference_mode_are_taken() -> None:
    with torch.inference_mode():
        inputs = torch.ones(2, 4)
    assert Teacher(nn.Linear(4, 3)).logits(inputs).shape == (2, 3)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_inputs_come_in_the_dtype_of_its_layers(dtype: torch.dtype) -> None:
    """Of norms that were left in float32 none is asked, and indices stay."""
    module = nn.Sequential(nn.Linear(4, 3).to(dtype))
    assert Teacher(module).logits(torch.ones(2, 4)).dtype == dtype
    assert Teacher(nn.Linear(4, 3)).logits(torch.ones(2, 4, dtype=dtype)).dtype == torch.float32
    assert Teacher(nn.Embedding(7, 3).to(dtype)).prepared(torch.tensor([1])).dtype == torch.int64
    mixed = nn.Module()
    mixed.norm, mixed.linear = nn.LayerNorm(4), nn.Linear(4, 3).to(dtype)
    assert Teacher(mixed).prepared([torch.ones(2, 4)])[0].dtype == dtype


def test_inputs_that_do_not_fit_are_refused() -> None:
    with pytest.raises(TeacherError, match=r"forward of teacher 'old': RuntimeError: mat1 and .*that the student is"):
        Teacher(nn.Linear(4, 3), name="old").logits(torch.zeros(2, 5))
    table = Teacher(nn.Embedding(4, 3))
    table.logits(torch.tensor([3]))
    with pytest.raises(TeacherError, match=r"an index \(a token, a position\) beyond what this teacher has"):
        table.logits(torch.tensor([4]))


class Failing(nn.Module):
    """Fails as something else than its inputs would have it."""

    def __init__(self, message: str, calls: int) -> None:
        super().__init__()
        self.message, self.calls = message, calls

    def forward(self, inputs: Tensor) -> Tensor:
        self.calls -= 1
        if self.calls < 0:
            raise RuntimeError(self.message)
        return inputs


@pytest.mark.parametrize(("message", "calls"), [("CUDA out of memory.", 0), ("the device is gone", 1)])
def test_what_other_code_waits_for_passes_through(message: str, calls: int) -> None:
    teacher = Teacher(Failing(message, calls), name="old")
    for _ in range(calls):
        teacher.logits(LOGITS)
    with pytest.raises(RuntimeError, match=message) as failure:
        teacher.logits(LOGITS)
    assert failure.value.__notes__ == ["in the forward of teacher 'old'"]


class OneArgument(nn.Module):
    """Takes a batch whole."""

    def forward(self, batch: Any) -> Tensor:
        return batch[0] * 2  # type: ignore[no-any-return]


def test_a_tuple_with_names_is_one_argument_where_the_forward_takes_one() -> None:
    pair = Pair(torch.ones(2, 3), torch.zeros(2, 3))
    assert torch.equal(Teacher(OneArgument()).logits(pair), torch.full((2, 3), 2.0))
    assert torch.equal(Teacher(Two()).logits(pair), torch.ones(2, 3))
    packed = pack_sequence([torch.ones(3, 2), torch.ones(1, 2)])
    assert torch.equal(Teacher(OneArgument()).logits(packed), packed.data * 2)


@pytest.mark.parametrize("wrap", [lambda net: torch.compile(net, backend="eager"), nn.DataParallel, AveragedModel])
def test_what_is_wrapped_around_it_does_not_hide_its_arguments(wrap: Callable[[nn.Module], nn.Module]) -> None:
    inputs = {"left": torch.ones(2, 3), "right": torch.zeros(2, 3), "mask": torch.ones(2)}
    assert torch.equal(Teacher(wrap(Two())).logits(inputs), torch.ones(2, 3))


class EncoderDecoder(nn.Module):
    """Has the manners of one of transformers that generates text."""

    config = SimpleNamespace(is_encoder_decoder=True)

    def can_generate(self) -> bool:
        return True

    def forward(self, input_ids: Tensor, decoder_input_ids: Any = None, labels: Any = None) -> Tensor:
        return F.one_hot(decoder_input_ids if labels is None else labels, 5).float()


def test_a_decoder_is_told_what_it_reads() -> None:
    ids, teacher = torch.tensor([[1, 2]]), Teacher(EncoderDecoder(), name="old")
    with pytest.raises(TeacherError, match=r"'old' is an encoder-decoder.*`decoder_input_ids`"):
        teacher.logits({"input_ids": ids})
    assert teacher.logits({"input_ids": ids, "labels": ids}).shape == (1, 2, 5)
    assert teacher.logits({"input_ids": ids, "decoder_input_ids": ids}).shape == (1, 2, 5)


@pytest.mark.parametrize("frames", [lambda x: x, lambda x: x.transpose(1, 2)], ids=["frames first", "channels first"])
def test_videos_are_resized_frame_by_frame(frames: Callable[[Tensor], Tensor]) -> None:
    videos = torch.rand(2, 4, 3, 8, 8)
    expected = resize(videos.flatten(0, 1), (4, 4)).view(2, 4, 3, 4, 4)
    torch.testing.assert_close(Teacher(nn.Identity(), size=4).prepared(frames(videos)), frames(expected))


@pytest.mark.parametrize("inputs", [torch.zeros(2, 3, 8, 8, dtype=torch.uint8), torch.ones(2, 4), "no tensor"])
def test_a_size_without_images_is_refused(inputs: Any) -> None:
    with pytest.raises(TeacherError, match=r"are to be changed .* and the batch has none"):
        Teacher(nn.Identity(), size=4).prepared(inputs)


@pytest.mark.parametrize("module", ["teacher.pt", nn.Linear, None])
def test_must_be_a_module(module: Any) -> None:
    kind = type(module).__name__
    with pytest.raises(
        TeacherError, match=rf"must be a torch module, not {kind}; load one with headstart.load_teacher"
    ):
        Teacher(module)


@pytest.mark.parametrize("wrap", [lambda x: x, lambda x: (x,), lambda x: {"input": x}], ids=["tensor", "tuple", "dict"])
def test_autocast_is_its_own(wrap: Callable[[Tensor], Any]) -> None:
    inputs = wrap(torch.ones(2, 4))
    assert Teacher(nn.Linear(4, 3)).logits(inputs).dtype == torch.float32
    assert Teacher(nn.Linear(4, 3), autocast=torch.bfloat16).logits(inputs).dtype == torch.bfloat16
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert Teacher(nn.Linear(4, 3)).logits(inputs).dtype == torch.bfloat16


def test_is_named_after_its_class_unless_told() -> None:
    assert Teacher(nn.Linear(2, 3)).name == "Linear"
    assert Teacher(nn.Linear(2, 3), name="last month's").name == "last month's"


@pytest.mark.parametrize("module", [nn.Linear(2, 3), nn.Identity()])
def test_moves_to_a_device(module: nn.Module) -> None:
    teacher = Teacher(module)
    teacher.to(torch.device("cpu"))
    pointers = [parameter.data_ptr() for parameter in module.parameters()]
    teacher.to(torch.device("cpu"))
    assert [parameter.data_ptr() for parameter in module.parameters()] == pointers
    teacher.to(torch.device("meta"))
    assert all(parameter.device.type == "meta" for parameter in module.parameters())


def test_buffers_alone_move_as_well() -> None:
    """Quantised layers have no parameters."""
    module = nn.Module()
    module.register_buffer("packed", torch.zeros(3))
    Teacher(module).to(torch.device("meta"))
    assert module.get_buffer("packed").device.type == "meta"


class Quantised(nn.Linear):
    """As quantised models of transformers, which refuse to be cast, even to None."""

    def to(self, *args: Any, **kwargs: Any) -> Any:
        if "dtype" in kwargs:
            raise ValueError("You cannot cast a bitsandbytes model in a new `dtype`")
        return super().to(*args, **kwargs)


def test_a_quantised_module_is_not_cast() -> None:
    assert Teacher(Quantised(2, 3)).module.weight.device.type == "cpu"
    assert Teacher(Quantised(2, 3), device="meta").module.weight.device.type == "meta"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("wrap", [lambda x: x, lambda x: (x,), lambda x: {"input": x}], ids=["tensor", "tuple", "dict"])
def test_a_module_of_torchscript_may_teach(wrap: Callable[[Tensor], Any]) -> None:
    module, inputs = nn.Linear(4, 3), torch.randn(2, 4)
    expected = module(inputs)
    scripted = torch.jit.script(module)
    assert torch.equal(Teacher(scripted).logits(wrap(inputs)), expected)
    assert not any(parameter.requires_grad for parameter in scripted.parameters())


# What belongs to the teacher's side of input and output.


class Telling(nn.Module):
    """Notes what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 3)
        self.given: list[Tensor] = []

    def forward(self, images: Tensor) -> Tensor:
        self.given.append(images)
        logits: Tensor = self.conv(images).mean((2, 3))
        return logits


IMAGES = torch.rand(2, 3, 8, 8)


def test_dtype_holds_weights_and_computation_whatever_surrounds_them() -> None:
    teacher = Teacher(Telling(), dtype=torch.bfloat16)
    assert all(parameter.dtype == torch.bfloat16 for parameter in teacher.module.parameters())
    assert teacher.logits(IMAGES).dtype == torch.bfloat16
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert Teacher(Telling(), dtype=torch.float32).logits(IMAGES).dtype == torch.float32
        assert Teacher(Telling()).logits(IMAGES).dtype == torch.bfloat16


def test_dtype_leaves_indices_alone() -> None:
    table = nn.Embedding(7, 3)
    assert Teacher(table, dtype=torch.bfloat16).logits(torch.tensor([1, 2])).dtype == torch.bfloat16


def test_dtype_and_autocast_exclude_each_other() -> None:
    with pytest.raises(TeacherError, match="'Linear': give autocast or dtype, not both"):
        Teacher(nn.Linear(2, 3), dtype=torch.float32, autocast=torch.bfloat16)


def test_memory_format_is_that_of_weights_and_images() -> None:
    module = Telling()
    expected = Teacher(module).logits(IMAGES)
    teacher = Teacher(module, memory_format=torch.channels_last)
    torch.testing.assert_close(teacher.logits(IMAGES), expected)
    assert module.given[-1].is_contiguous(memory_format=torch.channels_last)
    assert module.conv.weight.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("size", [4, (4, 4)])
def test_images_are_resized(size: Any) -> None:
    module = Telling()
    teacher = Teacher(module, size=size)
    assert torch.equal(teacher.logits((IMAGES,)), teacher.logits(IMAGES))
    assert module.given[-1].shape == (2, 3, 4, 4)
    assert teacher.prepared(IMAGES).shape == (2, 3, 4, 4)


def test_preparation_comes_before_resizing_and_dtype() -> None:
    module = Telling()
    Teacher(module, prepare=lambda images: images + 1, size=4, dtype=torch.bfloat16).logits(IMAGES)
    torch.testing.assert_close(module.given[0].float(), resize(IMAGES + 1, (4, 4)), rtol=1e-2, atol=1e-2)


def test_a_device_of_its_own_is_where_it_stays() -> None:
    teacher = Teacher(nn.Linear(4, 3), device="meta")
    teacher.to(torch.device("cpu"))
    assert all(parameter.device.type == "meta" for parameter in teacher.module.parameters())
    assert teacher.prepared(torch.ones(2, 4)).device.type == "meta"
    with pytest.raises(NotImplementedError, match="meta"):  # it is the result that cannot be copied back from there
        teacher.logits(torch.ones(2, 4))


@pytest.mark.parametrize(
    ("classes", "columns"), [([4, 0, 0], [4, 0, 0]), ((1,), [1]), (3, [0, 1, 2]), (5, [0, 1, 2, 3, 4])]
)
def test_classes_are_the_students(classes: Any, columns: list[int]) -> None:
    inputs = torch.randn(6, 4)
    module = nn.Linear(4, 5)
    assert torch.equal(Teacher(module, classes=classes).logits(inputs), module(inputs)[:, columns])


@pytest.mark.parametrize("classes", [6, [0, 5]])
def test_classes_that_it_does_not_have(classes: Any) -> None:
    with pytest.raises(TeacherError, match=r"'old' has 5 classes, 0 to 4; its `classes` ask for class 5"):
        Teacher(nn.Linear(4, 5), name="old", classes=classes).logits(torch.zeros(1, 4))


@pytest.mark.parametrize("classes", [0, -1, [], [0, -1]])
def test_classes_that_cannot_be(classes: Any) -> None:
    with pytest.raises(TeacherError, match="must be indices from 0 on, or a number of them"):
        Teacher(nn.Linear(4, 5), classes=classes)


def test_folding_keeps_the_outputs() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 8), nn.BatchNorm2d(4), nn.Flatten())
    module(torch.randn(16, 3, 8, 8))  # statistics that are not the initial ones
    expected = Teacher(module).logits(IMAGES)
    teacher = Teacher(module, fold=True)
    torch.testing.assert_close(teacher.logits(IMAGES), expected)
    assert not any(isinstance(part, nn.BatchNorm2d) for part in teacher.module.modules())
    assert not any(parameter.requires_grad for parameter in teacher.module.parameters())


def test_compiling_goes_through_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the compiler itself left out, which takes half a minute."""
    monkeypatch.setattr(torch, "compile", lambda module: lambda inputs: module(inputs) + 1)
    module = nn.Linear(4, 3)
    assert torch.equal(Teacher(module, compile=True).logits(torch.ones(1, 4)), module(torch.ones(1, 4)) + 1)


class Optional(nn.Module):
    """Declares its inputs as models of transformers do."""

    main_input_name = "input_ids"

    def forward(self, input_ids: Any = None, inputs_embeds: Any = None, **others: Any) -> Any:
        return torch.zeros(2, 3)


@pytest.mark.parametrize(
    ("module", "inputs", "message"),
    [
        (
            Two(),
            {"left": LOGITS, "middle": LOGITS},
            "needs the input 'right', which the batch lacks .it has left, middle",
        ),
        (Two(), {}, "needs the input 'left' and 'right', which the batch lacks .it has none"),
        (Optional(), {"pixel_values": IMAGES}, r"needs the input 'input_ids'.*make it in Teacher\(prepare=\.\.\.\)"),
    ],
)
def test_an_input_that_the_batch_lacks_is_named(module: nn.Module, inputs: Any, message: str) -> None:
    with pytest.raises(TeacherError, match=f"teacher 'old' {message}"):
        Teacher(module, name="old").logits(inputs)


def test_of_named_inputs_it_gets_those_that_it_takes() -> None:
    """A student of another architecture may be given more, such as the types of tokens."""
    batch = {"left": torch.ones(2, 3), "right": torch.zeros(2, 3), "token_type_ids": torch.zeros(2, 3)}
    assert torch.equal(Teacher(Two()).logits(batch), torch.ones(2, 3))


@pytest.mark.parametrize("key", ["input_ids", "inputs_embeds"])
def test_inputs_that_do_without_are_taken(key: str) -> None:
    assert Teacher(Optional()).logits({key: torch.zeros(2, 3)}).shape == (2, 3)
