"""Learning curves of kernel regression: conservation, scaling, limits, brute force, other theories, refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import brentq

from theory.deep_linear.generalization import Regression
from theory.deep_linear.ridge import ridge_generalization_error, ridge_training_error
from theory.kernels.learning_curves import (
    KernelTask,
    conserved_learnability,
    effective_ridge,
    learning_curve,
    overfitting_coefficient,
    sampled_task,
)

seeds = st.integers(0, 2**32 - 1)
LEVELS = 12
ridge_of = jax.jit(effective_ridge)
curve = jax.jit(lambda n, lam, powers, m, noise, tail, ridge: learning_curve(n, (lam, powers, m, noise, tail), ridge))


def spectrum(seed):
    """A generator, eigenvalues over eight decades, powers, multiplicities, samples fewer than modes, noise, ridge."""
    rng = np.random.default_rng(seed)
    lam = np.sort(10 ** rng.uniform(-6, 2, LEVELS))[::-1]
    powers, m = rng.exponential(size=LEVELS), 10 ** rng.uniform(0, 3, LEVELS)
    n = m.sum() * rng.uniform(0.01, 0.95)
    return rng, lam, powers, m, n, rng.exponential(), 10 ** rng.uniform(-6, 2) * (rng.random() < 0.7)


@given(seeds)
def test_the_conservation_law_and_the_bounds(seed):
    _, lam, powers, m, n, noise, ridge = spectrum(seed)
    c = curve(n, lam, powers, m, noise, 0.0, ridge)
    used = m @ c.learnability + ridge / c.effective_ridge
    np.testing.assert_allclose(used, n, rtol=1e-12)
    assert (np.diff(c.learnability) <= 0).all() and (c.learnability >= 0).all() and (c.learnability <= 1).all()
    assert c.overfitting_coefficient >= 1
    np.testing.assert_allclose(c.test_error, c.bias + c.variance + noise, rtol=1e-12)
    np.testing.assert_allclose(c.level_errors.sum() + noise, c.test_error, rtol=1e-12)
    np.testing.assert_allclose(c.training_error, (ridge / (n * c.effective_ridge)) ** 2 * c.test_error, rtol=1e-12)


@given(seeds)
def test_the_root_is_bracketed_by_bisection(seed):
    _, lam, _, m, n, _, ridge = spectrum(seed)

    def excess(x):
        return np.sum(m * lam / (lam + np.exp(x))) + ridge * np.exp(-x) - n

    found = np.log(ridge_of(n, lam, ridge, m))
    # The root is known as far as the excess is: rounding of n over its slope.
    amplified = overfitting_coefficient(n, lam, ridge, m)
    np.testing.assert_allclose(found, brentq(excess, -200, 50, xtol=1e-14), atol=1e-13 * (1 + amplified))


@given(seeds, st.floats(0.1, 10))
def test_units_of_the_kernel_do_not_matter(seed, c):
    _, lam, powers, m, n, noise, ridge = spectrum(seed)
    one, other = (curve(n, f * lam, powers, m, noise, 0.0, f * ridge) for f in (1.0, c))
    np.testing.assert_allclose(other.effective_ridge, c * one.effective_ridge, rtol=1e-9)
    np.testing.assert_allclose(other.test_error, one.test_error, rtol=1e-9)


@given(seeds)
def test_splitting_a_level_changes_nothing(seed):
    rng, lam, powers, m, n, noise, ridge = spectrum(seed)
    part = rng.uniform(0, 1, LEVELS)
    split = [np.concatenate([x * part, x * (1 - part)]) for x in (powers, m)]
    whole, halves = curve(n, lam, powers, m, noise, 0.0, ridge), curve(n, np.tile(lam, 2), *split, noise, 0.0, ridge)
    np.testing.assert_allclose(halves.test_error, whole.test_error, rtol=1e-9)
    np.testing.assert_allclose(halves.effective_ridge, whole.effective_ridge, rtol=1e-9)


@given(seeds)
def test_derivatives_of_the_effective_ridge(seed):
    """kappa falls with n, rises with the ridge at rate E_0 / n, and is homogeneous; second derivatives are right."""
    _, lam, powers, m, n, _, ridge = spectrum(seed)
    ridge = ridge + 1e-3
    in_n, in_lam, in_ridge = jax.grad(ridge_of, argnums=(0, 1, 2))(n, lam, ridge, m)
    kappa, e0 = ridge_of(n, lam, ridge, m), curve(n, lam, powers, m, 0.0, 0.0, ridge).overfitting_coefficient
    np.testing.assert_allclose(in_ridge, e0 / n, rtol=1e-8)
    np.testing.assert_allclose(in_n, -kappa * e0 / n, rtol=1e-8)
    np.testing.assert_allclose(lam @ in_lam + ridge * in_ridge, kappa, rtol=1e-8)


def test_second_derivative_and_the_local_exponent():
    lam = np.arange(1.0, 2000) ** -1.7
    slope = jax.grad(lambda x: jnp.log(ridge_of(jnp.exp(x), lam)))
    x = np.log(30.0)
    np.testing.assert_allclose(-slope(x), overfitting_coefficient(30.0, lam), rtol=1e-11)
    # Central differences are good to h^2, about 1e-8, of slopes that vary over a unit of ln n.
    step = 1e-4
    np.testing.assert_allclose(jax.grad(slope)(x), (slope(x + step) - slope(x - step)) / (2 * step), rtol=1e-5)


@given(seeds)
def test_linear_regression_is_that_of_marchenko_and_pastur(seed):
    """Inputs of N independent entries of variance 1/N: one level, and a theory that was derived otherwise."""
    rng = np.random.default_rng(seed)
    inputs, alpha, ridge = 200.0, 10 ** rng.uniform(-1, 1), 10 ** rng.uniform(-3, 1)
    signal, noise = rng.exponential(size=2)
    zeros = np.zeros(1)
    c = curve(alpha * inputs, zeros + 1 / inputs, zeros + signal, zeros + inputs, noise, 0.0, ridge)
    regression = Regression(alpha, signal, noise)
    np.testing.assert_allclose(c.test_error, ridge_generalization_error(ridge, regression), rtol=1e-9)
    np.testing.assert_allclose(c.training_error, ridge_training_error(ridge, regression), rtol=1e-9)


@pytest.mark.parametrize(("n", "ridge"), [(60, 0.0), (60, 0.3), (250, 0.05)])
def test_gaussian_modes_by_brute_force(n, ridge):
    """Regression on independent Gaussian features, of which the theory is exact but for 1/n."""
    rng = np.random.default_rng(5)
    lam, noise, runs = np.arange(1.0, 201) ** -1.3, 0.25, 60
    v = np.arange(1.0, 201) ** -0.7
    test, train, weights = [], [], []
    for _ in range(runs):
        phi = rng.normal(size=(n, 200)) * np.sqrt(lam)
        y = phi / np.sqrt(lam) @ v + np.sqrt(noise) * rng.normal(size=n)
        gram = phi @ phi.T
        # Far more than enough for a matrix that is singular without a ridge at n > modes.
        dual = np.linalg.solve(gram + ridge * np.eye(n), y) if ridge or n < 200 else np.linalg.lstsq(gram, y)[0]
        w = np.sqrt(lam) * (phi.T @ dual)
        test.append(np.sum((w - v) ** 2) + noise)
        train.append(np.mean((y - gram @ dual) ** 2))
        weights.append(w)
    c = learning_curve(n, KernelTask(lam, v**2, 1.0, noise), ridge)
    for theory, found in ((c.test_error, test), (c.training_error, train)):
        # Five standard errors, and the leading correction.
        error = np.std(found) / np.sqrt(runs) * 5 + theory * c.overfitting_coefficient / n
        assert abs(np.mean(found) - theory) <= error + 1e-20
    mean = np.mean(weights, axis=0)
    spread = np.std(weights, axis=0) / np.sqrt(runs)
    assert np.abs((mean - c.learnability * v) / np.hypot(spread, v * c.overfitting_coefficient / n)).max() < 5
    levels = np.mean((np.array(weights) - v) ** 2, axis=0)
    assert abs(np.sum(levels[:5]) / np.sum(c.level_errors[:5]) - 1) < 0.3


@given(seeds)
def test_conservation_is_exact_on_every_training_set(seed):
    """Any complete basis of a finite domain, any subset, any ridge: the learnabilities sum to the same."""
    rng = np.random.default_rng(seed)
    points, n, ridge = 24, 9, rng.choice([0.0, 0.3])
    factor = rng.normal(size=(points, points))
    kernel, basis = factor @ factor.T, np.linalg.qr(rng.normal(size=(points, points)))[0] * np.sqrt(points)
    seen = rng.permutation(points)[:n]
    own = kernel[np.ix_(seen, seen)]
    predictions = kernel[:, seen] @ np.linalg.solve(own + ridge * np.eye(n), basis[seen])
    total = np.sum(basis * predictions) / points
    # The condition number of a random 9 x 9 block, times rounding.
    np.testing.assert_allclose(total, conserved_learnability(own, ridge), rtol=1e-9)
    np.testing.assert_allclose(conserved_learnability(own), n, rtol=1e-12)


def test_conserved_learnability_of_a_singular_kernel_is_its_rank():
    x = np.random.default_rng(0).normal(size=(9, 3))
    np.testing.assert_allclose(conserved_learnability(x @ x.T), 3, rtol=1e-12)


@given(seeds)
def test_more_samples_than_modes_is_least_squares(seed):
    rng, lam, powers, m, _, noise, _ = spectrum(seed)
    modes = m.sum()
    n = modes * rng.uniform(1.01, 10)
    c = curve(n, lam, powers, m, noise, 0.0, 0.0)
    assert c.effective_ridge == 0 and c.bias == 0
    np.testing.assert_allclose(c.learnability, 1, rtol=1e-15)
    np.testing.assert_allclose(c.test_error, noise * n / (n - modes), rtol=1e-9)
    np.testing.assert_allclose(c.training_error, noise * (1 - modes / n), rtol=1e-9)
    # A ridge that vanishes leads there.
    near = curve(n, lam, powers, m, noise, 0.0, 1e-12 * lam.min())
    np.testing.assert_allclose(near.test_error, c.test_error, rtol=1e-6)
    np.testing.assert_allclose(near.training_error, c.training_error, rtol=1e-6)


def test_at_as_many_samples_as_modes_errors_are_infinite_unless_all_is_learned():
    lam, powers = np.array([1.0, 0.1, 0.0]), np.array([1.0, 1.0, 0.0])
    assert learning_curve(2, (lam, powers)).test_error == 0
    assert learning_curve(2, (lam, powers, 1.0, 0.1)).test_error == np.inf
    assert learning_curve(2, (lam, powers + 0.1)).test_error == np.inf
    assert np.isfinite(learning_curve(2, (lam, powers, 1.0, 0.1), 1e-9).test_error)


def test_many_and_few_samples():
    lam, powers = np.array([1.0, 0.1]), np.array([1.0, 2.0])
    few = learning_curve(1e-9, (lam, powers, 10.0, 0.5))
    np.testing.assert_allclose(few.test_error, 3.5, rtol=1e-8)
    strong = learning_curve(5.0, (lam, powers, 10.0, 0.5), 1e12)
    np.testing.assert_allclose([strong.test_error, strong.training_error], 3.5, rtol=1e-8)


def test_a_tail_far_below_kappa_is_a_ridge_that_the_training_error_does_not_see():
    lam, powers = np.array([1.0, 0.3, 0.1]), np.array([1.0, 1.0, 0.5])
    m = np.array([3.0, 5.0, 8.0])
    tail = KernelTask(lam, powers, m, 0.2, 0.5)
    full = KernelTask(np.append(lam, 0.5e-6), np.append(powers, 0.0), np.append(m, 1e6), 0.2)
    for ridge in (0.0, 0.4):
        short, long = learning_curve(12, tail, ridge), learning_curve(12, full, ridge)
        # The tail's eigenvalues are 1e-5 of kappa.
        np.testing.assert_allclose(short.test_error, long.test_error, rtol=1e-4)
        np.testing.assert_allclose(short.training_error, long.training_error, rtol=1e-4, atol=1e-15)
        ignored = learning_curve(12, KernelTask(lam, powers, m, 0.2), ridge)
        assert abs(ignored.test_error / long.test_error - 1) > 0.05


@given(seeds)
def test_a_sampled_task_rebuilds_kernel_and_target(seed):
    rng = np.random.default_rng(seed)
    factor, y = rng.normal(size=(20, 12)), rng.normal(size=(20, 3))
    task = sampled_task(factor @ factor.T, y)
    np.testing.assert_allclose(task.eigenvalues.sum(), np.sum(factor**2) / 20, rtol=1e-12)
    assert (task.eigenvalues[12:] == 0).all() and (task.eigenvalues[:12] > 0).all()
    np.testing.assert_allclose(task.powers.sum(), np.mean(np.sum(y**2, axis=1)), rtol=1e-12)
    # y^T K y / P^2 = sum lam v^2.
    np.testing.assert_allclose(task.eigenvalues @ task.powers, np.sum((factor.T @ y) ** 2) / 400, rtol=1e-10)
    short = sampled_task(factor @ factor.T, y, modes=5)
    for whole, part in ((task.powers, short.powers), (task.eigenvalues, short.eigenvalues * short.multiplicities)):
        np.testing.assert_allclose(part.sum(), whole.sum(), rtol=1e-12)
    assert short.multiplicities.sum() == 20


def test_arguments_broadcast_and_single_precision_runs():
    lam = np.arange(1.0, 50) ** -2
    n, ridge = np.array([[3.0], [9.0], [20.0]]), np.array([0.0, 1e-3])
    table = learning_curve(n, (lam, lam, 1.0, np.array([0.0, 0.1])), ridge)
    assert table.test_error.shape == (3, 2) and table.learnability.shape == (3, 2, 49)
    alone = learning_curve(9.0, (lam, lam, 1.0, 0.1), 1e-3)
    np.testing.assert_allclose(table.test_error[1, 1], alone.test_error, rtol=1e-12)
    single = learning_curve(*(np.float32(9.0), tuple(map(np.float32, (lam, lam, 1.0, 0.1, 0.0))), np.float32(1e-3)))
    assert single.test_error.dtype == np.float32
    np.testing.assert_allclose(single.test_error, alone.test_error, rtol=1e-5)


def test_gradients_are_finite_where_all_modes_are_determined():
    lam = np.array([1.0, 0.1, 0.0])

    def error(lam, n, ridge):
        return learning_curve(n, (lam, np.ones(3), 1.0, 0.1), ridge).test_error

    for n in (1.0, 5.0):
        for ridge in (0.0, 0.1):
            gradients = jax.grad(error, argnums=(0, 1, 2))(lam, n, ridge)
            assert all(np.isfinite(g).all() for g in gradients), (n, ridge)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: effective_ridge(0.0, np.ones(2)), "n must be positive"),
        (lambda: effective_ridge(1.0, np.array([1.0, -1.0])), "eigenvalues must be non-negative"),
        (lambda: effective_ridge(1.0, np.ones(2), -1.0), "ridge must be non-negative"),
        (lambda: effective_ridge(1.0, np.ones(2), 0.0, np.ones(3)), "multiplicities must be one number or one per"),
        (lambda: learning_curve(1.0, (np.ones(2), -np.ones(2))), "powers must be non-negative"),
        (lambda: learning_curve(1.0, (np.ones(2), np.ones(2), 1.0, -0.1)), "noise must be non-negative"),
        (lambda: sampled_task(np.eye(3), np.full(3, np.nan)), "targets must be finite"),
        (lambda: sampled_task(np.eye(3), np.ones(3), modes=0), "modes must be a whole number"),
        (lambda: conserved_learnability(np.eye(2), -1.0), "ridge must be non-negative"),
    ],
)
def test_refusals_name_the_argument(call, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        call()
