"""Weights of largest margin over products of tokens and queries: the support vector machine behind attention.

    min |W|   with   <W, phi_it> >= 1  for t != alpha_i,    phi_it = (x_{i alpha_i} - x_it) z_i^T,

in the Frobenius norm, where it is a quadratic program, or in the nuclear norm, where it is a semidefinite one and
solutions have few singular values. What attention has to do with it is in `theory.induction.attention_svm`. Samples are
rows, tokens come second; all sums over i and t leave the selected token out.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Int, Real

from theory.checks import real, require, whole, within

# Duality gaps, relative, at which the solver stops, and below which a solution counts as found. The nuclear norm loses
# half of the digits in 1 - s^2.
GOALS = {"frobenius": 1e-14, "nuclear": 3e-8}
GAPS = {"frobenius": 1e-11, "nuclear": 1e-6}


class MaxMargin(NamedTuple):
    """A direction of largest margin.

    `weights`      W, (d, e), of margin exactly one.
    `multipliers`  lambda_it >= 0, (n, T), 0 for selected tokens. Frobenius: W = sum lambda phi, |W|^2 = sum lambda.
                   Nuclear: sum lambda phi has largest singular value 1, |W|_* = sum lambda.
    `margins`      <W, phi_it>, (n, T), 1 for support vectors, 0 for selected tokens.
    `norm`         |W|, Frobenius or nuclear.
    `gap`          1 - (largest lower bound on the norm, from lambda) / norm: how far W can be from the best.
    `steps`        Newton steps taken.
    """

    weights: Float[Array, "d e"]
    multipliers: Float[Array, "n T"]
    margins: Float[Array, "n T"]
    norm: Float[Array, ""]
    gap: Float[Array, ""]
    steps: Int[Array, ""]


def max_margin(
    tokens: Real[ArrayLike, "n T d"],
    queries: Real[ArrayLike, "samples e"],
    selected: Int[ArrayLike, " choices"],
    norm: str = "frobenius",
    *,
    max_steps: int = 1000,
    throw: bool = True,
) -> MaxMargin:
    """Direction in which attention weights grow that come to select the given tokens.

    min |W|  with  (x_{i alpha} - x_it) . W z_i >= 1  for all t != alpha_i.

    Arguments:
        tokens: x_it, (n, T, d), T >= 2; queries: z_i, (n, e).
        selected: alpha_i, (n,), each from 0 to T - 1: the tokens of best score, or those of a local solution.
        norm: "frobenius" for trained W, "nuclear" for trained factors W = K Q^T.
        max_steps: Newton steps after which the solver gives up; throw: whether to raise then.
    Returns:
        the `MaxMargin`; its `gap` is a certificate that needs no trust in the solver.
    Holds when: the tokens can be separated, as they can in general if d >= T - 1 and e >= n; otherwise it raises, or
        leaves a gap that is not small. Multipliers, and a nuclear solution, need not be unique.
    Source: Tarzanagh, Li, Thrampoulidis & Oymak 2023 (arXiv:2308.16898), problems (Att-SVM) and (Att-SVM*); solved by
        following the central path of the dual problem, derived in derivations/induction/attention_svm.py.
    """
    x, z, alpha = checked_samples(tokens, queries, selected)
    if norm not in GAPS:
        raise ValueError(f"norm must be 'frobenius' or 'nuclear', got {norm!r}")
    found = _solution(x, z, alpha, norm, whole("max_steps", max_steps))
    if throw:
        least, sentence = GAPS[norm], f"must be separable, to a duality gap of at most {GAPS[norm]:g}"
        found = found._replace(gap=require("tokens", found.gap, found.gap <= least, sentence))
    return found


def symmetric_pair_norms(
    tokens_cosine: Real[ArrayLike, "..."], queries_cosine: Real[ArrayLike, "..."]
) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """Least Frobenius and nuclear norm for two samples of two tokens: the smallest case in which they differ.

    |W|_F = sqrt(2 / (1 + a b)),   |W|_* = 2 / sqrt((1 + |a + b| + a b)).

    Arguments, which broadcast:
        tokens_cosine: a of both differences between tokens, which are of length 1, in [-1, 1].
        queries_cosine: b of both queries, of length 1, in [-1, 1]; a b > -1.
    Returns:
        both norms. The nuclear solution is of rank one where a + b != 0, the Frobenius one where |a| or |b| is 1.
    Holds when: always.
    Source: derived in derivations/induction/attention_svm.py.
    """
    a, b = real("tokens_cosine", tokens_cosine), real("queries_cosine", queries_cosine)
    for name, cosine in (("tokens_cosine", a), ("queries_cosine", b)):
        require(name, cosine, jnp.abs(cosine) <= 1, "must lie between -1 and 1")
    product = require("tokens_cosine * queries_cosine", a * b, a * b > -1, "must be above -1")
    return jnp.sqrt(2 / (1 + product)), 2 / jnp.sqrt(1 + jnp.abs(a + b) + product)


def margin_features(
    tokens: Real[ArrayLike, "n T d"], queries: Real[ArrayLike, "samples e"], selected: Int[ArrayLike, " choices"]
) -> tuple[Float[Array, "C d"], Float[Array, "C e"]]:
    """Both factors of phi = left right^T for every token that is not selected: C = n (T - 1) rows.

    Arguments:
        tokens, queries, selected: as for `max_margin`.
    Returns:
        x_{i alpha} - x_it and z_i, in the order of `other_tokens`.
    Holds when: always.
    Source: a definition.
    """
    x, z, alpha = checked_samples(tokens, queries, selected)
    return _features(x, z, alpha)


def other_tokens(table: Real[ArrayLike, "n T"], selected: Int[ArrayLike, " choices"]) -> Float[Array, " C"]:
    """Entries of a table (n, T) for tokens that are not selected, in a row.

    Arguments:
        table: any finite numbers, (n, T); selected: alpha_i, (n,).
    Returns:
        n (T - 1) of them: sample by sample, from the token after the selected one round to that before it.
    Holds when: always.
    Source: a definition.
    """
    table = real("table", table)
    alpha = checked_choices(selected, *table.shape)
    return jnp.take_along_axis(table, _other_places(alpha, table.shape[1]), axis=1).ravel()


@partial(jax.jit, static_argnames=("norm", "max_steps"))
def _solution(x, z, alpha, norm: str, max_steps: int) -> MaxMargin:
    left, right = _features(x, z, alpha)
    # In units in which the longest phi is 1.
    units = [jnp.sqrt(jnp.max(jnp.sum(side**2, axis=1))) for side in (left, right)]
    left, right = left / units[0], right / units[1]
    lam, mu, steps = _central_path(left, right, norm, max_steps)
    total = jnp.einsum("c,cd,ce->de", lam, left, right)
    w = total if norm == "frobenius" else _primal(left, right, lam, mu)
    margins = jnp.einsum("cd,de,ce->c", left, w, right)
    least = jnp.min(margins)
    size, dual_size = _norms(w, total, norm)
    scale = units[0] * units[1]
    # <total, W> is at least sum lambda for any feasible W, and at most dual norm times norm.
    bound, reached = jnp.sum(lam) / dual_size, size / least
    gap = jnp.where((least > 0) & jnp.isfinite(reached), 1 - bound / reached, jnp.inf)
    lam = lam / least / scale**2 if norm == "frobenius" else lam / dual_size / scale
    tables = [_table(row, alpha, x.shape[1]) for row in (lam, margins / least)]
    return MaxMargin(w / least / scale, *tables, reached / scale, gap, steps)


def _central_path(left, right, norm: str, max_steps: int):
    """Multipliers on the central path of the dual, where it is within the gap of its end.

    max sum lambda + mu sum ln lambda - |A|_F^2 / 2,  or  + mu ln det (1 - A^T A),   A = sum lambda phi.
    Newton steps cut by 1 + decrement stay inside: the barriers are self-concordant. A decrement below one says that
    the maximum exists; it does not where tokens cannot be separated.
    """
    c, order = len(left), len(left) + (0 if norm == "frobenius" else min(left.shape[1], right.shape[1]))
    gram = (left @ left.T) * (right @ right.T)
    goal = GOALS[norm]

    def newton(lam, mu):
        if norm == "nuclear":
            return _nuclear_step(left, right, lam, mu)[:2]
        return _scaled_step(lam, (1 - gram @ lam) / mu, gram / mu)

    def unfinished(state):
        lam, mu, decrement, steps = state
        return ((mu * order > goal * jnp.sum(lam)) | ~(decrement < 0.01)) & (steps < max_steps)

    def body(state):
        lam, mu, _, steps = state
        step, decrement = newton(lam, mu)
        lam = lam * (1 + step / (1 + decrement))
        last = mu * order <= goal * jnp.sum(lam)
        return lam, jnp.where((decrement < 0.3) & ~last, 0.2 * mu, mu), decrement, steps + 1

    first = jnp.full(c, 0.5 / c, left.dtype)
    start = (first, jnp.asarray(0.5 / c, left.dtype), jnp.asarray(jnp.inf, left.dtype), jnp.asarray(0, jnp.int32))
    lam, mu, _, steps = jax.lax.while_loop(unfinished, body, start)
    return lam, mu, steps


def _scaled_step(lam, slope, curvature):
    """Newton step over lambda, and its decrement, of a barrier of which sum ln lambda is left out."""
    slope = lam * slope + 1
    curvature = lam[:, None] * curvature * lam + jnp.eye(len(lam), dtype=lam.dtype)
    step = jnp.linalg.solve(curvature, slope)
    return step, jnp.sqrt(jnp.maximum(step @ slope, 0.0))


def _nuclear_step(left, right, lam, mu):
    """Newton step, decrement, and M = [[1, A], [A^T, 1]]^-1 of the barrier sum lambda / mu + ln det M^-1."""
    d, e = left.shape[1], right.shape[1]
    total = jnp.einsum("c,cd,ce->de", lam, left, right)
    inverse = jnp.linalg.inv(jnp.block([[jnp.eye(d), total], [total.T, jnp.eye(e)]]))
    ll, rr = left @ inverse[:d, :d] @ left.T, right @ inverse[d:, d:] @ right.T
    lr = left @ inverse[:d, d:] @ right.T
    step, decrement = _scaled_step(lam, 1 / mu + 2 * jnp.diagonal(lr), 2 * (ll * rr + lr * lr.T))
    return step, decrement, inverse


def _primal(left, right, lam, mu):
    """W = 2 mu A (1 - A^T A)^-1, which the central path pairs with its multipliers, one Newton step ahead.

    The step makes up for the rounding of the inverse, in which half of the digits are lost: margins are exact.
    """
    d = left.shape[1]
    step, _, inverse = _nuclear_step(left, right, lam, mu)
    change = jnp.einsum("c,cd,ce->de", lam * step, left, right)
    turned = inverse[:d, :d] @ change @ inverse[d:, d:] + inverse[:d, d:] @ change.T @ inverse[:d, d:]
    return -2 * mu * (inverse[:d, d:] - turned)


def _norms(w, total, norm: str):
    """|W|, and the dual norm of A."""
    if norm == "frobenius":
        return jnp.linalg.norm(w), jnp.linalg.norm(total)
    return tuple(f(jnp.linalg.svd(m, compute_uv=False)) for f, m in ((jnp.sum, w), (jnp.max, total)))


def _features(x, z, alpha):
    """Both factors of phi_c = left_c right_c^T, over all samples and their tokens that are not selected."""
    best = jnp.take_along_axis(x, alpha[:, None, None], axis=1)
    others = jnp.take_along_axis(x, _other_places(alpha, x.shape[1])[:, :, None], axis=1)
    left = (best - others).reshape(-1, x.shape[2])
    return left, jnp.repeat(z, x.shape[1] - 1, axis=0)


def _other_places(alpha, size: int):
    return (alpha[:, None] + jnp.arange(1, size)) % size


def _table(row, alpha, size: int):
    """The opposite of `_others`, with 0 for selected tokens."""
    n = len(alpha)
    empty = jnp.zeros((n, size), row.dtype)
    return empty.at[jnp.arange(n)[:, None], _other_places(alpha, size)].set(row.reshape(n, size - 1))


def checked_choices(selected, n: int, size: int) -> Int[Array, " n"]:
    """Places of the selected tokens, one of `size` for each of `n` samples."""
    alpha = jnp.asarray(selected)
    if not jnp.issubdtype(alpha.dtype, jnp.integer) or alpha.shape != (n,):
        raise ValueError(f"selected must hold one place for each of {n} samples, got {alpha.dtype} {alpha.shape}")
    within("selected", alpha, 0.0, size - 1.0)
    return alpha


def checked_samples(tokens, queries, selected) -> tuple[Array, Array, Array]:
    """Tokens, queries and selection that fit together."""
    x, z = real("tokens", tokens), real("queries", queries)
    if x.ndim != 3 or x.shape[1] < 2:
        raise ValueError(f"tokens must be of shape (n, T, d) with two tokens or more, got {x.shape}")
    if z.ndim != 2 or z.shape[0] != x.shape[0]:
        raise ValueError(f"queries must hold a row for each of {x.shape[0]} samples, got shape {z.shape}")
    size = jnp.max(jnp.abs(x - x[:, :1])) * jnp.max(jnp.abs(z))
    require("tokens", x, size > 0, "must differ, beside queries that are not zero")
    return x, z, checked_choices(selected, *x.shape[:2])
