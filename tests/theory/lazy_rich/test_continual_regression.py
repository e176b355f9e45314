"""Continual linear regression: explicit students on drawn data, limits, orders that do not matter, who beats whom."""

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import expm

from theory.deep_linear.marchenko_pastur import average
from theory.lazy_rich.continual_regression import (
    Filter,
    bayes_errors,
    correlation_matrix,
    descent_filter,
    errors_after,
    fisher_pull,
    flow_filter,
    forgetting,
    joint_ridge_errors,
    optimal_pull,
    posterior_covariance,
    pull_filter,
    sequential_errors,
    stopped_flow_filter,
    transfer,
)

T = 3
seeds = st.integers(0, 2**32 - 1)
noises = st.floats(0.01, 1)
correlations = st.floats(-0.95, 0.95)


def teachers(seed, size=T):
    """A random correlation matrix."""
    raw = np.random.default_rng(seed).normal(size=(size, size + 1))
    raw /= np.linalg.norm(raw, axis=1, keepdims=True)
    return raw @ raw.T


def loads(seed, low=0.2, high=3.0, size=T):
    return np.random.default_rng(seed + 1).uniform(low, high, size)


def drawn(rng, gram, samples, inputs, noise):
    """Teachers of exactly these overlaps, and a fresh data set of each."""
    basis = np.linalg.qr(rng.normal(size=(inputs, len(gram))))[0].T * np.sqrt(inputs)
    w = np.linalg.cholesky(gram + 1e-12 * np.eye(len(gram))) @ basis
    x = [rng.normal(size=(p, inputs)) / np.sqrt(inputs) for p in samples]
    return w, x, [a @ v + np.sqrt(noise) * rng.normal(size=len(a)) for a, v in zip(x, w, strict=True)]


def stopped(w, a, b, time=1.3):
    """Gradient flow for a while, as the exponential of a linear system."""
    system = np.zeros((len(w) + 1, len(w) + 1))
    system[:-1, :-1], system[:-1, -1] = -a.T @ a, a.T @ b
    return (expm(time * system) @ np.append(w, 1.0))[:-1]


def descended(w, a, b, steps=7, lr=0.3):
    for _ in range(steps):
        w = w + lr * a.T @ (b - a @ w)
    return w


def pulled(w, a, b, pull=0.4):
    return w + np.linalg.solve(a.T @ a + pull * np.eye(len(w)), a.T @ (b - a @ w))


def converged(w, a, b):
    """The nearest interpolating weights, or the least-squares ones."""
    if len(b) < len(w):
        return w + a.T @ np.linalg.solve(a @ a.T, b - a @ w)
    return np.linalg.solve(a.T @ a, a.T @ b)


GRAM = np.array([[1.0, 0.6, -0.3], [0.6, 1.0, 0.2], [-0.3, 0.2, 1.0]])
N, NOISE = 30, 0.3
SAMPLES = np.array([15, 45, 22])
SEQUENCES = {
    "stopped": (stopped, lambda: stopped_flow_filter(1.3, SAMPLES / N, N)),
    "descent": (descended, lambda: descent_filter(7, 0.3, SAMPLES / N, N)),
    "pull": (pulled, lambda: pull_filter(0.4, SAMPLES / N)),
    "flow": (converged, lambda: flow_filter(SAMPLES / N, N)),
}


@pytest.mark.parametrize("name", SEQUENCES)
def test_sequences_of_explicit_students(name):
    """Three tasks, drawn 120 times; the pull's averages are those of N = infinity, off by order 1/N."""
    after, learned = SEQUENCES[name]
    rng, found = np.random.default_rng(0), []
    for _ in range(120):
        w, x, y = drawn(rng, GRAM, SAMPLES, N, NOISE)
        students = [np.zeros(N)]
        for a, b in zip(x, y, strict=True):
            students.append(after(students[-1], a, b))
        found.append(np.mean((np.array(students[1:])[:, None] - w) ** 2, axis=2))
    expected = np.asarray(sequential_errors(GRAM, learned(), NOISE))
    assert (expected[0] == 1).all()
    error = np.std(found, axis=0) / np.sqrt(120)
    slack = 2 / N * expected[1:] if name == "pull" else 0
    assert (np.abs(np.mean(found, axis=0) - expected[1:]) < 5 * error + slack).all()


