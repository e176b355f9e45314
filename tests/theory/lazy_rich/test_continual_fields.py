"""Field-space training: minima by explicit search, overlaps against trained fields, limits, what it falls short of."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.special import log_ndtr, ndtr

from theory.lazy_rich.continual_binary import overlap, second_task_overlaps
from theory.lazy_rich.continual_fields import settled_field, settled_margin, trained_overlaps
from theory.lazy_rich.continual_perceptron import posterior_mean_error


@given(st.floats(-4, 4), st.floats(0.01, 1), st.floats(0.05, 1))
def test_margins_are_minima(margin, push, variance):
    cost = lambda s: -float(log_ndtr(s / np.sqrt(variance))) + (s - margin) ** 2 / (2 * push)  # noqa: E731
    found = settled_margin(margin, push, variance)
    assert found > margin - 1e-12
    # A search by values knows the minimum to the square root of rounding.
    best = minimize_scalar(cost, bracket=(margin, margin + 1)).x
    np.testing.assert_allclose(found, best, atol=1e-5)


@given(st.floats(-5, 5), st.floats(-0.8, 4))
def test_fields_pull_back_on_themselves(drive, pull):
    theta = settled_field(drive, pull)
    np.testing.assert_allclose(theta + pull * np.tanh(theta), drive, atol=1e-12)
    assert theta * drive >= 0


def iterated(alpha):
    """(R, q, stability) of one task, by averages over a grid, bisection and Stein's lemma in place of slopes."""
    z = np.arange(-9, 9.01, 0.05)
    weights = np.exp(-(z**2) / 2) / np.exp(-(z**2) / 2).sum()

    def root(rising, low, high):
        low, high = np.full_like(z, low), np.full_like(z, high)
        for _ in range(55):
            middle = (low + high) / 2
            above = rising(middle) > 0
            low, high = np.where(above, low, middle), np.where(above, middle, high)
        return (low + high) / 2

    R, q, push = 0.1, 0.05, 0.9
    for _ in range(60):
        scale = np.sqrt(1 - q)
        kappa = lambda u: np.exp(-(u**2) / 2 - log_ndtr(u)) / np.sqrt(2 * np.pi)  # noqa: E731
        s = root(lambda s: s - np.sqrt(q) * z - push * kappa(s / scale) / scale, -12.0, 12.0)  # noqa: B023
        g, a = (s - np.sqrt(q) * z) / push, R * z / np.sqrt(q - R**2)
        shares = 2 * alpha * ndtr(a) * weights
        noise = np.sum(shares * g**2)
        signal = 2 * alpha * np.sum(weights * np.exp(-(a**2) / 2) * g) / np.sqrt(2 * np.pi * (1 - R**2 / q))
        response = np.gradient(g, z) / np.sqrt(q)
        pull = -np.sum(shares * (response + g * s / (1 - q)))
        m = np.tanh(root(lambda h: h + pull * np.tanh(h) - signal - np.sqrt(noise) * z, -30.0, 30.0))  # noqa: B023
        R, q, push = np.sum(weights * m), np.sum(weights * m**2), np.sum(weights * z * m) / np.sqrt(noise)
    moved = np.gradient(m, z) / np.sqrt(noise)
    return R, q, np.sum(shares * response**2) * np.sum(weights * moved**2)


@pytest.mark.parametrize("alpha", [0.4, 1.3])
def test_overlaps_solve_their_law(alpha):
    """To the differences of a grid, 0.05^2 / 6 of a third derivative."""
    found = trained_overlaps(0.0, alpha, 0.0)
    np.testing.assert_allclose((found.first, found.own, found.stability), iterated(alpha), rtol=2e-3)


