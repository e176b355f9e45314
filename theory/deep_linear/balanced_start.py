"""Lambda-balanced starts: weights of a wanted relative scale of the layers, and a wanted product.

The relative scale lam, W2^T W2 - W1 W1^T = lam I, says how lazy a start is; the singular values of the product say
how small (Dominé et al. 2024). Every lambda-balanced pair of layers is of this form.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray, Real

from theory.checks import matrix, non_negative, real, require, whole


class BalancedStart(NamedTuple):
    """Weights with W2^T W2 - W1 W1^T = lam I: `w1` of shape (h, n_in), `w2` of shape (n_out, h)."""

    w1: Float[Array, "h n_in"]
    w2: Float[Array, "n_out h"]


def balanced_start(
    s: Real[ArrayLike, " k"],
    lam: Real[ArrayLike, ""],
    left: Real[ArrayLike, "n_out n_out"],
    right: Real[ArrayLike, "n_in n_in"],
    inner: Real[ArrayLike, "h h"],
) -> BalancedStart:
    """The lambda-balanced layers whose product is left diag(s) right^T.

    W1 = inner diag(a) right^T,   W2 = left diag(b) inner^T,   b^2 - a^2 = lam,   a b = s.
    Hidden units beyond the k modes have s = 0: all their weight, sqrt|lam|, is in the larger layer.

    Arguments:
        s: singular values of W2 W1, >= 0, shape (k,) with k = min(n_in, h, n_out).
        lam: relative scale, > 0 for a larger W2; > 0 needs h <= n_out, < 0 needs h <= n_in.
        left, right, inner: orthogonal matrices for the outputs, the inputs and the hidden units; see `random_rotation`.
    Returns:
        W1 (h, n_in) and W2 (n_out, h).
    Holds when: the widths leave room for lam (refused otherwise): lam I plus a Gram matrix has full rank h.
    Source: Dominé et al. 2024 (arXiv:2409.14623), appendix on lambda-balanced initialisation.
    """
    left, right, inner = orthogonal("left", left), orthogonal("right", right), orthogonal("inner", inner)
    n_out, n_in, hidden = len(left), len(right), len(inner)
    k = min(n_in, hidden, n_out)
    s, lam = non_negative("s", s), real("lam", lam)
    if s.shape != (k,):
        raise ValueError(f"s must hold min(n_in, h, n_out) = {k} singular values, got shape {s.shape}")
    lam = feasible(lam, n_in, hidden, n_out)
    a, b = layer_strengths(jnp.append(s, jnp.zeros(hidden - k, s.dtype)), lam)
    # Where a layer has fewer rows than hidden units, its strengths beyond them are zero.
    below, above = min(hidden, n_in), min(hidden, n_out)
    w1 = (inner[:, :below] * a[:below]) @ right[:, :below].T
    w2 = (left[:, :above] * b[:above]) @ inner[:, :above].T
    return BalancedStart(w1, w2)


def layer_strengths(
    s: Real[ArrayLike, "..."], lam: Real[ArrayLike, ""]
) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """How a mode of strength s is shared between two layers of relative scale lam.

    b^2 = (sqrt(lam^2 + 4 s^2) + lam) / 2,   a^2 = (sqrt(lam^2 + 4 s^2) - lam) / 2,   so that a b = s, b^2 - a^2 = lam.

    Arguments:
        s: singular value of the product, >= 0.
        lam: relative scale.
    Returns:
        (a, b), the singular values of the lower and of the upper layer, >= 0, of the shape of s.
    Holds when: always. At s = lam = 0 both are zero, with a gradient that is set to zero there.
    Source: Dominé et al. 2024 (arXiv:2409.14623), appendix on lambda-balanced initialisation.
    """
    s, lam = non_negative("s", s), real("lam", lam)
    still = (s == 0) & (lam == 0)
    safe = jnp.where(still, 1.0, s)
    half = 0.5 * lam
    larger = jnp.sqrt(jnp.hypot(half, safe) + jnp.abs(half))
    # The smaller one by division: the difference of the two roots would cancel.
    smaller = safe / larger
    larger, smaller = (jnp.where(still, 0.0, x) for x in (larger, smaller))
    return jnp.where(lam >= 0, smaller, larger), jnp.where(lam >= 0, larger, smaller)


def random_rotation(key: PRNGKeyArray, n: int) -> Float[Array, "n n"]:
    """An orthogonal matrix drawn uniformly (from the Haar measure of O(n)).

    Arguments:
        key: a JAX random key; n: size, a Python int >= 1.
    Returns:
        the matrix, shape (n, n).
    Holds when: always.
    Source: Mezzadri 2007 (arXiv:math-ph/0609050).
    """
    q, r = jnp.linalg.qr(jax.random.normal(key, (whole("n", n), n)))
    return q * jnp.where(jnp.diagonal(r) < 0, -1, 1)


def feasible(lam: Float[Array, ""], n_in: int, hidden: int, n_out: int) -> Float[Array, ""]:
    """`lam`, or a refusal: lam I plus a Gram matrix has full rank, so the larger layer must have room for it."""
    if hidden > n_out:
        lam = require("lam", lam, lam <= 0, f"must not be positive with {hidden} hidden units and {n_out} outputs")
    if hidden > n_in:
        lam = require("lam", lam, lam >= 0, f"must not be negative with {hidden} hidden units and {n_in} inputs")
    return lam


def orthogonal(name: str, value: Real[ArrayLike, "n n"]) -> Float[Array, "n n"]:
    """`value` as an orthogonal matrix."""
    x = matrix(name, value)
    x = matrix(name, x, x.shape[0], x.shape[0])
    deviation = jnp.max(jnp.abs(x.T @ x - jnp.eye(len(x), dtype=x.dtype)))
    holds = deviation <= jnp.sqrt(jnp.finfo(x.dtype).eps)
    require(f"the deviation of {name} from an orthogonal matrix", deviation, holds, "must vanish")
    return require(name, x, jnp.broadcast_to(holds, x.shape), "must be orthogonal")
