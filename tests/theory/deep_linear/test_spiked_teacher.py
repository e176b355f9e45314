"""Spiked teacher: noisy matrices, exact sum rules of the corrected error, duality, limits, stopping, gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from theory.deep_linear.marchenko_pastur import bulk
from theory.deep_linear.modes import mode_strength
from theory.deep_linear.spiked_teacher import (
    SpikedTeacher,
    detection_threshold,
    empirical_singular_value,
    generalization_error,
    generalization_error_correction,
    left_overlap,
    optimal_stopping_time,
    right_overlap,
    training_error,
)

TIMES = np.array([0.3, 0.8, 1.6, 2.5, 8.0])
leading = jax.jit(generalization_error, static_argnames="layers")
correction = jax.jit(generalization_error_correction, static_argnames="layers")
training_at = jax.jit(training_error, static_argnames="layers")
best_time = jax.jit(optimal_stopping_time, static_argnames="layers")
fine = jax.jit(lambda aspect: bulk(aspect, refine=12))

strengths = st.floats(-2, 2).map(lambda e: 10.0**e)
aspects = st.floats(-1.3, 1.3).map(lambda e: 10.0**e)
layer_counts = st.sampled_from([1, 2])
starts = st.floats(-8, -2).map(lambda e: 10.0**e)
# Two spikes, of which the weaker may be lost; away from the threshold, which only the correction minds.
pairs = st.tuples(st.floats(1.5, 8), st.one_of(st.floats(0.02, 0.6), st.floats(1.5, 8))).map(
    lambda factors: np.array(factors)
)


def teacher(factors, aspect, inputs=200.0):
    """Strengths in units of the threshold."""
    return factors * aspect**0.25, inputs, aspect * inputs


def drawn(runs, s, inputs, outputs, seed=0):
    """Noisy correlations: singular values, the clean teacher between their vectors, overlaps with the teacher's."""
    rng, rank = np.random.default_rng(seed), len(s)
    left = np.linalg.qr(rng.standard_normal((runs, outputs, rank)))[0]
    right = np.linalg.qr(rng.standard_normal((runs, inputs, rank)))[0]
    clean = (left * s) @ np.swapaxes(right, 1, 2)
    u, values, vt = np.linalg.svd(clean + rng.standard_normal(clean.shape) / np.sqrt(inputs), full_matrices=False)
    overlaps = [np.abs(np.sum(a * b[..., :rank], axis=1)) for a, b in ((left, u), (right, np.swapaxes(vt, 1, 2)))]
    return values, np.einsum("rai,rab,rib->ri", u, clean, vt), overlaps


@pytest.mark.parametrize(("inputs", "outputs"), [(160, 80), (80, 160)])
def test_spikes_of_noisy_matrices(inputs, outputs):
    s = np.array([3.0, 2.0, 0.4])
    values, _, (left, right) = drawn(40, s, inputs, outputs)
    aspect = outputs / inputs
    pairs_of = [
        (values[:, :2], empirical_singular_value(s[:2], aspect)),
        (left[:, :2], left_overlap(s[:2], aspect)),
        (right[:, :2], right_overlap(s[:2], aspect)),
    ]
    for found, expected in pairs_of:
        error = found.std(axis=0, ddof=1) / np.sqrt(len(found))
        # 5 standard errors, and the next order in 1/N1, larger the nearer the threshold.
        np.testing.assert_array_less(np.abs(found.mean(axis=0) - expected), 5 * error + 3 / min(inputs, outputs))
    # The lost one joins the edge, whose own fluctuations are of order N^{-2/3}, and keeps an overlap of order N^{-1/3}.
    edge = empirical_singular_value(s[2], aspect)
    np.testing.assert_allclose(edge, 1 + np.sqrt(aspect), rtol=1e-15)
    assert abs(values[:, 2].mean() - edge) < 3 * min(inputs, outputs) ** (-2 / 3)
    assert left[:, 2].mean() < min(inputs, outputs) ** (-1 / 3)
    assert left_overlap(s[2], aspect) == right_overlap(s[2], aspect) == 0


