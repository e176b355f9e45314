"""Newton's iteration for least squares against gradient descent: how many steps each needs.

With S = X^T X, Newton's iteration inverts S by M <- 2 M - M S M from M = a S and predicts with M X^T y; gradient
descent steps along X^T (y - X w). Both filter the spectrum of S, and to reach the same accuracy along its slowest
direction one more step of Newton's costs twice as many steps of gradient descent.
"""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Real

from theory.bayes_icl.algorithms import spectral_rule
from theory.checks import matrix, non_negative, positive, real, require, whole


def newton_share(
    eigenvalues: Real[ArrayLike, "..."], scale: Real[ArrayLike, ""], steps: Real[ArrayLike, ""] | int
) -> Float[Array, "..."]:
    """Share of the least-squares solution after some steps of Newton's iteration.

    f(lambda) = 1 - (1 - a lambda^2)^(2^k).

    Arguments:
        eigenvalues: lambda >= 0 of S; scale: a > 0 with a lambda^2 <= 1; steps: k >= 0.
    Returns:
        shares from 0 to 1, of the shape of `eigenvalues`.
    Holds when: a lambda^2 <= 1; the iteration itself converges up to a lambda^2 < 2.
    Source: Fu et al. 2023 (arXiv:2310.17086); filter derived in derivations/bayes_icl/iterative_newton.py.
    """
    left = _left(non_negative("eigenvalues", eigenvalues), scale)
    return -jnp.expm1(2.0 ** non_negative("steps", steps) * left)


def matched_descent_steps(
    slowest: Real[ArrayLike, "..."],
    scale: Real[ArrayLike, ""],
    rate: Real[ArrayLike, ""],
    steps: Real[ArrayLike, "..."] | int,
) -> Float[Array, "..."]:
    """Steps of gradient descent that are as accurate as some of Newton's, along the slowest direction.

    t = 2^k ln(1 - a lambda^2) / ln(1 - eta lambda).

    Arguments:
        slowest: lambda > 0, the least eigenvalue of S; scale: a with a lambda^2 < 1; rate: eta with eta lambda < 1;
        steps: k >= 0, of Newton's.
    Returns:
        t, not rounded: it doubles with each step of Newton's.
    Holds when: all other directions are nearer to their end, so not for small k.
    Source: Fu et al. 2023 (arXiv:2310.17086).
    """
    lam, eta = positive("slowest", slowest), positive("rate", rate)
    fast = require("rate", eta * lam, eta * lam < 1, "times the slowest eigenvalue must be below one: the product")
    return 2.0 ** non_negative("steps", steps) * _left(lam, scale) / jnp.log1p(-fast)


def newton_steps(
    slowest: Real[ArrayLike, "..."], scale: Real[ArrayLike, ""], error: Real[ArrayLike, "..."]
) -> Float[Array, "..."]:
    """Steps of Newton's iteration to a relative error along the slowest direction.

    k = log2[ln(error) / ln(1 - a lambda^2)],   about 2 log2(cond) + log2 ln(1 / error) for a = 1 / lambda_max^2.

    Arguments:
        slowest: lambda > 0; scale: a with a lambda^2 < 1; error: between 0 and 1, ends left out.
    Returns:
        k, not rounded, and below zero where the start is as good already.
    Source: Fu et al. 2023 (arXiv:2310.17086).
    """
    eps = positive("error", error)
    eps = require("error", eps, eps < 1, "must be below 1")
    return jnp.log2(jnp.log(eps) / _left(positive("slowest", slowest), scale))


def newton(x, y, query, seen=None, *, steps: int, scale: Real[ArrayLike, ""] | None = None) -> Float[Array, ""]:
    """What Newton's iteration predicts for a query.

    yhat = query . M_k X^T y,   M_0 = a S,   M_{k+1} = 2 M_k - M_k S M_k.

    Arguments:
        x, y, query, seen: as for the rules of `algorithms`; steps: k, a Python int >= 0.
        scale: a with a lambda_max^2 <= 1; 1 / |S S^T|_F by default.
    Returns:
        yhat, (); least squares for k -> inf.
    Holds when: always: the iterates are taken by their filter, without the products that lose digits.
    Source: Fu et al. 2023 (arXiv:2310.17086).
    """
    count = whole("steps", steps, at_least=0)
    if scale is None:
        inputs = matrix("x", x)
        given = inputs if seen is None else inputs * real("seen", seen)[:, None]
        size = jnp.linalg.norm((given.T @ given) @ (given.T @ given))
        scale = 1 / jnp.where(size > 0, size, 1.0)
    return spectral_rule(x, y, query, seen, share=lambda lam: newton_share(lam, scale, count))


def _left(lam, scale) -> Array:
    """ln(1 - a lambda^2), -inf at its end."""
    product = positive("scale", scale) * lam**2
    # The default scale may exceed its bound by a rounding.
    product = require(
        "scale", product, product <= 1 + 1e-6, "times a squared eigenvalue must be at most one: the product"
    )
    return jnp.where(product < 1, jnp.log1p(-jnp.where(product < 1, product, 0.0)), -jnp.inf)
