"""The best single layer of linear attention for linear regression in context: its weights, and what it costs.

A prompt holds n pairs (x_i, y_i), y_i = w . x_i + noise, and a query x. A layer of linear attention reads the pairs
through one vector, g = (1/n) sum_i y_i x_i, and predicts

    f = x^T A g,

one step of gradient descent from zero, preconditioned by A. Over prompts g is the true S w plus the scatter of a finite
context, so that the risk is quadratic in A, and tasks, whatever their law, count through W = E w w^T alone:

    R(A) = sigma^2 + tr S (I - A S) W (I - A S)^T + tr S A V A^T,   V = [S W S + (tr S W + sigma^2) S] / n.

The best A inverts S where pairs are many and shrinks by what a context of n leaves unknown. It is not the Bayes
predictor, which inverts the covariance that it sees. The scatter falls as 1/n: prompts of mixed lengths count as those
of one length, the harmonic mean.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Real

from theory.checks import matrix, non_negative, real, require


class Prompts(NamedTuple):
    """The law of prompts, by moments: `inputs` S = E x x^T, `tasks` W = E w w^T, `noise` sigma^2 of labels.

    S and W are symmetric positive semidefinite (d, d), or variances (d,); W may be one variance (). `cumulants` are
    E x_a^4 - 3 S_aa^2 of inputs that are not Gaussian, () or (d,): -2/15 for U(-1, 1), -2 for signs.
    """

    inputs: Real[ArrayLike, "..."]
    tasks: Real[ArrayLike, "..."]
    noise: Real[ArrayLike, ""]
    cumulants: Real[ArrayLike, "..."] | None = None


def optimal_layer(prompts: Prompts | tuple, context: Real[ArrayLike, ""]) -> Float[Array, "d d"]:
    """The weights A of the least risk.

    A* = W [(1 + 1/n) S W + (tr S W + sigma^2) / n]^{-1} = W S (S W S + V)^{-1},

    where V takes diag(k_a W_aa) / n more if inputs have the fourth cumulants k_a.

    Arguments:
        prompts: moments of inputs, tasks and noise.
        context: n >= 1, pairs of a prompt; for prompts of mixed lengths the harmonic mean.
    Returns:
        A*, symmetric if inputs are Gaussian; S^{-1} for n -> inf, 0 for sigma^2 -> inf.
    Holds when: inputs are independent of the task and of each other, of mean zero, Gaussian or (`cumulants`, which want
        S positive definite) the sum of a Gaussian and of independent coordinates; labels are not all zero.
    Source: Ahn, Cheng, Daneshmand & Sra 2023 (arXiv:2306.00297) for W = I without noise; Mahankali, Hashimoto & Ma 2023
        (arXiv:2307.03576); in general derived in derivations/bayes_icl/linear_attention.py.
    """
    return _optimal(*checked_prompts(prompts), checked_length(context))


def layer_risk(
    layer: Real[ArrayLike, "a b"], prompts: Prompts | tuple, context: Real[ArrayLike, ""]
) -> Float[Array, ""]:
    """Mean square error of any layer on new prompts, of whatever length it was trained on.

    R = sigma^2 + tr S (I - A S) W (I - A S)^T + tr S A V A^T.

    Arguments:
        layer: A of f = x^T A (1/m) sum_i y_i x_i, (d, d).
        prompts: moments of inputs, tasks and noise.
        context: m >= 1, pairs of the prompts that it is tested on.
    Returns:
        the risk, noise of the query's label included.
    Holds when: as `optimal_layer`.
    Source: derived in derivations/bayes_icl/linear_attention.py.
    """
    s, *rest = checked_prompts(prompts)
    return _risk(matrix("layer", layer, *s.shape), s, *rest, checked_length(context))


def optimal_risk(prompts: Prompts | tuple, context: Real[ArrayLike, ""]) -> Float[Array, ""]:
    """Mean square error of the best layer at the length that it is made for.

    R* = sigma^2 + tr S W - tr S A* S W.

    Arguments:
        prompts: moments of inputs, tasks and noise.
        context: n >= 1, pairs of a prompt.
    Returns:
        the risk, noise of the query's label included: between sigma^2 and sigma^2 + tr S W.
    Holds when: as `optimal_layer`.
    Source: as `optimal_layer`.
    """
    n, law = checked_length(context), checked_prompts(prompts)
    return _risk(_optimal(*law, n), *law, n)


def _optimal(s, w, noise, cumulants, n):
    if cumulants is None:
        # A W^{-1} is the inverse of a matrix whose eigenvalues are at least c: S and W may be singular.
        c = (jnp.sum(s * w) + noise) / n
        shrunk = (1 + 1 / n) * w @ s + c * jnp.eye(len(s), dtype=c.dtype)
        return jnp.linalg.solve(shrunk, w).T
    second = s @ w @ s + scatter(s, w, noise, cumulants, n)
    return jnp.linalg.solve(second, s @ w).T


def _risk(a, s, w, noise, cumulants, n):
    """Sums of squares: nothing cancels."""
    missed = jnp.eye(len(s), dtype=a.dtype) - a @ s
    return noise + jnp.sum(s * (missed @ w @ missed.T + a @ scatter(s, w, noise, cumulants, n) @ a.T))


def scatter(s, w, noise, cumulants, n) -> Array:
    """V, covariance of g about S w, mean over tasks; without refusals."""
    one = s @ w @ s + (jnp.sum(s * w) + noise) * s
    return (one if cumulants is None else one + jnp.diag(cumulants * jnp.diagonal(w))) / n


def checked_length(context) -> Array:
    """One length of contexts, at least 1."""
    n = real("context", context)
    if n.ndim:
        raise ValueError(f"context must be one length, got shape {n.shape}")
    return require("context", n, n >= 1, "must be at least 1")


def checked_prompts(prompts) -> tuple:
    """S and W as full matrices, sigma^2, and cumulants (d,) or None."""
    inputs, tasks, noise, cumulants = Prompts(*prompts)
    s = _covariance("inputs", inputs)
    w = _covariance("tasks", tasks, len(s))
    spread = non_negative("noise", noise)
    total = jnp.sum(s * w) + spread
    spread = require("noise", spread, total > 0, "must be positive where labels have no other variance")
    if cumulants is None:
        return s, w, spread, None
    k = real("cumulants", cumulants)
    if k.shape not in ((), (len(s),)):
        raise ValueError(f"cumulants must have shape () or ({len(s)},), got {k.shape}")
    k = jnp.broadcast_to(k, (len(s),))
    variance = jnp.diagonal(s)
    # E x^4 >= (E x^2)^2, up to rounding.
    possible = k >= -(2 + 1e-9) * variance**2
    lowest = jnp.linalg.eigvalsh(s)[0]
    require("inputs", lowest, lowest > 0, "must be positive definite beside cumulants: their least eigenvalue")
    return s, w, spread, require("cumulants", k, possible, "must be at least -2 times the squared variance")


def _covariance(name, value, d=None):
    """A full matrix (d, d) from one, from variances (d,), or, where d is known, from one variance."""
    x = real(name, value)
    if d is None:
        if x.ndim not in (1, 2):
            raise ValueError(f"{name} must have shape (d,) or (d, d), got {x.shape}")
        d = len(x)
    if x.ndim < 2:
        if x.shape not in ((), (d,)):
            raise ValueError(f"{name} must have shape (), ({d},) or ({d}, {d}), got {x.shape}")
        return jnp.diag(jnp.broadcast_to(non_negative(name, x), (d,)))
    full = matrix(name, x, d, d)
    gap = jnp.max(jnp.abs(full - full.T))
    scale = jnp.max(jnp.abs(full))
    full = require(name, full, gap <= 1e-5 * scale, "must be symmetric")
    lowest = jnp.linalg.eigvalsh(full)[0]
    require(name, lowest, lowest >= -1e-6 * scale, "must be positive semidefinite: its least eigenvalue")
    return full
