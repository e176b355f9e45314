"""Integrated flows against closed forms, and the error of gradient descent against gradient descent."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from theory.flow import descent_error, flow


def logistic(x):
    """Two fields at once: a logistic rise and a decay."""
    return {"rise": x["rise"] * (1 - x["rise"]), "fall": -3 * x["fall"]}


START = {"rise": jnp.array(0.01), "fall": jnp.ones(2)}


def test_flow_of_a_pytree_is_the_closed_form():
    t = jnp.linspace(0, 10, 7)
    found = flow(logistic, t, START)
    # Local errors of 1e-10, summed over a hundred steps.
    np.testing.assert_allclose(found["rise"], 1 / (1 + 99 * jnp.exp(-t)), rtol=1e-8)
    np.testing.assert_allclose(found["fall"], jnp.exp(-3 * t)[:, None] * jnp.ones(2), rtol=1e-6, atol=1e-10)
    assert float(found["rise"][0]) == 0.01


def test_a_stiff_flow_in_few_steps():
    """A fast decay onto a slow one, at rates of 1e6 and 1: an explicit integrator would need a million steps."""
    field = lambda x: jnp.stack([-1e6 * (x[0] - x[1]), -x[1]])  # noqa: E731
    found = flow(field, jnp.array([1.0, 3.0]), jnp.array([0.0, 1.0]), stiff=True, max_steps=2000)
    np.testing.assert_allclose(found[:, 1], np.exp([-1.0, -3.0]), rtol=1e-7)
    np.testing.assert_allclose(found[:, 0], found[:, 1], rtol=1e-5)


def test_descent_error_is_the_error_of_descent_up_to_its_square():
    """What is left after the leading error falls as the square of the step: by four per halving."""
    t = jnp.array([1.0, 4.0, 6.0])
    exact, leading = descent_error(logistic, t, START)
    left = []
    for lr in (1 / 64, 1 / 128, 1 / 256):
        x, at = START, []
        for k in range(int(6 / lr)):
            x = jax.tree.map(lambda x, f, lr=lr: x + lr * f, x, logistic(x)) if k else START
            at.append(x["rise"])
        at.append(jax.tree.map(lambda x, f, lr=lr: x + lr * f, x, logistic(x))["rise"])
        steps = np.round(np.asarray(t) / lr).astype(int)
        descended = np.asarray(at)[steps]
        left.append(np.abs(descended - exact["rise"] - lr * leading["rise"]).max())
    np.testing.assert_allclose(np.array(left[:-1]) / left[1:], 4, rtol=0.1)


@pytest.mark.parametrize(
    ("t", "sentence"),
    [
        (np.array([1.0, 0.5]), "t must increase"),
        (np.array([-1.0, 0.5]), "t must be non-negative and finite, got -1.0"),
        (np.array([]), "t must be a vector of times"),
        (np.array([0.0, np.nan]), "t must be non-negative and finite, got nan"),
    ],
)
def test_refusals_name_the_times(t, sentence):
    with pytest.raises(ValueError, match=sentence):
        flow(logistic, t, START)
