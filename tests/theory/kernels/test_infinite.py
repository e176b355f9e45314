"""Kernels of wide networks: to the last digits at 60, positive everywhere, the same by blocks and on devices."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from theory.kernels.activations import NAMED, dual, dual_derivative
from theory.kernels.infinite import kernel_diagonal, kernels, kernels_of_cosine

seeds = st.integers(0, 2**32 - 1)
UNBOUNDED = ("exponential", "polynomial")


def relu_kernels(x, y, depth, w, b):
    """The textbook recursion, at 60 digits, for the floating numbers given; (K, Theta) and their size."""
    with mpmath.workdps(60):
        x, y = ([mpmath.mpf(float(v)) for v in z] for z in (x, y))
        q1, q2, k = (
            w * mpmath.fsum(p * q for p, q in zip(u, v, strict=True)) / len(x) + b for u, v in ((x, x), (y, y), (x, y))
        )
        theta, size = k, mpmath.sqrt(q1 * q2)
        for _ in range(depth):
            cosine = max(min(k / mpmath.sqrt(q1 * q2), 1), -1) if q1 * q2 else mpmath.mpf(0)
            angle = mpmath.acos(cosine)
            moment = mpmath.sqrt(q1 * q2) * (mpmath.sin(angle) + (mpmath.pi - angle) * cosine) / (2 * mpmath.pi)
            q1, q2, k = w * q1 / 2 + b, w * q2 / 2 + b, w * moment + b
            theta = k + w * theta * (mpmath.pi - angle) / (2 * mpmath.pi)
            size = mpmath.sqrt(q1 * q2) + w * size / 2
        return k, theta, mpmath.sqrt(q1 * q2), size


@pytest.mark.parametrize("depth", [1, 3, 12])
@pytest.mark.parametrize(("dtype", "bound"), [(np.float64, 2e-15), (np.float32, 1e-6)])
def test_any_pair_of_inputs_to_the_last_digits(depth, dtype, bound):
    """Coincident, nearly coincident, opposite, nearly opposite and unrelated inputs, of norms from 1e-8 to 1e8."""
    rng = np.random.default_rng(depth)
    x = rng.normal(size=(8, 5))
    far = np.concatenate([x[:2], *(x[2:4] + eps * rng.normal(size=(2, 5)) for eps in (1e-12, 1e-8, 1e-4, 1e-2, 0.3))])
    sizes = rng.choice([1e-8, 1.0, 1e8], size=(len(far), 1))
    x, y = (
        x.astype(dtype),
        (np.concatenate([far, -far, 0 * far[:1]]) * np.concatenate([sizes, -sizes, sizes[:1]])).astype(dtype),
    )
    y = np.concatenate([y, x[:1], -x[:1]])
    for bias in (0.0, 0.3):
        found = kernels(x, y, depth=depth, bias_variance=bias)
        assert found.ntk.dtype == dtype
        for i in range(4):
            for j in range(len(y)):
                k, theta, k_size, theta_size = relu_kernels(x[i], y[j], depth, 2, mpmath.mpf(bias))
                assert abs(mpmath.mpf(float(found.nngp[i, j])) - k) <= bound * k_size
                assert abs(mpmath.mpf(float(found.ntk[i, j])) - theta) <= bound * theta_size


def test_depth_ten_thousand():
    """At the edge of chaos angles close as 1/depth, and errors close with them."""
    t = np.array([1.0, 1 - 1e-8, 0.9, 0.3, -0.5, -1.0])
    depth = 10_000
    found = kernels_of_cosine(t, depth=depth)
    for i, cosine in enumerate(t):
        with mpmath.workdps(40):
            rho = mpmath.mpf(cosine)
            theta = rho
            for _ in range(depth):
                angle = mpmath.acos(rho)
                rho = (mpmath.sin(angle) + (mpmath.pi - angle) * rho) / mpmath.pi
                theta = rho + theta * (mpmath.pi - angle) / mpmath.pi
        # Each layer rounds at 1e-16: ten thousand of them, at random, to 1e-14; a bias would add up to 1e-12.
        np.testing.assert_allclose(found.nngp[i], float(2 * rho), rtol=1e-14)
        np.testing.assert_allclose(found.ntk[i], float(2 * theta), rtol=3e-14)
    np.testing.assert_allclose(found.ntk[0], 2 * (depth + 1), rtol=1e-15)


@pytest.mark.parametrize("name", [name for name in NAMED if name not in (*UNBOUNDED, "abrelu")])
def test_no_entry_is_lost_anywhere(name):
    """Duplicates, opposites, zero vectors, norms from 1e-8 to 1e8: finite, symmetric, positive, in both precisions."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(10, 4)) * np.array([1e-8, 1e8, 1, 1, 1e-4, 1e4, 1, 1, 1, 1])[:, None]
    x[6], x[7], x[8] = x[2], -x[3], 0
    # Fourth powers of 1e8, squared again, are no float32 numbers.
    for dtype in (np.float64, np.float32)[: 1 if name == "rectified_power" else 2]:
        for kernel in kernels(x.astype(dtype), depth=2, activation=name, weight_variance=1.5, bias_variance=0.1):
            if kernel is None:
                assert name in ("step", "sign")
                continue
            kernel = np.asarray(kernel)
            assert np.isfinite(kernel).all() and (np.diag(kernel) > 0).all()
            np.testing.assert_array_equal(kernel, kernel.T)
            correlation = kernel / np.sqrt(np.outer(np.diag(kernel), np.diag(kernel)))
            eps = np.finfo(dtype).eps
            assert np.abs(correlation).max() <= 1 + 16 * eps
            if name not in ("step", "sign"):  # a jump shows sqrt(eps) of the angle between duplicates
                assert np.linalg.eigvalsh(correlation.astype(float))[0] > -64 * eps


