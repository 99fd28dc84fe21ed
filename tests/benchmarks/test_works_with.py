"""The comparison of other people's programs: its checks find what is wrong, and the page has what was recorded."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest
import torch

from headstart.records import read_record
from real_programs.checks import against_reference, checked, faults, identical, same_end, weights_difference
from real_programs.edits import counted, edited
from real_programs.program import Edit, Setup
from real_programs.runs import Record
from real_programs.setups import REFUSED, SETUPS
from real_programs.table import PAGE, written
from results_file import RESULTS, Figure, Result
from works_with import main

START = torch.zeros(2)


def record(*steps: float, losses: list[float] | None = None) -> Record:
    return Record(losses or [1.0] * len(steps), START, [torch.tensor([0.0, step]) for step in steps])


def test_steps_are_identical_until_a_bit_differs() -> None:
    whole = record(1.0, 2.0, 3.0)
    assert identical(whole, record(1.0, 2.0, 3.0)) == 3
    assert identical(whole, record(1.0, 2.0 + 1e-6, 3.0)) == 1
    assert identical(whole, record(1.0, 2.0, 3.0, losses=[1.0, 1.0, 1.5])) == 2


def test_a_resumed_run_is_compared_with_the_last_steps() -> None:
    whole = record(1.0, 2.0, 3.0)
    assert same_end(record(2.0, 3.0), whole) == 2
    assert same_end(record(2.0, 3.5), whole) == 1


def test_a_difference_is_relative_to_what_the_steps_changed() -> None:
    assert weights_difference(record(1.1, 2.0), record(1.0, 2.0), steps=2) == pytest.approx(0.1)
    by_hand, untouched = record(1.0, 2.0, 3.0), record(1.0, 2.0, 3.0, losses=[4.0] * 3)
    told = against_reference(record(1.0, 2.0, 3.0, losses=[1.0, 1.5, 1.0]), by_hand, untouched)
    assert told["reference_loss_difference"].value == 0.5
    assert told["reference_weights_difference"].value == 0.0
    assert told["distillation_in_first_loss"].value == 0.75


@pytest.mark.parametrize(
    ("name", "figure"),
    [
        ("a.closed_steps_identical", Figure(value=5, n=6)),
        ("a.reference_loss_difference", Figure(value=1e-3)),
        ("a.resumed_steps_identical", Figure(value=2, n=3)),
        ("a.resumed_weights_difference", Figure(value=1e-3)),
        ("a.distillation_in_first_loss", Figure(value=1e-5)),
    ],
)
def test_what_is_not_as_it_should_be_is_named(name: str, figure: Figure) -> None:
    assert faults({name: figure, "b.reference_loss_difference": Figure(value=1e-7)}) == [name]


def test_a_program_resumes_as_well_as_it_does_by_hand() -> None:
    figures = {"a.resumed_steps_identical": Figure(value=1, n=3)}
    assert not faults(figures | {"a.resumed_by_hand_steps_identical": Figure(value=1, n=3)})
    assert faults(figures | {"a.resumed_by_hand_steps_identical": Figure(value=3, n=3)}) == [*figures]


@pytest.mark.parametrize("text", ["a\n", "b\nb\n"])
def test_a_program_that_the_lines_do_not_fit_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is it the pinned version"):
        edited(text, [Edit("b\n", "c\n")])


def test_lines_are_counted() -> None:
    assert counted("a\nb\n", "x\na\nc\n") == (1, 1)


PROGRAM = """
import sys
import torch

out, seed = sys.argv[1], int(sys.argv[2])
torch.manual_seed(seed)
model = torch.nn.Linear(3, 4)
optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
first = 0
if len(sys.argv) > 3:
    model.load_state_dict(torch.load(sys.argv[3]))
    first = 3
for step in range(first, 6):
    draw = torch.Generator().manual_seed(step)
    inputs, labels = torch.randn(5, 3, generator=draw), torch.randint(4, (5,), generator=draw)
    logits = model(inputs)
    loss = torch.nn.functional.cross_entropy(logits, labels)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    if step == 2:
        torch.save(model.state_dict(), out + "/middle.pt")
"""
_LOOP, _LOSS = "for step in range(first, 6):\n", "    loss.backward()\n"


def small(folder: Path, *, temperature: float = 4.0) -> Setup:
    """A set-up of the program above, and one of its teachers by hand."""
    (folder / "small").mkdir()
    (folder / "small" / "program.py").write_text(textwrap.dedent(PROGRAM), encoding="utf-8")
    teacher = "torch.nn.Linear(3, 4)\nteacher.load_state_dict(torch.load(TEACHER))\n"
    return Setup(
        name="small",
        title="",
        script="small/program.py",
        page="",
        prepare=lambda _: None,
        options=["{out}", "{seed}"],
        lines=[
            Edit("import torch\n", "import torch\nfrom headstart.distill import Distiller\n"),
            Edit(_LOOP, f"teacher = {teacher}distiller = Distiller(teacher, total_steps=6, stop=STOP)\n{_LOOP}"),
            Edit(_LOSS, f"    distiller.current_step = step\n    loss = distiller(loss, logits, inputs)\n{_LOSS}"),
        ],
        by_hand=[
            Edit(_LOOP, f"import by_hand\nby_hand.T = {temperature}\nteacher = {teacher}{_LOOP}"),
            Edit(
                _LOSS,
                "    taught = by_hand.rows_kl(logits, teacher(inputs).detach()).mean()\n"
                f"    loss = by_hand.mixed(loss, taught)\n{_LOSS}",
            ),
        ],
        resume=["{first}/middle.pt"],
        teacher="middle.pt",
    )


@pytest.mark.slow
def test_a_small_program_is_compared_in_all_its_forms(tmp_path: Path) -> None:
    figures = checked(small(tmp_path), tmp_path)
    assert not faults(figures)
    assert figures["closed_steps_identical"] == Figure(value=6, n=6)
    assert figures["resumed_steps_identical"] == Figure(value=3, n=3)
    assert (figures["lines_changed"].value, figures["lines_added"].value) == (0, 6)


@pytest.mark.slow
def test_another_reference_is_noticed(tmp_path: Path) -> None:
    wrong = faults(checked(small(tmp_path, temperature=2.0), tmp_path))
    assert wrong == ["reference_loss_difference", "reference_weights_difference"]


def test_programs_have_to_be_named() -> None:
    with pytest.raises(SystemExit):
        main([])


def recorded() -> Result:
    return read_record(Result, RESULTS / "works-with.json")


def test_all_that_is_recorded_is_as_it_should_be() -> None:
    figures = recorded().figures
    assert not faults(figures)
    assert {name.partition(".")[0] for name in figures} == {
        *(setup.name for setup in SETUPS),
        *(case.setup.name for case in REFUSED),
    }


def test_the_page_has_the_table_of_what_was_recorded() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page == written(page, recorded())
