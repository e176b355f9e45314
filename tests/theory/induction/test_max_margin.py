"""Weights of largest margin: certificates, an independent solver, closed forms, symmetries, tokens that cannot be."""

import numpy as np
import pytest
import scipy.optimize
from hypothesis import given
from hypothesis import strategies as st

from theory.induction.max_margin import margin_features, max_margin, other_tokens, symmetric_pair_norms

SHAPE = (3, 4, 6)
seeds = st.integers(0, 10_000)
norms = st.sampled_from(["frobenius", "nuclear"])
# Of a duality gap epsilon, weights are known to sqrt(2 epsilon).
CLOSE = {"frobenius": 1e-5, "nuclear": 2e-3}


def drawn(seed):
    rng = np.random.default_rng(seed)
    n, size, d = SHAPE
    return rng.normal(size=SHAPE), rng.normal(size=(n, d + 1)), rng.integers(0, size, n)


@given(seeds, norms)
def test_weights_and_multipliers_certify_each_other(seed, norm):
    x, z, alpha = drawn(seed)
    found = max_margin(x, z, alpha, norm)
    w, lam = np.asarray(found.weights), np.asarray(found.multipliers)
    margins = np.stack([(x[i, a] - x[i]) @ w @ z[i] for i, a in enumerate(alpha)])
    np.testing.assert_allclose(found.margins, margins, atol=1e-9)
    others = np.arange(SHAPE[1]) != alpha[:, None]
    assert margins[others].min() >= 1 - 1e-9
    assert (lam >= 0).all() and (lam[~others] == 0).all()
    total = sum(lam[i, t] * np.outer(x[i, alpha[i]] - x[i, t], z[i]) for i in range(3) for t in range(4))
    singular = np.linalg.svd(w, compute_uv=False)
    size = np.sqrt(np.sum(singular**2)) if norm == "frobenius" else singular.sum()
    np.testing.assert_allclose(found.norm, size, rtol=1e-9)
    # Any feasible W has <total, W> >= sum lambda, and at most dual norm times norm.
    dual = np.linalg.norm(total, None if norm == "frobenius" else 2)
    assert lam.sum() / dual >= size * (1 - found.gap) * (1 - 1e-9)
    if norm == "frobenius":
        np.testing.assert_allclose(total, w, atol=1e-6 * size)
        np.testing.assert_allclose(lam.sum(), size**2, rtol=1e-6)
    else:
        np.testing.assert_allclose(lam.sum(), size, rtol=1e-5)
        np.testing.assert_allclose(dual, 1, rtol=1e-9)


@given(seeds)
def test_frobenius_against_non_negative_least_squares(seed):
    x, z, alpha = drawn(seed)
    left, right = (np.asarray(side) for side in margin_features(x, z, alpha))
    phi = np.einsum("cd,ce->cde", left, right).reshape(len(left), -1)
    # min |phi^T p| with sum p = 1, p >= 0, by a heavy row: the margin over the unit ball.
    heavy = 1e4
    p, _ = scipy.optimize.nnls(np.vstack([phi.T, np.full(len(phi), heavy)]), np.append(np.zeros(phi.shape[1]), heavy))
    reached = np.linalg.norm(phi.T @ p / p.sum())
    found = max_margin(x, z, alpha)
    np.testing.assert_allclose(found.norm, 1 / reached, rtol=1e-6)
    np.testing.assert_allclose(other_tokens(found.multipliers, alpha) / found.norm**2, p / p.sum(), atol=1e-5)


@given(seeds)
def test_norms_bound_each_other(seed):
    x, z, alpha = drawn(seed)
    fro, nuc = (max_margin(x, z, alpha, norm) for norm in ("frobenius", "nuclear"))
    of_fro = np.linalg.svd(fro.weights, compute_uv=False).sum()
    assert fro.norm <= np.linalg.norm(nuc.weights) * (1 + 1e-6)
    assert fro.norm <= nuc.norm * (1 + 1e-6) and nuc.norm <= of_fro * (1 + 1e-6)


