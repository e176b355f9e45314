"""Random-feature regression: brute force, the symmetry of samples and features, limits, the peak, refusals."""

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from theory.kernels.learning_curves import effective_ridge, learning_curve
from theory.kernels.random_features import random_feature_curve, random_feature_ridge

seeds = st.integers(0, 2**32 - 1)
curve = jax.jit(
    lambda n, k, lam, powers, m, noise, tail, ridge: random_feature_curve(n, k, (lam, powers, m, noise, tail), ridge)
)
ridge_of = jax.jit(random_feature_ridge)


def spectrum(seed, levels=10):
    rng = np.random.default_rng(seed)
    lam, powers, m = 10 ** rng.uniform(-4, 1, levels), rng.exponential(size=levels), 10 ** rng.uniform(0, 2, levels)
    n, k = m.sum() * rng.uniform(0.02, 0.9, 2)
    return lam, powers, m, n, k, rng.exponential(), 10 ** rng.uniform(-4, 1)


@pytest.mark.parametrize(("n", "k", "ridge"), [(60, 30, 0.0), (60, 150, 0.0), (60, 60, 0.3), (60, 90, 0.1)])
def test_gaussian_features_by_brute_force(n, k, ridge):
    rng = np.random.default_rng(7)
    modes, noise, runs = 200, 0.25, 60
    i = np.arange(1.0, modes + 1)
    lam, v = i**-1.3, i**-0.7
    test, train = [], []
    for _ in range(runs):
        x, w = rng.normal(size=(n, modes)), rng.normal(size=(modes, k)) * np.sqrt(lam)[:, None] / np.sqrt(k)
        y, h = x @ v + np.sqrt(noise) * rng.normal(size=n), x @ w
        # Without a ridge, the least weights that fit best.
        gram = h @ h.T if k > n else h.T @ h
        inner = np.linalg.inv(gram + ridge * np.eye(len(gram)))
        a = h.T @ (inner @ y) if k > n else inner @ (h.T @ y)
        test.append(np.sum((w @ a - v) ** 2) + noise)
        train.append(np.mean((y - h @ a) ** 2))
    c = random_feature_curve(n, k, (lam, v**2, 1.0, noise), ridge)
    for theory, found in ((c.test_error, test), (c.training_error, train)):
        # Five standard errors, and the leading correction.
        error = 5 * np.std(found) / np.sqrt(runs) + theory * max(1 / n, n / (n - k) ** 2 if n != k else 0.1)
        assert abs(np.mean(found) - theory) <= error + 1e-20


@given(seeds)
def test_the_two_samples_are_used_up(seed):
    lam, powers, m, n, k, noise, ridge = spectrum(seed)
    c = curve(n, k, lam, powers, m, noise, 0.0, ridge)
    z = m @ c.learnability
    scale = 1e-9 * n * k
    np.testing.assert_allclose((n - z) * (k - z), ridge * k / c.effective_ridge, atol=scale, rtol=1e-9)
    np.testing.assert_allclose(z + ridge / c.feature_ridge, n, rtol=1e-9)
    np.testing.assert_allclose(z + k * c.feature_ridge / c.effective_ridge, k, rtol=1e-9)
    assert c.variance >= 0 and 0 <= c.feature_ridge <= c.effective_ridge
    np.testing.assert_allclose(c.test_error, c.bias + c.variance + noise, rtol=1e-10)
    np.testing.assert_allclose(c.training_error, (ridge / (n * c.feature_ridge)) ** 2 * c.test_error, rtol=1e-8)
    # What a unit of noise costs.
    noisier = curve(n, k, lam, powers, m, noise + 1, 0.0, ridge)
    np.testing.assert_allclose(noisier.test_error - c.test_error, c.overfitting_coefficient, rtol=1e-8)


@given(seeds)
def test_samples_and_features_are_alike(seed):
    """kappa is the same when n and k change places and the ridge is given per feature."""
    lam, _, m, n, k, _, ridge = spectrum(seed)
    np.testing.assert_allclose(ridge_of(n, k, lam, ridge / k, m), ridge_of(k, n, lam, ridge / n, m), rtol=1e-9)


@given(seeds)
def test_without_a_ridge_the_fewer_decide(seed):
    lam, _, m, n, k, _, _ = spectrum(seed)
    np.testing.assert_allclose(ridge_of(n, k, lam, 0.0, m), effective_ridge(min(n, k), lam, 0.0, m), rtol=1e-9)


