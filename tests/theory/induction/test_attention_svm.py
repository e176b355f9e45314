"""What attention weights do far out: the stable slope, the regularisation path by brute force, an explicit descent."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from theory.induction.attention_svm import (
    attention_slope,
    locally_optimal,
    loss_weights,
    margin_deficit,
    misalignment,
    path_offset,
    relaxation_rate,
    residual_attention,
)
from theory.induction.max_margin import max_margin

FIRST = np.zeros(1, int)
seeds = st.integers(0, 10_000)


def triangle(seed):
    """One sample of three tokens in the plane, both wrong ones support vectors, and token scores."""
    rng = np.random.default_rng(seed)
    p, q, c = rng.uniform(1, 1.5), rng.uniform(1, 1.5), rng.uniform(-0.8, 0.5)
    delta = np.array([[0, 0], [p, 0], [q * c, q * np.sqrt(1 - c**2)]])
    values = np.array([[1.0, *rng.uniform(-1, 0.9, size=2)]])
    return -delta[None], np.array([[1.0]]), values


@given(st.lists(st.floats(-30, 30), min_size=4, max_size=4), st.lists(st.floats(-2, 2), min_size=4, max_size=4))
def test_slope(scores, values):
    a, gamma = np.array(scores), np.array(values)
    expected = jax.grad(lambda a: jax.nn.softmax(a) @ gamma)(a)
    found = attention_slope(a, gamma)
    np.testing.assert_allclose(found, expected, atol=1e-14)
    np.testing.assert_allclose(np.sum(found), 0, atol=1e-14)


def test_slope_far_out():
    """At scores of 200 wrong tokens still pull with exp(-200), and each with its own strength."""
    found = np.asarray(attention_slope(np.array([200.0, 0.0, 0.0]), np.array([1.0, 0.0, 0.5])))
    np.testing.assert_allclose(found, np.exp(-200) * np.array([1.5, -1.0, -0.5]), rtol=1e-12)


@given(seeds)
def test_loss_weights_are_the_excess_loss(seed):
    rng = np.random.default_rng(seed)
    gamma, epsilon, alpha = rng.normal(size=(3, 4)), 1e-6, rng.integers(0, 4, 3)
    share = epsilon * rng.uniform(size=(3, 4))
    rows = np.arange(3)
    share[rows, alpha] = 0
    share[rows, alpha] = 1 - share.sum(axis=1)
    loss = lambda s: np.mean(np.log1p(np.exp(-np.sum(s * gamma, axis=1))))  # noqa: E731
    excess = loss(share) - loss(np.eye(4)[alpha])
    w = np.asarray(loss_weights(gamma, alpha))
    assert (w[rows, alpha] == 0).all()
    np.testing.assert_allclose(np.sum(w * share), excess, rtol=1e-4, atol=1e-11)


@pytest.mark.slow
@given(seeds)
def test_the_regularisation_path_by_brute_force(seed):
    """The best weights of a given norm, found on a fine grid of angles."""
    x, z, values = triangle(seed)
    found = max_margin(x, z, FIRST)
    kappa = 300.0
    size = kappa * float(found.norm)
    angles = np.linspace(-np.pi, np.pi, 400_001)
    w = size * np.stack([np.cos(angles), np.sin(angles)])
    margins = -x[0, 1:] @ w
    weights = np.asarray(loss_weights(values, FIRST))[0, 1:]
    best = np.argmin(np.logaddexp(*(np.log(weights)[:, None] - margins)))
    direction = np.asarray(found.weights)[:, 0] / float(found.norm)
    measured = 1 - w[:, best] @ direction / size
    expected = misalignment(size, found, path_offset(found, x, z, values, FIRST))
    # The step of the grid, and the next order: multipliers move by ln(w / lambda) / kappa, relative to the least one.
    moved = 10 * np.max(np.abs(np.log(weights / found.multipliers[0, 1:]))) / kappa
    np.testing.assert_allclose(np.sqrt(np.maximum(measured, 0)), np.sqrt(expected), atol=3e-5, rtol=moved)
    deficit = 1 - margins[:, best].min() * float(found.norm) / size
    assert deficit <= margin_deficit(size, found, values, FIRST) * (1 + 1e-6) + 1e-4


@jax.jit
def _descended(phi, w, steps):
    """Exponential flow, in the time in which the loss falls at a steady pace."""

    def step(_, at):
        pull = jax.nn.softmax(jnp.log(w) - phi @ at)
        return at + 0.01 * pull @ phi

    return jax.lax.fori_loop(0, steps, step, jnp.zeros(phi.shape[1]))


@given(seeds)
def test_an_explicit_descent(seed):
    x, z, values = triangle(seed)
    found = max_margin(x, z, FIRST)
    weights = np.asarray(loss_weights(values, FIRST))[0, 1:]
    rate = float(relaxation_rate(found, x, z, FIRST))
    at = np.asarray(_descended(-x[0, 1:], weights, 20_000))
    size = np.linalg.norm(at)
    direction = np.asarray(found.weights)[:, 0] / float(found.norm)
    left = np.exp(-rate * size / float(found.norm))
    # The offset beside the ray, up to what is left of the start.
    expected = size * np.sqrt(2 * float(misalignment(size, found, path_offset(found, x, z, values, FIRST))))
    measured = np.linalg.norm(at - direction * (direction @ at))
    np.testing.assert_allclose(measured, expected, atol=1e-3 + 5 * left)
    shares = np.exp(x[0, 1:] @ at - np.max(x[0, 1:] @ at))
    np.testing.assert_allclose(
        np.asarray(residual_attention(found, values, FIRST))[0, 1:], shares / shares.sum(), atol=1e-3 + 5 * left
    )


@given(seeds)
def test_offset_has_the_margins_that_it_should(seed):
    rng = np.random.default_rng(seed)
    x, z, alpha = rng.normal(size=(2, 3, 8)), rng.normal(size=(2, 8)), rng.integers(0, 3, 2)
    values = np.where(np.arange(3) == alpha[:, None], 2.0, rng.uniform(size=(2, 3)))
    found = max_margin(x, z, alpha)
    rho = np.asarray(path_offset(found, x, z, values, alpha))
    margins = np.stack([(x[i, a] - x[i]) @ rho @ z[i] for i, a in enumerate(alpha)])
    lam, w = np.asarray(found.multipliers), np.asarray(loss_weights(values, alpha))
    support = lam > 1e-6 * lam.sum() / 4
    np.testing.assert_allclose(margins[support], np.log(w[support] / lam[support]), atol=1e-5)
    shares = np.asarray(residual_attention(found, values, alpha))
    np.testing.assert_allclose(shares.sum(), 1, rtol=1e-12)
    pull = (shares * w)[support]
    np.testing.assert_allclose(pull / pull.sum(), lam[support] / lam[support].sum(), rtol=1e-6)
    assert 0 <= relaxation_rate(found, x, z, alpha) <= 1


def test_misalignment():
    x, z, values = triangle(0)
    found = max_margin(x, z, FIRST)
    rho = path_offset(found, x, z, values, FIRST)
    sizes = np.array([1e-3, 1e2, 1e5, 1e9])
    values = np.asarray(misalignment(sizes, found, rho))
    assert values[0] == 1
    np.testing.assert_allclose(values[2] / values[3], 1e8, rtol=1e-6)
    # An offset along the ray turns nothing.
    np.testing.assert_allclose(misalignment(10.0, found, 3 * found.weights), 0, atol=1e-15)


def test_local_solutions():
    # Tokens on a line, selected at one end: the nearest is next to it, the others are beyond.
    x, z = np.array([[[0.0], [-1.0], [-2.0]]]), np.ones((1, 1))
    found = max_margin(x, z, FIRST)
    np.testing.assert_allclose(found.margins, [[0, 1, 2]], atol=1e-9)
    for values, holds in (((1.0, 0.5, 0.0), True), ((1.0, 0.5, 2.0), True), ((1.0, 1.5, 0.0), False)):
        assert bool(locally_optimal(found, np.array([values]), FIRST)) == holds


X, Z, GAMMA = triangle(1)
FOUND = max_margin(X, Z, FIRST)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: loss_weights(np.ones((1, 1)), FIRST), "values must be a table"),
        (lambda: loss_weights(GAMMA, np.array([5])), "selected must lie between 0 and 2, got 5"),
        (lambda: residual_attention(FOUND, -GAMMA, FIRST), "values must be largest for the selected tokens"),
        (lambda: attention_slope(np.array([np.nan]), np.ones(1)), "scores must be finite"),
        (lambda: misalignment(0.0, FOUND, FOUND.weights), "size must be positive"),
        (lambda: margin_deficit(-1.0, FOUND, GAMMA, FIRST), "size must be positive"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call()