@pytest.mark.slow
@pytest.mark.parametrize(("inputs", "outputs", "layers"), [(64, 32, 2), (32, 64, 2), (64, 32, 1)])
def test_error_of_noisy_matrices(inputs, outputs, layers):
    """Every mode of actual matrices, learned on its own, against theory with its correction, and without."""
    s, u0, runs = np.array([4.0, 2.0, 0.4]), 1e-3, 300
    values, clean, _ = drawn(runs, s, inputs, outputs)
    u = np.asarray(mode_strength(TIMES[:, None, None], values, u0, 1.0, layers))
    each = ((u**2 - 2 * u * clean).sum(axis=-1) + np.sum(s**2)) / np.sum(s**2)
    parts = (s, float(inputs), float(outputs)), u0, layers
    first, second = leading(TIMES, *parts), correction(TIMES, *parts)
    error = each.std(axis=1, ddof=1) / np.sqrt(runs)
    # The next order: the spikes' own fluctuations, of variance 1/N1, where the logistic is steepest.
    np.testing.assert_array_less(np.abs(each.mean(axis=1) - first - second), 5 * error + 0.25 / min(inputs, outputs))
    # Once the bulk is learned, the correction is what makes the difference.
    late = slice(3, None)
    assert (np.abs(each.mean(axis=1) - first)[late] > 5 * error[late] + 0.25 / min(inputs, outputs)).all()
    # A share of the training error, of the order of one mode in all of them, is left out.
    fit = ((values - u) ** 2).sum(axis=-1) / (values**2).sum(axis=-1)
    np.testing.assert_allclose(fit.mean(axis=1), training_at(TIMES, *parts), atol=2 / min(inputs, outputs))


@given(pairs, aspects.filter(lambda a: abs(np.log(a)) > 0.02), st.floats(0, 5))
def test_one_layer_from_zero_in_closed_form(factors, aspect, t):
    """W = (1 - e^{-t}) Syx, and E |Syx|^2 = sum s^2 + N3, E tr Syx^T Wbar = sum s^2: exact, at every N and t."""
    s, _, outputs = parts = teacher(factors, aspect)
    learned, signal = -np.expm1(-t), np.sum(s**2)
    exact = (learned**2 * (signal + outputs) - 2 * learned * signal + signal) / signal
    found = leading(t, parts, 1e-12, layers=1) + correction(t, parts, 1e-12, layers=1)
    np.testing.assert_allclose(found, exact, rtol=1e-9, atol=1e-11)


@given(pairs, aspects.filter(lambda a: abs(np.log(a)) > 0.02))
def test_all_that_is_learned_in_the_end(factors, aspect):
    # W = Syx: what is wrong is the noise, |Z|^2 = N3 in the mean, exactly. The slowest mode is the bulk's lower edge.
    s, _, outputs = parts = teacher(factors, aspect)
    t = 60 / abs(1 - aspect**0.5)
    found = leading(t, parts, 1e-4) + correction(t, parts, 1e-4)
    np.testing.assert_allclose(found, outputs / np.sum(s**2), rtol=1e-9)
    np.testing.assert_allclose(training_at(t, parts, 1e-4), 0, atol=1e-20)


@given(pairs, aspects, starts, layer_counts)
def test_the_start(factors, aspect, u0, layers):
    s, inputs, outputs = parts = teacher(factors, aspect)
    modes = min(inputs, outputs)
    overlap = np.asarray(left_overlap(s, aspect) * right_overlap(s, aspect))
    expected = 1 + (modes * u0**2 - 2 * u0 * np.sum(s * overlap)) / np.sum(s**2)
    np.testing.assert_allclose(leading(0.0, parts, u0, layers), expected, rtol=1e-12)


@given(strengths, aspects)
def test_strengths_and_overlaps(s, aspect):
    threshold = float(detection_threshold(aspect))
    shat = float(empirical_singular_value(s, aspect))
    left, right = float(left_overlap(s, aspect)), float(right_overlap(s, aspect))
    np.testing.assert_allclose(threshold**4, aspect, rtol=1e-14)
    assert shat >= max(s, 1 + aspect**0.5) * (1 - 1e-14)
    assert 0 <= left <= 1
    assert 0 <= right <= 1
    assert (left > 0) == (right > 0)
    # Transposed, in units of its own noise: inputs and outputs change places.
    turned = (s / aspect**0.5, 1 / aspect)
    close = dict(rtol=1e-9 + 1e-15 / max(abs(s / threshold - 1), 1e-15), atol=1e-14)
    np.testing.assert_allclose(empirical_singular_value(*turned), shat / aspect**0.5, rtol=1e-13)
    # Squared: at the threshold the overlaps rise as a square root, and a rounding of s would move them by 1e-8.
    there = np.square([left_overlap(*turned), right_overlap(*turned)])
    np.testing.assert_allclose(there, np.square([right, left]), **close)
    # D(shat) = 1/s^2 (Benaych-Georges & Nadakuditi): what |Syx vhat| and the overlaps must share.
    if s > 1.01 * threshold:
        np.testing.assert_allclose(shat * left * right, s - aspect / s**3, rtol=1e-9)


