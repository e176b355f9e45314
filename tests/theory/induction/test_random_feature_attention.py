"""Random-feature attention: products of ReLUs by quadrature, the kernel by many heads, its symmetries, ridge."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sims.networks.random_feature_attention import RandomFeatureAttention, drawn_scores
from theory.induction.random_feature_attention import attention_kernel, kernel_ridge, relu_product

means, deviations = st.floats(-3, 3), st.floats(0.3, 3)
seeds = st.integers(0, 1000)
U, WEIGHTS = np.polynomial.legendre.leggauss(400)


def drawn(seed):
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(5, 3)), rng.normal(size=(5, 4, 3)), rng.normal(size=(2, 3)), rng.normal(size=(2, 3, 3)))


@given(means, means, deviations, deviations, st.floats(-0.99, 0.99))
def test_product_by_quadrature(m, n, s, t, rho):
    """Over u, from where its ReLU opens, of the mean of the other one given u."""
    low = max(-m / s, -10)
    u = low + (U + 1) / 2 * (10 - low)
    spread = t * np.sqrt(1 - rho**2)
    given_u = (n + rho * t * u) / spread
    cdf = np.asarray(jax.scipy.stats.norm.cdf(given_u))
    other = spread * (given_u * cdf + np.exp(-(given_u**2) / 2) / np.sqrt(2 * np.pi))
    density = np.exp(-(u**2) / 2) / np.sqrt(2 * np.pi)
    expected = np.sum(WEIGHTS * (10 - low) / 2 * density * np.maximum(m + s * u, 0) * other)
    np.testing.assert_allclose(
        relu_product(m, n, s, t, rho), expected, atol=1e-9 * (1 + m**2 + s**2) * (1 + n**2 + t**2)
    )
    np.testing.assert_allclose(relu_product(m, n, s, t, rho), relu_product(n, m, t, s, rho), rtol=1e-9, atol=1e-14)


def test_product_at_the_ends():
    # One variable: E relu(m + z)^2 = (1 + m^2) Phi + m phi.
    m = np.array([-2.0, 0.0, 1.0, 4.0])
    cdf, pdf = jax.scipy.stats.norm.cdf(m), jax.scipy.stats.norm.pdf(m)
    np.testing.assert_allclose(relu_product(m, m, 1.0, 1.0, 1.0), (1 + m**2) * cdf + m * pdf, rtol=1e-10)
    # Opposite ones are never both above zero.
    np.testing.assert_allclose(relu_product(0.0, 0.0, 1.0, 1.0, -1.0), 0, atol=1e-12)
    np.testing.assert_allclose(relu_product(-1.0, -1.0, 1.0, 1.0, -1.0), 0, atol=1e-12)
    rho = np.linspace(-1, 1, 9)
    expected = (np.sqrt(1 - rho**2) + (np.pi - np.arccos(rho)) * rho) / (2 * np.pi)
    np.testing.assert_allclose(relu_product(0.0, 0.0, 2.0, 3.0, rho), 6 * expected, atol=1e-12)


@pytest.mark.parametrize("bias", [0.0, -1.5])
def test_kernel_by_many_heads(bias):
    x, keys, z, others = (jnp.asarray(value) for value in drawn(0))
    expected = np.asarray(attention_kernel(x, keys, z, others, 0.7, bias))
    draws = []
    for key in jax.random.split(jax.random.key(1), 8):
        scores = drawn_scores(key, 5000, 3, 0.7, bias)
        network = RandomFeatureAttention(scores, jnp.zeros((5000, 3)))
        draws.append(jnp.einsum("pmd,rmd->pr", network.features(x, keys), network.features(z, others)))
    draws = np.asarray(draws)
    error = draws.std(axis=0, ddof=1) / np.sqrt(len(draws))
    # Eight draws: Student's t with seven degrees of freedom.
    assert (np.abs(draws.mean(axis=0) - expected) < 8 * error).all()


@given(seeds, st.floats(-2, 2))
def test_symmetries(seed, bias):
    x, keys, z, others = drawn(seed)
    found = np.asarray(attention_kernel(x, keys, z, others, 0.7, bias))
    rng = np.random.default_rng(seed + 1)
    order, turn = rng.permutation(4), np.linalg.qr(rng.normal(size=(3, 3)))[0]
    close = dict(rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(attention_kernel(x, keys[:, order], z, others, 0.7, bias), found, **close)
    np.testing.assert_allclose(
        attention_kernel(x @ turn, keys @ turn, z @ turn, others @ turn, 0.7, bias), found, **close
    )
    np.testing.assert_allclose(attention_kernel(x, keys, z, others, 1.4, 2 * bias), 4 * found, **close)
    np.testing.assert_allclose(attention_kernel(3 * x, keys, z, others, 0.7, bias), 3 * found, **close)
    gram = np.asarray(attention_kernel(x, keys, x, keys, 0.7, bias))
    np.testing.assert_allclose(gram, gram.T, rtol=1e-9, atol=1e-12)
    assert np.linalg.eigvalsh(gram).min() > -1e-9


def test_ridge():
    x, keys, z, others = drawn(3)
    gram, cross = attention_kernel(x, keys, x, keys, 1.0), attention_kernel(z, others, x, keys, 1.0)
    y = np.arange(5.0)
    expected = np.asarray(cross) @ np.linalg.inv(np.asarray(gram) + 0.3 * np.eye(5)) @ y
    np.testing.assert_allclose(kernel_ridge(gram, cross, y, 0.3), expected, rtol=1e-9)
    np.testing.assert_allclose(kernel_ridge(gram, gram, y, 1e-12), y, atol=1e-6)


X, KEYS, Z, OTHERS = drawn(0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: relu_product(0.0, 0.0, 1.0, 1.0, 1.2), "correlation must lie between -1 and 1, got 1.2"),
        (lambda: relu_product(0.0, 0.0, -1.0, 1.0, 0.2), "deviation must be positive"),
        (lambda: relu_product(np.nan, 0.0, 1.0, 1.0, 0.2), "mean must be finite"),
        (lambda: attention_kernel(X, KEYS[:3], Z, OTHERS, 1.0), "keys must be of shape"),
        (lambda: attention_kernel(X, KEYS, Z[:, :2], OTHERS[:, :, :2], 1.0), "other_queries must have 3 columns"),
        (lambda: attention_kernel(X, 0 * KEYS, Z, OTHERS, 1.0), "keys must not be of length zero"),
        (lambda: attention_kernel(X, KEYS, Z, OTHERS, 0.0), "deviation must be positive"),
        (lambda: kernel_ridge(np.eye(3), np.ones((2, 3)), np.ones(3), 0.0), "ridge must be positive"),
        (lambda: kernel_ridge(np.eye(3), np.ones((2, 3)), np.ones(2), 1.0), "y must hold a label for each of 3"),
        (lambda: kernel_ridge(np.ones((3, 2)), np.ones((2, 3)), np.ones(3), 1.0), "gram must be a matrix"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call()
