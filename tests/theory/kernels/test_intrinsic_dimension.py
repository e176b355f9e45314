"""Random subspaces: exact laws, brute-force projections, duality, limits, gradients, refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from theory.kernels import intrinsic_dimension as theory

S = 12
dimensions = st.floats(0.05, S - 0.05)
seeds = st.integers(0, 2**32 - 1)

residual = jax.jit(theory.expected_residual)
correction = jax.jit(theory.residual_correction)
effective = jax.jit(theory.effective_curvature)
needed = jax.jit(theory.intrinsic_dimension)
shares = jax.jit(theory.expected_shares)
effective_slope = jax.jit(jax.grad(theory.effective_curvature))
residual_slope = jax.jit(jax.grad(theory.expected_residual))
needed_slope = jax.jit(jax.grad(theory.intrinsic_dimension))


def spectrum(seed):
    """Curvatures over three decades, and energies unrelated to them."""
    rng = np.random.default_rng(seed)
    return 10 ** rng.uniform(-2, 1, S), rng.exponential(size=S)


def brute(curvatures, energies, d, runs, rng):
    """L_min / L_0 in `runs` random subspaces, by projection."""
    frames = np.linalg.qr(np.sqrt(curvatures)[:, None] * rng.normal(size=(runs, len(curvatures), d)))[0]
    root = np.sqrt(energies)
    return 1 - np.sum(np.einsum("rsd,s->rd", frames, root) ** 2, axis=1) / np.sum(energies)


@pytest.mark.parametrize("d", [1, 5, 11])
def test_equal_curvatures_follow_the_beta_law(d):
    rng = np.random.default_rng(d)
    energies = rng.exponential(size=S)
    fractions = brute(np.full(S, 0.7), energies, d, 4000, rng)
    error = theory.residual_deviation(d, S)
    assert abs(fractions.mean() - theory.mean_residual(d, S)) < 5 * error / np.sqrt(4000)
    # The standard error of a standard deviation is at most a few times sigma / sqrt(2 R) for these tails.
    np.testing.assert_allclose(fractions.std(), error, rtol=0.1)
    law = stats.kstest(fractions, lambda x: np.asarray(theory.residual_probability(x, d, S)))
    assert law.pvalue > 1e-5


@given(st.floats(0, 1), dimensions)
def test_the_law_has_the_stated_moments(fraction, d):
    beta = stats.beta((S - d) / 2, d / 2)
    np.testing.assert_allclose(theory.residual_probability(fraction, d, S), beta.cdf(fraction), atol=1e-10)
    np.testing.assert_allclose(theory.mean_residual(d, S), beta.mean(), rtol=1e-12)
    np.testing.assert_allclose(theory.residual_deviation(d, S), beta.std(), rtol=1e-10)


@given(st.floats(0.01, 0.99), st.floats(1, S - 1))
def test_quantiles_invert_the_law(probability, d):
    found = theory.residual_quantile(probability, d, S)
    # A steep law passes the rounding of the fraction on.
    slope = stats.beta((S - d) / 2, d / 2).pdf(found)
    np.testing.assert_allclose(theory.residual_probability(found, d, S), probability, atol=1e-12 * (1 + slope))


def test_ends_of_the_law():
    np.testing.assert_array_equal(theory.residual_quantile(np.array([0.0, 1.0]), 3, S), [0, 1])
    np.testing.assert_array_equal(theory.residual_quantile(0.5, np.array([S, S + 1]), S), 0)
    np.testing.assert_array_equal(theory.residual_probability(np.array([0.0, 1.0]), S, S), 1)
    np.testing.assert_array_equal(theory.mean_residual(np.array([0, S, 2 * S]), S), [1, 0, 0])


@given(dimensions, st.floats(0.01, 100), seeds)
def test_equal_curvatures_are_a_special_case(d, curvature, seed):
    curvatures, energies = np.full(S, curvature), spectrum(seed)[1]
    np.testing.assert_allclose(residual(d, curvatures, energies), 1 - d / S, rtol=1e-11)
    np.testing.assert_allclose(correction(d, curvatures, energies), 0, atol=1e-12)
    np.testing.assert_allclose(needed(1 - d / S, curvatures, energies), d, rtol=1e-10)
    np.testing.assert_allclose(shares(curvatures), 1 / S, rtol=1e-12)


@given(dimensions, seeds)
def test_effective_curvature_solves_its_equation(d, seed):
    curvatures, energies = spectrum(seed)
    kappa = effective(d, curvatures)
    np.testing.assert_allclose(np.sum(curvatures / (curvatures + kappa)), d, rtol=1e-11)
    expected = np.sum(energies * kappa / (kappa + curvatures)) / energies.sum()
    np.testing.assert_allclose(residual(d, curvatures, energies), expected, rtol=1e-10)
    np.testing.assert_allclose(needed(expected, curvatures, energies), d, rtol=1e-10)


@given(dimensions, seeds)
def test_the_complement_is_a_subspace_of_inverse_curvatures(d, seed):
    curvatures, energies = spectrum(seed)
    there, back = residual(d, curvatures, energies), residual(S - d, 1 / curvatures, energies)
    np.testing.assert_allclose(there + back, 1, rtol=1e-11)
    first, second = correction(d, curvatures, energies), correction(S - d, 1 / curvatures, energies)
    np.testing.assert_allclose(first, -second, atol=1e-11)


@given(st.floats(0.5, S - 0.5), seeds, st.permutations(range(S)), st.floats(0.01, 100))
def test_symmetries(d, seed, order, scale):
    curvatures, energies = spectrum(seed)
    base = residual(d, curvatures, energies)
    np.testing.assert_allclose(residual(d, curvatures[order], energies[order]), base, rtol=1e-11)
    np.testing.assert_allclose(residual(d, scale * curvatures, scale * energies), base, rtol=1e-11)
    np.testing.assert_allclose(effective(d, scale * curvatures), scale * effective(d, curvatures), rtol=1e-11)
    np.testing.assert_allclose(np.sum([correction(d, curvatures, e) for e in np.eye(S)]), 0, atol=1e-11)
    # More directions never hurt.
    assert residual(d + 0.4, curvatures, energies) < base


@pytest.mark.parametrize("d", [3, 8, 14])
def test_projections_with_unequal_curvatures(d):
    """Mean over 40000 subspaces, of energy that stands on one end of the spectrum, where the correction is largest."""
    rng = np.random.default_rng(d)
    curvatures = np.exp(np.linspace(-2, 2, 20))
    for energies in (curvatures**2, 1 / curvatures):
        fractions = brute(curvatures, energies, d, 40_000, rng)
        error = fractions.std() / np.sqrt(40_000)
        leading, next_order = residual(d, curvatures, energies), correction(d, curvatures, energies)
        assert abs(next_order) > 10 * error
        # The order after that is the square of 1 / sum_i v_i.
        reached = curvatures / (curvatures + effective(d, curvatures))
        rest = leading / np.sum(reached * (1 - reached)) ** 2
        assert abs(fractions.mean() - leading - next_order) < 5 * error + rest


def test_one_direction_and_all_but_one_are_exact():
    rng = np.random.default_rng(0)
    curvatures, energies = np.array([3.0, 1.0, 0.2, 0.05]), np.array([1.0, 0.3, 2.0, 0.7])
    one = 1 - energies @ shares(curvatures) / energies.sum()
    missing = energies @ shares(1 / curvatures) / energies.sum()
    for d, expected in ((1, one), (3, missing)):
        fractions = brute(curvatures, energies, d, 100_000, rng)
        assert abs(fractions.mean() - expected) < 5 * fractions.std() / np.sqrt(100_000)


@given(seeds)
def test_shares_sum_to_one_and_grow_with_curvature(seed):
    curvatures = np.sort(10 ** np.random.default_rng(seed).uniform(-6, 6, 5))
    found = shares(curvatures)
    np.testing.assert_allclose(found.sum(), 1, rtol=1e-12)
    assert (np.diff(found) > 0).all()


def test_directions_without_curvature_keep_their_energy():
    curvatures, energies = np.array([1.0, 2.0, 0.0]), np.array([1.0, 2.0, 1.0])
    np.testing.assert_allclose(theory.expected_residual(np.array([2.0, 5.0]), curvatures, energies), 0.25, rtol=1e-14)
    assert theory.expected_residual(1.0, curvatures, energies) > 0.25
    np.testing.assert_array_equal(
        theory.intrinsic_dimension(np.array([0.0, 0.2, 1.0]), curvatures, energies), [2, 2, 0]
    )
    np.testing.assert_array_equal(theory.residual_correction(2.0, curvatures, energies), 0)


def test_kernel_modes_are_the_quadratic_of_a_linear_network():
    """Least squares of a random Jacobian restricted to a random subspace, against the projection of the modes."""
    rng = np.random.default_rng(1)
    jacobian, residuals = rng.normal(size=(6, 40)), rng.normal(size=6)
    curvatures, energies = theory.kernel_modes(jacobian @ jacobian.T, residuals)
    np.testing.assert_allclose(energies.sum(), residuals @ residuals, rtol=1e-13)
    directions = rng.normal(size=(4000, 40, 3))
    fits = jacobian @ directions
    steps = np.linalg.pinv(fits) @ residuals
    left = residuals - np.einsum("rpd,rd->rp", fits, steps)
    fractions = np.sum(left**2, axis=1) / np.sum(residuals**2)
    expected = residual(3.0, curvatures, energies) + correction(3.0, curvatures, energies)
    rest = 1 / (6 * 0.25) ** 2 * abs(correction(3.0, curvatures, energies))
    assert abs(fractions.mean() - expected) < 5 * fractions.std() / np.sqrt(4000) + rest
    # As many directions as samples interpolate.
    assert residual(6.0, curvatures, energies) == 0


@pytest.mark.parametrize("d", [20, 60])
def test_flow_in_a_subspace(d):
    """Eigenvalues of one large random quadratic; fluctuations of a spectral average are of order 1/s."""
    s, parameters = 40, 4000
    rng = np.random.default_rng(d)
    directions = np.linalg.qr(rng.normal(size=(parameters, d)))[0][:s]
    eigenvalues = np.linalg.eigvalsh(0.3 * directions @ directions.T)
    t = np.array([0.0, 100.0, 400.0, 2000.0])
    found = np.mean(np.exp(-2 * eigenvalues * t[:, None]), axis=1)
    expected = theory.subspace_flow_residual(t, d, s, 0.3 * s / parameters)
    np.testing.assert_allclose(found, expected, atol=2 / s)
    assert expected[0] == pytest.approx(1, abs=1e-12)


def test_flow_ends_at_the_mean_residual_and_is_slowest_at_the_threshold():
    d = np.array([4.0, 6.0, 12.0, 18.0, 24.0])
    end = theory.subspace_flow_residual(1e12, d, S)
    # At d = s the power law 1 / sqrt(2 pi t) is all that is left.
    np.testing.assert_allclose(end, theory.mean_residual(d, S), atol=1e-6)
    np.testing.assert_allclose(theory.subspace_flow_residual(1e4, S, S), 1 / np.sqrt(2e4 * np.pi), rtol=1e-4)
    excess = theory.subspace_flow_residual(30.0, d, S) - theory.mean_residual(d, S)
    assert np.argmax(excess) == 2


@given(st.floats(1, S - 1), seeds)
def test_gradients(d, seed):
    curvatures, energies = spectrum(seed)
    slope = effective_slope(d, curvatures)
    kappa = effective(d, curvatures)
    np.testing.assert_allclose(slope, -1 / np.sum(curvatures / (curvatures + kappa) ** 2), rtol=1e-9)
    back = needed_slope(residual(d, curvatures, energies), curvatures, energies)
    forth = residual_slope(d, curvatures, energies)
    np.testing.assert_allclose(back * forth, 1, rtol=1e-7)


def test_gradients_are_finite_at_the_ends():
    one = jnp.ones(3)
    slopes = jax.jit(jax.grad(theory.expected_residual, argnums=(0, 1)))
    for d in (1.0, 3.0, 4.0):
        assert all(np.isfinite(slope).all() for slope in slopes(d, one, one))
        assert np.isfinite(jax.grad(theory.residual_deviation)(d, 3.0))
        assert np.isfinite(jax.grad(theory.residual_probability)(0.5, d, 3.0))


def test_functions_broadcast_over_the_dimension():
    curvatures, energies = spectrum(3)
    table = theory.expected_residual(np.arange(1.0, 7.0).reshape(2, 3), curvatures, energies)
    assert table.shape == (2, 3)
    np.testing.assert_allclose(table[1, 2], residual(6.0, curvatures, energies), rtol=1e-14)
    assert theory.subspace_flow_residual(np.ones((4, 1)), np.array([2.0, 3.0]), 4.0).shape == (4, 2)


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: theory.mean_residual(-1, 3), "d"),
        (lambda: theory.residual_probability(1.5, 1, 3), "fraction"),
        (lambda: theory.residual_quantile(-0.1, 1, 3), "probability"),
        (lambda: theory.expected_residual(0.0, np.ones(1), np.ones(1)), "d"),
        (lambda: theory.expected_residual(1.0, np.array([1.0, -1.0]), np.ones(2)), "curvatures"),
        (lambda: theory.expected_residual(1.0, np.zeros(2), np.ones(2)), "curvatures"),
        (lambda: theory.expected_residual(1.0, np.ones(2), np.ones(1)), "energies"),
        (lambda: theory.expected_residual(1.0, np.ones(2), np.zeros(2)), "energies"),
        (lambda: theory.intrinsic_dimension(1.1, np.ones(1), np.ones(1)), "tolerance"),
        (lambda: theory.expected_shares(np.array([1.0, 0.0])), "curvatures"),
        (lambda: theory.kernel_modes(np.ones((2, 3)), np.ones(2)), "kernel"),
        (lambda: theory.kernel_modes(-np.eye(2), np.ones(2)), "kernel"),
        (lambda: theory.kernel_modes(np.eye(2), np.ones(3)), "residual"),
        (lambda: theory.subspace_flow_residual(-1.0, 2, 3), "t"),
    ],
)
def test_refusals_name_the_argument(call, named):
    with pytest.raises(ValueError, match=rf"^{named} must"):
        call()
