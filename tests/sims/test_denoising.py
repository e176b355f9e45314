"""Denoising data: labels of each target, blank rows, the score that each label stands for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sims.tasks.denoising import denoising, denoising_loss, score_of

KEY, A, S = jax.random.key(0), 0.8, 0.6


@pytest.mark.parametrize("target", ["score", "noise", "data"])
def test_labels_stand_for_the_score(target):
    """The best linear fit of many labels is the true score of Gaussian data, whatever the target."""
    samples, variance = 200_000, 1.5
    x0 = jnp.sqrt(variance) * jax.random.normal(jax.random.key(1), (samples, 1))
    data = denoising(KEY, x0, A, S, target)
    slope = jnp.sum(data.x * data.y) / jnp.sum(data.x**2)
    outputs = score_of(slope * data.x, data.x, A, S, target)
    # Standard error of a slope: the residual's deviation over the inputs' and sqrt(samples).
    total = A**2 * variance + S**2
    error = np.sqrt(A**2 * variance / (S**2 * total) / total / samples)
    scale = 1.0 if target != "data" else A * np.sqrt(variance) * A / S
    np.testing.assert_allclose(outputs / data.x, -1 / total, atol=5 * error * max(scale, 1))


def test_blank_rows_count_for_nothing():
    x0 = jax.random.normal(KEY, (6, 2))
    whole, part = denoising(KEY, x0, A, S), denoising(KEY, x0, A, S, samples=4)
    np.testing.assert_array_equal(part.x[:4], whole.x[:4])
    np.testing.assert_array_equal((part.x[4:], part.y[4:]), 0)
    expected = np.sum((np.asarray(whole.y) - 2 * np.asarray(whole.x))[:4] ** 2) / 8
    np.testing.assert_allclose(denoising_loss(lambda x: 2 * x, part), expected, rtol=1e-12)
    # x = a x0 + s z and y = -z / s.
    np.testing.assert_allclose(whole.x, A * x0 - S**2 * whole.y, rtol=1e-12)