def test_strengths_and_overlaps_at_their_ends():
    np.testing.assert_allclose(empirical_singular_value(1e8, 0.5), 1e8, rtol=1e-15)
    np.testing.assert_allclose((left_overlap(1e8, 0.5), right_overlap(1e8, 0.5)), (1, 1), rtol=1e-15)
    # shat -> s + (1 + aspect) / (2 s) for strong modes, and 1 - O_u^2 -> aspect / s^2, 1 - O_v^2 -> 1 / s^2.
    np.testing.assert_allclose((empirical_singular_value(1e3, 0.5) - 1e3) * 1e3, 0.75, rtol=1e-5)
    np.testing.assert_allclose((1 - left_overlap(1e3, 0.5) ** 2) * 1e6, 0.5, rtol=1e-5)
    np.testing.assert_allclose((1 - right_overlap(1e3, 0.5) ** 2) * 1e6, 1.0, rtol=1e-5)
    edge = 0.5**0.25
    np.testing.assert_allclose(empirical_singular_value(edge * (1 + 1e-7), 0.5), 1 + 0.5**0.5, rtol=1e-12)
    assert empirical_singular_value(0.0, 0.5) == 1 + 0.5**0.5
    assert left_overlap(0.0, 0.5) == 0
    np.testing.assert_allclose(empirical_singular_value(2.0, 1.0), 2.5, rtol=1e-15)  # s + 1/s at equal sizes


@given(pairs, aspects, st.floats(0, 6), starts, layer_counts)
def test_inputs_and_outputs_change_places(factors, aspect, t, u0, layers):
    s, inputs, outputs = parts = teacher(factors, aspect)
    root = aspect**0.5
    # The transposed problem in units in which its noise has variance 1/N3; a layer pair then is slower by the unit.
    turned, clock = (s / root, outputs, inputs), root if layers == 2 else 1.0
    for error, rtol in ((leading, 1e-10), (training_at, 1e-9)):
        found = error(clock * t, turned, u0 / root, layers)
        np.testing.assert_allclose(found, error(t, parts, u0, layers), rtol=rtol, atol=1e-13)
    shift = correction(t, parts, u0, layers)
    # Parts of the size of the largest eigenvalues cancel in it, per unit of |Wbar|^2.
    scale = 2 * (1 + aspect**0.5) ** 2 / np.sum(s**2)
    np.testing.assert_allclose(correction(clock * t, turned, u0 / root, layers), shift, rtol=1e-8, atol=1e-10 * scale)


@given(pairs, aspects, st.floats(0, 6), starts)
def test_sums_over_modes(factors, aspect, t, u0):
    """The leading law spelled out: spikes, and the bulk by a finer quadrature."""
    s, inputs, outputs = parts = teacher(factors, aspect)
    values, overlap = empirical_singular_value(s, aspect), left_overlap(s, aspect) * right_overlap(s, aspect)
    u = mode_strength(t, values, u0)
    spectrum = fine(aspect)
    root = np.sqrt(np.asarray(spectrum.rates))
    # The logistic of each mode, in a form that neither overflows nor divides by a vanishing singular value.
    noise = u0 / (u0 * -np.expm1(-2 * root * t) / root + np.exp(-2 * root * t))
    modes = min(inputs, outputs)
    mean = np.sum(np.asarray(spectrum.weights) * noise**2) / min(1, aspect)
    expected = np.sum(u**2 + s**2 - 2 * u * s * overlap) + (modes - 2) * mean
    np.testing.assert_allclose(leading(t, parts, u0), expected / np.sum(s**2), rtol=1e-10)
    unlearned = np.sum(np.asarray(spectrum.weights) * (root - noise) ** 2) / min(1, aspect)
    left = np.sum((values - u) ** 2) + (modes - 2) * unlearned
    whole = np.sum(values**2) + (modes - 2) * outputs / modes
    np.testing.assert_allclose(training_at(t, parts, u0), left / whole, rtol=1e-9, atol=1e-14)


@given(pairs, aspects, starts, layer_counts)
@settings(max_examples=8)
def test_best_time_is_the_minimum(factors, aspect, u0, layers):
    parts = teacher(factors, aspect)
    t = float(best_time(parts, u0, layers))
    lowest = float(leading(t, parts, u0, layers))
    nearby = np.asarray(leading(max(t, 1e-3) * np.array([0.999, 1.001, 0.5, 2.0, 0.9]), parts, u0, layers))
    assert (nearby >= lowest * (1 - 1e-12)).all()
    assert lowest <= leading(0.0, parts, u0, layers)


