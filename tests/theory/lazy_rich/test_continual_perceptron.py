"""Perceptrons with related teachers: textbook integrals, message passing on drawn data, limits, symmetries."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.special import log_ndtr, ndtr

from theory.lazy_rich.continual_perceptron import (
    gibbs_error,
    kappa,
    posterior_mean_error,
    posterior_overlaps,
    sign_channel,
    sign_precision,
)
from theory.lazy_rich.continual_regression import posterior_covariance

seeds = st.integers(0, 2**32 - 1)
overlaps = st.floats(0.02, 0.95)
T = 3


def normal(x):
    return np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi)


def textbook(R, q, alpha):
    """Both integrals of a standard normal z, adaptively."""
    slope, steep = np.sqrt(q / (1 - q)), R / np.sqrt(q - R**2)
    ratio = lambda u: np.exp(-(u**2) / 2 - log_ndtr(u)) / np.sqrt(2 * np.pi)  # noqa: E731
    signal = lambda z: normal(z) * normal(steep * z) * ratio(slope * z)  # noqa: E731
    noise = lambda z: normal(z) * ndtr(steep * z) * ratio(slope * z) ** 2  # noqa: E731
    first, second = (quad(f, -12, 12, epsabs=1e-13, limit=200)[0] for f in (signal, noise))
    return 2 * alpha / np.sqrt((1 - R**2 / q) * (1 - q)) * first, 2 * alpha / (1 - q) * second


@given(overlaps, st.floats(-0.99, 0.99), st.floats(0.1, 3))
def test_channels_are_the_textbook_integrals(q, share, alpha):
    R = share * np.sqrt(q)
    np.testing.assert_allclose(sign_channel(R, q, alpha), textbook(R, q, alpha), rtol=1e-9)
    both = sign_channel(q, q, alpha)
    np.testing.assert_allclose(both, np.full(2, sign_precision(q, alpha)), rtol=1e-10)


def test_limits_of_the_channel():
    np.testing.assert_allclose(sign_precision(0.0, 1.5), 3 / np.pi)
    np.testing.assert_allclose(sign_channel(0.0, 0.0, 1.5), np.full(2, 3 / np.pi))
    assert np.isinf(sign_precision(1.0, 1.0))
    assert (np.diff(sign_precision(np.linspace(0, 0.99, 50), 1.0)) > 0).all()
    np.testing.assert_allclose(sign_channel(-0.2, 0.5, 1.0).signal, sign_channel(0.2, 0.5, 1.0).signal)
    np.testing.assert_allclose(kappa(np.array([-30.0, 0.0, 40.0])), [30.033, np.sqrt(2 / np.pi), 0], rtol=1e-4)


def related(seed):
    raw = np.random.default_rng(seed).normal(size=(T, T + 1))
    raw /= np.linalg.norm(raw, axis=1, keepdims=True)
    return raw @ raw.T, np.random.default_rng(seed + 1).uniform(0.1, 4, T)


@given(seeds)
def test_overlaps_solve_their_law_and_tasks_may_be_exchanged(seed):
    gram, alpha = related(seed)
    q = np.asarray(posterior_overlaps(gram, alpha))
    assert ((q > 0) & (q < 1)).all()
    covariance = posterior_covariance(gram, np.asarray(sign_precision(q, alpha)))
    np.testing.assert_allclose(1 - np.diagonal(covariance), q, rtol=1e-9)
    order = np.array([1, 2, 0])
    np.testing.assert_allclose(posterior_overlaps(gram[order][:, order], alpha[order]), q[order], rtol=1e-9)
    # A teacher turned round is as well known.
    signs = np.array([1, -1, 1])
    np.testing.assert_allclose(posterior_overlaps(signs[:, None] * gram * signs, alpha), q, rtol=1e-9)


@given(seeds)
def test_every_sample_of_any_task_helps(seed):
    gram, alpha = related(seed)
    q = np.asarray(posterior_overlaps(gram, alpha))
    more = alpha + 0.2 * (np.arange(T) == seed % T)
    assert (np.asarray(posterior_overlaps(gram, more)) >= q - 1e-11).all()
    alone = posterior_overlaps(np.eye(T), alpha)
    assert (q >= np.array(alone) - 1e-11).all()
    one = posterior_overlaps(np.ones((1, 1)), alpha[:1])
    np.testing.assert_allclose(alone[0], one[0], rtol=1e-9)


def test_the_same_task_twice_and_tasks_to_come():
    both = posterior_overlaps(np.ones((2, 2)), np.array([0.4, 0.8]))
    np.testing.assert_allclose(both, posterior_overlaps(np.ones((1, 1)), np.array([1.2]))[0], rtol=1e-9)
    gram = np.array([[1, 0.6], [0.6, 1]])
    known, to_come = posterior_overlaps(gram, np.array([1.0, 0.0]))
    np.testing.assert_allclose(to_come, 0.36 * known, rtol=1e-9)


def test_the_error_of_many_samples():
    """0.442 / alpha, the constant of Gyorgyi & Tishby."""
    q = posterior_overlaps(np.ones((1, 1)), np.array([1000.0]))
    np.testing.assert_allclose(1000 * posterior_mean_error(q), 0.442, rtol=2e-3)


def test_message_passing_on_drawn_data():
    """Two related teachers, N = 300: vector approximate message passing ends at the predicted overlaps."""
    n, rho, alpha = 300, -0.6, np.array([1.5, 0.5])
    gram = np.array([[1, rho], [rho, 1]])

    @jax.jit
    def overlaps_found(key):
        keys = jax.random.split(key, 3)
        w = jnp.linalg.cholesky(gram) @ jax.random.normal(keys[0], (2, n))
        x = [jax.random.normal(k, (int(a * n), n)) / n**0.5 for k, a in zip(keys[1:], alpha, strict=True)]
        y = [jnp.sign(a @ v) for a, v in zip(x, w, strict=True)]

        def step(state, _):
            m, missing, force = state
            fields, precisions, forces = [], [], []
            for a in range(2):
                margin = x[a] @ m[a] - missing[a] * force[a]
                u = y[a] * margin / jnp.sqrt(missing[a])
                new = 0.7 * y[a] * kappa(u) / jnp.sqrt(missing[a]) + 0.3 * force[a]
                precisions.append(jnp.sum(kappa(u) * (kappa(u) + u)) / missing[a] / n)
                fields.append(x[a].T @ new + precisions[a] * m[a])
                forces.append(new)
            covariance = jnp.linalg.inv(jnp.linalg.inv(gram) + jnp.diag(jnp.stack(precisions)))
            return (covariance @ jnp.stack(fields), jnp.diagonal(covariance), forces), None

        start = (jnp.zeros((2, n)), jnp.ones(2), [jnp.zeros(len(v)) for v in y])
        m, *_ = jax.lax.scan(step, start, None, length=40)[0]
        return jnp.mean(m * w, axis=1), jnp.mean(m**2, axis=1)

    found = np.array([overlaps_found(jax.random.key(seed)) for seed in range(10)])
    error = np.hypot(found.std(axis=0) / np.sqrt(10), 1 / n)
    assert (np.abs(found.mean(axis=0) - posterior_overlaps(gram, alpha)) < 5 * error).all()


def test_errors_are_angles():
    rng, q, R = np.random.default_rng(0), 0.6, 0.3
    pair = rng.multivariate_normal([0, 0], [[1, R], [R, q]], size=200_000)
    wrong = np.mean(np.sign(pair[:, 0]) != np.sign(pair[:, 1]))
    assert abs(wrong - posterior_mean_error(q, R)) < 5 * np.sqrt(wrong / 200_000)
    np.testing.assert_allclose(posterior_mean_error(q, q), posterior_mean_error(q), rtol=1e-12)
    np.testing.assert_allclose([posterior_mean_error(0.0, 0.0), posterior_mean_error(0.0), gibbs_error(0.0)], 0.5)
    assert posterior_mean_error(1.0) == gibbs_error(1.0) == 0
    inside = np.linspace(0.01, 0.99, 20)
    assert (posterior_mean_error(inside) < gibbs_error(inside)).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sign_precision(1.2, 1.0), "q must lie between 0 and 1, got 1.2"),
        (lambda: sign_precision(0.2, -1.0), "alpha must be non-negative"),
        (lambda: sign_channel(0.6, 0.3, 1.0), "teacher must have a square below q"),
        (lambda: sign_channel(0.1, 1.0, 1.0), "q must lie below 1"),
        (lambda: sign_channel(np.nan, 0.5, 1.0), "teacher must have"),
        (lambda: posterior_overlaps(np.eye(2), np.ones(3)), "alpha must hold one number for each of 2 tasks"),
        (lambda: posterior_overlaps(np.array([[1.0, 2.0], [2.0, 1.0]]), np.ones(2)), "gram must be positive semi"),
        (lambda: posterior_mean_error(0.2, 0.6), "teacher must have a square of at most q"),
        (lambda: gibbs_error(-0.1), "q must lie between 0 and 1"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call()
