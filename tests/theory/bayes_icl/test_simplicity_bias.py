"""Spectra: what one example leaves, what many leave, and the grid that measures it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from theory.bayes_icl.function_families import fourier_features, fourier_mixture_predictions
from theory.bayes_icl.simplicity_bias import first_spectrum, fourier_energy, mixture_spectrum
from validation.strategies import seeds

HALF = 5.0
GRID = np.linspace(-HALF, HALF, 40, endpoint=False)


def drawn(seed, series, n, noise=1e-3):
    rng = np.random.default_rng(seed)
    x = rng.uniform(-HALF, HALF, n)
    phi = np.asarray(fourier_features(x, series, HALF, intercept=False)) / series**0.5
    return x, phi @ rng.normal(size=2 * series) + noise**0.5 * rng.normal(size=n)


def test_first_spectrum_as_published():
    wanted = [0.503, 0.218, 0.120, 0.070, 0.042, 0.024, 0.013, 0.007, 0.003, 0.001]
    np.testing.assert_allclose(first_spectrum(10), wanted, atol=6e-4)


@jax.jit
def on_grid(x, y):
    """Predictions at every second point of the grid, from all of the context."""

    def one(query):
        seen = jnp.append(x, query), jnp.append(y, 0.0)
        return fourier_mixture_predictions(*seen, 0.1, 5, HALF).mean[-1]

    return jax.vmap(one)(GRID[::2])


spectrum = jax.jit(lambda x, y, noise: mixture_spectrum(x, y, noise, 5, HALF))


@given(seeds)
def test_spectrum_is_that_of_the_predictor_on_a_grid(seed):
    x, y = drawn(seed, 3, 4)
    found = spectrum(x, y, 0.1)
    np.testing.assert_allclose(found[0], first_spectrum(5), rtol=1e-9)
    np.testing.assert_allclose(found[-1], fourier_energy(on_grid(x, y), 5), rtol=1e-7, atol=1e-10)


def test_bias_vanishes_with_data():
    """Of a series with all frequencies: low ones first, all of them in the end."""
    early, late = [], []
    for seed in range(40):
        rows = np.asarray(spectrum(*drawn(seed, 5, 20), 1e-3))
        early.append(rows[1])
        late.append(rows[-1])
    low = np.array(early)[:, 0]
    assert low.mean() - 5 * low.std() / 40**0.5 > 1 / 5
    error = np.std(late, axis=0) / 40**0.5
    np.testing.assert_array_less(np.abs(np.mean(late, axis=0) - 1 / 5), 5 * error)


@given(st.integers(1, 5), st.floats(0.1, 3), st.floats(-3, 3))
def test_energy_of_one_wave(k, size, shift):
    found = fourier_energy(size * np.cos(np.pi * k * GRID / HALF + shift), 10)
    np.testing.assert_allclose(found, np.eye(10)[k - 1], atol=1e-12)


def test_the_mean_does_not_count():
    values = np.cos(np.pi * GRID / HALF) + 0.5 * np.sin(3 * np.pi * GRID / HALF)
    np.testing.assert_allclose(fourier_energy(values + 7, 5), [0.8, 0, 0.2, 0, 0], atol=1e-12)


def test_refusals():
    with pytest.raises(ValueError, match="highest must be below half of the 40 points, got 20"):
        fourier_energy(GRID, 20)
    with pytest.raises(ValueError, match="values must have energy in the frequencies asked for"):
        fourier_energy(np.zeros(40), 3)
    with pytest.raises(ValueError, match="y must not be zero from the first label on"):
        mixture_spectrum(np.ones(2), np.zeros(2), 0.1, 3)
