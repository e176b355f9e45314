"""Dual activations of any function, by Gaussian quadrature in polar coordinates, with the error that it makes.

import jax.numpy as jnp
from theory.kernels.infinite import kernels
from theory.kernels.quadrature import quadrature
nngp, ntk = kernels(x, depth=3, activation=quadrature(jnp.tanh))
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Real

from theory.checks import whole
from theory.kernels.activations import Activation, dual, dual_derivative
from theory.kernels.pairs import Pair, angle, pair, root

# exp(-r^2/2) r is below 1e-16 of its largest value from here on, whatever polynomial stands beside it.
RADIUS = 10.0


@functools.lru_cache(maxsize=64)
def quadrature(
    function: Callable[[Array], Array],
    slope: Callable[[Array], Array] | None = None,
    *,
    radial: int = 64,
    angular: int = 24,
) -> Activation:
    """An `Activation` of any elementwise function, smooth or with a kink or jump at zero.

    E[phi(u) phi(v)] = int_0^inf r exp(-r^2/2) dr int_0^{2 pi} phi(u) phi(v) da / 2 pi,
    u = sqrt(q1) r cos(a + theta/2),   v = sqrt(q2) r cos(a - theta/2)

    Arguments:
        function: phi, elementwise on arrays, as `jnp.tanh`. Give the same object each time: it is what is compiled for.
        slope: phi'; by automatic differentiation if not given.
        radial: Gauss-Legendre nodes along r; angular: along each of the four arcs between the zeros of u and v.
    Returns:
        An `Activation`; `quadrature_error` says how exact it is.
    Holds when: phi is smooth on either side of zero, on the scale of sqrt(q) / `radial`, and grows slower than
        exp(x^2 / 4q); a kink elsewhere costs digits. The derivative dual needs phi to be continuous.
    Source: Gauss-Legendre rules on arcs that end where phi may have a kink (Trefethen 2019, chapter 19).
    """
    radial, angular = whole("radial", radial), whole("angular", angular)
    slope = slope or _slope(function)

    def moments(p):
        own = (_single(function, q, 4 * radial) for q in (p.q1, p.q2))
        return pair(*own, _double(function, p, radial, angular))

    name = getattr(function, "__name__", repr(function))
    return Activation(name, function, moments, lambda p: _double(slope, p, radial, angular))


def quadrature_dual(
    function: Callable[[Array], Array],
    q1: Real[ArrayLike, "..."],
    q2: Real[ArrayLike, "..."],
    c: Real[ArrayLike, "..."],
) -> Float[Array, "..."]:
    """The dual of any function at given variances and covariance.

    T(q1, q2, c) = E[phi(u) phi(v)],   (u, v) ~ N(0, [[q1, c], [c, q2]])

    Arguments:
        function: phi, elementwise; q1, q2: variances, >= 0; c: covariance, |c| <= sqrt(q1 q2). They broadcast.
    Returns:
        T, of the broadcast shape.
    Holds when: as for `quadrature`.
    Source: as for `quadrature`.
    """
    return dual(quadrature(function), q1, q2, c)


def quadrature_error(
    phi: Activation, q1: Real[ArrayLike, "..."], q2: Real[ArrayLike, "..."], c: Real[ArrayLike, "..."], **nodes: int
) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """How exact a quadrature is: its distance from one with half again as many nodes.

    Arguments:
        phi: what `quadrature` gave; q1, q2, c: variances and covariance, as for `dual`.
        nodes: `radial` and `angular`, as they were given to `quadrature`.
    Returns:
        The errors of E[phi(u) phi(v)] and of E[phi'(u) phi'(v)], absolute, of the broadcast shape.
    Holds when: the quadrature converges. It is of the size of the error, not a bound.
    Source: as for `quadrature`.
    """
    coarse = {"radial": 64, "angular": 24} | nodes
    fine = quadrature(phi.function, **{name: (3 * n + 1) // 2 for name, n in coarse.items()})
    return tuple(jnp.abs(f(fine, q1, q2, c) - f(phi, q1, q2, c)) for f in (dual, dual_derivative))


def _slope(function):
    """The derivative of an elementwise function."""

    def slope(x):
        return jax.jvp(function, (x,), (jnp.ones_like(x),))[1]

    return slope


def _single(function, q, nodes):
    """E[f(u)^2], u ~ N(0, q): Gauss-Legendre on either side of zero."""
    z, weight = _rule(nodes, 0.0, RADIUS)
    density = jnp.asarray(weight * np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi), q.dtype)
    z = jnp.asarray(z, q.dtype)
    return _accumulated(lambda z: function(root(q) * z) ** 2 + function(-root(q) * z) ** 2, z, density, q)


def _double(function, p: Pair, radial, angular):
    """E[f(u) f(v)] over four arcs, on none of which u or v changes its sign."""
    theta = angle(p.h, p.g)
    r, weight = _rule(radial, 0.0, RADIUS)
    density = jnp.asarray(weight * r * np.exp(-(r**2) / 2) / (2 * np.pi), theta.dtype)
    r = jnp.asarray(r, theta.dtype)
    s1, s2 = root(p.q1), root(p.q2)
    node, share = (jnp.asarray(n, theta.dtype) for n in _rule(angular, 0.0, 1.0))

    def both_signs(node):
        """u and v of one sign on an arc of pi - theta, of opposite signs on one of theta; and the same for -u, -v."""
        along = (jnp.pi - theta) * (node - 0.5)
        across = jnp.pi / 2 - theta / 2 + theta * node

        def of(a, length):
            # cos(a + theta/2) and cos(a - theta/2), clear of the rounding that could cross zero at an arc's end.
            u, v = s1 * jnp.cos(a + theta / 2), s2 * jnp.cos(a - theta / 2)

            def ring(r):
                return function(r * u) * function(r * v) + function(-r * u) * function(-r * v)

            return length * _accumulated(ring, r, density, theta)

        return of(along, jnp.pi - theta) + of(across, theta)

    return _accumulated(both_signs, node, share, theta)


def _accumulated(term, nodes, weights, like):
    """sum of weight * term(node), one node at a time: no array is larger than the kernel's block."""

    def add(k, total):
        return total + weights[k] * term(nodes[k])

    return jax.lax.fori_loop(0, len(nodes), add, jnp.zeros_like(like))


def _rule(nodes: int, low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
    """Gauss-Legendre nodes and weights on [low, high]."""
    x, weight = np.polynomial.legendre.leggauss(nodes)
    return (high - low) / 2 * (x + 1) + low, (high - low) / 2 * weight
