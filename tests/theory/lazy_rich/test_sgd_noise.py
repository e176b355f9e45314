"""Noise of stochastic gradient descent: averages by sampling, the flow's late time, powers, symmetries."""

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from theory.lazy_rich.sgd_noise import (
    characteristic_temperature,
    late_signal,
    least_signal,
    noise_exponents,
    noise_flow,
    noise_plateau,
    separable_ratio,
    unfit_fraction,
)

chis = st.floats(-0.5, 3)


def drawn(chi, number=200_000):
    """Distances and normal noise."""
    rng = np.random.default_rng(int(10 * chi) + 50)
    return np.sqrt(2 * rng.gamma((1 + chi) / 2, size=number)), rng.normal(size=number)


@pytest.mark.parametrize("chi", [-0.4, 0.0, 1.0, 2.5])
def test_averages_by_sampling(chi):
    z, t = drawn(chi)
    for rho in (0.0, 0.7, 3.0):
        wrong = t > rho * z
        error = wrong.std() / np.sqrt(len(z))
        assert abs(unfit_fraction(rho, chi) - wrong.mean()) < 5 * error
    for load in (3.0, 20.0):
        crowding = load * np.maximum(t - separable_ratio(load, chi) * z, 0) ** 2
        assert abs(crowding.mean() - 1) < 5 * crowding.std() / np.sqrt(len(z))


@pytest.mark.slow
@pytest.mark.parametrize(("chi", "temperature"), [(0.0, 60.0), (-0.5, 300.0), (2.5, 150.0)])
def test_late_times_of_the_flow(chi, temperature):
    # Corrections are of relative order a margin over the noise, and noise over signal.
    t = temperature * np.array([5e4, 1e5, 2e5])
    found = noise_flow(t, temperature, chi)
    scale = 3 * float(found.noise[0] / found.signal[0] + 1 / found.noise[0])
    np.testing.assert_allclose(found.noise, noise_plateau(temperature, chi), rtol=scale)
    np.testing.assert_allclose(found.signal, late_signal(t, temperature, chi), rtol=scale)


@pytest.mark.parametrize(("chi", "temperature", "factor"), [(0.0, 3.0, 10.0), (1.7, 40.0, 0.2)])
def test_temperature_and_margin_set_the_unit(chi, temperature, factor):
    t = np.array([0.3, 3.0, 30.0])
    found = noise_flow(t, temperature, chi, 1.0)
    # Weights are measured in margins, time in margins over the slope of the loss.
    scaled = noise_flow(factor * t, factor * temperature, chi, factor)
    np.testing.assert_allclose(scaled.signal, factor * found.signal, rtol=1e-4)
    np.testing.assert_allclose(scaled.noise, factor * found.noise, rtol=1e-4)


@pytest.mark.parametrize(("chi", "temperature"), [(0.0, 3.0), (1.3, 40.0)])
def test_the_first_moment_of_the_flow(chi, temperature):
    """At the start all samples are unfit: da/dt = E z, dr^2/dt = T."""
    z, t = drawn(chi)[0], 1e-9
    found = noise_flow(t * np.arange(1.0, 4.0), temperature, chi)
    np.testing.assert_allclose(found.signal[0] / t, z.mean(), rtol=0.01)
    np.testing.assert_allclose(found.noise[0] ** 2 / t, temperature, rtol=1e-3)


@given(chis)
def test_powers_are_those_of_the_functions(chi):
    laws = noise_exponents(chi)
    load, step = 1e6, 1.1
    first, second = least_signal(2.0, load, chi), least_signal(2.0, step * load, chi)
    # Corrections are of relative order rho^{-1} or rho^{-2}.
    np.testing.assert_allclose(np.log(second / first) / np.log(step), laws.weights_in_samples, rtol=0.02)
    # The time that the signal takes is its (3 + chi)th power, at a given noise.
    np.testing.assert_allclose(laws.time_in_samples, (3 + chi) * laws.weights_in_samples, rtol=1e-12)
    late = np.log(late_signal(step, 2.0, chi) / late_signal(1.0, 2.0, chi)) / np.log(step)
    np.testing.assert_allclose(late, 1 / (3 + chi), rtol=1e-9)
    ratio = characteristic_temperature(1.0, step * load, chi) / characteristic_temperature(1.0, load, chi)
    np.testing.assert_allclose(np.log(ratio) / np.log(step), laws.temperature_in_samples, rtol=0.02)
    # Weights and times at a given load scale together with T: a = T alpha(t / T).
    np.testing.assert_allclose(late_signal(3.0, 6.0, chi), 3 * late_signal(1.0, 2.0, chi), rtol=1e-9)


def test_known_points():
    np.testing.assert_allclose(noise_plateau(1.0, 0.0), 1 / np.sqrt(2 * np.pi), rtol=1e-12)
    np.testing.assert_allclose(noise_plateau(1.0, 1.0), np.sqrt(np.pi / 2) / 4, rtol=1e-12)
    np.testing.assert_allclose(unfit_fraction(1.0, 0.0), 0.25, rtol=1e-12)
    assert separable_ratio(1.5, 0.0) == separable_ratio(2.0, 1.0) == 0
    assert characteristic_temperature(1.0, 2.0, 0.0) == np.inf
    assert (np.diff(separable_ratio(np.array([2.1, 3.0, 10.0, 100.0]), 1.0)) > 0).all()
    np.testing.assert_allclose(
        characteristic_temperature(2.0, 10.0, 0.5), 2.0 / least_signal(1.0, 10.0, 0.5), rtol=1e-12
    )
    assert np.isfinite(jax.grad(lambda load: separable_ratio(load, 0.5))(5.0))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: noise_exponents(-1.0), "chi must be above -1"),
        (lambda: unfit_fraction(-0.1, 0.0), "rho must be non-negative"),
        (lambda: separable_ratio(0.0, 0.0), "load must be positive"),
        (lambda: noise_plateau(0.0, 0.0), "temperature must be positive"),
        (lambda: late_signal(-1.0, 1.0, 0.0), "t must be non-negative"),
        (lambda: characteristic_temperature(0.0, 3.0, 0.0), "reach must be positive"),
        (lambda: noise_flow(np.ones(1), 1.0, 0.0, margin=0.0), "noise must be positive where the margin is 0"),
        (lambda: noise_flow(np.ones(1), np.nan, 0.0), "temperature must be positive"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call()
