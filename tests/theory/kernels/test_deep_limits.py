"""The taxonomy of infinite depth: known constants, Koenigs functions by brute iteration, the consistent mixture."""

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from theory.kernels.deep_limits import (
    deep_limit,
    interpolation_distance,
    log_singular_kernel,
    mixture_share,
    normalised_dual,
    singular_kernel,
)

CUBIC = np.array([0.0, 0.5, 0.0, 0.5])
FLAT = np.array([0.6, 0.3, 0.1])
cosines = st.floats(-0.99, 0.99)


def exact_singular(f, linear, gap):
    """lim f^L(1 - gap) / linear^L at 60 digits."""
    with mpmath.workdps(60):
        xi, layers = 1 - mpmath.mpf(gap), 0
        while xi > mpmath.mpf(10) ** -45:
            xi, layers = f(xi), layers + 1
        return float(xi / linear**layers)


@pytest.mark.parametrize(
    ("phi", "case"),
    [
        ("relu", "majority vote"),
        ("gelu", "majority vote"),
        ("abs", "majority vote"),
        ("erf", "singular kernel"),
        ("sine", "singular kernel"),
        ("normal_cdf", "interpolation with a free constant"),
        ("cosine", "interpolation with a free constant"),
        ("identity", "linear"),
        (CUBIC, "singular kernel"),
        (FLAT, "interpolation with a free constant"),
        (np.array([0.5, 0.0, 0.5]), "majority vote"),
        (np.array([0.0, 0.0, 1.0, 1.0]), "nearest neighbour"),
    ],
)
def test_known_cases(phi, case):
    assert deep_limit(phi).case == case


def test_constants_of_the_sine_are_hyperbolic():
    """f = sinh(xi)/sinh(1)."""
    limit = deep_limit("sine")
    np.testing.assert_allclose(limit.linear, 1 / np.sinh(1), rtol=1e-14)
    np.testing.assert_allclose(limit.slope, 1 / np.tanh(1), rtol=1e-14)
    np.testing.assert_allclose(limit.exponent, 2 * np.log(np.sinh(1)) / np.log(1 / np.tanh(1)), rtol=1e-13)


@pytest.mark.parametrize("xi", [-0.7, -0.2, 0.0, 0.3, 0.9])
def test_an_activation_and_its_hermite_coefficients_have_one_dual(xi):
    orders = np.arange(40)
    coefficients = np.where(orders % 2 == 1, 1 / np.array([float(mpmath.factorial(k)) for k in orders]), 0)
    series, closed = normalised_dual(coefficients), normalised_dual("sine")
    x, h = jnp.asarray(xi), jnp.asarray((1 - xi) / 2)
    np.testing.assert_allclose(series.layer(x, h), closed.layer(x, h), rtol=1e-13, atol=1e-16)
    np.testing.assert_allclose(series.slope(x, h), closed.slope(x, h), rtol=1e-13)
    np.testing.assert_allclose(series.slope_deficit(x, h), closed.slope_deficit(x, h), rtol=1e-12)
    np.testing.assert_allclose(series.slope(x, h), jax.grad(lambda x: closed.layer(x, (1 - x) / 2)[0])(x), rtol=1e-12)


@pytest.mark.parametrize("gap", [0.9, 0.5, 0.1, 0.01, 1e-6, 1e-12, 1e-15])
@pytest.mark.parametrize("phi", ["cubic", "sine"])
def test_singular_kernel_at_sixty_digits(phi, gap):
    if phi == "cubic":
        phi, f, linear = CUBIC, lambda x: (x + x**3) / 2, mpmath.mpf(0.5)
    else:
        f, linear = lambda x: mpmath.sinh(x) / mpmath.sinh(1), 1 / mpmath.sinh(1)
    # A rounding or two of f'(0) in each of up to 300 layers.
    np.testing.assert_allclose(singular_kernel(1 - gap, phi, gap / 2), exact_singular(f, linear, gap), rtol=2e-13)


@given(cosines)
def test_singular_kernel_is_multiplied_by_a_layer(xi):
    f = (xi + xi**3) / 2
    np.testing.assert_allclose(singular_kernel(f, CUBIC), 0.5 * singular_kernel(xi, CUBIC), rtol=1e-13, atol=1e-300)
    np.testing.assert_allclose(singular_kernel(-xi, CUBIC), -singular_kernel(xi, CUBIC), rtol=1e-13, atol=1e-300)


