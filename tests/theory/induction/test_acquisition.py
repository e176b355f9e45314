"""In-context acquisition: all strings of labels, derivatives, the fall by integration, saturation, memorisers."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from theory.flow import flow
from theory.induction.acquisition import (
    Circuit,
    Contexts,
    acquisition_flow,
    acquisition_time,
    ascent,
    attended_label,
    balanced_contexts,
    critical_diversity,
    in_context_accuracy,
    in_context_loss,
    memoriser_moments,
    random_contexts,
    reduced_flow,
    required_error,
)

weights = st.floats(-3, 10)
sharpnesses = st.floats(-3, 5)
margins = st.tuples(st.floats(-3, 5), st.floats(-3, 5)).map(np.array)
copies = st.sampled_from([1, 2])
noises = st.floats(1e-3, 1)


def by_enumeration(w, beta, context, margins, copies):
    """Loss and accuracy from the softmax over tokens, for each of the 2^M strings of labels."""
    losses, right = [], []
    for labels in itertools.product((-1.0, 1.0), repeat=context - 1):
        scores = np.exp(np.array([beta] + [0.0] * (context - 1) + [beta] * (copies - 1)))
        read = (scores / scores.sum()) @ np.array([1.0, *labels] + [0.0] * (copies - 1))
        losses += [np.logaddexp(0, -phi - w * read) for phi in margins]
        right.append((1 + np.sign(np.round(w * read, 13))) / 2)
    return np.mean(losses), np.mean(right)


@given(weights, sharpnesses, margins, copies, st.sampled_from([2, 5, 9]))
def test_all_strings_of_labels(w, beta, phi, c, context):
    contexts = random_contexts(context)
    loss, accuracy = by_enumeration(w, beta, context, phi, c)
    np.testing.assert_allclose(in_context_loss((w, beta), contexts, phi, c), loss, rtol=1e-12)
    if abs(w) > 1e-6 and min(abs(np.exp(beta) + np.asarray(contexts.sums))) > 1e-9:
        np.testing.assert_allclose(in_context_accuracy((w, beta), contexts, c), accuracy, rtol=1e-12)


def test_many_labels():
    """Moments of a sum of a thousand signs; a tie counts half."""
    many = random_contexts(1001)
    np.testing.assert_allclose(np.sum(many.probable), 1, rtol=1e-14)
    for power, expected in ((1, 0), (2, 1000), (4, 3 * 1000**2 - 2 * 1000)):
        np.testing.assert_allclose(np.sum(many.probable * many.sums**power), expected, rtol=1e-11, atol=1e-10)
    np.testing.assert_allclose(in_context_accuracy((1.0, 0.0), random_contexts(4)), 0.5 + 3 / 16 + 0.0, rtol=1e-12)
    assert in_context_accuracy((1.0, 0.0), random_contexts(2)) == 0.75
    assert in_context_accuracy((0.0, 3.0), many) == 0.5


@given(weights, sharpnesses, margins, copies)
def test_ascent_is_minus_the_slope_of_the_loss(w, beta, phi, c):
    contexts, state = random_contexts(6), (jnp.asarray(w), jnp.asarray(beta))
    slopes = jax.grad(lambda state: in_context_loss(state, contexts, phi, c))(state)
    np.testing.assert_allclose(ascent(state, contexts, phi, c), -np.asarray(slopes), rtol=1e-10, atol=1e-14)


def test_saturation_stays_finite():
    contexts = random_contexts(50)
    for w, beta, phi in ((1e8, 900.0, 0.0), (-1e8, 900.0, 800.0), (1e8, -900.0, -800.0), (0.0, 0.0, 1e6)):
        found = (in_context_loss((w, beta), contexts, np.array([phi])), *ascent((w, beta), contexts, np.array([phi])))
        assert np.isfinite([float(x) for x in found]).all()
    np.testing.assert_allclose(attended_label(900.0, contexts), 0.5)
    np.testing.assert_allclose(attended_label(900.0, contexts, 1.0), 1.0)
    np.testing.assert_allclose(attended_label(-900.0, contexts), contexts.sums / 49, atol=1e-15)
    assert np.isfinite(memoriser_moments(np.array([800.0, 30.0, -600.0]))).all()
    assert memoriser_moments(np.array([800.0, 900.0])).noise == 1


T = np.linspace(0, 400, 201)
UNTRAINED = np.zeros(2)


def padded(contexts, size=100):
    """The same contexts beside sums that never occur: one compiled flow for all."""
    missing = (0, size - len(contexts.sums))
    return Contexts(contexts.others, np.pad(contexts.sums, missing), np.pad(contexts.probable, missing))


def moment(t, flow, context):
    """When e^beta reaches twice the size sqrt(N) of the other labels' sum."""
    return np.interp(np.log(4 * context) / 2, flow.sharpness, t)


