"""Sign descent and Muon: polar factors by SVD, steps on explicit matrices, symmetries, random bases, saturation."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from theory.induction.associative_memory import power_law
from theory.induction.spectral_descent import (
    TwoLevel,
    logit_recall,
    lone_rare_logit,
    newton_schulz,
    polar_factor,
    rotated_sign_margin,
    sign_margin,
    two_level_muon,
    two_level_polar,
    two_level_recall,
)


def svd_polar(gradient):
    """Polar factor among vectors of sum zero."""
    u, _, v = np.linalg.svd(gradient)
    return u[:, :-1] @ v[:-1]


def centred(p):
    return np.diag(p) - np.tile(p, (len(p), 1)) / len(p)


def levels(ratio, frequent, rare):
    p = np.array([1.0] * frequent + [ratio] * rare)
    return p / p.sum()


def as_matrix(blocks, frequent, rare, at=()):
    """The six numbers as a matrix of logits."""
    a, a_other, a_cross, b, b_other, b_cross = (np.asarray(part)[at] for part in blocks)
    right = np.where(np.eye(frequent), a, a_other), np.where(np.eye(rare), b, b_other)
    return np.block([[right[0], np.full((frequent, rare), b_cross)], [np.full((rare, frequent), a_cross), right[1]]])


@given(st.lists(st.floats(-4, 0), min_size=6, max_size=6))
def test_polar_factor(exponents):
    p = 10.0 ** np.array(exponents)
    p /= p.sum()
    q, c = np.asarray(polar_factor(p)), np.eye(6) - 1 / 6
    np.testing.assert_allclose(q @ q.T, c, atol=1e-12)
    product = q.T @ centred(p)
    np.testing.assert_allclose(product, product.T, atol=1e-12)
    assert np.linalg.eigvalsh(product).min() > -1e-12
    # The null vector, permutations of keys, and what each wrong value loses.
    np.testing.assert_allclose(q @ (1 / p) * p.min(), 0, atol=1e-11)
    order = np.arange(6)[::-1]
    np.testing.assert_allclose(polar_factor(p[order]), q[np.ix_(order, order)], atol=1e-12)
    assert (np.diag(q) > 0).all() and (q - np.diag(np.diag(q)) <= 0).all()


def test_polar_factor_of_equal_and_of_spread_frequencies():
    np.testing.assert_allclose(polar_factor(np.full(6, 1 / 6)), np.eye(6) - 1 / 6, atol=1e-13)
    p = np.asarray(power_law(2.0, 60))
    np.testing.assert_allclose(polar_factor(p), svd_polar(centred(p)), atol=1e-9)
    # Of a power law even the last key is stored; of a lone rare one nothing is.
    assert polar_factor(p)[-1, -1] > 0.9
    lone = np.array([1.0] * 5 + [1e-12])
    found = polar_factor(lone / lone.sum())[-1, -1]
    np.testing.assert_allclose(found, lone_rare_logit(1e-12, 6.0), rtol=1e-3, atol=1e-14)
    assert np.isfinite(polar_factor(lone / lone.sum())).all()


@pytest.mark.parametrize(("ratio", "frequent", "rare"), [(0.01, 2, 4), (0.3, 5, 1), (7.0, 1, 5), (1.0, 3, 3)])
def test_two_levels(ratio, frequent, rare):
    found = as_matrix(two_level_polar(ratio, frequent, rare), frequent, rare)
    np.testing.assert_allclose(found, polar_factor(levels(ratio, frequent, rare)), atol=1e-12)
    if rare == 1:
        np.testing.assert_allclose(found[-1, -1], lone_rare_logit(ratio, frequent + 1), rtol=1e-12)
    one = two_level_muon(1, 0.7, ratio, frequent, rare)
    np.testing.assert_allclose(as_matrix(one, frequent, rare, -1), 0.7 * found, atol=1e-12)


def gradient(logits, p):
    """Minus the gradient of the loss in the logits: values in rows, keys in columns."""
    odds = np.exp(logits - logits.max(axis=0))
    return (np.eye(len(p)) - odds / odds.sum(axis=0)) * p


def steps_of(update, p, steps, lr):
    z = np.zeros((len(p), len(p)))
    for _ in range(steps):
        z = z + lr * update(gradient(z, p))
    return z


@pytest.mark.parametrize(("ratio", "frequent", "rare"), [(0.01, 2, 4), (0.05, 5, 1), (3.0, 1, 5)])
def test_many_exact_steps(ratio, frequent, rare):
    p = levels(ratio, frequent, rare)
    found = two_level_muon(12, 0.5, ratio, frequent, rare)
    z = steps_of(svd_polar, p, 12, 0.5)
    np.testing.assert_allclose(as_matrix(found, frequent, rare, -1), z, atol=1e-9)
    # Values of a key sum to zero, at every step.
    np.testing.assert_allclose(
        found.frequent + (frequent - 1) * found.frequent_other + rare * found.frequent_cross, 0, atol=1e-12
    )
    each, both = logit_recall(z), two_level_recall(found, frequent, rare)
    for name in each._fields:
        parts = [getattr(level, name)[-1] for level in both]
        np.testing.assert_allclose(getattr(each, name), [parts[0]] * frequent + [parts[1]] * rare, rtol=1e-6)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_muon_of_optax(momentum):
    ratio, frequent, rare = 0.02, 2, 4
    p, key = levels(ratio, frequent, rare), np.linalg.qr(np.random.default_rng(0).normal(size=(6, 6)))[0]
    optimiser = optax.contrib.muon(0.3, beta=momentum, eps=1e-30)

    @jax.jit
    def step(w, state):
        slope = jax.grad(lambda w: -jnp.sum(p * jnp.diagonal(jax.nn.log_softmax(w @ key, axis=0))))(w)
        updates, state = optimiser.update(slope, state, w)
        return w + updates, state

    w = jnp.zeros((6, 6))
    state = optimiser.init(w)
    for _ in range(8):
        w, state = step(w, state)
    found = two_level_muon(8, 0.3, ratio, frequent, rare, momentum=momentum, iterations=5)
    np.testing.assert_allclose(as_matrix(found, frequent, rare, -1), w @ key, atol=1e-8)


def test_muon_heals_what_its_first_step_neglects():
    found = two_level_muon(60, 0.5, 1e-3, 49, 1)
    own = np.asarray(found.rare)
    assert own[1] < 0.01 * found.frequent[1]
    recall = two_level_recall(found, 49, 1)
    assert recall[1].probability[5] < 0.05 < 0.9 < recall[1].probability[-1]
    # Own logit and another of the same kind part by one unit a step, for ever.
    np.testing.assert_allclose(found.frequent - found.frequent_other, 0.5 * np.arange(61), rtol=1e-12, atol=1e-12)


def test_saturation():
    for momentum, iterations in ((0.0, None), (0.9, 5)):
        found = two_level_muon(60, 30.0, 1e-2, 4, 6, momentum=momentum, iterations=iterations)
        recalled = two_level_recall(found, 4, 6)
        assert np.isfinite(np.array([*found, *recalled[0], *recalled[1]])).all()
    sure = two_level_recall(TwoLevel(50.0, -1.0, -1.0, 50.0, -1.0, -1.0), 4, 6)
    np.testing.assert_allclose([sure[0].missing, sure[1].loss], 9 * np.exp(-51), rtol=1e-12)
    np.testing.assert_allclose(logit_recall(np.diag([60.0, 60.0, 0.0])).missing[:2], 2 * np.exp(-60), rtol=1e-12)


def test_newton_schulz():
    x = np.geomspace(1e-6, 1, 400)
    found = newton_schulz(x)
    np.testing.assert_allclose(found[0] / x[0], 3.4445**5, rtol=1e-6)
    large = found[x > 1 / 500]
    assert 0.6 < large.min() < 0.75 and 1.1 < large.max() < 1.25
    np.testing.assert_allclose(newton_schulz(-x), -found)
    np.testing.assert_allclose(newton_schulz(x, 0), x)
    matrix = np.random.default_rng(0).normal(size=(5, 5))
    matrix /= np.linalg.norm(matrix)
    u, s, v = np.linalg.svd(matrix)
    a, b, c = 3.4445, -4.7750, 2.0315
    square = matrix @ matrix.T
    once = a * matrix + b * square @ matrix + c * square @ square @ matrix
    np.testing.assert_allclose(u @ np.diag(newton_schulz(s, 1)) @ v, once, atol=1e-12)


def test_sign_descent_in_two_bases():
    rng, k, runs = np.random.default_rng(0), 40, 60
    p = levels(0.02, 4, k - 4)
    found = steps_of(np.sign, p, 3, 0.2)
    np.testing.assert_allclose(found, sign_margin(3, 0.2) * (np.eye(k) - 0.5), atol=1e-12)
    margins = []
    for _ in range(runs):
        u, e = (np.linalg.qr(rng.normal(size=(k, k)))[0] for _ in range(2))
        z = u.T @ np.sign(u @ centred(p) @ e.T) @ e
        own = np.diag(z)
        own = (own * k - z.sum(axis=0)) / (k - 1)
        margins.append([own[:4].mean(), own[4:].mean()])
    expected = np.asarray(rotated_sign_margin(p))[[0, -1]]
    spread = np.std(margins, axis=0, ddof=1) / np.sqrt(runs)
    # Orthogonal matrices are Gaussian up to 1 / K in the second order.
    assert (np.abs(np.mean(margins, axis=0) - expected) < 5 * np.hypot(spread, expected / k)).all()


def test_sign_margins_in_a_random_basis():
    # Equal frequencies: E|g| / K over unit vectors of K Gaussians, by the chi distribution; then many, and one alone.
    k = 8
    chi = np.sqrt(2) * np.exp(float(jax.scipy.special.gammaln((k + 1) / 2) - jax.scipy.special.gammaln(k / 2)))
    even = rotated_sign_margin(np.full(k, 1 / k), 0.3)
    np.testing.assert_allclose(even, 0.3 * k**2 / (k - 1) * np.sqrt(2 / np.pi) * chi / k, rtol=1e-10)
    p = np.asarray(power_law(0.3, 2000))
    found = rotated_sign_margin(p)
    np.testing.assert_allclose(found, 2000 * np.sqrt(2 / np.pi) * p / np.linalg.norm(p), rtol=0.03)
    alone = levels(1e-9, 1, 7)
    np.testing.assert_allclose(rotated_sign_margin(alone)[0], k**2 / (k - 1) * 2 / np.pi, rtol=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: polar_factor(np.array([0.5, 0.4])), "frequencies must sum to one"),
        (lambda: rotated_sign_margin(np.array([1.5, -0.5])), "frequencies must be positive"),
        (lambda: rotated_sign_margin(np.array([0.5, 0.5]), 0.0), "lr must be positive"),
        (lambda: two_level_polar(0.0, 2.0, 3.0), "ratio must be positive"),
        (lambda: two_level_polar(0.1, 0.5, 3.0), "frequent must be at least 1, got 0.5"),
        (lambda: two_level_polar(0.1, 2.0, 0.0), "rare must be at least 1"),
        (lambda: two_level_muon(3, 0.1, 0.1, 2.0, 3.0, momentum=1.0), "momentum must be below 1"),
        (lambda: two_level_muon(-1, 0.1, 0.1, 2.0, 3.0), "steps must be a whole number of at least 0"),
        (lambda: two_level_recall((0.0,) * 5 + (np.nan,), 2, 3), "rare_cross must be finite"),
        (lambda: newton_schulz(1.5), "singular_values must lie between"),
        (lambda: lone_rare_logit(0.1, 1.0), "classes must be above 1"),
        (lambda: logit_recall(np.ones((2, 3))), "logits must be a square matrix"),
        (lambda: sign_margin(-1, 0.1), "steps must be non-negative"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call()
