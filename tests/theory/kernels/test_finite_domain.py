"""Learning on a part of a finite domain: brute force, exact identities, limits, refusals."""

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from theory.kernels.finite_domain import domain_curve, pointwise_curve
from theory.kernels.learning_curves import KernelTask, learning_curve, sampled_task

seeds = st.integers(0, 2**32 - 1)
curve = jax.jit(lambda n, lam, powers, m, noise, ridge: domain_curve(n, (lam, powers, m, noise), ridge))


def domain(seed, points=200):
    """Kernel matrix with eigenvectors at random to the points, its target, spectrum and coefficients."""
    rng = np.random.default_rng(seed)
    i = np.arange(1.0, points + 1)
    vectors, lam, v = np.linalg.qr(rng.normal(size=(points, points)))[0], i**-1.3, i**-0.7
    return rng, points * (vectors * lam) @ vectors.T, np.sqrt(points) * vectors @ v, lam, v


@pytest.mark.parametrize(("n", "ridge", "noise"), [(60, 0.0, 0.0), (60, 0.5, 0.2), (150, 0.1, 0.2), (150, 0.0, 0.2)])
def test_subsets_by_brute_force(n, ridge, noise):
    rng, kernel, target, lam, v = domain(3)
    points, runs = len(lam), 60
    test, train = [], []
    for _ in range(runs):
        y = target + np.sqrt(noise) * rng.normal(size=points)
        seen, unseen = np.split(rng.permutation(points), [n])
        dual = np.linalg.solve(kernel[np.ix_(seen, seen)] + ridge * np.eye(n), y[seen])
        test.append(np.mean((y - kernel[:, seen] @ dual)[unseen] ** 2))
        train.append(np.mean((y - kernel[:, seen] @ dual)[seen] ** 2))
    task = KernelTask(lam, v**2, 1.0, noise)
    c, independent = domain_curve(n, task, ridge), learning_curve(n, task, ridge)
    leading = independent.overfitting_coefficient * (1 / n + 1 / (points - n))
    for theory, found in ((c.test_error, test), (c.training_error, train)):
        error = 5 * np.std(found) / np.sqrt(runs) + theory * leading
        assert abs(np.mean(found) - theory) <= error + 1e-20
    # Samples drawn independently are another problem, and the difference is seen.
    assert abs(np.mean(test) - independent.test_error) > 5 * np.std(test) / np.sqrt(runs)


def test_the_kernel_matrix_itself_is_the_task():
    _, kernel, target, lam, v = domain(4, 60)
    direct, sampled = (domain_curve(20, task, 0.1) for task in (KernelTask(lam, v**2), sampled_task(kernel, target)))
    np.testing.assert_allclose(sampled.test_error, direct.test_error, rtol=1e-10)


def spectrum(seed, levels=8):
    rng = np.random.default_rng(seed)
    m = 10 ** rng.uniform(0, 2, levels)
    ridge = 10 ** rng.uniform(-3, 2)
    return 10 ** rng.uniform(-4, 1, levels), rng.exponential(size=levels), m, m.sum() * rng.uniform(0.05, 0.95), ridge


@given(seeds)
def test_conservation(seed):
    lam, powers, m, n, ridge = spectrum(seed)
    c = curve(n, lam, powers, m, 0.3, ridge)
    learned = m @ c.learnability
    np.testing.assert_allclose(learned + ridge / c.effective_ridge * (1 - learned / m.sum()), n, rtol=1e-9)


@given(seeds)
def test_noise_is_a_white_target(seed):
    lam, powers, m, n, ridge = spectrum(seed)
    noisy, white = curve(n, lam, powers, m, 0.3, ridge), curve(n, lam, powers + 0.3 * m / m.sum(), m, 0.0, ridge)
    np.testing.assert_allclose(noisy.test_error, white.test_error, rtol=1e-12)


@given(seeds)
def test_pure_noise_is_never_predicted(seed):
    """A white kernel, lam equal for all modes, knows nothing of unseen points: the error is the power, at any ridge."""
    _, powers, m, n, ridge = spectrum(seed)
    c = curve(n, np.ones(8), powers, m, 0.2, ridge)
    np.testing.assert_allclose(c.test_error, powers.sum() + 0.2, rtol=1e-9)
    # With K = M I each label is shrunk on its own: M / (M + ridge) of it is fitted.
    np.testing.assert_allclose(c.training_error, c.test_error * (ridge / (m.sum() + ridge)) ** 2, rtol=1e-9)


@given(seeds)
def test_a_large_domain_is_a_population(seed):
    lam, powers, m, n, ridge = spectrum(seed)
    huge = curve(n, np.append(lam, 0.0), np.append(powers, 0.0), np.append(m, 1e9), 0.3, ridge)
    plain = learning_curve(n, (lam, powers, m, 0.3), ridge)
    # Corrections of n / M, and of E_0 / M.
    tolerance = 1e-8 * plain.overfitting_coefficient * (n + m.sum())
    np.testing.assert_allclose(huge.test_error, plain.test_error, rtol=tolerance)
    np.testing.assert_allclose(huge.training_error, plain.training_error, rtol=tolerance)