@pytest.mark.parametrize(
    # The ratio of the exact time to the leading one, from an integration by another program.
    ("context", "expected"),
    [(25, (1.05, 1.19, 1.41)), (100, (1.014, 1.05, 1.11))],
)
def test_flow(context, expected):
    contexts = padded(random_contexts(context))
    for beta, ratio in zip((-1.0, 0.0, 1.0), expected, strict=True):
        time = float(acquisition_time(context, beta))
        t = np.linspace(0, 2 * time, 201)
        found = acquisition_flow(t, contexts, UNTRAINED, (0.0, beta))
        assert (np.diff(in_context_loss(found, contexts)) < 1e-12).all()
        assert (np.diff(found.sharpness) > 0).all()
        np.testing.assert_allclose(moment(t, found, context) / time, ratio, atol=0.006)


def test_flow_beside_a_memoriser():
    contexts, steady = padded(random_contexts(20)), np.array([0.3, 1.2])
    found = acquisition_flow(T, contexts, steady)
    rows = acquisition_flow(T, contexts, np.tile(steady, (len(T), 1)))
    np.testing.assert_allclose(rows, found, rtol=1e-9, atol=1e-10)
    # Items that are all learned leave nothing to learn.
    learned = acquisition_flow(T, contexts, np.outer(T, [0.5, 1.0]))
    assert learned.sharpness[-1] < 0.5 < 2 < found.sharpness[-1]
    # A decay damps as more noise of labels would, N lambda / c_1.
    slowed = acquisition_flow(5 * T, padded(random_contexts(100)), UNTRAINED, decay=0.002)
    late = moment(5 * T, slowed, 100) / acquisition_time(100, 0.0, 0.5, 0.5 + 100 * 0.002 / 0.5)
    np.testing.assert_allclose(late, 1.05, atol=0.03)
    # The weight comes to rest where its drive equals its decay, while the sharpness creeps on.
    faded = acquisition_flow(10 * T, contexts, steady, (0.0, 6.0), decay=0.01)
    end = Circuit(*(x[-1] for x in faded))
    np.testing.assert_allclose(ascent(end, contexts, steady).weight, 0.01 * end.weight, rtol=1e-4)


def test_a_memoriser_at_work_is_a_clock():
    """However the memoriser learns, the circuit is acquired when its accumulated error is N T: here as c_1 falls."""
    context, t = 100, np.linspace(0, 1500, 201)
    phi = np.log1p(t / 300)[:, None]
    found = acquisition_flow(t, padded(random_contexts(context)), np.hstack([phi, phi]), (0.0, 0.0))
    error, noise, _ = memoriser_moments(phi)
    error = np.asarray(error)
    clock = np.concatenate([[0.0], np.cumsum((error[1:] + error[:-1]) / 2 * np.diff(t))]) / context
    at = moment(t, found, context)
    # The noise of the memoriser rises from 1/2: its two values bracket the clock, beside the 5 % of a hundred labels.
    low, high = (float(required_error(0.0, c2)) for c2 in (noise[0], np.interp(at, t, noise)))
    assert 1.03 * low < np.interp(at, t, clock) < 1.06 * high
    # Without this memoriser it would have come earlier.
    assert at > 1.3 * acquisition_time(context, 0.0)


def test_required_error_by_integration():
    """The time of the fall, in units of c_2, in a clock ds = dlambda / (1 + v) in which no speed diverges."""

    def field(state):
        w, log_v, _ = state
        slow, fast = jax.nn.sigmoid(-log_v), jax.nn.sigmoid(log_v)
        return fast - w * slow, w * fast, slow

    beta, noise = (x.ravel() for x in np.meshgrid([-1.0, 0.0, 2.0], [0.01, 0.5, 1.0]))
    start = (jnp.zeros(9), jnp.asarray(beta - np.log(noise)), jnp.zeros(9))
    found = flow(field, jnp.array([40.0]), start, rtol=1e-10, atol=1e-12)[2][0]
    np.testing.assert_allclose(required_error(beta, noise) * noise, found, rtol=1e-8)


def test_limits_of_the_required_error():
    # From tables of the blow-up at c_2 = 1.
    for v, expected in ((0.05, 203.915), (0.1, 53.2215), (1.0, 1.498965), (10.0, 0.127507)):
        np.testing.assert_allclose(required_error(np.log(v), 1.0), expected, rtol=1e-5)
    np.testing.assert_allclose(required_error(3.0, 0.0), np.sqrt(np.pi / 2) * np.exp(-3), rtol=1e-14)
    tiny = required_error(3.0, np.array([1e-300, 1e-17, 1e-15, 1e-9]))
    np.testing.assert_allclose(tiny, required_error(3.0, 0.0), rtol=1e-8)
    np.testing.assert_allclose(required_error(-20.0, 0.5), 0.25 * np.exp(40), rtol=1e-12)
    beta = np.linspace(-5, 5, 101)
    assert (np.diff(required_error(beta)) < 0).all()
    # Slower than free fall, and the more so the more noise.
    assert (np.diff(required_error(beta[:, None], np.linspace(0, 1, 11)), axis=1) > 0).all()