@given(seeds, norms)
def test_equivariance(seed, norm):
    x, z, alpha = drawn(seed)
    found = max_margin(x, z, alpha, norm)
    rng = np.random.default_rng(seed + 1)
    turn, spin = (np.linalg.qr(rng.normal(size=(d, d)))[0] for d in (6, 7))
    order = rng.permutation(4)
    # Tokens three times as long, turned, and in another order, with a part that they all share.
    moved = 3 * x[:, order] @ turn.T + rng.normal(size=(3, 1, 6))
    again = max_margin(moved, z @ spin.T, np.argsort(order)[alpha], norm)
    np.testing.assert_allclose(3 * again.norm, found.norm, rtol=3e-6)
    expected = turn @ np.asarray(found.weights) @ spin.T / 3
    np.testing.assert_allclose(again.weights, expected, atol=CLOSE[norm] * float(again.norm))


@pytest.mark.parametrize("norm", ["frobenius", "nuclear"])
def test_closed_forms(norm):
    rng = np.random.default_rng(0)
    x, z = rng.normal(size=(1, 2, 6)), rng.normal(size=(1, 7))
    delta = x[0, 1] - x[0, 0]
    expected = np.outer(delta, z[0]) / (delta @ delta * (z[0] @ z[0]))
    np.testing.assert_allclose(max_margin(x, z, np.array([1]), norm).weights, expected, rtol=1e-7)
    # Orthogonal differences and queries: a sum over tokens.
    x = np.zeros((3, 3, 6))
    lengths = rng.uniform(0.5, 2, size=6)
    x[np.repeat(np.arange(3), 2), np.tile([1, 2], 3), np.arange(6)] = -lengths
    z = np.eye(7)[:3] * np.array([[1.0], [2.0], [0.5]])
    expected = sum(np.outer(-x[i, t] / (x[i, t] @ x[i, t]), z[i] / (z[i] @ z[i])) for i in range(3) for t in (1, 2))
    np.testing.assert_allclose(max_margin(x, z, np.zeros(3, int), norm).weights, expected, atol=CLOSE[norm])


def test_a_symmetric_pair():
    for a, b in ((0.3, 0.5), (-0.3, 0.8), (0.2, -0.6), (-0.9, 0.95), (0.0, 0.0), (1.0, 0.4)):
        directions = [np.array([[1, 0.0], [c, np.sqrt(1 - c**2)]]) for c in (a, b)]
        x = np.stack([directions[0], 0 * directions[0]], axis=1)
        for norm, expected in zip(("frobenius", "nuclear"), symmetric_pair_norms(a, b), strict=True):
            found = max_margin(x, directions[1], np.zeros(2, int), norm)
            np.testing.assert_allclose(found.norm, expected, rtol=1e-6)
    w = np.asarray(max_margin(x, directions[1], np.zeros(2, int), "nuclear").weights)
    assert np.linalg.svd(w, compute_uv=False)[1] < 1e-6


def test_tokens_that_cannot_be_separated():
    # The selected token lies between the others.
    x = np.array([[[0.0, 0.0], [1.0, 1.0], [-1.0, -1.0]]])
    for norm in ("frobenius", "nuclear"):
        with pytest.raises(ValueError, match="tokens must be separable, to a duality gap of at most"):
            max_margin(x, np.ones((1, 2)), np.zeros(1, int), norm)
        assert not max_margin(x, np.ones((1, 2)), np.zeros(1, int), norm, throw=False).gap < 1e-3


X, Z, ALPHA = np.ones((2, 3, 4)) * np.arange(3)[:, None], np.ones((2, 5)), np.zeros(2, int)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: max_margin(X[:, :1], Z, ALPHA), "tokens must be of shape .* with two tokens or more"),
        (lambda: max_margin(X, Z[:1], ALPHA), "queries must hold a row for each of 2"),
        (lambda: max_margin(X, Z, np.array([0, 3])), "selected must lie between 0 and 2, got 3"),
        (lambda: max_margin(X, Z, np.zeros(3, int)), "selected must hold one place for each of 2"),
        (lambda: max_margin(X, Z, ALPHA, "spectral"), "norm must be 'frobenius' or 'nuclear', got 'spectral'"),
        (lambda: max_margin(X * np.nan, Z, ALPHA), "tokens must be finite"),
        (lambda: max_margin(0 * X, Z, ALPHA), "tokens must differ"),
        (lambda: symmetric_pair_norms(1.2, 0.0), "tokens_cosine must lie between -1 and 1, got 1.2"),
        (lambda: symmetric_pair_norms(1.0, -1.0), "must be above -1"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call()