@given(seeds)
def test_without_ridge_and_noise_the_mean_over_all_points_is_that_of_independent_samples(seed):
    lam, powers, m, n, _ = spectrum(seed)
    whole = (1 - n / m.sum()) * curve(n, lam, powers, m, 0.0, 0.0).test_error
    np.testing.assert_allclose(whole, learning_curve(n, (lam, powers, m)).test_error, rtol=1e-9)


def test_more_points_than_modes_is_least_squares():
    """Rank r, power u outside it on M points: M u n / ((n - r) (M - r)) is left on unseen ones."""
    lam, m, powers = np.array([1.0, 0.01, 0.0]), np.array([5.0, 15.0, 80.0]), np.array([1.0, 2.0, 0.7])
    c = domain_curve(50, (lam, powers, m))
    np.testing.assert_allclose(c.test_error, 100 * 0.7 * 50 / (30 * 80), rtol=1e-9)
    np.testing.assert_allclose(c.training_error, (30 / 50) ** 2 * c.test_error, rtol=1e-9)


def uneven(seed, points=160):
    """Points of very different reach: a random kernel whose rows are scaled, and a target that follows it."""
    rng = np.random.default_rng(seed)
    scale = np.exp(rng.normal(size=points))
    factor = scale[:, None] * rng.normal(size=(points, 40))
    kernel = factor @ factor.T + np.diag(10 * scale**2)
    return rng, kernel, factor @ rng.normal(size=40)


@pytest.mark.parametrize("ridge", [0.0, 5.0])
def test_uneven_points_by_brute_force(ridge):
    rng, kernel, y = uneven(0)
    points, n, runs = len(y), 80, 400
    found = np.empty((runs, 2))
    for i in range(runs):
        seen, unseen = np.split(rng.permutation(points), [n])
        wrong = y - kernel[:, seen] @ np.linalg.solve(kernel[np.ix_(seen, seen)] + ridge * np.eye(n), y[seen])
        found[i] = np.mean(wrong[unseen] ** 2), np.mean(wrong[seen] ** 2)
    c, alike = pointwise_curve(n, kernel, y, ridge), domain_curve(n, sampled_task(kernel, y), ridge)
    error = 5 * found.std(axis=0) / np.sqrt(runs)
    theory = np.array([c.test_error, c.training_error])
    # Five standard errors, and 2/n on each side of the split.
    assert (np.abs(found.mean(axis=0) - theory) <= error + theory * 4 / n + 1e-20).all()
    # Taking the points as alike is seen to be wrong.
    assert abs(found.mean(axis=0)[0] - alike.test_error) > error[0]


def test_points_that_are_alike_have_one_self_energy():
    """On a ring every point is the image of every other, and the spectrum is all there is to know."""
    rng = np.random.default_rng(1)
    angle = 2 * np.pi * (np.arange(30)[:, None] - np.arange(30)) / 30
    kernel = sum(np.cos(k * angle) / (1 + k) ** 2 for k in range(16))
    y = rng.normal(size=(30, 2))
    for ridge in (0.0, 0.7):
        c, alike = pointwise_curve(11, kernel, y, ridge), domain_curve(11, sampled_task(kernel, y), ridge)
        np.testing.assert_allclose(c.self_energies, 30 * alike.effective_ridge, rtol=1e-9)
        np.testing.assert_allclose(c.training_error, alike.training_error, rtol=1e-9, atol=1e-25)
        # White labels on average: for one draw the pointwise sum and the spectral one are the same numbers.
        np.testing.assert_allclose(c.test_error, alike.test_error, rtol=1e-9)


def test_self_energies_solve_their_equation():
    _, kernel, y = uneven(2)
    for n, ridge in ((20, 0.0), (80, 0.0), (150, 3.0)):
        omega = np.asarray(pointwise_curve(n, kernel, y, ridge).self_energies)
        g = np.diagonal(np.linalg.inv(kernel + np.diag(omega)))
        np.testing.assert_allclose((omega - ridge) * g, 1 - n / len(y), rtol=1e-9)


def test_broadcasts_and_has_finite_gradients():
    lam, powers = np.array([1.0, 0.1, 0.0]), np.ones(3)
    table = domain_curve(np.array([[3.0], [9.0]]), (lam, powers, 10.0), np.array([0.0, 0.1]))
    assert table.test_error.shape == (2, 2) and table.learnability.shape == (2, 2, 3)
    m = np.full(3, 10.0)
    for ridge in (0.0, 0.1):
        gradients = jax.grad(lambda *x: curve(*x).test_error, argnums=(0, 1))(9.0, lam, powers, m, 0.1, ridge)
        assert all(np.isfinite(g).all() for g in gradients)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: domain_curve(3.0, (np.ones(3), np.ones(3))), "n must be below the number of points"),
        (lambda: domain_curve(1.0, (np.ones(3), np.ones(3), 1.0, 0.0, 0.1)), "tail must be 0 on a finite domain"),
        (lambda: domain_curve(0.0, (np.ones(3), np.ones(3))), "n must be positive"),
    ],
)
def test_refusals_name_the_argument(call, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        call()