@pytest.mark.parametrize("weights", [(1.0, 1.0, 1.0), (3.0, 1.0, 0.2)])
def test_explicit_joint_ridge(weights):
    rng, found, pull = np.random.default_rng(1), [], 0.4
    for _ in range(120):
        w, x, y = drawn(rng, GRAM, SAMPLES, N, NOISE)
        curvature = sum(g * a.T @ a for g, a in zip(weights, x, strict=True)) + pull * np.eye(N)
        student = np.linalg.solve(curvature, sum(g * a.T @ b for g, a, b in zip(weights, x, y, strict=True)))
        found.append(np.mean((student - w) ** 2, axis=1))
    expected = np.asarray(joint_ridge_errors(GRAM, SAMPLES / N, np.array(weights), pull, NOISE))
    error = np.std(found, axis=0) / np.sqrt(120)
    assert (np.abs(np.mean(found, axis=0) - expected) < 5 * error + 2 / N * expected).all()


def test_explicit_bayes():
    """The posterior mean of all teachers at once, from all data: one linear solve."""
    n, samples = 24, np.array([12, 30, 0])
    rng, found = np.random.default_rng(2), []
    root = np.linalg.cholesky(GRAM)
    for _ in range(60):
        w = root @ rng.normal(size=(T, n))
        x = [rng.normal(size=(p, n)) / np.sqrt(n) for p in samples]
        precision = np.kron(np.linalg.inv(GRAM), np.eye(n))
        for i, a in enumerate(x):
            precision[i * n : (i + 1) * n, i * n : (i + 1) * n] += a.T @ a / NOISE
        found.append(
            np.trace(np.linalg.inv(precision).reshape(T, n, T, n)[range(T), :, range(T)], axis1=1, axis2=2) / n
        )
    assert w.shape == (T, n)
    expected = np.asarray(bayes_errors(GRAM, samples / n, NOISE))
    error = np.std(found, axis=0) / np.sqrt(60)
    assert (np.abs(np.mean(found, axis=0) - expected) < 5 * error + 2 / n * expected).all()


@given(st.floats(1e-3, 30), st.floats(0.05, 4))
def test_averages_of_a_pull_are_those_of_the_spectrum(pull, alpha):
    found = pull_filter(pull, alpha)
    shares = (lambda x: pull / (x + pull), lambda x: pull * x / (x + pull) ** 2, lambda x: x / (x + pull) ** 2)
    for value, share in zip(found, shares, strict=True):
        np.testing.assert_allclose(value, average(share, alpha), rtol=1e-9, atol=1e-12)


@given(st.floats(0.05, 4))
def test_limits_of_the_filters(alpha):
    """No pull is the flow to its end; many small steps are the flow; no time learns nothing."""
    if abs(alpha - 1) > 0.05:
        for weak, end in zip(pull_filter(0.0, alpha), flow_filter(alpha), strict=True):
            np.testing.assert_allclose(weak, end, atol=1e-12, rtol=1e-9)
        late = stopped_flow_filter(1e6, alpha)
        for part, end in zip(late, flow_filter(alpha), strict=True):
            np.testing.assert_allclose(part, end, rtol=1e-8, atol=1e-12)
    flow, steps = stopped_flow_filter(2.0, alpha), [descent_filter(k, 2.0 / k, alpha) for k in (200, 400)]
    for part, coarse, fine in zip(flow, *steps, strict=True):
        # First order in the step.
        np.testing.assert_allclose(2 * fine - coarse, part, atol=1e-3)
        np.testing.assert_allclose(fine, part, atol=0.05)
    np.testing.assert_allclose(stopped_flow_filter(0.0, alpha), (1, 0, 0), atol=1e-12)
    np.testing.assert_allclose(descent_filter(0, 0.1, alpha), (1, 0, 0), atol=1e-12)


