"""Spectrum of random inputs: sum rules, quadrature, duality, actual random matrices, gradients, refusals."""

from fractions import Fraction
from functools import partial
from math import comb

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad

from theory.deep_linear.marchenko_pastur import (
    average,
    bulk,
    bulk_edges,
    density,
    edge_angles,
    moment,
    resolvent,
    sample_spectrum,
)

ratios = st.floats(-1.5, 1.5).map(lambda e: 10.0**e)
# Away from 1 by as much as the inverse moments and a general-purpose quadrature need.
apart = ratios.filter(lambda a: abs(np.log(a)) > 0.05)
ridges = st.floats(-6, 3).map(lambda e: 10.0**e)
late = st.floats(-3, 15).map(lambda e: 10.0**e)

nodes = jax.jit(bulk, static_argnames=("inputs", "refine"))
resolved = jax.jit(resolvent)
resolvent_slope = jax.jit(jax.grad(resolvent, argnums=(0, 1)))


@partial(jax.jit, static_argnums=2)
def decayed(alpha, t, refine):
    """Mean of e^{-lam t} over the bulk."""
    spectrum = bulk(alpha, refine=refine)
    return spectrum.sum(jnp.exp(-spectrum.rates * t))


def by_density(f, alpha):
    """int density f with the square roots at both edges taken care of."""
    lower, upper = (1 - alpha**0.5) ** 2, (1 + alpha**0.5) ** 2
    return quad(lambda lam: f(lam) / (2 * np.pi * lam), lower, upper, weight="alg", wvar=(0.5, 0.5), epsabs=0,
                epsrel=1e-12, limit=200)[0]  # fmt: skip


@given(ratios)
def test_mass_of_bulk_and_atom(alpha):
    spectrum = nodes(alpha)
    np.testing.assert_allclose(spectrum.weights.sum(), min(1, alpha), rtol=1e-13)
    np.testing.assert_allclose(spectrum.weights.sum() + spectrum.frozen, 1, rtol=1e-13)
    # The other side of the same matrix: P directions, of which N are reached at most.
    np.testing.assert_allclose(spectrum.weights.sum() / alpha + spectrum.unfit, 1, rtol=1e-13)


@given(ratios, st.integers(1, 8))
def test_moments(alpha, k):
    """Against m_k = sum over non-crossing partitions of k of alpha^blocks, in exact fractions."""
    exact = sum(Fraction(comb(k, r) * comb(k, r - 1), k) * Fraction(alpha) ** r for r in range(1, k + 1))
    np.testing.assert_allclose(moment(alpha, k), float(exact), rtol=1e-14)
    spectrum = nodes(alpha)
    np.testing.assert_allclose(spectrum.sum(spectrum.rates**k), float(exact), rtol=1e-12)


def test_first_moments_by_hand():
    np.testing.assert_allclose([moment(0.3, 1), moment(0.3, 2), moment(0.3, 3)], [0.3, 0.39, 0.3 + 0.27 + 0.027])


@given(apart)
def test_inverse_moments(alpha):
    spectrum, gap = nodes(alpha), abs(alpha - 1)
    np.testing.assert_allclose(spectrum.sum(1 / spectrum.rates), min(1, alpha) / gap, rtol=1e-12)
    np.testing.assert_allclose(spectrum.sum(1 / spectrum.rates**2), alpha / gap**3, rtol=1e-12)


@given(apart, st.floats(0, 30))
def test_quadrature_is_the_integral_over_the_density(alpha, t):
    expected = by_density(lambda lam: np.exp(-lam * t) + lam, alpha)
    spectrum = nodes(alpha)
    np.testing.assert_allclose(spectrum.sum(jnp.exp(-spectrum.rates * t) + spectrum.rates), expected, rtol=1e-11)


@given(ratios, st.floats(1e-6, 1 - 1e-6))
def test_density_inside_and_outside(alpha, x):
    lower, upper = bulk_edges(alpha)
    lam = lower + x * (upper - lower)
    expected = np.sqrt((upper - lam) * (lam - lower)) / (2 * np.pi * lam)
    np.testing.assert_allclose(density(lam, alpha), expected, rtol=1e-8)  # 1 - x of 1e-6 costs half the digits
    assert density(np.array([-1.0, 0.0, upper, 2 * upper]), alpha).max() == 0


@given(st.floats(-1.5, 1.5).map(lambda e: 10.0**e), late)
def test_refining_changes_nothing(alpha, t):
    # Near alpha = 1 the average falls like t^{-1/2}; elsewhere, once it underflows, so do both.
    np.testing.assert_allclose(decayed(alpha, t, 1), decayed(alpha, t, 3), rtol=1e-12, atol=1e-300)


@pytest.mark.parametrize("t", [1e3, 1e9, 1e15])
def test_hard_edge_at_ratio_one(t):
    # rho = (1 - lam/8) / (pi sqrt lam): <e^{-lam t}> = (1 - 1/(16 t)) / sqrt(pi t), next order t^{-2}.
    np.testing.assert_allclose(decayed(1.0, t, 1) * np.sqrt(np.pi * t), 1 - 1 / (16 * t), rtol=1 / t**2 + 1e-13)


