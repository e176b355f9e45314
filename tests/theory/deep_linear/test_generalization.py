"""Regression through training: actual data matrices, limits, sum rules, the best time to stop, gradients, refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad

from theory.deep_linear.generalization import (
    Regression,
    descent_generalization_error,
    descent_training_error,
    early_stopped_error,
    final_generalization_error,
    final_training_error,
    frozen_fraction,
    generalization_error,
    interpolation_growth,
    minimising_time,
    mode_stopping_time,
    optimal_stopping_time,
    overtraining,
    training_error,
)
from theory.deep_linear.marchenko_pastur import bulk, sample_spectrum

error_at, training_at = jax.jit(generalization_error), jax.jit(training_error)
error_after, training_after = jax.jit(descent_generalization_error), jax.jit(descent_training_error)
best_time = jax.jit(lambda regression, spectrum=None: optimal_stopping_time(regression, spectrum))
best_time_slope = jax.jit(jax.grad(lambda *regression: optimal_stopping_time(regression), argnums=(0, 1, 2, 3)))

ratios = st.floats(-1.3, 1.3).map(lambda e: 10.0**e)
apart = ratios.filter(lambda a: abs(np.log(a)) > 0.05)
variances = st.one_of(st.just(0.0), st.floats(1e-3, 1e3))
noises = st.floats(-2, 2).map(lambda e: 10.0**e)
times = st.floats(0, 30)
seeds = st.integers(0, 2**32 - 1)
shapes = st.sampled_from([(5, 8), (8, 5)])


def inputs(seed, shape):
    """P x N inputs of variance 1/N, and their spectrum."""
    p, n = shape
    x = np.random.default_rng(seed).standard_normal((p, n)) / np.sqrt(n)
    return x, sample_spectrum(np.linalg.eigvalsh(x.T @ x), p)


def mean_errors(x, decay, gain, signal, noise, start):
    """w - wbar = decay (w0 - wbar) + gain eps, averaged over w0, wbar and eps by traces."""
    p, n = x.shape
    test = noise + ((signal + start) * np.sum(decay**2) + noise * np.sum(gain**2)) / n
    train = ((signal + start) * np.sum((x @ decay) ** 2) + noise * np.sum((np.eye(p) - x @ gain) ** 2)) / p
    return test, train


@pytest.mark.parametrize(
    ("alpha", "test", "train"),
    [
        # The integrals over the density, at 25 digits, at t = 0, 0.5, 2, 10, 100.
        (0.5, [1.8, 1.476921389176, 1.395598030641, 1.562795234316, 1.649995453613],
         [1.8, 0.595142899072, 0.115987072536, 4.512387669e-3, None]),
        (1.0, [1.8, 1.236556029643, 1.111203515150, 1.473079749977, 3.611353143337], None),
        (2.0, [1.8, 0.928550468703, 0.830119754643, 0.976655770451, 0.999999999656],
         [1.8, 0.471898921896, 0.275469140553, 0.250206823102, 0.25]),
    ],
)  # fmt: skip
def test_known_values(alpha, test, train):
    t, r = np.array([0.0, 0.5, 2.0, 10.0, 100.0]), Regression(alpha, 1.0, 0.5, 0.3)
    np.testing.assert_allclose(generalization_error(t, r), test, atol=6e-13)
    for found, expected in zip(training_error(t, r), train or [], strict=False):
        assert expected is None or abs(found - expected) < 6e-13


@given(apart, times, variances, noises, variances)
def test_the_integral_over_the_density(alpha, t, signal, noise, start):
    lower, upper = (1 - alpha**0.5) ** 2, (1 + alpha**0.5) ** 2

    def learned(lam):
        error = (signal + start) * np.exp(-2 * lam * t) + noise / lam * np.expm1(-lam * t) ** 2
        return error / (2 * np.pi * lam)

    # The weight carries the square roots at both edges.
    integral = quad(learned, lower, upper, weight="alg", wvar=(0.5, 0.5), epsabs=0, epsrel=1e-12, limit=200)[0]
    expected = noise + max(0, 1 - alpha) * (signal + start) + integral
    np.testing.assert_allclose(error_at(t, Regression(alpha, signal, noise, start)), expected, rtol=1e-10)


@given(seeds, shapes, times, variances, variances, variances)
def test_given_inputs_by_matrix_exponentials(seed, shape, t, signal, noise, start):
    x, spectrum = inputs(seed, shape)
    p, n = shape
    # dw/dt = X^T (y - X w): one exponential gives what is left of the start and what has come of the noise.
    system = np.block([[-x.T @ x, x.T], [np.zeros((p, n + p))]])
    whole = scipy.linalg.expm(system * t)
    expected = mean_errors(x, whole[:n, :n], whole[:n, n:], signal, noise, start)
    r = Regression(p / n, signal, noise, start)
    # expm loses digits in proportion to the norm of its argument.
    slack = dict(rtol=1e-11 * (1 + t), atol=1e-13 * (1 + t) * (signal + noise + start))
    np.testing.assert_allclose(error_at(t, r, spectrum), expected[0], **slack)
    np.testing.assert_allclose(training_at(t, r, spectrum), expected[1], **slack)


@given(seeds, shapes, st.sampled_from([0, 1, 2, 9, 60]), st.floats(0.05, 1.9), variances, variances, variances)
def test_gradient_descent_step_by_step(seed, shape, k, step, signal, noise, start):
    x, spectrum = inputs(seed, shape)
    p, n = shape
    lr = step / np.linalg.eigvalsh(x.T @ x)[-1]
    decay, gain = np.eye(n), np.zeros((n, p))
    for _ in range(k):
        decay, gain = decay - lr * x.T @ (x @ decay), gain + lr * x.T @ (np.eye(p) - x @ gain)
    expected = mean_errors(x, decay, gain, signal, noise, start)
    r = Regression(p / n, signal, noise, start)
    slack = dict(rtol=1e-12, atol=1e-13 * (signal + noise + start))
    np.testing.assert_allclose(error_after(k, lr, r, spectrum), expected[0], **slack)
    np.testing.assert_allclose(training_after(k, lr, r, spectrum), expected[1], **slack)


@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0])
def test_students_of_their_own_noisy_data(alpha):
    """Actual students, one draw of everything each: 5 standard errors over them, and the next order, 1/N^2."""
    n, runs, lr, k = 30, 600, 0.1, 25
    rng, p = np.random.default_rng(1), round(alpha * n)
    signal, noise, start = 1.0, 0.5, 0.3
    x = rng.standard_normal((runs, p, n)) / np.sqrt(n)
    teacher, w = np.sqrt(signal) * rng.standard_normal((runs, n)), np.sqrt(start) * rng.standard_normal((runs, n))
    y = np.einsum("rpn,rn->rp", x, teacher) + np.sqrt(noise) * rng.standard_normal((runs, p))
    for _ in range(k):
        w = w + lr * np.einsum("rpn,rp->rn", x, y - np.einsum("rpn,rn->rp", x, w))
    test = noise + np.mean((w - teacher) ** 2, axis=1)
    train = np.mean((y - np.einsum("rpn,rn->rp", x, w)) ** 2, axis=1)
    r, spectrum = Regression(alpha, signal, noise, start), bulk(alpha, inputs=n)
    for values, theory in ((test, error_after), (train, training_after)):
        error = values.std(ddof=1) / np.sqrt(runs)
        assert abs(values.mean() - theory(k, lr, r, spectrum)) < 5 * error + 10 / n**2


@given(ratios, variances, variances, variances, st.floats(0, 100), st.floats(0.1, 10))
def test_start_scale_and_symmetry(alpha, signal, noise, start, t, c):
    r = Regression(alpha, signal, noise, start)
    total = signal + start + noise
    np.testing.assert_allclose(error_at(0.0, r), total, rtol=1e-13)
    np.testing.assert_allclose(training_at(0.0, r), total, rtol=1e-13)
    np.testing.assert_allclose(error_after(0, 0.1, r), total, rtol=1e-13)
    # Only signal + start counts, and errors are proportional to the variances.
    moved, scaled = Regression(alpha, start, noise, signal), Regression(alpha, c * signal, c * noise, c * start)
    for error in (error_at, training_at):
        np.testing.assert_allclose(error(t, moved), error(t, r), rtol=1e-13)
        np.testing.assert_allclose(error(t, scaled), c * error(t, r), rtol=1e-13)


@given(apart, variances, variances, variances)
def test_training_without_end(alpha, signal, noise, start):
    r = Regression(alpha, signal, noise, start)
    # The slowest mode decays at the lower edge, (1 - sqrt alpha)^2 >= 6e-4: e^{-60} at this time.
    t = 60 / (1 - alpha**0.5) ** 2
    total = signal + noise + start
    many = noise * (1 + 1 / (alpha - 1)) if alpha > 1 else 0
    few = (1 - alpha) * (signal + start) + noise / (1 - alpha) if alpha < 1 else 0
    np.testing.assert_allclose(final_generalization_error(r), many + few, rtol=1e-13)
    np.testing.assert_allclose(error_at(t, r), many + few, rtol=1e-12, atol=1e-20 * total)
    np.testing.assert_allclose(final_training_error(r), max(0, 1 - 1 / alpha) * noise, rtol=1e-15)
    np.testing.assert_allclose(training_at(t, r), final_training_error(r), rtol=1e-12, atol=1e-20 * total)


def test_training_without_end_at_ratio_one():
    assert final_generalization_error((1.0, 1.0, 0.1)) == np.inf
    assert final_generalization_error((1.0, 1.0, 0.0)) == 0
    assert final_generalization_error((21 / 20, 1.0, 0.1), inputs=20) == np.inf
    np.testing.assert_allclose(final_generalization_error((1.1, 0.0, 0.1), inputs=20), 0.1 * (1 + 20), rtol=1e-12)


@pytest.mark.parametrize("shape", [(30, 12), (12, 30)])
def test_mean_of_least_squares_over_gaussian_inputs(shape):
    p, n = shape
    x = np.random.default_rng(2).standard_normal((4000, p, n)) / np.sqrt(n)
    # Mean of noise |pinv(X)|^2 / N, exactly, at finite N.
    amplified = np.sum(np.linalg.pinv(x) ** 2, axis=(1, 2)) / n
    frozen = max(0, 1 - p / n) * 1.3
    expected = final_generalization_error((p / n, 1.0, 0.5, 0.3), inputs=n)
    error = 0.5 * amplified.std(ddof=1) / np.sqrt(len(x))
    assert abs(0.5 + frozen + 0.5 * amplified.mean() - expected) < 5 * error
    # The limit of infinite size is off by more than that.
    assert abs(0.5 + frozen + 0.5 * amplified.mean() - final_generalization_error((p / n, 1.0, 0.5, 0.3))) > 5 * error


@given(seeds, shapes, st.floats(0, 1e6))
def test_frozen_directions_keep_their_start(seed, shape, t):
    x, spectrum = inputs(seed, shape)
    p, n = shape
    frozen = float(frozen_fraction(p / n))
    np.testing.assert_allclose(frozen, 1 - np.linalg.matrix_rank(x) / n, atol=1e-15)
    # Without noise the error never falls below what is in them, and without end it is just that.
    r = Regression(p / n, 1.0, 0.0, 0.5)
    assert error_at(t, r, spectrum) >= 1.5 * frozen - 1e-14
    np.testing.assert_allclose(error_at(1e12, r, spectrum), 1.5 * frozen, atol=1e-14)


@given(st.floats(0, 3), noises)
def test_very_few_and_very_many_samples(tau, noise):
    r = Regression(1e-9, 1.0, noise, 0.3)
    # Relative order alpha, times the growth of at most tau^2.
    np.testing.assert_allclose(error_at(tau, r), 1.3 + noise, rtol=1e-7)
    # The bulk is lam = alpha to relative order alpha^{-1/2}, of mean square 1/alpha.
    alpha = 1e9
    expected = noise + 1.3 * np.exp(-2 * tau) + noise / alpha * (1 - np.exp(-tau)) ** 2
    np.testing.assert_allclose(error_at(tau / alpha, Regression(alpha, 1.0, noise, 0.3)), expected, rtol=1e-7)


@pytest.mark.parametrize("t", [1e6, 1e9, 1e12])
def test_growth_at_ratio_one(t):
    """E_g = growth + noise / 2 + [A / sqrt(2 pi) + (2 - sqrt(1/2)) noise / (8 sqrt pi)] / sqrt t + O(t^{-3/2})."""
    for signal, noise in ((0.0, 1.0), (1.0, 0.0), (0.7, 0.4)):
        next_order = signal / np.sqrt(2 * np.pi) + (2 - np.sqrt(0.5)) * noise / (8 * np.sqrt(np.pi))
        expected = float(interpolation_growth(t, noise)) + noise / 2 + next_order / np.sqrt(t)
        np.testing.assert_allclose(error_at(t, Regression(1.0, signal, noise)), expected, rtol=1e-12, atol=t**-1.5)
    np.testing.assert_allclose(interpolation_growth(t, 2.0), 2 * 0.66098921 * np.sqrt(t), rtol=1e-8)


@given(ratios, st.floats(0.01, 30), st.floats(1e-4, 0.02))
def test_small_steps_follow_the_flow(alpha, t, step):
    lr = step / (1 + alpha**0.5) ** 2
    k = np.ceil(t / lr)
    r = Regression(alpha, 1.0, 0.4, 0.2)
    # (1 - x)^k falls short of e^{-k x} by k x^2 / 2 of it, at most 2 x / e^2; squared, twice that.
    np.testing.assert_allclose(error_after(k, lr, r), error_at(k * lr, r), rtol=step)
    np.testing.assert_allclose(training_after(k, lr, r), training_at(k * lr, r), atol=2 * step)


@jax.jit
def gain_and_loss(alpha, t, distance, noise):
    """Both parts of the slope of the error: noise let in, distance to the teacher given up."""
    spectrum = bulk(alpha)
    decay = jnp.exp(-spectrum.rates * t)
    return spectrum.sum(noise * decay * (1 - decay)), spectrum.sum(distance * spectrum.rates * decay**2)


@given(ratios, st.floats(0.01, 100), noises, variances)
def test_best_time_is_the_minimum(alpha, signal, noise, start):
    r = Regression(alpha, signal, noise, start)
    t = float(best_time(r))
    lowest = float(error_at(t, r))
    # The error is flat there: rounding of 1e-13 hides displacements of 1e-5 or so, not of 1e-3.
    around = np.asarray(error_at(t * np.array([1 - 1e-3, 1 + 1e-3]), r))
    assert (around >= lowest * (1 - 1e-13)).all()
    everywhere = np.asarray(error_at(t * np.geomspace(1e-3, 1e3, 101), r))
    assert everywhere.min() >= lowest * (1 - 1e-13)
    np.testing.assert_allclose(*gain_and_loss(alpha, t, signal + start, noise), rtol=1e-10)


@given(apart, st.floats(0.01, 100), noises, variances)
def test_best_time_lies_between_those_of_the_edges(alpha, signal, noise, start):
    r = Regression(alpha, signal, noise, start)
    lower, upper = (1 - alpha**0.5) ** 2, (1 + alpha**0.5) ** 2
    first, last = mode_stopping_time(upper, r), mode_stopping_time(lower, r)
    np.testing.assert_allclose(last, np.log1p((signal + start) / noise * lower) / lower, rtol=1e-12)
    assert first * (1 - 1e-12) <= best_time(r) <= last * (1 + 1e-12)
    np.testing.assert_allclose(mode_stopping_time(0.0, r), (signal + start) / noise, rtol=1e-15)


@pytest.mark.parametrize(
    ("alpha", "t", "error"),
    [(0.3, 1.755699, 1.0852745816), (1.0, 2.064531, 0.7277196931), (2.5, 1.511662, 0.4591484504)],
)
def test_known_stopping_times(alpha, t, error):
    r = Regression(alpha, 1.0, 0.3)
    np.testing.assert_allclose(optimal_stopping_time(r), t, atol=6e-7)
    np.testing.assert_allclose(early_stopped_error(r), error, atol=6e-11)


def test_equal_modes_stop_together():
    # N = P and X orthogonal: every eigenvalue is 2.
    r = Regression(1.0, 1.0, 0.3, 0.2)
    spectrum = sample_spectrum(np.full(4, 2.0), 4)
    np.testing.assert_allclose(best_time(r, spectrum), np.log1p(1.2 * 2 / 0.3) / 2, rtol=1e-12)
    assert optimal_stopping_time(Regression(0.5, 0.0, 0.3, 0.0)) == 0


@pytest.mark.parametrize("alpha", [0.4, 1.0, 3.0])
def test_slopes_of_the_best_time(alpha):
    at, h = (alpha, 1.0, 0.3, 0.1), 1e-5
    slope = best_time_slope(*at)
    for i in range(4):
        plus, minus = (best_time(Regression(*[x + sign * h * (i == j) for j, x in enumerate(at)])) for sign in (1, -1))
        # h^2 times third derivatives of order 10 to 100, and a root to 1e-13 over h.
        np.testing.assert_allclose(slope[i], (plus - minus) / (2 * h), rtol=1e-6)


def test_overtraining_costs_most_at_ratio_one():
    alpha = np.array([0.2, 0.5, 0.8, 0.95, 0.999, 1.0, 1.001, 1.05, 1.3, 2.0, 6.0])
    cost = np.asarray(overtraining(Regression(alpha, 1.0, 0.3)))
    assert (np.diff(cost[:6]) > 0).all()
    assert (np.diff(cost[6:]) < 0).all()
    assert cost[5] == np.inf
    np.testing.assert_allclose(cost[[4, 6]] * 1e-3, 0.3, rtol=0.01)  # noise / |alpha - 1|


@given(ratios, st.floats(0.01, 100), variances)
def test_labels_of_unit_variance(alpha, snr, inr):
    r = Regression.from_snr(alpha, snr, inr)
    np.testing.assert_allclose(r.signal + r.noise, 1, rtol=1e-15)
    np.testing.assert_allclose((r.signal / r.noise, r.start / r.noise), (snr, inr), rtol=1e-14)


def test_minimum_of_any_curve():
    slope = jax.grad(lambda c: minimising_time(lambda t: jnp.cosh(t - c), jnp.zeros(()), jnp.array(5.0)))
    np.testing.assert_allclose(minimising_time(lambda t: (t - 2) ** 2, jnp.zeros(()), jnp.array(9.0)), 2, rtol=1e-14)
    np.testing.assert_allclose(slope(1.7), 1, rtol=1e-12)
    # Falling all the way: the end.
    np.testing.assert_allclose(minimising_time(lambda t: -t, jnp.zeros(()), jnp.array(9.0)), 9, rtol=1e-14)


def errors_of(t, alpha, signal, noise, start):
    r = Regression(alpha, signal, noise, start)
    after = [error(3.0, 0.4 * jnp.ones_like(t), r) for error in (descent_generalization_error, descent_training_error)]
    return jnp.stack([generalization_error(t, r), training_error(t, r), *after])


errors_at = jax.jit(errors_of)
slopes = jax.jit(jax.jacrev(errors_of, argnums=(0, 1, 2, 3, 4)))


@pytest.mark.parametrize("t", [0.0, 1.0, 1e9])
@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.5])
def test_gradients_at_the_hard_points(t, alpha):
    # No noise, no signal, no start; (1 - lr lam) through zero within the bulk.
    for signal, noise, start in ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 0.0), (1.0, 0.3, 0.2)):
        found = np.stack(slopes(t, alpha, signal, noise, start))
        assert np.isfinite(found).all()
    if t == 1.0:
        at, h = (t, alpha, 1.0, 0.3, 0.2), 1e-5
        for i in range(5):
            plus, minus = (errors_at(*[x + sign * h * (i == j) for j, x in enumerate(at)]) for sign in (1, -1))
            # h^2 times third derivatives of order one to ten.
            np.testing.assert_allclose(found[i], (plus - minus) / (2 * h), rtol=1e-7, atol=1e-8)


def test_float32():
    r = Regression(*(np.float32(v) for v in (1.0, 1.0, 0.5, 0.3)))
    t = np.array([0.0, 2.0, 1e4], np.float32)
    exact = error_at(t.astype(float), Regression(1.0, 1.0, 0.5, np.float64(np.float32(0.3))))
    single = error_at(t, r)
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, exact, rtol=1e-5)


def test_record_or_tuple():
    assert generalization_error(1.0, (0.5, 1.0, 0.2, 0.1)) == generalization_error(1.0, Regression(0.5, 1.0, 0.2, 0.1))


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: generalization_error(-1.0, Regression(0.5)), "t"),
        (lambda: training_error(1.0, Regression(0.0)), "alpha"),
        (lambda: training_error(1.0, Regression(1.0, -1.0)), "signal"),
        (lambda: generalization_error(1.0, Regression(1.0, 1.0, float("nan"))), "noise"),
        (lambda: generalization_error(1.0, Regression(1.0, 1.0, 0.0, -0.1)), "start"),
        (lambda: generalization_error(1.0, Regression(0.7), bulk(0.5)), "alpha"),
        (lambda: descent_training_error(1.5, 0.1, Regression(1.0)), "k"),
        (lambda: descent_generalization_error(1, 0.0, Regression(1.0)), "lr"),
        (lambda: optimal_stopping_time(Regression(1.0, 1.0, 0.0)), "noise"),
        (lambda: mode_stopping_time(-0.1, Regression(1.0, 1.0, 1.0)), "lam"),
        (lambda: final_generalization_error(Regression(1.0), inputs=0), "inputs"),
        (lambda: Regression.from_snr(1.0, -1.0), "snr"),
    ],
)
def test_refusals_name_the_argument(call, named):
    with pytest.raises(ValueError, match=rf"^{named} must"):
        call()