@given(seeds, noises)
def test_one_task_is_ridge_regression_three_times_over(seed, noise):
    """The pull from zero weights, joint ridge and, at the best ridge, Bayes."""
    (alpha,) = loads(seed, size=1)
    one, pull = np.ones((1, 1)), np.random.default_rng(seed).uniform(0.05, 2)
    sequence = sequential_errors(one, pull_filter(pull, np.array([alpha])), noise)[1]
    joint = joint_ridge_errors(one, np.array([alpha]), np.ones(1), pull, noise)
    np.testing.assert_allclose(sequence, joint, rtol=1e-10)
    best = sequential_errors(one, pull_filter(optimal_pull(1.0, noise), np.array([alpha])), noise)[1]
    np.testing.assert_allclose(best, bayes_errors(one, np.array([alpha]), noise), rtol=1e-10)
    assert best[0] <= sequence[0] + 1e-12


@pytest.mark.parametrize("samples", [2, 12])
def test_interpolating_noise_at_finite_size(samples):
    """The mean over 3000 sets of 8 inputs; 1/|P - N| - 1/N is what moves it."""
    n = 8
    x = np.random.default_rng(6).normal(size=(3000, samples, n)) / np.sqrt(n)
    small = x @ x.swapaxes(1, 2) if samples < n else x.swapaxes(1, 2) @ x
    found = np.trace(np.linalg.inv(small), axis1=1, axis2=2) / n
    expected = flow_filter(samples / n, n).noise
    assert abs(found.mean() - expected) < 5 * found.std() / np.sqrt(3000)


@given(seeds, noises)
def test_the_best_pull_is_best_for_the_task_that_is_learned(seed, noise):
    gram, alpha = teachers(seed), loads(seed)
    before = sequential_errors(gram, pull_filter(0.5, alpha), noise)[-2]
    old, distances = before[-1], np.maximum(2 * (1 - gram[-1]), 0)
    pulls = optimal_pull(old, noise) * np.array([1.0, 0.8, 1.25])
    best, *others = (errors_after(before, distances, old, pull_filter(pull, alpha[-1]), noise)[-1] for pull in pulls)
    assert all(best < other for other in others)
    np.testing.assert_allclose(best, pull_filter(pulls[0], alpha[-1]).kept * old, rtol=1e-9)


@given(correlations, noises)
def test_two_tasks_forget_and_transfer_as_the_closed_forms_say(correlation, noise):
    gram = np.array([[1, correlation], [correlation, 1]])
    for alpha in (np.array([0.4, 0.7]), np.array([1.6, 0.5]), np.array([0.3, 2.5])):
        table = sequential_errors(gram, flow_filter(alpha), noise)
        alone = sequential_errors(gram[::-1, ::-1], flow_filter(alpha[::-1]), noise)[1, 0]
        np.testing.assert_allclose(forgetting(correlation, *alpha, noise), table[2, 0] - table[1, 0], atol=1e-12)
        np.testing.assert_allclose(transfer(correlation, *alpha, noise), alone - table[2, 1], atol=1e-12)


def test_signs_of_forgetting_and_transfer():
    assert forgetting(0.69, 0.4, 0.5) > 0 > forgetting(0.71, 0.4, 0.5)
    assert transfer(0.49, 0.4, 0.5) < 0 < transfer(0.51, 0.4, 0.5)
    # Interpolating as many samples as inputs: exact without noise.
    assert forgetting(1.0, 1.0, 1.0) == 0
    np.testing.assert_allclose(forgetting(0.2, 1.0, 1.0), 2 * 0.8)


@given(seeds, noises)
def test_bayes_beats_every_other_student(seed, noise):
    gram, alpha = teachers(seed), loads(seed)
    best = np.asarray(bayes_errors(gram, alpha, noise))
    others = [
        sequential_errors(gram, pull_filter(0.3, alpha), noise)[-1],
        sequential_errors(gram, stopped_flow_filter(2.0, alpha), noise)[-1],
        joint_ridge_errors(gram, alpha, np.array([0.5, 1.0, 2.0]), 0.2, noise),
    ]
    assert all((best <= np.asarray(other) + 1e-9).all() for other in others)
    fewer = np.asarray(bayes_errors(gram, alpha * np.array([1.0, 0.5, 1.0]), noise))
    assert (best <= fewer + 1e-12).all()
    assert ((best > 0) & (best <= 1)).all()