@given(st.floats(0, 0.999), st.floats(-2, 3), st.floats(0, 1))
def test_reduced_flow_obeys_its_equations(share, beta, noise):
    tau = share * required_error(beta, noise)
    found, rate = jax.jvp(lambda tau: reduced_flow(tau, beta, noise), (tau,), (jnp.ones(()),))
    drive = np.exp(found.sharpness)
    size = drive + found.weight * drive
    np.testing.assert_allclose(rate.weight, drive - noise * found.weight, atol=1e-7 * size)
    np.testing.assert_allclose(rate.sharpness, found.weight * drive, atol=1e-7 * size)


def test_reduced_flow_from_its_start_to_its_end():
    start = reduced_flow(0.0, -1.0, 0.7)
    np.testing.assert_allclose(start, (0, -1), atol=1e-14)
    # Far above the ground there is no fall in sight for a long time, and nothing overflows.
    far = reduced_flow(float(required_error(-5.0, 1.0)) * np.array([0.1, 0.9, 0.9999]), -5.0, 1.0)
    assert np.isfinite(far).all()
    assert (np.diff(far.sharpness) > 0).all()


def test_balanced_contexts():
    """Without noise: the copy is found from beta > 0, from below zero the label that is missing is."""
    contexts = padded(balanced_contexts(20))
    up, down = (acquisition_flow(T, contexts, UNTRAINED, (0.0, beta)) for beta in (0.5, -0.5))
    assert up.weight[-1] > 0 and up.sharpness[-1] > 2
    assert down.weight[-1] < 0 and down.sharpness[-1] < -2
    assert in_context_loss(down, contexts)[-1] < np.log(2)
    np.testing.assert_allclose(in_context_accuracy((1.0, 0.5), contexts), 1)


@given(st.floats(-2, 2), st.floats(0.3, 1.2), noises)
def test_critical_diversity(beta, exponent, noise):
    needed = 30 * required_error(beta, noise)
    k = critical_diversity(needed, 0.05, exponent)
    np.testing.assert_allclose(0.05 * k**exponent, needed, rtol=1e-10)
    np.testing.assert_allclose(acquisition_time(30, beta, 0.2, noise), needed / 0.2, rtol=1e-10)


def test_moments():
    phi = np.array([0.3, -1.0, 4.0])
    sigma = 1 / (1 + np.exp(phi))
    found = memoriser_moments(phi)
    expected = (sigma.mean(), 1 - (sigma**2).mean() / sigma.mean(), np.exp(-phi).mean())
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    np.testing.assert_allclose(memoriser_moments(np.zeros((2, 5))), [[0.5] * 2, [0.5] * 2, [1] * 2])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: random_contexts(1), "context must be a whole number of at least 2"),
        (lambda: balanced_contexts(5), "context must be even"),
        (lambda: attended_label(np.nan, random_contexts(3)), "sharpness must be finite"),
        (lambda: attended_label(0.0, random_contexts(3), 0.5), "copies must be at least 1, got 0.5"),
        (lambda: attended_label(0.0, Contexts(2.0, np.zeros(3), np.ones(2))), "one length"),
        (lambda: ascent((np.inf, 0.0), random_contexts(3)), "weight must be finite"),
        (lambda: in_context_loss((0.0, 0.0), random_contexts(3), np.zeros(0)), "margins must hold one item"),
        (lambda: acquisition_flow(T, random_contexts(3), np.ones((3, 2))), "margins must be"),
        (lambda: acquisition_flow(T, random_contexts(3), start=(np.zeros(2), 0.0)), "start must hold two numbers"),
        (lambda: acquisition_flow(T, random_contexts(3), decay=-1.0), "decay must be non-negative"),
        (lambda: memoriser_moments(np.zeros((2, 0))), "margins must hold one item"),
        (lambda: required_error(0.0, -0.5), "noise must be non-negative and finite, got -0.5"),
        (lambda: reduced_flow(2.0, 1.0), "tau must be below the time of acquisition"),
        (lambda: acquisition_time(1.0, 0.0), "context must be at least 2"),
        (lambda: acquisition_time(10, 0.0, 0.0), "error must be positive"),
        (lambda: critical_diversity(10, 0.1, 0.0), "exponent must be positive"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call()