@given(seeds)
def test_rotations_scales_and_the_tangent_kernel_above_the_covariance(seed):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(5, 3))
    rotation = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    nngp, ntk = kernels(x, depth=2)
    np.testing.assert_allclose(kernels(x @ rotation, depth=2).ntk, ntk, atol=1e-13 * np.abs(ntk).max())
    scale = np.exp(rng.normal(size=(5, 1)))
    np.testing.assert_allclose(kernels(scale * x, depth=2).ntk, ntk * scale * scale.T, rtol=1e-12, atol=1e-14)
    smallest = np.linalg.eigvalsh(ntk - nngp)[0]
    assert smallest > -1e-13 * np.abs(ntk).max()


def test_against_dense_gaussian_integrals_layer_by_layer():
    """The recursion itself, written with the duals alone."""
    rng = np.random.default_rng(2)
    x, y, w, b = rng.normal(size=(3, 4)), rng.normal(size=(2, 4)), 1.3, 0.2
    for name in ("relu", "gelu"):
        squares = (x * x).sum(1)[:, None], (y * y).sum(1)[None, :], x @ y.T
        q1, q2, k = np.broadcast_arrays(*(w * z / 4 + b for z in squares))
        theta = k
        for _ in range(3):
            slope = dual_derivative(name, q1, q2, k)
            q1, q2, k = (w * dual(name, *z) + b for z in ((q1, q1, q1), (q2, q2, q2), (q1, q2, k)))
            theta = k + w * theta * slope
        found = kernels(x, y, depth=3, activation=name, weight_variance=w, bias_variance=b)
        np.testing.assert_allclose(found.nngp, k, rtol=1e-12)
        np.testing.assert_allclose(found.ntk, theta, rtol=1e-12)


def test_blocks_the_mirror_and_the_diagonal_change_nothing():
    x, y = (np.random.default_rng(3).normal(size=(n, 3)) for n in (23, 11))
    whole = kernels(x, depth=2, bias_variance=0.1)
    parts = kernels(x, depth=2, bias_variance=0.1, block=5)
    both = kernels(x, np.array(x), depth=2, bias_variance=0.1, block=7)
    cross = kernels(x, y, depth=2, bias_variance=0.1, block=4)
    for i in (0, 1):
        np.testing.assert_allclose(parts[i], whole[i], rtol=1e-13)
        np.testing.assert_allclose(both[i], whole[i], rtol=1e-13)
        np.testing.assert_allclose(cross[i], kernels(x, y, depth=2, bias_variance=0.1)[i], rtol=1e-13)
        np.testing.assert_allclose(kernel_diagonal(x, depth=2, bias_variance=0.1)[i], np.diag(whole[i]), rtol=1e-14)