@given(seeds)
def test_many_features_are_the_kernel(seed):
    lam, powers, m, n, _, noise, ridge = spectrum(seed)
    plain = learning_curve(n, (lam, powers, m, noise), ridge)
    many = 1e9 * (n + m.sum())
    c = curve(n, many, lam, powers, m, noise, 0.0, ridge)
    # The first correction is of order E_0 n / k.
    for name in ("test_error", "training_error", "bias", "variance", "effective_ridge"):
        np.testing.assert_allclose(
            getattr(c, name), getattr(plain, name), rtol=1e-8 * plain.overfitting_coefficient, err_msg=name
        )


@given(seeds)
def test_more_features_and_samples_help_at_the_best_ridge(seed):
    """More is better: at its best ridge the test error falls with n and with k."""
    lam, powers, m, n, k, noise, _ = spectrum(seed)
    ridges = np.geomspace(1e-9, 1e5, 400) * (m @ lam)

    def best(n, k):
        return float(np.min(curve(n, k, lam, powers, m, np.full(400, noise), 0.0, ridges).test_error))

    # The grid of ridges finds the minimum to the square of its spacing, 8 %.
    assert best(1.2 * n, k) <= best(n, k) * 1.005
    assert best(n, 1.2 * k) <= best(n, k) * 1.005


@pytest.mark.slow
def test_the_peak_is_at_as_many_features_as_samples():
    i = np.arange(1.0, 500)
    task = (i**-1.3, i**-1.4, 1.0, 0.3)
    assert random_feature_curve(100, 100, task).test_error == np.inf
    k = np.arange(20, 400)
    for ridge in (1e-4, 1e-3):
        error = random_feature_curve(100, k, task, ridge).test_error
        assert abs(k[np.argmax(error)] - 100) <= 1
    wide = random_feature_curve(100, np.array([99.0, 101.0]), task).test_error
    # The pole is of first order on both sides.
    near = random_feature_curve(100, np.array([99.9, 100.1]), task).test_error
    np.testing.assert_allclose(near / wide, 10, rtol=0.1)


def test_the_tail_is_a_ridge_on_both_samples():
    lam, powers, m = np.array([1.0, 0.3, 0.1]), np.array([1.0, 1.0, 0.5]), np.array([3.0, 5.0, 8.0])
    for ridge in (0.0, 0.4):
        short = random_feature_curve(12, 17, (lam, powers, m, 0.2, 0.5), ridge)
        full = (np.append(lam, 0.5e-6), np.append(powers, 0.0), np.append(m, 1e6), 0.2)
        long = random_feature_curve(12, 17, full, ridge)
        # The tail's eigenvalues are 1e-5 of kappa.
        np.testing.assert_allclose(short.test_error, long.test_error, rtol=1e-4)
        np.testing.assert_allclose(short.variance, long.variance, rtol=1e-4)


def test_more_features_and_samples_than_modes_is_least_squares():
    lam, m = np.array([1.0, 0.1, 0.0]), np.array([3.0, 5.0, 7.0])
    c = random_feature_curve(20, np.array([10.0, 50.0]), (lam, np.array([1.0, 1.0, 0.0]), m, 0.3))
    np.testing.assert_allclose(c.test_error, 0.3 * 20 / 12, rtol=1e-9)
    np.testing.assert_allclose(c.training_error, 0.3 * 12 / 20, rtol=1e-9)


def test_broadcasts_and_has_finite_gradients():
    i = np.arange(1.0, 40)
    table = random_feature_curve(np.array([[5.0], [9.0]]), np.array([3.0, 9.5, 30.0]), (i**-2, i**-2), 1e-3)
    assert table.test_error.shape == (2, 3) and table.learnability.shape == (2, 3, 39)
    for n, k, ridge in ((5.0, 9.0, 0.0), (9.0, 5.0, 0.0), (7.0, 7.0, 0.1), (80.0, 90.0, 0.0)):
        gradients = jax.grad(lambda *x: curve(*x, i**-2, i**-2, 1.0 + 0 * i, 0.1, 0.0, ridge).test_error, (0, 1))(n, k)  # noqa: B023
        assert np.isfinite(gradients).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: random_feature_ridge(1.0, 0.0, np.ones(2)), "features must be positive"),
        (lambda: random_feature_curve(0.0, 1.0, (np.ones(2), np.ones(2))), "n must be positive"),
        (lambda: random_feature_ridge(1.0, 1.0, np.ones(2), tail=-1.0), "tail must be non-negative"),
    ],
)
def test_refusals_name_the_argument(call, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        call()
