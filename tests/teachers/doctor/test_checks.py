"""Each check passes what is healthy, and names what is not with advice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from headstart.teachers.doctor import Check, checks, training_checks

Broken = tuple[tuple[Any, ...], str, str, str]  # arguments, status, finding, advice
CASES: dict[str, tuple[Callable[..., Check], tuple[Any, ...], list[Broken]]] = {
    "frozen": (
        checks.check_frozen,
        ([], [], 0.0),
        [
            (
                (["layers.1"], [], 0.0),
                "fail",
                "1 of its modules are in train mode in the forward, the first: layers.1",
                "",
            ),
            (([""], [], 0.0), "fail", "the first: itself", "must not call train"),
            (([], ["running_mean", "running_var"], 0.0), "fail", "changes running_mean and 1 more", "must not learn"),
            (([], [], 0.3), "fail", "differ by 0.3 of the logits' spread", "dropout"),
        ],
    ),
    "separate": (
        checks.check_separate,
        ([],),
        [((["a", "b"],), "fail", "shares 2 parameters", "copy.deepcopy(model)")],
    ),
    "classes": (
        checks.check_shape,
        ((8, 3), (8, 3)),
        [
            (((8, 5), (8, 3)), "fail", "logits [8, 5], the student's [8, 3]", "`vocabulary`"),
            (((8, 2), (8, 3)), "fail", "logits [8, 2]", "does not know all"),
            (((4, 3), (8, 3)), "fail", "logits [4, 3]", "other rows"),
        ],
    ),
    "finite": (checks.check_finite, (0, 8), [((1, 8), "fail", "NaN or infinite in 1 of 8 rows", "dtype to fp32")]),
    "labels": (
        checks.check_labels,
        (0.8, 0.1, 500),
        [
            ((0.05, 0.1, 500), "fail", "agrees with 5.0% of the labels, by chance it would be 10.0%", "tokenizer"),
            ((0.1, 0.1, 500), "fail", "10.0%", "`mean` and `std`"),
            ((0.12, 0.1, 500), "warn", "12.0%", "500 rows do not show"),
        ],
    ),
    "label range": (
        checks.check_label_range,
        (0, 9, 10),
        [
            ((0, 10, 10), "fail", "0 to 10, but the student has 10 classes, 0 to 9", "indices"),
            ((-1, 9, 10), "fail", "labels -1 to 9", "-100"),
        ],
    ),
    "normalisation": (
        checks.check_normalisation,
        (0.9, {"other": 0.8, "same": 0.9}, {"other": 0.01, "same": 0.0}),
        [
            ((0.5, {"other": 0.9}, {"other": 0.01}), "fail", "agrees with 50.0% of the labels", "`mean`"),
            ((0.5, {"other": 0.54}, {"other": 0.01}), "warn", "with 54.0% given other", "`std`"),
        ],
    ),
    "better than the student": (
        checks.check_better,
        (1.0, 0.1, 1.3),
        [
            ((0.2, 0.1, 1.3), "warn", "cross-entropy 1.300, the student's as it is 1.500", "more batches"),
            ((-0.5, 0.1, 2.8), "fail", "cross-entropy 2.800, the student's as it is 2.300", "leave it out"),
        ],
    ),
    "loss at agreement": (
        training_checks.check_zero_at_agreement,
        (1e-7, 1e-8, 3.0, 0.5),
        [
            ((0.5, 0.1, 3.0, 0.5), "fail", "loss 0.5, gradient 0.1", "direction"),
            ((0.5, 1e-8, 3.0, 0.5), "warn", "loss 0.5, gradient 1e-08", "not 0"),
        ],
    ),
    "micro-batches": (
        training_checks.check_micro_batches,
        (1e-6, 1e-3),
        [((0.2, 1e-3), "warn", "another gradient, by 20.0%", "dist")],
    ),
    "memory": (
        training_checks.check_memory,
        (10**9, 8 * 10**9),
        [
            ((9 * 10**9, 8 * 10**9), "fail", "about 9.00 GB of 8.00 GB", "micro-batches smaller"),
            ((75 * 10**8, 8 * 10**9), "warn", "7.50 GB", "bf16"),
        ],
    ),
    "cost": (
        training_checks.check_cost,
        (0.1, 0.03, 0.5),
        [
            (
                (0.1, 0.1, 0.5),
                "warn",
                "rho 1.00); 50% of steps distilled: about 50% more time, worth it from 1.50x",
                "every=2",
            )
        ],
    ),
}
BROKEN = [(name, case) for name, (_, _, broken) in CASES.items() for case in broken]


@pytest.mark.parametrize("name", CASES)
def test_what_is_healthy_passes(name: str) -> None:
    check, healthy, _ = CASES[name]
    found = check(*healthy)
    assert (found.name, found.status, found.advice) == (name, "pass", "")


@pytest.mark.parametrize(("name", "case"), BROKEN, ids=[f"{name}-{index}" for index, (name, _) in enumerate(BROKEN)])
def test_what_is_broken_is_found_and_comes_with_advice(name: str, case: Broken) -> None:
    arguments, status, finding, advice = case
    found = CASES[name][0](*arguments)
    assert (found.name, found.status) == (name, status)
    assert finding in found.finding and advice in found.advice and found.advice


def test_classes_in_another_order_are_recognised() -> None:
    found = checks.check_labels(0.02, 0.1, 500, renamed=0.9)
    assert "with its classes renamed 90.0%" in found.finding and "another order" in found.advice
    assert "renamed" not in checks.check_labels(0.02, 0.1, 500, renamed=0.2).finding


def test_a_normalisation_that_is_not_clearly_better_is_no_finding() -> None:
    assert checks.check_normalisation(0.5, {"other": 0.9}, {"other": 0.2}).status == "pass"


def test_without_other_normalisations_there_is_nothing_to_find() -> None:
    assert checks.check_normalisation(1.0, {}, {}).status == "pass"


def test_a_check_names_the_teacher_it_is_about() -> None:
    assert Check(name="x", status="pass", finding="y").about("old").teacher == "old"


def test_the_forecast_is_speedup_over_one_plus_rho_f() -> None:
    """With g = 1 + rho f fewer steps the speed-up g / (1 + rho f) is 1: that is where it breaks even."""
    finding = training_checks.check_cost(step=0.2, forward=0.1, distilled=0.5).finding
    assert "rho 0.50" in finding and "about 25% more time" in finding and "1.25x fewer steps" in finding