@given(seeds, noises)
def test_the_law_of_bayes_holds_and_tasks_may_be_exchanged(seed, noise):
    gram, alpha = teachers(seed), loads(seed)
    found = np.asarray(bayes_errors(gram, alpha, noise))
    precision = alpha / (noise + found)
    np.testing.assert_allclose(np.diagonal(posterior_covariance(gram, precision)), found, rtol=1e-9)
    order = np.array([2, 0, 1])
    np.testing.assert_allclose(bayes_errors(gram[order][:, order], alpha[order], noise), found[order], rtol=1e-9)
    joint = np.asarray(joint_ridge_errors(gram, alpha, alpha, 0.3, noise))
    moved = joint_ridge_errors(gram[order][:, order], alpha[order], alpha[order], 0.3, noise)
    np.testing.assert_allclose(moved, joint[order], rtol=1e-9)


@given(seeds, noises)
def test_related_and_unrelated_tasks(seed, noise):
    """Unrelated: each alone. The same task T times: one task with all samples, and joint ridge at its best."""
    alpha = loads(seed)
    alone = [bayes_errors(np.ones((1, 1)), alpha[[i]], noise)[0] for i in range(T)]
    np.testing.assert_allclose(bayes_errors(np.eye(T), alpha, noise), alone, rtol=1e-9)
    same = np.ones((T, T))
    together = bayes_errors(np.ones((1, 1)), alpha.sum()[None], noise)[0]
    np.testing.assert_allclose(bayes_errors(same, alpha, noise), together, rtol=1e-8)
    np.testing.assert_allclose(joint_ridge_errors(same, alpha, np.ones(T), noise, noise), together, rtol=1e-8)


def test_posterior_with_and_without_precision():
    gram = teachers(5)
    np.testing.assert_allclose(posterior_covariance(gram, np.zeros(T)), gram, atol=1e-14)
    p = np.array([0.3, 2.0, 0.7])
    np.testing.assert_allclose(
        posterior_covariance(gram, p), np.linalg.inv(np.linalg.inv(gram) + np.diag(p)), rtol=1e-9
    )


def test_shapes_derivatives_and_the_diagonal_fisher_matrix():
    pulls = fisher_pull(np.array([0.0, 1.0, 2.0]), 0.5, 0.25)
    np.testing.assert_allclose(pulls, [0, 0.75, 1.5])
    assert pull_filter(pulls[:, None], np.array([0.5, 2.0])).kept.shape == (3, 2)
    error = lambda pull: sequential_errors(GRAM, pull_filter(pull, SAMPLES / N), NOISE)[-1, 0]  # noqa: E731
    difference = (error(0.4 + 1e-5) - error(0.4 - 1e-5)) / 2e-5
    np.testing.assert_allclose(jax.grad(error)(0.4), difference, rtol=1e-6)


ONE = np.ones(1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: flow_filter(0.0), "alpha must be positive"),
        (lambda: pull_filter(-0.1, 1.0), "pull must be non-negative"),
        (lambda: stopped_flow_filter(-1.0, 1.0), "time must be non-negative"),
        (lambda: descent_filter(-1, 0.1, 1.0), "steps must be a whole number"),
        (lambda: errors_after(np.ones(2), np.ones(3), 1.0, Filter(0.5, 0.0, 0.0)), "distances must be of the shape"),
        (lambda: sequential_errors(np.array([[1.0, 1.2], [1.2, 1.0]]), flow_filter(0.5)), "gram must be positive semi"),
        (lambda: sequential_errors(np.array([[1.0, 0.2], [0.3, 1.0]]), flow_filter(0.5)), "gram must be symmetric"),
        (lambda: correlation_matrix("gram", 2 * np.eye(2)), "gram must have a diagonal of ones"),
        (lambda: forgetting(1.2, 0.5, 0.5), "correlation must lie between -1 and 1, got 1.2"),
        (lambda: transfer(0.2, 0.5, 0.5, np.nan), "noise must be non-negative"),
        (lambda: optimal_pull(0.0, 0.5), "old must be positive"),
        (lambda: joint_ridge_errors(np.eye(2), np.ones(3), np.ones(2), 0.1), "alpha must hold one number for each"),
        (lambda: joint_ridge_errors(np.eye(1), ONE, ONE, 0.0), "pull must be positive"),
        (lambda: bayes_errors(np.eye(1), ONE, 0.0), "noise must be positive"),
        (lambda: posterior_covariance(np.eye(2), -np.ones(2)), "precision must be non-negative"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call()