@given(st.floats(0.01, 0.99))
def test_the_nngp_kernel_of_a_deep_network_is_the_singular_kernel(xi):
    phi = np.array([0.0, 0.4, 0.6])
    deep = xi
    for _ in range(60):
        deep = 0.4 * deep + 0.6 * deep**2
    # f^60 / 0.4^60 misses g by its own size, relatively, if the end is in reach of 60 layers.
    if deep < 1e-6:
        np.testing.assert_allclose(singular_kernel(xi, phi), deep / 0.4**60, rtol=10 * deep + 1e-13)


def test_singular_kernel_at_its_ends():
    np.testing.assert_array_equal(singular_kernel(np.array([0.0, 1.0]), CUBIC), [0, np.inf])
    slope = jax.grad(lambda xi: singular_kernel(xi, CUBIC))
    np.testing.assert_allclose(slope(1e-9), 1.0, rtol=1e-12)
    np.testing.assert_allclose(slope(0.5), 0.5**-1 * 0.875 * slope(0.3125), rtol=1e-12)
    log, sign = log_singular_kernel(np.array([-0.4, 0.4]), np.array([0.0, 0.2, 0.8]))
    # f = xi (1 + 4 xi)/5 is negative on (-1/4, 0) only.
    np.testing.assert_array_equal(sign, [1, 1])
    assert np.isfinite(log).all()


@pytest.mark.parametrize("phi", [FLAT, "normal_cdf", "cosine"])
def test_interpolation_distance_is_multiplied_by_a_layer(phi):
    xi = np.array([-0.5, 0.2, 0.7, 0.95])
    dual, limit = normalised_dual(phi), deep_limit(phi)
    after = dual.layer(jnp.asarray(xi), jnp.asarray((1 - xi) / 2))
    distance = interpolation_distance(xi, phi)
    np.testing.assert_allclose(interpolation_distance(after[0], phi, after[1]), limit.slope * distance, rtol=1e-12)
    np.testing.assert_allclose(interpolation_distance(1 - 1e-9, phi, 5e-10), 1e-9, rtol=1e-8)
    assert interpolation_distance(1.0, phi) == 0


@given(st.integers(0, 2**32 - 1))
def test_minus_the_distance_is_conditionally_positive(seed):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(8, 3))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    weights = rng.normal(size=8)
    weights -= weights.mean()
    assert weights @ interpolation_distance(np.clip(x @ x.T, -1, 1), FLAT) @ weights <= 1e-10


@given(st.sampled_from([2, 3, 5, 9]), st.floats(1.05, 10))
def test_the_mixture_has_the_exponent_it_was_made_for(degree, ratio):
    dimension = 2 / (degree - 1) * ratio
    share = float(mixture_share(dimension, degree))
    coefficients = np.zeros(degree + 1)
    coefficients[[1, degree]] = share, 1 - share
    assert 0 < share < 1
    # Close to p = 1 the exponent is a ratio of small logarithms.
    np.testing.assert_allclose(deep_limit(coefficients).exponent, dimension, rtol=1e-9)


def test_known_mixtures():
    np.testing.assert_allclose(mixture_share(np.array([1.0, 2.0]), 7), [0.5, 1 / 6], rtol=1e-14)
    np.testing.assert_allclose(mixture_share(2.0, 3), 0.5, rtol=1e-14)
    # p^2 (3 - 2p)^d = 1: dp/dd = -ln(3 - 2p) / (2/p - 2d/(3 - 2p)).
    np.testing.assert_allclose(jax.grad(mixture_share)(2.0, 3), -np.log(2) / (4 - 2), rtol=1e-12)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: mixture_share(1.0, 3), "dimension must be above"),
        (lambda: mixture_share(2.0, 1), "degree must be"),
        (lambda: singular_kernel(0.5, "relu"), "phi must have"),
        (lambda: interpolation_distance(0.5, "relu"), "phi must have"),
        (lambda: singular_kernel(1.5, CUBIC), "xi must lie"),
        (lambda: deep_limit(np.array([0.5, -0.1, 0.6])), "phi must be non-negative"),
        (lambda: deep_limit(np.array([1.0, 0.0])), "phi must not be constant"),
        (lambda: deep_limit("sign"), "phi must be continuous"),
    ],
)
def test_refusals_name_the_argument(call, sentence):
    with pytest.raises(ValueError, match=f"^{sentence}"):
        call()
