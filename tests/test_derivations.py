"""Each formula is proved; its theory function is the same to 1e-10 at 40 digits, and refuses what it cannot answer."""

import jax
import numpy as np
import pytest

from derivations.formula import discover
from validation.formulas import agree, middle, prove, value_of, withstand

FORMULAS = dict(discover())
# One formula for each function that is given what no argument may be.
FIRST = {formula.backs: name for name, formula in reversed(FORMULAS.items())}
# Parts of solvers, whose callers have checked what they pass on.
INNER = ("theory.deep_linear.riccati.", "theory.kernels.pairs.")


@pytest.mark.parametrize("name", FORMULAS)
def test_proofs_simplify_to_zero(name):
    prove(FORMULAS[name])


@pytest.mark.parametrize("name", FORMULAS)
def test_theory_function_is_the_textbook_form(name, compiled_again):
    agree(FORMULAS[name], name)
    # In the same process as above, where the function is compiled.
    if not FORMULAS[name].backs.startswith(INNER) and name == FIRST[FORMULAS[name].backs]:
        withstand(FORMULAS[name], name)
    again = compiled_again(lambda: value_of(FORMULAS[name], *middle(FORMULAS[name])))
    assert not again, f"{FORMULAS[name].backs} is compiled again by a second call"


def test_a_second_compilation_is_noticed(compiled_again):
    assert compiled_again(lambda: jax.lax.fori_loop(0, 3, lambda _, x: x + 1, 0.0))
    assert not compiled_again(lambda: jax.numpy.sin(1.0))


def test_float64_is_on():
    assert jax.numpy.zeros(()).dtype == np.float64
