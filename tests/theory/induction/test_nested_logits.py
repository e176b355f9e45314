"""Three nested logits: derivatives, what is kept, the plateau, the drive as a clock, the saddle, saturation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from theory.induction.nested_logits import (
    Logits,
    ascent,
    averaged_flow,
    conserved,
    nested_flow,
    plateau_copy,
    progress,
    required_drive,
    saddle_rate,
)

logits = st.tuples(st.floats(-3, 10), st.floats(-3, 10), st.floats(-3, 10))
# Few sizes: each is compiled anew.
contexts = st.sampled_from([2, 3, 8])
more = st.sampled_from([0, 1, 20])
competitors = st.floats(0.5, 20)


def direct(logits, n, labels, c):
    """ln p written out over all L labels."""
    xi, beta2, beta1 = logits
    s1 = jnp.exp(beta1) / (jnp.exp(beta1) + c)
    attention = jax.nn.softmax(jnp.array([beta2 * s1] + [0.0] * (n - 1)))
    outputs = jnp.concatenate([xi * attention, jnp.zeros(labels - n)])
    return jax.nn.log_softmax(outputs)[0]


@given(logits, contexts, more, competitors)
def test_loss_and_its_derivatives(state, n, extra, c):
    labels = n + extra
    found = progress(state, n, labels, c)
    value, slopes = jax.value_and_grad(lambda s: direct(s, n, labels, c))(jnp.asarray(state))
    np.testing.assert_allclose(found.loss, -value, rtol=1e-9, atol=1e-13)
    np.testing.assert_allclose(ascent(state, n, labels, c), slopes, rtol=1e-7, atol=1e-12)
    np.testing.assert_allclose(found.contextual, found.accuracy + (n - 1) * found.other, rtol=1e-12)
    assert found.accuracy <= found.contextual * (1 + 1e-12) <= 1 + 1e-9


@given(contexts, more, competitors)
def test_the_origin_knows_only_that_the_answer_is_in_the_context(n, extra, c):
    labels = n + extra
    first = ascent((0.0, 0.0, 0.0), n, labels, c)
    np.testing.assert_allclose(first, [(labels - n) / (labels * n), 0, 0], atol=1e-15)
    np.testing.assert_allclose(progress((0.0, 0.0, 0.0), n, labels, c).accuracy, 1 / labels, rtol=1e-12)


def test_saturation_stays_finite():
    for state in ((800.0, 900.0, 700.0), (-800.0, 900.0, 700.0), (1e4, -1e4, 1e4), (0.0, 1e5, -1e5)):
        found, direction = progress(state, 4, 16, 7.0), ascent(state, 4, 16, 7.0)
        assert np.isfinite([float(v) for v in (*found, *direction)]).all()
    # 1 - p is known where p is one to the last digit.
    assert 0 < progress((60.0, 90.0, 30.0), 4, 16, 7.0).loss < 1e-20
    assert np.isfinite(progress((60.0, 90.0, 30.0), 4, 4, 7.0).loss)


T = np.linspace(0, 60, 25)


@pytest.mark.parametrize(("n", "labels", "c"), [(2, 8, 3.0), (4, 16, 7.0), (8, 32, 15.0)])
def test_flow(n, labels, c):
    found = nested_flow(T, n, labels, c)
    assert (np.diff(progress(found, n, labels, c).loss) < 1e-12).all()
    np.testing.assert_allclose(conserved(found.match, found.previous, c), -1 / c, atol=1e-6)
    # Contextual labels come first, and the two layers move together.
    seen = progress(found, n, labels, c)
    assert (seen.contextual >= seen.accuracy).all()
    small = 1e-3
    start = nested_flow(np.array([small]), n, labels, c)
    np.testing.assert_allclose(start.copy[0], small * (labels - n) / (n * labels), rtol=1e-2)


@given(st.floats(0, 1e4), contexts, st.integers(1, 20))
def test_plateau(t, n, extra):
    labels = n + extra
    xi = plateau_copy(t, n, labels)
    left = n**2 * np.expm1(xi / n) + (labels - n) * xi
    np.testing.assert_allclose(left, t * (labels - n) / n, rtol=1e-9, atol=1e-12)
    loss = progress((xi, 0.0, 0.0), n, labels, 1.0).loss
    assert np.log(n) - 1e-9 <= loss <= np.log(labels) + 1e-9


def test_plateau_is_the_flow_without_matching():
    # A layer that sees nothing, c -> infinity, matches nothing.
    found = nested_flow(T, 4, 16, 1e9)
    np.testing.assert_allclose(found.copy, plateau_copy(T, 4, 16), rtol=1e-5, atol=1e-8)
    assert plateau_copy(5.0, 4, 4) == 0


def test_the_required_drive():
    # Values of a midpoint rule with 10^6 nodes.
    for c, expected in ((3.0, 5.8795), (7.0, 11.8445), (15.0, 22.5519), (63.0, 83.7713)):
        np.testing.assert_allclose(required_drive(c), expected, rtol=1e-5)
    large = required_drive(np.array([1e4, 1e5])) / (np.sqrt(np.pi / 2) * np.array([1e4, 1e5]))
    assert abs(large[1] - 1) < abs(large[0] - 1) < 0.01
    # It is the drive along the flow, up to the moment at which labels look half at their item.
    n, labels, c = 4, 16, 7.0
    t = np.linspace(0, 60, 6001)
    flow = nested_flow(t, n, labels, c)
    seen = progress(flow, n, labels, c)
    drive = flow.copy * (1 - seen.accuracy + seen.other) * seen.attention * (1 - seen.attention)
    half = int(np.argmax(np.asarray(seen.association) > 0.5))
    total = np.sum((drive[1 : half + 1] + drive[:half]) / 2 * np.diff(t[: half + 1]))
    np.testing.assert_allclose(total, required_drive(c), rtol=5e-3)


def test_without_a_curriculum_the_origin_is_a_saddle():
    rate = float(saddle_rate(4, 7.0))
    t = np.linspace(0, 700, 2801)
    times = []
    for delta in (1e-3, 1e-4):
        seen = progress(nested_flow(t, 4, 4, 7.0, start=(delta, delta, 0.0)), 4, 4, 7.0)
        times.append(t[np.argmax(np.asarray(seen.accuracy) > 0.5)])
    np.testing.assert_allclose(times[1] - times[0], np.log(10) / rate, atol=1)
    still = nested_flow(np.array([500.0]), 4, 4, 7.0)
    # Rounding of 1e-17, grown at the saddle's rate.
    np.testing.assert_allclose(still, 0, atol=1e-7)


def test_the_average_over_labels_lies_between_its_parts():
    t = np.linspace(0, 300, 301)
    halves = []
    for flow, c in (
        (averaged_flow(t, 4, 16, 1.0), 4.0),
        (nested_flow(t, 4, 16, 1.0), 1.0),
        (nested_flow(t, 4, 16, 7.0), 7.0),
    ):
        halves.append(t[np.argmax(np.asarray(progress(flow, 4, 16, c).accuracy) > 0.5)])
    assert halves[1] < halves[0] < halves[2]


def test_one_label_is_the_single_flow():
    """Averaged over equal competitors it is `nested_flow`: two labels, of which both compete alike, by hand."""
    t = np.array([5.0, 20.0])
    found = nested_flow(t, 2, 6, 3.0, copy_rate=0.2)

    @jax.jit
    def euler(state, dt):
        g = ascent(state, 2, 6, 3.0)
        return state[0] + 0.2 * dt * g[0], state[1] + dt * g[1], state[2] + dt * g[2]

    state, dt = (jnp.zeros(()),) * 3, 1e-3
    for end, row in zip((5.0, 20.0), np.asarray(found).T, strict=True):
        steps = round((end - (0 if end == 5.0 else 5.0)) / dt)
        state = jax.lax.fori_loop(0, steps, lambda _, s: euler(s, dt), state)
        np.testing.assert_allclose(state, row, rtol=1e-2, atol=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: progress((0.0, 0.0, 0.0), 1.0, 4, 1.0), "context must be above 1, got 1"),
        (lambda: progress((0.0, 0.0, 0.0), 4, 3, 1.0), "labels must be at least"),
        (lambda: progress((np.nan, 0.0, 0.0), 4, 8, 1.0), "copy must be finite"),
        (lambda: ascent((0.0, 0.0, 0.0), 4, 8, 0.0), "competitors must be positive"),
        (lambda: nested_flow(np.array([1.0, 0.5]), 4, 8, 1.0), "t must increase"),
        (lambda: nested_flow(np.ones(1), 4, 8, 1.0, copy_rate=0.0), "copy_rate must be positive"),
        (lambda: nested_flow(np.ones(1), 4, 8, 1.0, start=Logits(np.zeros(2), 0.0, 0.0)), "start must hold three"),
        (lambda: required_drive(1.0), "competitors must be above 1"),
        (lambda: plateau_copy(-1.0, 4, 8), "t must be non-negative"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call()