def test_several_devices():
    """In a process of its own: the number of devices is fixed when JAX starts."""
    program = """
import jax, numpy as np
from theory.kernels.infinite import kernels
x, y = (np.random.default_rng(n).normal(size=(n, 3)) for n in (17, 9))
assert len(jax.devices()) == 3
for other in (None, y):
    one, many = (kernels(x, other, depth=1, block=5, devices=d) for d in (None, jax.devices()))
    for a, b in zip(one, many):
        np.testing.assert_allclose(a, b, rtol=1e-13)
assert kernels(x, depth=1, activation="sign", block=5, devices=jax.devices()).ntk is None
"""
    env = os.environ | {"XLA_FLAGS": os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=3"}
    done = subprocess.run(
        [sys.executable, "-c", program], env=env | {"PYTHONPATH": os.getcwd()}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_parametrisations():
    x = np.random.default_rng(4).normal(size=(4, 3))
    options = dict(depth=1, weight_variance=1.5, bias_variance=0.2)
    plain, standard = kernels(x, **options), kernels(x, **options, parametrisation="standard", width=100)
    np.testing.assert_allclose(standard.nngp, plain.nngp, rtol=1e-14)
    first = x @ x.T
    k = 1.5 * first / 3 + 0.2
    q1, q2 = np.broadcast_arrays(np.diag(k)[:, None], np.diag(k)[None, :])
    moment, slope = (np.asarray(f("relu", q1, q2, np.minimum(k, np.sqrt(q1 * q2)))) for f in (dual, dual_derivative))
    off = ~np.eye(4, dtype=bool)
    np.testing.assert_allclose(standard.ntk[off], (100 * moment + 1 + 1.5 * (first + 1) * slope)[off], rtol=1e-12)
    mup = kernels(x, **options, parametrisation="mup")
    np.testing.assert_allclose(mup.ntk[off], (moment + 1 + 1.5 * (first + 1) * slope)[off], rtol=1e-12)
    assert not np.asarray(mup.nngp).any()
    # Without a bias none is trained.
    bare = kernels(x, depth=0, parametrisation="standard")
    np.testing.assert_allclose(bare.ntk, first, rtol=1e-13, atol=1e-15)


def test_residual_blocks_and_layer_norm():
    t = np.array([-0.9, 0.1, 0.6, 1.0])
    # A block of strength zero is not there; a strong one drowns what it is added to.
    shallow = kernels_of_cosine(t, depth=1)
    np.testing.assert_allclose(kernels_of_cosine(t, depth=4, residual=0.0).ntk, shallow.ntk, rtol=1e-13)
    strong, plain = (kernels_of_cosine(t, depth=3, residual=r) for r in (1e6, None))
    np.testing.assert_allclose(strong.nngp / 1e24, plain.nngp, rtol=1e-10)
    # h + 0.7 W phi(h): covariances add.
    one = kernels_of_cosine(t, depth=2, residual=0.7)
    k = 2 * t + 0.49 * shallow.nngp
    np.testing.assert_allclose(one.nngp, 2 * dual("relu", 2.98, 2.98, np.minimum(k, 2.98)), rtol=1e-7)
    # Normalised layers forget the size of their inputs; the tangent kernel falls with it.
    x = np.random.default_rng(5).normal(size=(3, 4))
    small, large = (kernels(s * x, depth=2, activation="erf", layer_norm=True) for s in (1.0, 100.0))
    np.testing.assert_allclose(large.nngp, small.nngp, rtol=1e-12)
    np.testing.assert_allclose(large.ntk, small.ntk, rtol=1e-12)
    with_bias = kernels(x, depth=1, weight_variance=1.7, bias_variance=0.3, layer_norm=True)
    np.testing.assert_allclose(np.diag(with_bias.nngp), 1.7 / 2 + 0.3, rtol=1e-14)


@pytest.mark.slow
def test_it_can_be_differentiated_everywhere():
    x = np.random.default_rng(6).normal(size=(5, 3))
    x[1], x[2], x[3] = x[0], -x[0], 0
    gradient = jax.jit(jax.grad(lambda x: kernels(x, depth=2, bias_variance=0.1).ntk.sum()))(x)
    assert np.isfinite(gradient).all()

    @jax.jit
    def total(w, x):
        return (kernels(x, depth=2, weight_variance=w, bias_variance=0.1).ntk ** 2).sum()

    z = x[[0, 4]]
    slope_w, slope_x = jax.grad(total, (0, 1))(2.0, z)
    step = 1e-5
    np.testing.assert_allclose(slope_w, (total(2 + step, z) - total(2 - step, z)) / (2 * step), rtol=1e-8)
    nudge = step * np.eye(2, 3)
    np.testing.assert_allclose(
        jnp.sum(slope_x * nudge) / step, (total(2.0, z + nudge) - total(2.0, z - nudge)) / (2 * step), rtol=1e-7
    )


def test_refusals_name_the_argument():
    x = np.ones((2, 3))
    for options, sentence in (
        (dict(depth=-1), r"^depth must be a whole number of at least 0, got -1"),
        (dict(depth=1, weight_variance=-1.0), r"^weight_variance must be non-negative and finite, got -1"),
        (dict(depth=1, bias_variance=np.nan), r"^bias_variance must be non-negative and finite, got nan"),
        (dict(depth=1, activation="swish"), r"^activation must be one of"),
        (dict(depth=1, parametrisation="mf"), r"^parametrisation must be one of ntk, standard, mup, got 'mf'"),
        (dict(depth=1, block=0), r"^block must be a whole number of at least 1, got 0"),
    ):
        with pytest.raises(ValueError, match=sentence):
            kernels(x, **options)
    with pytest.raises(ValueError, match=r"^x must be finite, got nan"):
        kernels(np.full((2, 2), np.nan), depth=1)
    with pytest.raises(ValueError, match=r"^t must lie between -1 and 1, got 1.2"):
        kernels_of_cosine(1.2, depth=1)
    with pytest.raises(ValueError, match=r"^parametrisation must be 'ntk' where the dimension is not given"):
        kernels_of_cosine(0.5, depth=1, parametrisation="mup")