@given(ratios, ridges)
def test_resolvent_is_the_average_and_solves_its_law(alpha, g):
    m = float(resolved(g, alpha))
    # b = g + alpha - 1 is rounded to 1e-16, which counts against its distance from zero.
    slack = 1e-13 + 1e-15 / max(abs(g + alpha - 1), np.sqrt(g))
    np.testing.assert_allclose(average(lambda lam: 1 / (lam + g), alpha), m, rtol=slack)
    np.testing.assert_allclose(m * (g + alpha / (1 + m)), 1, rtol=10 * slack)


@given(apart, ridges)
def test_fewer_samples_than_dimensions_are_the_mirror_image(alpha, g):
    # X^T X and X X^T share their non-zero eigenvalues; alpha times those of ratio 1/alpha.
    mirrored = (1 - alpha) / g + float(resolved(g / alpha, 1 / alpha))
    np.testing.assert_allclose(resolved(g, alpha), mirrored, rtol=1e-12, atol=1e-13 * abs(1 - alpha) / g)
    lam = (1 - alpha**0.5) ** 2 + alpha**0.5
    np.testing.assert_allclose(density(lam, alpha), density(lam / alpha, 1 / alpha), rtol=1e-10)
    np.testing.assert_allclose(nodes(alpha).sum(nodes(alpha).rates), alpha * alpha * moment(1 / alpha, 1), rtol=1e-12)


def test_resolvent_at_its_ends():
    assert resolvent(0.0, 0.5) == np.inf
    assert resolvent(0.0, 1.0) == np.inf
    np.testing.assert_allclose(resolvent(0.0, 3.0), 0.5, rtol=1e-15)
    np.testing.assert_allclose(resolvent(1e12, 3.0) * 1e12, 1, rtol=4e-12)
    np.testing.assert_allclose(resolvent(1e-20, 1.0), 1e10, rtol=1e-9)
    np.testing.assert_allclose(resolvent(0.3, 1e-12), 1 / 0.3, rtol=1e-11)
    np.testing.assert_allclose(resolvent(0.3, 1e12), 1e-12, rtol=1e-11)


@pytest.mark.parametrize(("g", "alpha"), [(0.5, 0.3), (0.5, 1.0), (1e-8, 1.0), (0.5, 0.5), (0.0, 3.0), (2.0, 5.0)])
def test_gradients_of_the_resolvent(g, alpha):
    dg, dalpha = resolvent_slope(g, alpha)
    # From m (g + alpha / (1 + m)) = 1.
    m = float(resolved(g, alpha))
    curve = g + alpha / (1 + m) ** 2
    np.testing.assert_allclose((dg, dalpha), (-m / curve, -m / (1 + m) / curve), rtol=1e-10)


def test_gradients_of_averages_are_finite_and_right():
    """With the atom an average is smooth in alpha, also at 1, where neither the bulk nor the atom is."""
    whole = jax.jit(lambda alpha, t: average(lambda lam: jnp.exp(-lam * t), alpha))
    slope = jax.jit(jax.grad(lambda alpha, t: average(lambda lam: jnp.exp(-lam * t), alpha)))
    for alpha in (0.3, 1.0, 1.0 + 1e-9, 4.0):
        for t in (0.0, 1e6):
            assert np.isfinite(slope(alpha, t))
        h = 1e-5
        difference = (whole(alpha + h, 1.0) - whole(alpha - h, 1.0)) / (2 * h)
        # The third derivative in alpha is of order one: h^2, and rounding over h.
        np.testing.assert_allclose(slope(alpha, 1.0), difference, atol=1e-9)
        # Sample space, where the mirror image of the atom is.
        mirror = jax.grad(lambda a: bulk(a).unfit + bulk(a).sum(jnp.exp(-bulk(a).rates)) / a)(alpha)
        around = [bulk(a).unfit + bulk(a).sum(jnp.exp(-bulk(a).rates)) / a for a in (alpha - h, alpha + h)]
        np.testing.assert_allclose(mirror, (around[1] - around[0]) / (2 * h), atol=1e-8)


def test_a_vector_of_ratios():
    alpha = np.array([0.2, 1.0, 5.0])
    np.testing.assert_allclose(average(lambda lam: lam**2, alpha), alpha + alpha**2, rtol=1e-12)
    np.testing.assert_allclose([average(lambda lam: lam**2, a) for a in alpha], alpha + alpha**2, rtol=1e-12)


