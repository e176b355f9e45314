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

# Grows with every program that is compiled.
COMPILED = []
jax.monitoring.register_event_duration_secs_listener(
    lambda event, _, **__: COMPILED.append(event) if event == "/jax/core/compile/backend_compile_duration" else None
)


@pytest.mark.parametrize("name", FORMULAS)
def test_proofs_simplify_to_zero(name):
    prove(FORMULAS[name])


@pytest.mark.parametrize("name", FORMULAS)
def test_theory_function_is_the_textbook_form(name):
    agree(FORMULAS[name], name)
    # In the same process as above, where the function is compiled.
    if not FORMULAS[name].backs.startswith(INNER) and name == FIRST[FORMULAS[name].backs]:
        withstand(FORMULAS[name], name)
    # A loop whose body is a new closure is compiled at each call: a thousand times the price of the numbers.
    again = lambda: value_of(FORMULAS[name], *middle(FORMULAS[name]))  # noqa: E731
    assert not compiled_by_a_second_call(again), f"{FORMULAS[name].backs} is compiled again by a second call"


def compiled_by_a_second_call(function):
    function()
    COMPILED.clear()
    function()
    return len(COMPILED)


def test_a_second_compilation_is_noticed():
    assert compiled_by_a_second_call(lambda: jax.lax.fori_loop(0, 3, lambda _, x: x + 1, 0.0))
    assert not compiled_by_a_second_call(lambda: jax.numpy.sin(1.0))


def test_float64_is_on():
    assert jax.numpy.zeros(()).dtype == np.float64
