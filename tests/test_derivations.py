"""Each formula is proved, and its theory function is the same function to 1e-10 at 40-digit arguments."""

import importlib

import jax
import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from derivations.formula import Formula, Interval, discover, prove, reference

FORMULAS = dict(discover())
TOLERANCE = 1e-10


def value_of(formula: Formula, *numbers):
    """What the theory function says at `numbers`."""
    module, name = formula.backs.rsplit(".", 1)
    function = getattr(importlib.import_module(module), name)
    arguments = formula.call(*numbers) if formula.call else numbers
    result = function(*arguments, **formula.keywords)
    return formula.read(result) if formula.read else result


def drawn(interval: Interval):
    """Numbers of an interval; the ends are included."""
    if not interval.log:
        return st.floats(interval.low, interval.high, allow_subnormal=False)
    low, high = np.log(interval.low), np.log(interval.high)
    return st.floats(low, high).map(lambda e: float(np.clip(np.exp(e), interval.low, interval.high)))


@pytest.mark.parametrize("name", FORMULAS)
def test_proofs_simplify_to_zero(name):
    prove(FORMULAS[name])


@pytest.mark.parametrize("name", FORMULAS)
def test_theory_function_is_the_textbook_form(name):
    formula = FORMULAS[name]
    domains = [drawn(formula.domain[a]) for a in formula.arguments]

    @given(st.tuples(*domains))
    def agree(numbers):
        found = value_of(formula, *numbers)
        assert np.ndim(found) == 0, f"{name} compares scalars; give the formula a `read`"
        found = float(found)
        expected = reference(formula, *numbers, near=found)
        with mpmath.workdps(40):
            error = abs(mpmath.mpf(found) - expected) / max(abs(expected), mpmath.mpf("1e-290"))
        assert error < TOLERANCE, f"{numbers}: {found} against {mpmath.nstr(expected, 17)}"

    agree()


def test_float64_is_on():
    assert jax.numpy.zeros(()).dtype == np.float64