def test_stopping_between_signal_and_noise():
    # A strong spike is learned at ln(shat/u0) / (2 shat); a lost one joins the edge of the bulk, learned at the like.
    u0, s, aspect = 1e-6, np.array([8.0, 1e-3]), 0.5
    shat, edge = np.asarray(empirical_singular_value(s, aspect))
    t = best_time(SpikedTeacher(s, 200.0, 100.0), u0)
    assert np.log(shat / u0) / (2 * shat) < t < np.log(edge / u0) / (2 * edge)
    # Where noise drowns all signal, not to learn is best.
    assert best_time((np.array([0.1, 0.1]), 200.0, 100.0), 1e-3) == 0
    # One layer, u0 -> 0: W = x Syx with x = 1 - e^{-t}, best at signal held over all that is learned.
    overlap = float(left_overlap(s[0], aspect) * right_overlap(s[0], aspect))
    learned = s[0] * shat * overlap / (shat**2 + edge**2 + 98)  # 98 modes of noise, of mean square one
    found = best_time((s, 200.0, 100.0), 1e-12, layers=1)
    np.testing.assert_allclose(found, -np.log1p(-learned), rtol=1e-8)


slope_of_time = jax.jit(jax.grad(lambda s, u0: optimal_stopping_time((s, 200.0, 100.0), u0), argnums=(0, 1)))


def test_slopes_of_the_best_time():
    s, u0, h = np.array([5.0, 2.0]), 1e-3, 1e-5
    found = slope_of_time(s, u0)
    for i in range(2):
        plus, minus = (best_time((s + sign * h * np.eye(2)[i], 200.0, 100.0), u0) for sign in (1, -1))
        np.testing.assert_allclose(found[0][i], (plus - minus) / (2 * h), rtol=1e-5, atol=1e-8)
    plus, minus = (best_time((s, 200.0, 100.0), u0 * (1 + sign * h)) for sign in (1, -1))
    np.testing.assert_allclose(found[1], (plus - minus) / (2 * h * u0), rtol=1e-5)


def total(t, s, u0, inputs, outputs):
    parts = (s, inputs, outputs), u0
    errors = generalization_error(t, *parts), generalization_error_correction(t, *parts), training_error(t, *parts)
    return jnp.stack(errors)


slopes = jax.jit(jax.jacrev(total, argnums=(0, 1, 2)))


@pytest.mark.parametrize("outputs", [50.0, 100.0, 200.0])
@pytest.mark.parametrize("t", [0.0, 1.5, 1e6])
def test_gradients_at_the_hard_points(t, outputs):
    # A spike on its threshold, a lost one and a strong one; as many outputs as inputs; long times.
    edge = (outputs / 100) ** 0.25
    for s in (np.array([3.0, edge]), np.array([edge * (1 + 1e-12), 0.01])):
        assert all(np.isfinite(g).all() for g in slopes(t, s, 1e-3, 100.0, outputs))
    assert np.isfinite(jax.grad(lambda s: left_overlap(s, outputs / 100))(edge))


def test_float32():
    single = np.float32
    parts = (np.array([4.0, 2.0], single), single(64), single(32)), single(1e-3)
    found = leading(TIMES.astype(single), *parts)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, leading(TIMES, (np.array([4.0, 2.0]), 64.0, 32.0), 1e-3), rtol=1e-4)


GOOD = (np.array([2.0]), 100.0, 50.0)


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: detection_threshold(0.0), "aspect"),
        (lambda: empirical_singular_value(-1.0, 0.5), "s"),
        (lambda: left_overlap(1.0, float("nan")), "aspect"),
        (lambda: generalization_error(-1.0, GOOD, 1e-3), "t"),
        (lambda: generalization_error(1.0, GOOD, 0.0), "u0"),
        (lambda: generalization_error_correction(1.0, GOOD, 1e-3, 3), "layers"),
        (lambda: training_error(1.0, (np.array([0.0]), 100.0, 50.0), 1e-3), "strengths"),
        (lambda: training_error(1.0, (np.array([1.0]), -1.0, 50.0), 1e-3), "inputs"),
        (lambda: optimal_stopping_time((np.array([1.0]), 100.0, 0.0), 1e-3), "outputs"),
    ],
)
def test_refusals_name_the_argument(call, named):
    with pytest.raises(ValueError, match=rf"^{named} must"):
        call()