@jax.jit
def trained(key, correlation, gate):
    """Two tasks of N = 300: natural gradients of the free energy, spelled out here once more."""
    n, samples = 300, 180
    keys = jax.random.split(key, 4)
    first = jax.random.rademacher(keys[0], (n,), float)
    second = jnp.where(jax.random.uniform(keys[1], (n,)) < (1 + correlation) / 2, first, -first)

    def energy(field, prior, x):
        m = jnp.tanh(field)
        margins = x @ m / jnp.sqrt(1 - jnp.mean(m**2))
        entropy = jnp.logaddexp(field, -field) - field * m
        return -jnp.sum(jax.scipy.special.log_ndtr(margins)) - jnp.sum(entropy) - jnp.sum(prior * m)

    def task(key, w, prior):
        x = jax.random.normal(key, (samples, n)) / n**0.5
        x = x * jnp.sign(x @ w)[:, None]
        step = lambda h, _: (h - 0.5 * jax.grad(energy)(h, prior, x) * jnp.cosh(h) ** 2, None)  # noqa: E731
        return jax.lax.scan(step, prior, None, length=60)[0]

    old = task(keys[2], first, jnp.zeros(n))
    new = jnp.tanh(task(keys[3], second, jnp.arctanh(gate * jnp.tanh(old))))
    old = jnp.tanh(old)
    return jnp.stack([old @ first, old @ old, new @ first, new @ second, new @ new]) / n


@pytest.mark.parametrize(("correlation", "gate"), [(0.5, 1.0), (-0.6, -0.6)])
def test_trained_fields_have_the_predicted_overlaps(correlation, gate):
    found = np.array([trained(jax.random.key(seed), correlation, gate) for seed in range(12)])
    alone, both = trained_overlaps(correlation, 0.6, 0.0), trained_overlaps(correlation, 0.6, 0.6, gate)
    expected = np.array([alone.first, alone.own, *both[:3]])
    error = np.hypot(found.std(axis=0, ddof=1) / np.sqrt(12), 1 / 300)
    assert (np.abs(found.mean(axis=0) - expected) < 5 * error).all()
    assert both.stability < 1
    assert both.residual < 1e-10


def test_it_is_neither_as_certain_nor_as_right_as_message_passing():
    for alpha in (0.3, 0.8, 1.2):
        found, best = trained_overlaps(0.0, alpha, 0.0), overlap(alpha)
        assert found.own < 0.6 * best
        # Less certain than it is right.
        assert found.own < found.first
        assert posterior_mean_error(found.own, found.first) > posterior_mean_error(best)


def test_few_samples_need_no_correction():
    """To first order in alpha a sample's mark on the weights does not matter: both have R = q = 2 alpha / pi."""
    alpha = 1e-3
    found = trained_overlaps(0.0, alpha, 0.0)
    np.testing.assert_allclose(overlap(alpha) / alpha, 2 / np.pi, rtol=1e-2)
    assert found.own < found.first < 2 * alpha / np.pi


def test_limits_and_symmetries():
    alone = trained_overlaps(0.4, 0.7, 0.0)
    fresh = trained_overlaps(0.4, 0.0, 0.7)
    np.testing.assert_allclose(alone[:3], (alone.first, 0.4 * alone.first, alone.own), atol=1e-10)
    np.testing.assert_allclose(fresh[:3], (0.4 * alone.first, alone.first, alone.own), atol=1e-10)
    closed = trained_overlaps(0.4, 0.5, 0.7, 0.0)
    np.testing.assert_allclose(closed[:3], fresh[:3], atol=1e-10)
    # A teacher that is turned round, and a gate that knows it.
    same, turned = trained_overlaps(0.6, 0.5, 0.7, 0.6), trained_overlaps(-0.6, 0.5, 0.7, -0.6)
    np.testing.assert_allclose(
        [turned.first, turned.second, turned.own], [-same.first, same.second, same.own], atol=1e-10
    )
    np.testing.assert_allclose(trained_overlaps(0.3, 0.0, 0.0)[:3], 0, atol=1e-10)
    assert second_task_overlaps(0.4, 0.5, 0.7).own > trained_overlaps(0.4, 0.5, 0.7).own


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: settled_margin(0.1, -0.1, 0.5), "push must be non-negative"),
        (lambda: settled_margin(0.1, 0.1, 0.0), "variance must be positive"),
        (lambda: settled_field(0.1, -1.0), "pull must be above -1"),
        (lambda: settled_field(np.nan, 0.2), "drive must be finite"),
        (lambda: trained_overlaps(1.5, 0.2, 0.2), "correlation must lie between -1 and 1, got 1.5"),
        (lambda: trained_overlaps(0.5, 2.0, 0.2), "first must lie between 0 and 1.4"),
        (lambda: trained_overlaps(0.5, 0.2, 0.2, 2.0), "gate must lie between"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call()
