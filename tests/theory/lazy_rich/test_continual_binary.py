"""Two tasks with binary weights: literature's numbers, gates from sums over weights, limits and what a gate costs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from theory.lazy_rich.continual_binary import (
    elastic_divergence,
    field_divergence,
    field_overlap,
    forget_gate,
    free_entropy,
    joint_overlaps,
    overlap,
    perfect_learning_load,
    related_mean,
    second_task_overlaps,
    sign_log_likelihood,
)
from theory.lazy_rich.continual_perceptron import posterior_mean_error, sign_channel, sign_precision

fields = st.floats(-4, 4)
correlations = st.floats(-1, 1)
loads = st.floats(0.1, 1.0)
entropy_slope = jax.jit(jax.grad(free_entropy))
likelihood_slope = jax.jit(jax.grad(sign_log_likelihood))
precision_slope = jax.jit(jax.grad(sign_precision))


def test_the_jump_and_its_neighbourhood():
    """Gyorgyi 1990: 1.245. Above it the solution is metastable until it vanishes between 1.49 and 1.50."""
    load = float(perfect_learning_load())
    np.testing.assert_allclose(load, 1.245, atol=5e-4)
    np.testing.assert_allclose(free_entropy(overlap(load), load), -np.log(2), atol=1e-10)
    assert overlap(1.49) < 0.95 < overlap(1.5)
    np.testing.assert_allclose(overlap(2.0), 1, atol=1e-9)
    assert free_entropy(overlap(1.2), 1.2) > -np.log(2) > free_entropy(overlap(1.3), 1.3)


@given(st.floats(0.01, 1.45))
def test_the_overlap_solves_its_law_and_is_where_the_free_entropy_is_stationary(alpha):
    q = float(overlap(alpha))
    np.testing.assert_allclose(field_overlap(sign_precision(q, alpha)), q, rtol=1e-9)
    np.testing.assert_allclose(entropy_slope(q, alpha), 0, atol=1e-9)


@given(st.floats(0.05, 0.9), loads)
def test_slopes_of_the_likelihood_and_the_free_entropy(q, alpha):
    """2 alpha Psi' = q_hat; elsewhere F' = (E tanh h - q) q_hat' / 2."""
    precision = sign_precision(q, alpha)
    np.testing.assert_allclose(2 * alpha * likelihood_slope(q), precision, rtol=1e-9)
    expected = (field_overlap(precision) - q) * precision_slope(q, alpha) / 2
    np.testing.assert_allclose(entropy_slope(q, alpha), expected, rtol=1e-8, atol=1e-10)


@given(st.floats(0.05, 10))
def test_certainty_is_overlap(precision):
    """E tanh h = E tanh^2 h, by an integral of its own."""
    h = np.linspace(-14, 14, 4001)
    weights = np.exp(-(h**2) / 2)
    m = np.tanh(precision + np.sqrt(precision) * h)
    for power in (1, 2):
        np.testing.assert_allclose(np.sum(weights * m**power) / weights.sum(), field_overlap(precision), atol=1e-12)


@given(fields, fields, correlations)
def test_gates_are_sums_over_two_weights(field, other, correlation):
    states = [(w, v) for w in (1, -1) for v in (1, -1)]
    shares = np.array([np.exp(w * field + v * other) * (1 + correlation * w * v) for w, v in states])
    first = np.array([w for w, _ in states])
    if shares.sum() > 0:
        found = related_mean(field, other, correlation)
        np.testing.assert_allclose(found, shares @ first / shares.sum(), atol=1e-12)
    passed_on = np.tanh(forget_gate(field, correlation))
    np.testing.assert_allclose(passed_on, correlation * np.tanh(field), atol=1e-12)


def test_gates_at_their_ends():
    h = np.array([-300.0, -1.0, 0.0, 2.0, 300.0])
    np.testing.assert_allclose(forget_gate(h, 1.0), h)
    np.testing.assert_allclose(forget_gate(h, -1.0), -h)
    np.testing.assert_allclose(forget_gate(h, 0.0), 0)
    np.testing.assert_allclose(forget_gate(h, 0.5)[-1], np.arctanh(0.5))
    assert np.isfinite(jax.grad(lambda x: forget_gate(x, 0.3))(200.0))


@given(st.integers(0, 2**32 - 1))
def test_divergences(seed):
    rng = np.random.default_rng(seed)
    field, prior = rng.normal(size=(2, 3))
    up = lambda h: 1 / (1 + np.exp(-2 * h))  # noqa: E731
    p, q = (np.stack([up(h), up(-h)]) for h in (field, prior))
    np.testing.assert_allclose(field_divergence(field, prior), np.sum(p * np.log(p / q)), rtol=1e-9)
    slope = jax.grad(field_divergence)(jnp.asarray(field), prior)
    np.testing.assert_allclose(slope, (field - prior) / np.cosh(field) ** 2, atol=1e-12)
    near = prior + 1e-3 * field
    np.testing.assert_allclose(elastic_divergence(near, prior), field_divergence(near, prior), rtol=2e-2, atol=1e-15)
    np.testing.assert_allclose(field_divergence(prior, prior), 0, atol=1e-13)


