"""Layers of linear self-attention that are gradient descent: the weights of one step, and of k steps.

Tokens e_j = (x_j, y_j) hold a pair each; the query has a label of zero. One layer adds to every token

    e_j <- e_j + P V sum_{i in context} e_i (K e_i)^T Q e_j.

With the weights below it subtracts from each label what one step of gradient descent on 1/(2 n) sum (w . x_i - y_i)^2
predicts for it, so that labels of the context become residuals and that of the query minus its prediction; the same
layer again is the next step. If a layer also shrinks inputs along X^T X (GD++), later steps see a better conditioned
problem.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Real

from theory.bayes_icl.algorithms import spectral_rule
from theory.checks import matrix, positive, real, whole


class LayerWeights(NamedTuple):
    """Of a layer on tokens of d inputs and one label: key K, query Q, value V, projection P; each (d + 1, d + 1)."""

    key: Float[Array, "e e"]
    query: Float[Array, "e e"]
    value: Float[Array, "e e"]
    projection: Float[Array, "e e"]


def gradient_step_weights(
    dimension: int, pairs: int | Real[ArrayLike, ""], rate: Real[ArrayLike, ""], start: Real[ArrayLike, "..."] = 0.0
) -> LayerWeights:
    """Weights that make a layer one step of gradient descent from a start.

    K = Q = [[I, 0], [0, 0]],   V = [[0, 0], [w_0^T, -1]],   P = (rate / n) I.

    Arguments:
        dimension: d, a Python int >= 1; pairs: n >= 1 of the context; rate > 0, on 1/(2 n) sum of squares.
        start: w_0, () or (d,): zero for all layers but the first, whose residuals hold the start from then on.
    Returns:
        `LayerWeights`: labels move by -dw . x_j with dw = -(rate / n) sum_i (w_0 . x_i - y_i) x_i.
    Holds when: attention is linear and the query is not among the context.
    Source: von Oswald et al. 2023 (arXiv:2212.07677), proposition 1.
    """
    d = whole("dimension", dimension)
    step = positive("rate", rate) / positive("pairs", pairs)
    first = real("start", start)
    if first.shape not in ((), (d,)):
        raise ValueError(f"start must have shape () or ({d},), got {first.shape}")
    inputs = jnp.diag(jnp.append(jnp.ones(d, step.dtype), 0.0))
    value = jnp.zeros((d + 1, d + 1), step.dtype).at[d].set(jnp.append(jnp.broadcast_to(first, (d,)), -1.0))
    return LayerWeights(inputs, inputs, value, step * jnp.eye(d + 1, dtype=step.dtype))


def attention_steps(
    tokens: Real[ArrayLike, "T e"], weights: LayerWeights | tuple, steps: int = 1
) -> Float[Array, "T e"]:
    """Tokens after some times the same layer; the last token is the query, all others are the context.

    e_j <- e_j + P V sum_{i < T} e_i (K e_i)^T Q e_j.

    Arguments:
        tokens: (x_j, y_j) in rows, (T, d + 1); weights: `LayerWeights`; steps: a Python int >= 0.
    Returns:
        (T, d + 1). After k steps of `gradient_step_weights` from zero the last label is -w_k . x.
    Source: von Oswald et al. 2023 (arXiv:2212.07677).
    """
    seen = matrix("tokens", tokens)
    size = seen.shape[1]
    key, query, value, projection = (
        matrix(name, part, size, size) for name, part in zip(LayerWeights._fields, weights, strict=True)
    )
    for _ in range(whole("steps", steps, at_least=0)):
        context = seen[:-1]
        read = value @ context.T @ (context @ key.T)
        seen = seen + seen @ query.T @ (projection @ read).T
    return seen


def shrinking_shares(
    eigenvalues: Real[ArrayLike, " d"], rates: Real[ArrayLike, " k"], shrinking: Real[ArrayLike, " k"]
) -> Float[Array, " d"]:
    """Share of the least-squares solution that k layers have learned which also shrink inputs (GD++).

    r <- r (1 - rate_l lambda),   lambda <- lambda (1 - gamma_l lambda)^2,   share = 1 - r, from r = 1.

    Arguments:
        eigenvalues: lambda >= 0 of X^T X, (d,); rates: of each layer, on 1/2 |X w - y|^2 (a sum), (k,).
        shrinking: gamma of each layer, (k,): zero is gradient descent.
    Returns:
        shares, (d,), for `algorithms.spectral_rule`.
    Holds when: both parts of a layer use the values before it.
    Source: von Oswald et al. 2023 (arXiv:2212.07677), GD++; its filter derived in derivations.
    """
    lam, eta, gamma = real("eigenvalues", eigenvalues), real("rates", rates), real("shrinking", shrinking)
    if eta.ndim != 1 or eta.shape != gamma.shape:
        raise ValueError(f"rates and shrinking must be vectors of one length, got shapes {eta.shape}, {gamma.shape}")
    return _shares(lam, eta, gamma)


@jax.jit
def _shares(lam, eta, gamma):
    def layer(state, step):
        residual, now = state
        rate, shrink = step
        return (residual * (1 - rate * now), now * (1 - shrink * now) ** 2), None

    (residual, _), _ = jax.lax.scan(layer, (jnp.ones_like(lam), lam), (eta, gamma))
    return 1 - residual


def shrinking_descent(
    x, y, query, seen=None, *, rates: Real[ArrayLike, " k"], shrinking: Real[ArrayLike, " k"]
) -> Float[Array, ""]:
    """What k layers of GD++ predict for a query.

    yhat = query . sum_i share(lambda_i) / lambda_i v_i v_i^T X^T y.

    Arguments:
        x, y, query, seen: as for the rules of `algorithms`; rates, shrinking: of each layer, (k,).
    Returns:
        yhat, ().
    Holds when: the query is shrunk like the inputs of the context: its own part is in the filter.
    Source: von Oswald et al. 2023 (arXiv:2212.07677).
    """
    return spectral_rule(x, y, query, seen, share=lambda lam: shrinking_shares(lam, rates, shrinking))
