"""A layer of attention with frozen random scores: linear in its values, and so a kernel.

A query x_0 and N keys x_i, which are their own values, go through M heads with ReLU in the place of the softmax,

    f(x_0, {x_i}) = (1 / sqrt M) sum_m (1 / N) sum_i relu(x_0 . W_m x_i) v_m . x_i,

with Gaussian W_m that stay as drawn and values v_m that are trained: with a ridge, a convex problem. For M -> infinity
it is regression with a kernel that sees all pairs of keys, whatever their order. Scores that are drawn around b times
the identity, W_m = b + Gaussian, know of the overlap of query and key: better for targets that ask for it, worse for
others.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.stats import norm
from jaxtyping import Array, ArrayLike, Float, Real

from theory.checks import matrix, positive, real, require

# Gauss-Legendre nodes on the unit interval, for an integrand that is smooth up to correlation one.
NODES, WEIGHTS = (0.5 * np.polynomial.legendre.leggauss(80)[0] + 0.5, 0.5 * np.polynomial.legendre.leggauss(80)[1])


def relu_product(
    mean: Real[ArrayLike, "..."],
    other: Real[ArrayLike, "..."],
    deviation: Real[ArrayLike, "..."],
    other_deviation: Real[ArrayLike, "..."],
    correlation: Real[ArrayLike, "..."],
) -> Float[Array, "..."]:
    """E relu(u) relu(v) of Gaussian u and v with means.

    s s' [ g(h) g(k) + rho Phi(h) Phi(k) + (1/2 pi) int_0^{arcsin rho} (rho - sin t) e^{-q(t)} dt ],
    h = m / s,  k = m' / s',  g(h) = h Phi(h) + phi(h),  q(t) = (h^2 + k^2 - 2 h k sin t) / (2 cos^2 t).

    Arguments, which broadcast:
        mean, other: m and m', any real numbers.
        deviation, other_deviation: s and s', > 0.
        correlation: rho, in [-1, 1].
    Returns:
        the mean product, >= 0; for m = m' = 0, s s' [sqrt(1 - rho^2) + (pi - arccos rho) rho] / (2 pi).
    Holds when: |h| and |k| up to some ten; to about 1e-11 s s' (1 + h^2)(1 + k^2).
    Source: Price's theorem, twice; derived in derivations/induction/random_feature_attention.py.
    """
    s, t = positive("deviation", deviation), positive("other_deviation", other_deviation)
    rho = real("correlation", correlation)
    rho = require("correlation", rho, jnp.abs(rho) <= 1 + 1e-12, "must lie between -1 and 1")
    return _relu_product(real("mean", mean), real("other", other), s, t, jnp.clip(rho, -1, 1))


def attention_kernel(
    queries: Real[ArrayLike, "P d"],
    keys: Real[ArrayLike, "rows N d"],
    other_queries: Real[ArrayLike, "R e"],
    other_keys: Real[ArrayLike, "columns M e"],
    deviation: Real[ArrayLike, ""],
    bias: Real[ArrayLike, ""] = 0.0,
) -> Float[Array, "P R"]:
    """Kernel of infinitely many heads.

    K = (1 / N N') sum_ij E[relu(u_i) relu(u'_j)] x_i . x'_j,
    u_i of mean bias x_0.x_i, variance (deviation |x_0| |x_i|)^2 and covariance deviation^2 (x_0.x'_0) (x_i.x'_j).

    Arguments:
        queries: x_0 in rows, (P, d); keys: x_i, (P, N, d); none of length zero.
        other_queries, other_keys: x'_0, (R, d), and x'_j, (R, N', d).
        deviation: of entries of W, > 0; bias: b, the mean of W on its diagonal.
    Returns:
        K, (P, R), positive semi-definite for the same samples; without a bias it scales as deviation^2.
    Holds when: M -> infinity; a kernel of M heads fluctuates around it by O(M^{-1/2}).
    Source: the random features of Fu, Guo, Bai & Mei 2023 (arXiv:2307.11353); derived in
        derivations/induction/random_feature_attention.py.
    """
    x, z = matrix("queries", queries), matrix("other_queries", other_queries)
    if x.shape[1] != z.shape[1]:
        raise ValueError(f"other_queries must have {x.shape[1]} columns like queries, got shape {z.shape}")
    k, c = _checked_keys("keys", keys, x), _checked_keys("other_keys", other_keys, z)
    return _attention_kernel(x, k, z, c, positive("deviation", deviation), real("bias", bias))


def kernel_ridge(
    gram: Real[ArrayLike, "P Q"],
    cross: Real[ArrayLike, "R columns"],
    y: Real[ArrayLike, " labels"],
    ridge: Real[ArrayLike, ""],
) -> Float[Array, " R"]:
    """What ridge regression on all heads says: k (K + ridge)^-1 y.

    Arguments:
        gram: K of the samples, (P, P), symmetric; cross: k of new points (rows) with them, (R, P).
        y: labels, (P,); ridge: > 0, of sum (f - y)^2 + ridge sum |v|^2.
    Returns:
        predictions, (R,).
    Holds when: always.
    Source: the representer theorem.
    """
    gram = matrix("gram", gram)
    gram = matrix("gram", gram, rows=gram.shape[1])
    cross, y = matrix("cross", cross, columns=len(gram)), real("y", y)
    if y.shape != gram.shape[:1]:
        raise ValueError(f"y must hold a label for each of {len(gram)} samples, got shape {y.shape}")
    shifted = gram + positive("ridge", ridge) * jnp.eye(len(gram), dtype=gram.dtype)
    return cross @ jax.scipy.linalg.solve(shifted, y, assume_a="pos")


@jax.jit
def _attention_kernel(x, keys, other, other_keys, deviation, bias):
    means = [bias * jnp.einsum("pd,pnd->pn", *side) for side in ((x, keys), (other, other_keys))]
    lengths = [
        jnp.linalg.norm(q, axis=1)[:, None] * jnp.linalg.norm(k, axis=2) for q, k in ((x, keys), (other, other_keys))
    ]
    overlaps = jnp.einsum("pnd,rmd->prnm", keys, other_keys)
    product = jnp.einsum("pd,rd->pr", x, other)[:, :, None, None] * overlaps
    # Pairs of samples, then of keys.
    (mean, size), (other_mean, other_size) = (
        (m[at], deviation * length[at])
        for m, length, at in zip(means, lengths, (np.s_[:, None, :, None], np.s_[None, :, None, :]), strict=True)
    )
    correlation = jnp.clip(product * deviation**2 / (size * other_size), -1, 1)
    found = _relu_product(mean, other_mean, size, other_size, correlation)
    return jnp.mean(found * overlaps, axis=(2, 3))


@jax.jit
def _relu_product(mean, other, s, t, rho):
    h, k = mean / s, other / t
    top = jnp.arcsin(rho)

    def node(total, at):
        share, weight = at
        angle = share * top
        sine, square = jnp.sin(angle), jnp.cos(angle) ** 2
        # h^2 + k^2 - 2 h k sin t without cancellation where cos t is small.
        up = (h - k) ** 2 / (2 * square) + h * k / (1 + jnp.abs(sine))
        down = (h + k) ** 2 / (2 * square) - h * k / (1 + jnp.abs(sine))
        return total + weight * (rho - sine) * jnp.exp(-jnp.where(sine >= 0, up, down)), None

    start = jnp.zeros(jnp.broadcast_shapes(*(jnp.shape(a) for a in (h, k, rho))), jnp.result_type(h, k, rho))
    integral, _ = jax.lax.scan(node, start, (jnp.asarray(NODES, start.dtype), jnp.asarray(WEIGHTS, start.dtype)))
    firsts = _mean_relu(h) * _mean_relu(k)
    return s * t * (firsts + rho * norm.cdf(h) * norm.cdf(k) + top * integral / (2 * jnp.pi))


def _mean_relu(h):
    """E relu(h + z)."""
    return h * norm.cdf(h) + norm.pdf(h)


def _checked_keys(name, keys, queries):
    k = real(name, keys)
    if k.ndim != 3 or k.shape[0] != queries.shape[0] or k.shape[2] != queries.shape[1] or not k.shape[1]:
        wanted = f"({queries.shape[0]}, any, {queries.shape[1]})"
        raise ValueError(f"{name} must be of shape {wanted} beside their queries, got {k.shape}")
    length = jnp.linalg.norm(k, axis=2) * jnp.linalg.norm(queries, axis=1)[:, None]
    require(name, length, length > 0, "must not be of length zero, nor their queries")
    return k