@given(apart)
def test_first_order_of_finite_size(alpha):
    """Of E tr W^k / N for Wishart matrices W beyond the law: alpha / N for k = 2, 3 (alpha + alpha^2) / N for k = 3."""
    n = 100
    spectrum, limit = nodes(alpha, inputs=n), nodes(alpha)
    shift = [n * (spectrum.sum(spectrum.rates**k) - limit.sum(limit.rates**k)) for k in range(4)]
    scale = (1 + alpha**0.5) ** 6
    np.testing.assert_allclose(shift, [0, 0, alpha, 3 * alpha + 3 * alpha**2], rtol=1e-10, atol=1e-11 * scale)
    # And the mean of an inverse Wishart matrix, 1/(alpha - 1 - 1/N).
    found = n * (spectrum.sum(1 / spectrum.rates) - limit.sum(1 / limit.rates))
    np.testing.assert_allclose(found, min(1, alpha) / (alpha - 1) ** 2, rtol=1e-9)


@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0])
def test_against_random_matrices(alpha):
    """Mean over Gaussian inputs of averages of decaying exponentials: 5 standard errors and the next order, 1/N^2."""
    n, draws, t = 40, 400, np.array([0.3, 1.0, 4.0])
    x = np.random.default_rng(0).standard_normal((draws, round(alpha * n), n)) / np.sqrt(n)
    lam = np.linalg.eigvalsh(np.swapaxes(x, 1, 2) @ x)
    each = np.exp(-lam[:, None] * t[:, None]).mean(axis=-1)
    finite = nodes(alpha, inputs=n)
    expected = finite.frozen + (finite.weights * jnp.exp(-finite.rates * t[:, None])).sum(axis=-1)
    error = each.std(axis=0, ddof=1) / np.sqrt(draws)
    assert (np.abs(each.mean(axis=0) - expected) < 5 * error + 10 / n**2).all()
    # The law of infinite size alone is seen to be off.
    if alpha == 1.0:
        assert abs(each.mean(axis=0) - decayed(alpha, t[2], 1))[2] > 5 * error[2]


@given(st.integers(0, 2**32 - 1), st.sampled_from([(7, 12), (9, 9), (12, 5)]))
def test_given_inputs_are_summed_exactly(seed, shape):
    p, n = shape
    x = np.random.default_rng(seed).standard_normal((p, n))
    spectrum = sample_spectrum(np.linalg.eigvalsh(x.T @ x), p)
    gram = x.T @ x
    np.testing.assert_allclose(spectrum.sum(spectrum.rates), np.trace(gram) / n, rtol=1e-13)
    np.testing.assert_allclose(spectrum.sum(spectrum.rates**3), np.trace(gram @ gram @ gram) / n, rtol=1e-12)
    np.testing.assert_allclose(spectrum.frozen, 1 - min(p, n) / n, atol=1e-15)
    np.testing.assert_allclose(spectrum.unfit, 1 - min(p, n) / p, atol=1e-15)
    np.testing.assert_allclose(spectrum.alpha, p / n, rtol=1e-15)


def test_inputs_of_low_rank_leave_more_unlearned():
    x = np.zeros((6, 4))
    x[:, 0] = 1.0
    spectrum = sample_spectrum(np.linalg.eigvalsh(x.T @ x), 6)
    np.testing.assert_allclose((spectrum.frozen, spectrum.unfit), (3 / 4, 5 / 6), rtol=1e-15)
    np.testing.assert_allclose(spectrum.sum(spectrum.rates), 6 / 4, rtol=1e-14)


@given(apart)
def test_angles_of_the_bulk(aspect):
    lam, x, rest, weights = edge_angles(aspect)
    lower, upper = bulk_edges(aspect)
    np.testing.assert_allclose(weights.sum(), 1, rtol=1e-13)
    np.testing.assert_allclose(x + rest, 1, rtol=1e-14)
    # <cos> = 0, <cos^2> = 1/2 over the angle, and the bulk's law is 2 alpha sin^2 / lam of it.
    np.testing.assert_allclose((weights * lam).sum(), 1 + aspect, rtol=1e-13)
    np.testing.assert_allclose((weights * x**2).sum(), 3 / 8, rtol=1e-13)
    np.testing.assert_allclose((weights * 8 * aspect * x * rest).sum(), aspect, rtol=1e-13)
    assert lower <= lam.min()
    assert lam.max() <= upper * (1 + 1e-15)


def test_float32():
    single = np.float32
    np.testing.assert_allclose(bulk(single(1.0)).weights.sum(), 1, rtol=1e-5)
    assert bulk(single(1.0)).rates.dtype == np.float32
    np.testing.assert_allclose(decayed(single(1.0), single(1e4), 1), decayed(1.0, 1e4, 1), rtol=1e-5)


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: bulk(0.0), "alpha"),
        (lambda: bulk(1.0, inputs=0), "inputs"),
        (lambda: bulk(1.0, refine=0), "refine"),
        (lambda: density(float("nan"), 1.0), "lam"),
        (lambda: moment(1.0, 0), "k"),
        (lambda: resolvent(-1.0, 1.0), "g"),
        (lambda: resolvent(1.0, float("inf")), "alpha"),
        (lambda: sample_spectrum(np.array([1.0, -1.0]), 2), "eigenvalues"),
        (lambda: sample_spectrum(np.ones(2), 0), "samples"),
    ],
)
def test_refusals_name_the_argument(call, named):
    with pytest.raises(ValueError, match=rf"^{named} must"):
        call()
