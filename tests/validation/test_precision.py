"""The table of what float32 is worth: complete, true of a sample of functions, said in words that follow from it."""

import jax
import numpy as np
import pytest

from derivations.formula import discover, find
from validation import precision
from validation.precision import POINTS, TRUSTED, best_bound, compared, note, points, relative, values

SAMPLE = ("deep_linear.modes.two_layer", "deep_linear.modes.plateau_of_four", "kernels.order_chaos.tangent_kernel")


def test_every_formula_is_in_the_table():
    formulas = {name: formula.backs for name, formula in discover()}
    table = {name: row["backs"] for name, row in precision.read().items()}
    changed = [(name, backs) for name, backs in sorted(set(formulas.items()) ^ set(table.items()))]
    assert not changed, f"bring validation/precision.json up to date with `python -m validation.precision`: {changed}"
    assert all(row["points"] for row in precision.read().values())


@pytest.mark.parametrize("name", SAMPLE)
def test_the_table_is_true(name):
    formula, row = find(name), precision.read()[name]
    numbers = points(formula, 16)
    exact = values(formula, numbers)
    with jax.enable_x64(False):
        single = values(formula, numbers)
    found = compared([str(a) for a in formula.arguments], numbers, exact, single)
    assert found["error"] > 1e-9, "it is float32 that is measured"
    # Other processors and versions round otherwise, and 16 points see less than 64.
    assert found["error"] < 10 * row["error"]
    assert found["lost"] <= row["lost"]


@pytest.mark.parametrize("name", SAMPLE)
def test_points_lie_in_the_domain_and_float32_holds_them(name):
    formula = find(name)
    numbers = points(formula)
    assert numbers.shape == (POINTS, len(formula.arguments))
    np.testing.assert_array_equal(numbers, numbers.astype(np.float32))
    for column, argument in zip(numbers.T, formula.arguments, strict=True):
        domain = formula.domain[argument]
        assert ((column >= domain.low) & (column <= domain.high)).all()
        assert len(np.unique(column)) > POINTS / 2
    np.testing.assert_array_equal(numbers, points(formula))


def test_a_bound_leaves_out_what_is_lost_and_keeps_the_most():
    x, y = np.arange(10.0), np.array([0.0, 5, 1, 4, 2, 3, 6, 7, 9, 8])
    at = np.stack([x, y], axis=1)
    argument, side, value, kept = best_bound(["x", "y"], at, x >= 7)
    assert (argument, side, value) == ("x", "below", 7)
    np.testing.assert_array_equal(kept, x < 7)
    assert best_bound(["x", "y"], at, y <= 1)[:3] == ("y", "above", 1)
    assert best_bound(["x"], at[:, :1], (x == 1) | (x == 8)) is None, "what is left is no domain"


def test_a_row_says_what_was_found():
    numbers, exact = np.arange(1.0, 9)[:, None], list(np.arange(1.0, 9))
    good = compared(["x"], numbers, exact, [value * (1 + 1e-6) for value in exact])
    assert good == {"points": 8, "error": 1e-6, "lost": 0}
    single = [*exact[:5], 6.1, None, np.nan]
    bad = compared(["x"], numbers, [None, *exact[1:]], single)
    where = {"argument": "x", "side": "below", "value": 6, "error_there": 0}
    assert bad == {"points": 7, "error": None, "lost": 3, "refused": 1, **where}
    assert compared(["x"], numbers, [None] * 8, single) == {"points": 0}


def test_what_float32_cannot_hold_is_told_from_what_it_loses():
    assert relative(1e-50, 0.0) == 0, "below the least number of float32"
    assert relative(1e-30, 0.0) == 1
    assert relative(0.0, 1e-3) == np.inf
    assert relative(1e60, np.inf) == np.inf
    assert np.isnan(relative(1.0, np.nan))


def test_the_reference_says_it_of_the_worst_formula():
    good, worse = {"points": 64, "error": 1e-7, "lost": 0}, {"points": 64, "error": 4e-4, "lost": 0}
    bad = {"points": 64, "error": None, "lost": 3, "argument": "t", "side": "below", "value": 12.0, "error_there": 2e-5}
    assert note([good, worse]) == "float32: relative error at most 4e-04 on its domain"
    assert note([good, bad]) == (
        f"float32: relative error at most 2e-05 where t < 12; loses {TRUSTED:g} at 3 of 64 points of its domain"
    )
    scattered = {"points": 64, "error": 0.5, "lost": 40, "refused": 2}
    assert note([bad, scattered]).endswith("40 of 64 points of its domain, 2 of them by a refusal; use float64")
    assert note([{"points": 0, "why": "a reason"}]) == "float32: not measured (a reason)"
