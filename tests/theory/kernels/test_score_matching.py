"""Score matching: labels, the memorising score, kernel machines against brute force, Gaussian data, refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from theory.deep_linear.generalization import generalization_error, optimal_stopping_time
from theory.kernels import score_matching as theory

seeds = st.integers(0, 2**32 - 1)
levels = st.tuples(st.floats(0.2, 1.0), st.floats(0.2, 2.0), st.floats(0.3, 3.0))
alphas = st.floats(0.2, 5.0)
targets = st.sampled_from(theory.TARGETS)

score_error = jax.jit(theory.score_error, static_argnames=("target", "inputs"))
training_error = jax.jit(theory.training_error, static_argnames=("target", "inputs"))
stopping_time = jax.jit(theory.score_stopping_time, static_argnames="target")
fresh = jax.jit(theory.fresh_noise_error, static_argnames="inputs")
expected = jax.jit(theory.expected_score_error)
realised = jax.jit(theory.kernel_score_error)


def labels_of(target, x0, z, s):
    return {"score": -z / s, "noise": z, "data": x0}[target]


@given(levels, seeds)
def test_label_statistics_by_regression(level, seed):
    """Best linear predictor of each label from x, over a sample so large that its errors are below one per cent."""
    a, s, c = level
    rng = np.random.default_rng(seed)
    x0, z = np.sqrt(c) * rng.normal(size=200_000), rng.normal(size=200_000)
    x = a * x0 + s * z
    for target in theory.TARGETS:
        y = labels_of(target, x0, z, s)
        slope = x @ y / (x @ x)
        found = theory.label_statistics(level, target)
        # Fluctuations of a few per cent of the label's own variance at this size, five standard errors.
        floor = 5 * np.var(y) / np.sqrt(200_000)
        np.testing.assert_allclose(slope**2 * np.mean(x**2), found.signal, atol=3 * floor)
        np.testing.assert_allclose(np.mean((y - slope * x) ** 2), found.noise, atol=3 * floor)


@given(levels)
def test_all_targets_know_the_same(level):
    score, noise, data = (theory.label_statistics(level, target) for target in theory.TARGETS)
    for label in (noise, data):
        # Errors of x_0 and of z are errors of the score times a/s^2 and 1/s.
        np.testing.assert_allclose(label.noise * label.unit, score.noise, rtol=1e-12)
    np.testing.assert_allclose(score.signal / score.noise * (data.signal / data.noise), 1, rtol=1e-12)


@given(seeds, st.floats(0.3, 1.0), st.floats(0.3, 2.0))
def test_the_empirical_score_is_the_slope_of_the_smoothed_density(seed, a, s):
    rng = np.random.default_rng(seed)
    data, x = rng.normal(size=(5, 3)), jnp.asarray(rng.normal(size=(2, 3)))

    def log_density(x):
        return jax.nn.logsumexp(-jnp.sum((x - a * data) ** 2, axis=1) / (2 * s**2))

    slopes = jax.vmap(jax.grad(log_density))(x)
    np.testing.assert_allclose(theory.empirical_score(x, data, a, s), slopes, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(theory.empirical_weights(x, data, a, s).sum(axis=1), 1, rtol=1e-12)


def test_without_noise_the_empirical_score_leads_to_the_nearest_sample():
    data = np.array([[0.0, 1.0], [2.0, -1.0]])
    x = np.array([[0.1, 0.8], [1.5, -1.0]])
    for s in (0.05, 1e-3):
        landing = x + s**2 * theory.empirical_score(x, data, 1.0, s)
        np.testing.assert_allclose(landing, data, atol=1e-10)


def problem(seed, samples=6, tests=3, outputs=2):
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(samples + tests, 9))
    kernel = features @ features.T
    mean, score = rng.normal(size=(samples, outputs)), rng.normal(size=(tests, outputs))
    return kernel[:samples, :samples], kernel[samples:, :samples], mean, score, rng


@given(seeds)
def test_kernel_descent_step_by_step(seed):
    gram, cross, labels, score, _ = problem(seed)
    lr = 0.5 * 6 / np.linalg.eigvalsh(gram).max()
    f, g, errors = np.zeros_like(labels), np.zeros_like(score), []
    for _ in range(30):
        errors.append(np.sum((g - score) ** 2) / 3)
        f, g = f - lr / 6 * gram @ (f - labels), g - lr / 6 * cross @ (f - labels)
    found = realised(lr * np.arange(30), gram, cross, labels, score, lr)
    np.testing.assert_allclose(found, errors, rtol=1e-9)
    # Gradient flow is its limit, with an error in proportion to the step.
    flow, fine, finer = (realised(lr * np.arange(30), gram, cross, labels, score, lr * f) for f in (0, 1e-3, 5e-4))
    np.testing.assert_allclose(fine - flow, 2 * (finer - flow), rtol=1e-2, atol=1e-5 * np.max(flow))


@given(seeds)
def test_bias_and_variance_are_the_mean_over_labels(seed):
    """Labels mean +- columns of a root of the covariance: their average is that over any law with that covariance."""
    gram, cross, mean, score, rng = problem(seed)
    root = rng.normal(size=(6, 6))
    t = np.array([0.0, 0.3, 2.0])
    total = 0.0
    for column in root.T:
        for sign in (1, -1):
            # Noise of sqrt(6) columns in turn, in the first of the two outputs.
            labels = mean + sign * np.sqrt(6) * column[:, None] * np.array([1.0, 0.0])
            total = total + realised(t, gram, cross, labels, score) / 12
    found = expected(t, gram, cross, mean, score, root @ root.T)
    np.testing.assert_allclose(found.total, total, rtol=1e-9)
    diagonal = rng.uniform(0.1, 1, 6)
    independent = expected(t, gram, cross, mean, score, diagonal)
    np.testing.assert_allclose(independent.variance, expected(t, gram, cross, mean, score, np.diag(diagonal)).variance)
    assert (np.diff(independent.variance) > 0).all()


@given(levels, alphas, targets)
def test_without_ridge_it_is_the_regression_of_advani_and_saxe(level, alpha, target):
    t = np.array([0.0, 0.5, 3.0, 20.0])
    labels = theory.label_statistics(level, target)
    regression = (alpha, labels.signal, labels.noise)
    speed = (level[0] ** 2 * level[2] + level[1] ** 2) / alpha
    found = score_error(t, level, alpha, target=target).total
    reference = generalization_error(t * speed, regression) - labels.noise
    np.testing.assert_allclose(found, labels.unit * reference, rtol=1e-9)
    stop = stopping_time(level, alpha, target=target)
    np.testing.assert_allclose(stop * speed, optimal_stopping_time(regression), rtol=1e-6)


def trained(rng, target, ridge, lr, times, d=12, samples=18, level=(0.7, 0.6, 1.4), runs=300):
    """Mean errors of linear machines under kernel X X^T + ridge sigma^2 d I, by the eigenvectors of each sample."""
    a, s, c = level
    total = a**2 * c + s**2
    errors, losses = [], []
    for _ in range(runs):
        x0, z = np.sqrt(c) * rng.normal(size=(samples, d)), rng.normal(size=(samples, d))
        x, y = a * x0 + s * z, labels_of(target, x0, z, s)
        values, vectors = np.linalg.eigh((x @ x.T + ridge * total * d * np.eye(samples)) / samples)
        steps = np.rint(times / lr).astype(int)
        left = (1 - lr * values) ** steps[:, None]
        fit = np.where(values > 1e-12, (1 - left) / np.where(values > 1e-12, values, 1), 0) / samples
        maps = ((x.T @ vectors) * fit[:, None]) @ (vectors.T @ y)
        eye = np.eye(d)
        scores = {"score": maps, "noise": -maps / s, "data": (a * maps - eye) / s**2}[target]
        errors.append(total * np.mean(np.sum((scores + eye / total) ** 2, axis=1), axis=1))
        residual = (vectors * left[:, None]) @ (vectors.T @ y)
        losses.append(np.mean(residual**2, axis=(1, 2)))
    return np.array(errors), np.array(losses)


@pytest.mark.parametrize(("target", "ridge"), [("score", 0.0), ("data", 0.0), ("noise", 0.4)])
def test_trained_machines_of_finite_size(target, ridge):
    times, lr, level = np.array([0.4, 2.0, 8.0]), 0.05, (0.7, 0.6, 1.4)
    errors, losses = trained(np.random.default_rng(1), target, ridge, lr, times)
    options = dict(target=target, lr=lr, inputs=12)
    for runs, mean in (
        (errors, score_error(times, level, 1.5, ridge, **options).total),
        (losses, training_error(times, level, 1.5, ridge, **options)),
    ):
        # Standard errors, and the order after the leading 1/d: (sqrt(alpha) - 1)^{-4} d^{-2} at worst.
        error = runs.std(axis=0) / np.sqrt(len(runs)) + mean / 144
        assert np.max(np.abs(runs.mean(axis=0) - mean) / error) < 5


def test_fresh_noise_of_finite_size():
    a, s, c, d, n = 0.8, 0.5, 1.3, 12, 8
    rng, t = np.random.default_rng(2), np.array([0.5, 2.0, 10.0])
    total, runs = a**2 * c + s**2, []
    for _ in range(2000):
        x0 = np.sqrt(c) * rng.normal(size=(n, d))
        b = np.linalg.eigvalsh(a**2 * x0.T @ x0 / n + s**2 * np.eye(d))
        runs.append(total * np.mean((1 / total - (1 - np.exp(-b * t[:, None])) / b) ** 2, axis=1))
    runs = np.array(runs)
    mean = fresh(t, (a, s, c), n / d, inputs=d)
    assert np.max(np.abs(runs.mean(0) - mean) / (runs.std(0) / np.sqrt(2000) + mean / 144)) < 5


@given(levels, alphas, st.floats(0.0, 3.0))
def test_stopping(level, alpha, ridge):
    best = stopping_time(level, alpha, ridge)
    labels = theory.label_statistics(level)
    noise = float(labels.noise / labels.signal)
    # At equality the time is infinite on one side of a rounding, and long on the other.
    assume(abs(ridge - noise) > 1e-9 * noise)
    if ridge > noise:
        assert best == np.inf
        t = np.geomspace(0.01, 1e3, 20) * alpha
        assert (np.diff(score_error(t, level, alpha, ridge).total) <= 1e-12).all()
    else:
        at, *others = (score_error(np.full(20, best * f), level, alpha, ridge).total[0] for f in (1, 0.9, 1.1))
        assert at <= min(others) * (1 + 1e-12)


def test_memorisation():
    """A kernel with a ridge of its own fits every label, in a time that grows with the number of samples."""
    level, ridge = (0.8, 0.5, 1.0), 0.05
    times = 10 / (ridge * (0.8**2 + 0.25)) * np.array([2.0, 8.0])
    for alpha, t in zip((2.0, 8.0), times, strict=True):
        assert training_error(t, level, alpha, ridge) < 1e-8
    # At a given time the larger sample is not yet memorised.
    assert training_error(times[0] / 4, level, 8.0, ridge) > 0.2


def test_ends():
    level = (0.8, 0.5, 1.0)
    total, labels = 0.8**2 + 0.25, theory.label_statistics((0.8, 0.5, 1.0))
    start = score_error(0.0, level, 0.5)
    np.testing.assert_allclose([start.bias, start.variance], [1 / total, 0], rtol=1e-12)
    np.testing.assert_allclose(training_error(0.0, level, 0.5), labels.signal + labels.noise, rtol=1e-12)
    np.testing.assert_allclose(fresh(0.0, level, 0.5), 1 / total, rtol=1e-12)
    # Many samples: the true score, and nothing to forget.
    np.testing.assert_allclose(fresh(1e3, level, 1e6), 0, atol=1e-5)
    assert score_error(1e3, level, 1e6).total < 1e-4


def test_dot_product_kernels():
    np.testing.assert_allclose(theory.kernel_ridge(lambda x: 3 + 2 * x, 0.7), 0, atol=1e-15)
    np.testing.assert_allclose(theory.kernel_ridge(lambda x: x + x**2, 0.7), 0.7, rtol=1e-14)
    a, s = theory.ornstein_uhlenbeck(0.3)[:2]
    np.testing.assert_allclose(a**2 + s**2, 1, rtol=1e-14)


def test_gradients_are_finite():
    def total(t, a, s, alpha, ridge):
        return theory.score_error(t, (a, s, 1.0), alpha, ridge).total

    slopes = jax.jit(jax.grad(total, argnums=(0, 1, 2, 3, 4)))
    for alpha in (0.5, 1.0, 2.0):
        assert np.isfinite(slopes(1.0, 0.8, 0.5, alpha, 0.0)).all()


def on_ones(**changed):
    """A kernel machine on two labels, with one argument out of shape."""
    given = dict(gram=np.eye(2), cross=np.ones((1, 2)), labels=np.ones((2, 1)), score=np.ones((1, 1))) | changed
    return theory.kernel_score_error(np.ones(1), **given)


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: theory.ornstein_uhlenbeck(0.0), "tau"),
        (lambda: theory.label_statistics((1.0, 0.0, 1.0)), "s"),
        (lambda: theory.label_statistics((1.0, 1.0, 1.0), "velocity"), "target"),
        (lambda: theory.empirical_score(np.ones((2, 3)), np.ones((4, 2)), 1.0, 1.0), "data"),
        (lambda: theory.score_error(-1.0, (1.0, 1.0, 1.0), 1.0), "t"),
        (lambda: theory.score_error(1.0, (1.0, 1.0, 1.0), 0.0), "alpha"),
        (lambda: theory.score_error(1.0, (1.0, 1.0, 1.0), 1.0, lr=5.0), "lr"),
        (lambda: theory.kernel_ridge(lambda x: x**2, 1.0), "kappa"),
        (lambda: on_ones(gram=-np.eye(2)), "gram"),
        (lambda: on_ones(gram=np.eye(3)), "gram"),
        (lambda: on_ones(cross=np.ones((1, 3))), "cross"),
        (lambda: on_ones(score=np.ones((2, 1))), "score"),
    ],
)
def test_refusals_name_the_argument(call, named):
    with pytest.raises(ValueError, match=rf"^{named} must"):
        call()
