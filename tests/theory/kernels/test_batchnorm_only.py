"""BatchNorm alone: duals by quadrature, the recursion spelt out, random networks, symmetries, spectra, refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.polynomial.hermite_e import hermegauss
from numpy.polynomial.legendre import leggauss, legval

from theory.kernels.activations import activation, dual, dual_derivative
from theory.kernels.batchnorm_only import (
    batchnorm_kernels,
    batchnorm_kernels_of_cosine,
    gain_dual,
    trainable_rank,
)

KINKED = ("relu", "leaky_relu", "abs", "rectified_power")
SMOOTH = ("identity", "erf", "normal_cdf", "gelu", "sine", "cosine", "exponential", "gaussian")
seeds = st.integers(0, 2**32 - 1)
on_sphere = jax.jit(batchnorm_kernels_of_cosine, static_argnames=("depth", "phi"))
gain_of = jax.jit(gain_dual, static_argnums=0)
on_batch = jax.jit(batchnorm_kernels, static_argnames=("depth", "phi"))


@pytest.mark.parametrize("name", [*KINKED, *SMOOTH])
def test_gain_dual_by_quadrature(name):
    z, w = hermegauss(100)
    w = w / w.sum()
    q1, q2, c = 0.8, 1.3, -0.6
    u = np.sqrt(q1) * z[:, None] + 0 * z
    v = c / np.sqrt(q1) * z[:, None] + np.sqrt(q2 - c**2 / q1) * z
    gain = jax.vmap(jax.grad(activation(name).function))
    values = u * v * np.asarray(gain(jnp.asarray(u.ravel())) * gain(jnp.asarray(v.ravel()))).reshape(u.shape)
    # Quadrature by 100 nodes carries a kink to one part in 100 or so, and smooth functions to rounding.
    tolerance = 0.05 if name in KINKED else 1e-10
    np.testing.assert_allclose(gain_of(name, q1, q2, c), w @ values @ w, rtol=tolerance)


@given(st.floats(0.1, 3))
def test_gain_dual_of_one_variable_with_itself(q):
    """E[(u phi')^2] for sin: q/2 + (q/2 - 2 q^2) e^{-2q}, at the end of the range of c, where slopes could be cut."""
    np.testing.assert_allclose(gain_of("sine", q, q, q), q / 2 + (q / 2 - 2 * q**2) * np.exp(-2 * q), rtol=1e-12)
    np.testing.assert_allclose(gain_of("sine", q, q, -q), -gain_of("sine", q, q, q), rtol=1e-12)
    np.testing.assert_allclose(gain_of("sine", q, 1.0, 0.0), 0, atol=1e-14)


def spelt_out(x, depth, phi):
    """Forward covariances first, then backward factors from the top, as a textbook lists them."""
    size = len(x)
    centre = np.eye(size) - 1 / size
    k, layers = x @ x.T / x.shape[1], []
    for _ in range(depth):
        covariance = centre @ k @ centre
        spread = np.trace(covariance) / size
        c = covariance / spread
        q = np.diag(c)
        arguments = (phi, *np.broadcast_arrays(q[:, None], q[None, :], c))
        layers.append((k, spread, np.asarray(dual_derivative(*arguments)), np.asarray(gain_dual(*arguments))))
        k = np.asarray(dual(*arguments))
    above, scale, shift, weights = 1.0, 0.0, 0.0, k
    for below, spread, slope, gain in layers[::-1]:
        scale = scale + above * gain
        shift = shift + above * slope
        above = above * slope / spread
        weights = weights + above * below
    return k, scale, shift, weights


@pytest.mark.parametrize(("phi", "depth"), [("relu", 1), ("relu", 3), ("erf", 2)])
def test_the_recursion(phi, depth):
    x = np.random.default_rng(depth).normal(size=(7, 4)) + 1
    for found, expected in zip(on_batch(x, depth=depth, phi=phi), spelt_out(x, depth, phi), strict=True):
        # Covariances of coincident inputs hold the root of the precision of their angle.
        np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-8)


def white(rng, samples, inputs):
    """Inputs of mean zero and unit covariance in every direction."""
    x = rng.normal(size=(samples, inputs))
    return np.linalg.qr(x - x.mean(axis=0))[0] * np.sqrt(samples)


@pytest.mark.parametrize("phi", ["relu", "abs"])
def test_wide_layer_of_normalised_units(phi):
    """One hidden layer, white inputs in three dimensions: the kernels are those of units with their own statistics."""
    rng = np.random.default_rng(0)
    x, units = white(rng, 6, 3), 200_000
    u = x @ rng.normal(size=(3, units))
    u = u / u.std(axis=0)
    function = activation(phi).function
    value, slope = np.asarray(function(u)), np.asarray(jax.vmap(jax.vmap(jax.grad(function)))(jnp.asarray(u)))
    kernels = on_batch(x, depth=1, phi=phi)
    for found, features in ((kernels.nngp, value), (kernels.scale, u * slope), (kernels.shift, slope)):
        samples = features[:, None] * features
        error = samples.std(axis=-1) / np.sqrt(units) + 1e-7
        assert np.max(np.abs(samples.mean(axis=-1) - found) / error) < 5


@given(seeds, st.floats(0.1, 10), st.floats(0.1, 10))
def test_symmetries(seed, scale, variance):
    rng = np.random.default_rng(seed)
    x, order = rng.normal(size=(6, 3)), rng.permutation(6)
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    base = on_batch(x, depth=2, phi="relu")
    moved = on_batch(scale * x[order] @ turn + 2, depth=2, phi="relu", weight_variance=variance)
    for name in ("nngp", "scale", "shift"):
        expected = variance * getattr(base, name)[np.ix_(order, order)]
        np.testing.assert_allclose(getattr(moved, name), expected, rtol=1e-6, atol=1e-7 * variance)


@pytest.mark.parametrize("phi", ["relu", "erf", "gelu"])
def test_kernels_are_positive(phi):
    x = np.random.default_rng(2).normal(size=(12, 3))
    kernels = on_batch(x, depth=2, phi=phi)
    for k in kernels:
        np.testing.assert_allclose(k, k.T, rtol=1e-12)
        assert np.linalg.eigvalsh(k).min() > -1e-7 * np.linalg.norm(k)
    np.testing.assert_allclose(kernels.ntk, kernels.batchnorm + kernels.weights, rtol=1e-14)


def test_other_inputs_have_the_statistics_of_the_population():
    rng = np.random.default_rng(3)
    x, other = rng.normal(size=(6, 3)), rng.normal(size=(2, 3))
    alone, both = batchnorm_kernels(x, depth=2), batchnorm_kernels(x, np.concatenate([x[:2], other]), depth=2)
    for k, wide in zip(alone, both, strict=True):
        assert wide.shape == (6, 4)
        np.testing.assert_allclose(wide[:, :2], k[:, :2], rtol=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize("phi", ["relu", "erf"])
def test_a_sphere_of_high_dimension(phi):
    """A population of +-sqrt(d) e_i has cosines 0 and 1 but for one pair in d."""
    gaps = []
    for d in (20, 80):
        x = np.sqrt(d) * np.concatenate([np.eye(d), -np.eye(d)])
        found = on_batch(x, depth=3, phi=phi)
        expected = batchnorm_kernels_of_cosine(np.array([1.0, 0.0, -1.0]), depth=3, phi=phi)
        gaps.append([np.abs(k[0, [0, 1, d]] - e).max() for k, e in zip(found, expected, strict=True)])
    # Of order 1/d.
    np.testing.assert_array_less(gaps[1], np.array(gaps[0]) / 3 + 1e-7)
    assert np.max(gaps[1]) < 0.1


def test_the_full_kernel_misses_odd_degrees_that_shifts_hold():
    """Legendre coefficients on the sphere in three dimensions, one hidden layer of ReLU without biases."""
    z, w = leggauss(400)
    kernels = on_sphere(z, depth=1, phi="relu")

    def coefficients(k):
        return np.array([w @ (np.asarray(k) * legval(z, np.eye(13)[j])) for j in range(13)])

    weights, shift, scale = map(coefficients, (kernels.weights, kernels.shift, kernels.scale))
    # The nodes resolve the kinks at the poles to about 1/400^2.
    np.testing.assert_allclose(weights[3::2], 0, atol=1e-6)
    np.testing.assert_allclose(shift[2::2], 0, atol=1e-6)
    np.testing.assert_allclose(scale[3::2], 0, atol=1e-6)
    assert (coefficients(kernels.batchnorm) > 2e-6).all()


@pytest.mark.parametrize(("width", "depth", "samples"), [(4, 2, 40), (4, 2, 12), (3, 1, 30)])
def test_rank_counts_scales_and_shifts(width, depth, samples):
    rng = np.random.default_rng(width)
    x = rng.normal(size=(samples, 5))
    layers = [rng.normal(size=(width, 5 if i == 0 else width)) for i in range(depth)]
    top = rng.normal(size=width)

    def outputs(norms):
        h = x
        for w, (scale, shift) in zip(layers, norms, strict=True):
            h = h @ w.T
            fixed = jax.lax.stop_gradient(h)
            h = jax.scipy.special.erf(scale * (h - fixed.mean(0)) / fixed.std(0) + shift)
        return h @ top

    jacobian = jax.jacrev(outputs)([(jnp.ones(width), jnp.zeros(width))] * depth)
    flat = np.concatenate([np.asarray(j) for j in jax.tree.leaves(jacobian)], axis=1)
    assert np.linalg.matrix_rank(flat) == trainable_rank(samples, width, depth)


def test_gradients_in_the_cosine():
    slope = jax.jit(jax.vmap(jax.grad(lambda t: batchnorm_kernels_of_cosine(t, depth=2, phi="erf").batchnorm)))
    t = np.linspace(-0.9, 0.9, 5)
    h = 1e-6
    ahead, behind = (on_sphere(t + e, depth=2, phi="erf").batchnorm for e in (h, -h))
    np.testing.assert_allclose(slope(t), (ahead - behind) / (2 * h), rtol=1e-6)


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: gain_dual("step", 1.0, 1.0, 0.5), "phi"),
        (lambda: gain_dual("relu", -1.0, 1.0, 0.5), "q1"),
        (lambda: gain_dual("relu", 1.0, 1.0, 1.5), "c"),
        (lambda: batchnorm_kernels(np.ones((3, 2)), depth=1), "x"),
        (lambda: batchnorm_kernels(np.eye(3), depth=0), "depth"),
        (lambda: batchnorm_kernels(np.eye(3), np.ones((2, 4)), depth=1), "other"),
        (lambda: batchnorm_kernels(np.eye(3), depth=1, weight_variance=0.0), "weight_variance"),
        (lambda: batchnorm_kernels_of_cosine(1.1, depth=1), "t"),
        (lambda: batchnorm_kernels_of_cosine(-1.1, depth=1), "t"),
        (lambda: trainable_rank(0, 1, 1), "samples"),
        (lambda: trainable_rank(1, 0, 1), "width"),
    ],
)
def test_refusals_name_the_argument(call, named):
    with pytest.raises(ValueError, match=rf"^{named} must"):
        call()
