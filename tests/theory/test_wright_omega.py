"""Wright's omega against SciPy refined to 40 digits, its equation, and its derivatives."""

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
import scipy.special

from theory.wright_omega import wright_omega

Y = np.concatenate([np.linspace(-50, 50, 201), np.logspace(0, 12, 25), -np.logspace(0, 2.8, 25)])


def test_all_digits():
    with mpmath.workdps(40):
        exact = []
        for y in Y:
            w = mpmath.mpf(float(scipy.special.wrightomega(y).real))
            for _ in range(4):
                w = w * (1 + mpmath.mpf(float(y)) - mpmath.log(w)) / (1 + w)
            exact.append(float(w))
    np.testing.assert_allclose(wright_omega(Y), exact, rtol=2e-15)


def test_never_overflows_and_underflows_to_zero():
    np.testing.assert_allclose(wright_omega(jnp.array([-1e5, 1.0, 1e300])), [0, 1, 1e300], rtol=1e-15)


def test_derivatives():
    """d omega = w / (1 + w), d^2 omega = w / (1 + w)^3."""
    y = np.array([-700.0, -3.0, 0.0, 1.0, 700.0, 1e6])
    w = wright_omega(y)
    np.testing.assert_allclose(jax.vmap(jax.grad(wright_omega))(y), w / (1 + w), rtol=1e-14)
    np.testing.assert_allclose(jax.vmap(jax.grad(jax.grad(wright_omega)))(y), w / (1 + w) ** 3, rtol=1e-13)


def test_single_precision():
    y = np.linspace(-20, 40, 61, dtype=np.float32)
    np.testing.assert_allclose(wright_omega(y), scipy.special.wrightomega(y.astype(float)), rtol=1e-6)


def test_refuses():
    with pytest.raises(ValueError, match="y must be finite, got nan"):
        wright_omega(np.nan)