def test_numbers_of_two_tasks_and_of_simulations():
    """N = 2000, five seeds, message passing in another program: (R, q, R_1) and their standard errors."""
    table = {
        (1.0, 0.5, 0.5): ((0.5111, 0.5101, 0.5111), (0.0043, 0.0021, 0.0043)),
        (0.8, 0.8, 0.5): ((0.5471, 0.6186, 0.5617), (0.0035, 0.0019, 0.0055)),
        (0.5, 0.8, 0.8): ((0.5547, 0.6876, 0.4699), (0.0096, 0.0032, 0.0068)),
        (-0.5, 0.5, 0.8): ((0.3230, 0.5554, -0.0324), (0.0047, 0.0056, 0.0065)),
    }
    for case, (means, errors) in table.items():
        first, second, own, stability, residual = second_task_overlaps(*case)
        assert (np.abs(np.array([second, own, first]) - means) < 5 * np.array(errors)).all()
        assert stability < 1
        assert residual < 1e-10


@given(correlations, loads, loads)
def test_the_state_solves_its_law(correlation, first, second):
    """Sampled fields of both tasks."""
    found = second_task_overlaps(correlation, first, second, 0.7)
    channel = sign_channel(found.second, found.own, second)
    rng, size = np.random.default_rng(0), 50_000
    w = np.where(rng.random(size) < (1 + correlation) / 2, 1.0, -1.0)
    old = float(sign_precision(overlap(first), first))
    theta = old * w + np.sqrt(old) * rng.normal(size=size)
    h = np.asarray(forget_gate(theta, 0.7)) + channel.signal + np.sqrt(channel.precision) * rng.normal(size=size)
    m = np.tanh(h)
    for sample, value in ((w * m, found.first), (m, found.second), (m**2, found.own)):
        assert abs(sample.mean() - value) < 5 * sample.std() / np.sqrt(size)


@given(correlations, loads, loads)
def test_a_gate_makes_the_student_right_about_itself_and_better(correlation, first, second):
    gated, plain = (second_task_overlaps(correlation, first, second, gate) for gate in (correlation, 1.0))
    np.testing.assert_allclose(gated.own, gated.second, atol=1e-9)
    joint = joint_overlaps(correlation, first, second)
    errors = [posterior_mean_error(table.own, table.second) for table in (gated, plain)]
    assert posterior_mean_error(joint[1]) <= errors[0] + 1e-9
    assert errors[0] <= errors[1] + 1e-9
    exchanged = joint_overlaps(correlation, second, first)
    np.testing.assert_allclose(exchanged[::-1], joint, atol=1e-10)


@given(st.floats(0.1, 1.3))
def test_a_matched_student_is_as_stable_as_its_iteration(alpha):
    """For a Bayesian the slope of q -> E tanh h is that stability: on the way up from zero it is below one."""
    fresh = second_task_overlaps(0.3, 0.0, alpha)
    change = lambda q: field_overlap(sign_precision(q, alpha))  # noqa: E731
    q, step = float(fresh.own), 1e-5
    np.testing.assert_allclose(fresh.stability, (change(q + step) - change(q - step)) / (2 * step), rtol=1e-6)
    assert fresh.stability < 1


def test_limits_of_two_tasks():
    q = overlap(0.7)
    nothing = second_task_overlaps(0.6, 0.7, 0.0)
    np.testing.assert_allclose(nothing[:3], (q, 0.6 * q, q), atol=1e-10)
    fresh = second_task_overlaps(0.6, 0.0, 0.7)
    np.testing.assert_allclose(fresh[:3], (0.6 * q, q, q), atol=1e-10)
    closed = second_task_overlaps(0.6, 0.5, 0.7, 0.0)
    np.testing.assert_allclose(closed.second, q, atol=1e-10)
    np.testing.assert_allclose(joint_overlaps(1.0, 0.3, 0.4), q, atol=1e-9)
    np.testing.assert_allclose(joint_overlaps(0.0, 0.3, 0.7), (overlap(0.3), q), atol=1e-9)
    np.testing.assert_allclose(joint_overlaps(-1.0, 0.3, 0.4), q, atol=1e-9)
    # Two halves learned in sequence are less than both at once: the fields forget how weights go together.
    assert second_task_overlaps(1.0, 0.35, 0.35).own < q - 0.005
    everything = second_task_overlaps(1.0, 1.4, 1.4)
    np.testing.assert_allclose(everything[:3], 1, atol=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: overlap(-0.1), "alpha must be non-negative"),
        (lambda: field_overlap(-1.0), "precision must lie between 0 and 100"),
        (lambda: sign_log_likelihood(0.995), "q must lie between 0 and 0.99"),
        (lambda: free_entropy(0.5, -1.0), "alpha must be non-negative"),
        (lambda: forget_gate(0.5, 1.1), "correlation must lie between -1 and 1, got 1.1"),
        (lambda: related_mean(np.nan, 0.5, 0.1), "field must be finite"),
        (lambda: field_divergence(np.ones(2), np.ones(3)), "prior must be of the shape of field"),
        (lambda: elastic_divergence(np.ones(2), np.full(2, np.inf)), "prior must be finite"),
        (lambda: second_task_overlaps(0.5, 1.5, 0.2), "first must lie between 0 and 1.4, got 1.5"),
        (lambda: second_task_overlaps(0.5, 0.5, 0.2, -1.2), "gate must lie between -1 and 1"),
        (lambda: joint_overlaps(2.0, 0.5, 0.2), "correlation must lie between"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call()
