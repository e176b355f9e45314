"""Hierarchically structured items: progressive differentiation, coarse to fine, and illusory correlations.

Properties that diffuse down a tree of categories give the items a similarity matrix whose eigenvectors are
contrasts between branches, stronger the coarser; a deep linear network learns them one level after the other
(Saxe, McClelland & Ganguli 2013, arXiv:1312.6120; 2019, PNAS 116, 11537).

Items are one-hot inputs, `Y` (properties x items) is the table to learn. `lam` is the eigenvalue of Sxx, how often
each item is shown: 1 if the loss sums over the items (Sxx = I, Syx = Y), 1/P if it averages over them.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Real

from theory.checks import non_negative, positive, require, whole, within


class SampledSpectrum(NamedTuple):
    """What a finite number of properties does to the eigenvalues of a level, each of shape (D+1,).

    mean: expectation of the average of the level's eigenvalues, to first order in 1 / properties.
    deviation: standard deviation of that average from table to table, to leading order.
    scatter: root mean square of a single eigenvalue of the level about `tree_spectrum`, to leading order.
    """

    mean: Float[Array, " L"]
    deviation: Float[Array, " L"]
    scatter: Float[Array, " L"]


def tree_similarity(branching: Sequence[int], eps: Real[ArrayLike, ""]) -> Float[Array, "P P"]:
    """Correlation of the items at the leaves of a tree.

    q_k = (1 - 2 eps)^(2 (D - k)) for two leaves whose last common ancestor is at level k (root 0, leaves D).

    Arguments:
        branching: children of a node at level 0, 1, ..., D-1; D >= 1 static whole numbers >= 1.
        eps: probability that a property (+1 or -1) flips along one edge, in [0, 1/2].
    Returns:
        shape (P, P), P the product of `branching`; E[Y^T Y] / No for a table Y of No properties.
    Holds when: properties start at the root as +1 or -1 with equal probability, independently of each other.
    Source: Saxe, McClelland & Ganguli 2019, SI (a branching diffusion process).
    """
    branching, eps = _branching(branching), _flip(eps)
    common = sum(np.kron(np.eye(leaves), np.ones((below,) * 2)) for leaves, below in _blocks(branching)[1:])
    return _correlations(branching, eps)[jnp.asarray(np.asarray(common, int))]


def tree_contrasts(branching: Sequence[int]) -> Float[Array, "P P"]:
    """Orthonormal eigenvectors of `tree_similarity`, in columns: the mean, then the contrasts, coarse to fine.

    A contrast compares the children of one node; within each child all leaves have the same weight. A level's
    contrasts are one choice out of an eigenspace.

    Arguments:
        branching: as for `tree_similarity`.
    Returns:
        shape (P, P); column i belongs to eigenvalue i of `tree_spectrum` repeated by `tree_multiplicities`.
    """
    branching = _branching(branching)
    blocks = _blocks(branching)
    columns = [np.ones((blocks[0][1], 1)) / np.sqrt(blocks[0][1])]
    for (nodes, _), children, (_, below) in zip(blocks[:-1], branching, blocks[1:], strict=True):
        among = np.stack([_helmert(children, i) for i in range(1, children)], 1) if children > 1 else np.ones((1, 0))
        columns.append(np.kron(np.eye(nodes), np.kron(among, np.ones((below, 1)) / np.sqrt(below))))
    return jnp.asarray(np.concatenate(columns, 1), jnp.result_type(float))


def tree_multiplicities(branching: Sequence[int]) -> tuple[int, ...]:
    """How often each eigenvalue of `tree_spectrum` occurs: 1, then (B_1 ... B_l)(B_{l+1} - 1) for l = 0..D-1.

    Arguments:
        branching: as for `tree_similarity`.
    Returns:
        D+1 Python integers that sum to P; 0 for a level of only children.
    """
    branching = _branching(branching)
    return (1, *(int(np.prod(branching[:level])) * (b - 1) for level, b in enumerate(branching)))


def tree_spectrum(branching: Sequence[int], eps: Real[ArrayLike, ""]) -> Float[Array, " L"]:
    """Eigenvalues of `tree_similarity`, one for each level: the mean, then the contrasts, coarse to fine.

    mu_l = sum_{k=l+1}^D q_k (M_k - M_{k+1}) - q_l M_{l+1} = sum_{k=l}^{D-1} M_{k+1} (q_{k+1} - q_k),
    mu_mean = mu_0 + P q_0;  M_k = B_{k+1} ... B_D leaves below a node at level k, M_{D+1} = 0.

    Arguments: as for `tree_similarity`.
    Returns:
        shape (D+1,), not increasing: (mu_mean, mu_0, ..., mu_{D-1}), mu_l for a contrast among the children of a
        node at level l.
    Source: Saxe, McClelland & Ganguli 2019, SI.
    """
    branching, eps = _branching(branching), _flip(eps)
    q = _correlations(branching, eps)
    below = [leaves for _, leaves in _blocks(branching)]
    # q_{k+1} - q_k without cancellation: 1 - (1 - 2 eps)^2 = 4 eps (1 - eps).
    steps = [below[k + 1] * q[k + 1] * 4 * eps * (1 - eps) for k in range(len(branching))]
    contrasts = jnp.cumsum(jnp.stack(steps[::-1]))[::-1]
    return jnp.concatenate([contrasts[:1] + below[0] * q[0], contrasts])


def level_power_moments(branching: Sequence[int], eps: Real[ArrayLike, ""]) -> Float[Array, "L L"]:
    """E[p_l p_m], p_l = |Pi_l y|^2 the power of one property y on the contrasts of a level.

    E[p_l] is the multiplicity times the eigenvalue. Exact, from the fourth moments of the diffusion, by recursion
    from the leaves up.

    Arguments: as for `tree_similarity`.
    Returns:
        shape (D+1, D+1), levels in the order of `tree_spectrum`.
    """
    return _power_moments(_branching(branching), _flip(eps))


@partial(jax.jit, static_argnums=0)
def _power_moments(branching, eps):
    keep, depth = 1 - 2 * eps, len(branching)
    one = jnp.ones_like(eps)
    # Of a node with value +1: T is the sum of its leaves, R[j] the sum of squares of the block sums over the block
    # size, one entry for each level below it (itself first). m[i] = E T^i.
    m, r, rr, tr, ttr = [one] * 5, one[None], one[None, None], one[None], one[None]
    for level in reversed(range(depth)):
        b = branching[level]
        pairs, triples, quads = b * (b - 1), b * (b - 1) * (b - 2), b * (b - 1) * (b - 2) * (b - 3)
        w1, w2, w3, w4 = keep * m[1], m[2], keep * m[3], m[4]
        lower_ttr = b * ttr + pairs * (w2 * r + 2 * keep * tr * w1) + triples * w1**2 * r
        lower_tr = keep * (b * tr + pairs * m[1] * r)
        lower_rr = b * rr + pairs * r[:, None] * r
        m = [
            one,
            b * w1,
            b * w2 + pairs * w1**2,
            b * w3 + 3 * pairs * w2 * w1 + triples * w1**3,
            b * w4 + pairs * (4 * w3 * w1 + 3 * w2**2) + 6 * triples * w2 * w1**2 + quads * w1**4,
        ]
        size = float(np.prod(branching[level:]))
        r = jnp.concatenate([m[2][None] / size, b * r])
        tr, ttr = (jnp.concatenate([m[i][None] / size, x]) for i, x in ((3, lower_tr), (4, lower_ttr)))
        rr = jnp.block([[m[4][None, None] / size**2, lower_ttr[None] / size], [lower_ttr[:, None] / size, lower_rr]])
    differences = jnp.asarray(np.eye(depth + 1) - np.eye(depth + 1, k=-1), rr.dtype)
    return differences @ rr @ differences.T


def sampled_spectrum(
    branching: Sequence[int], eps: Real[ArrayLike, ""], properties: Real[ArrayLike, ""]
) -> SampledSpectrum:
    """Eigenvalues of Y^T Y / No, level by level, for a table Y of a finite number No of properties.

    mean_l = mu_l + (1 / (n_l No)) sum_{m != l} E[p_l p_m] / (mu_l - mu_m);  deviation_l^2 = Var(p_l) / (n_l^2 No);
    scatter_l^2 = (E[p_l^2] - n_l mu_l^2) / (n_l No);  n_l the multiplicities, p_l as in `level_power_moments`.

    Arguments:
        branching, eps: as for `tree_similarity`, here 0 < eps < 1/2.
        properties: the number No, > 0.
    Returns:
        `SampledSpectrum`, NaN for a level of multiplicity 0.
    Holds when: the scatter is small against the gaps between the levels.
    Source: second-order perturbation theory about the tree's own spectrum.
    """
    branching, eps, properties = _branching(branching), _flip(eps), positive("properties", properties)
    eps = require("eps", eps, (eps > 0) & (eps < 0.5), "must lie strictly between 0 and 0.5")
    mu, n = tree_spectrum(branching, eps), np.array(tree_multiplicities(branching), float)
    moments = level_power_moments(branching, eps)
    here = np.diag(n > 0)
    n = jnp.asarray(np.where(n > 0, n, np.nan), mu.dtype)
    other = jnp.asarray((n > 0)[None, :] & (n > 0)[:, None] & ~here)
    gaps = jnp.where(other, mu[:, None] - mu[None, :], 1.0)
    repulsion = jnp.sum(jnp.where(other, moments / gaps, 0.0), axis=1)
    own = jnp.diagonal(moments)
    return SampledSpectrum(
        mu + repulsion / (n * properties),
        jnp.sqrt((own - (n * mu) ** 2) / properties) / n,
        jnp.sqrt((own - n * mu**2) / (n * properties)),
    )


def level_singular_values(
    branching: Sequence[int], eps: Real[ArrayLike, ""], properties: Real[ArrayLike, ""]
) -> Float[Array, " L"]:
    """Singular values of a table of many properties of the items of a tree, one for each level.

    s_l = sqrt(No mu_l), mu_l from `tree_spectrum`.

    Arguments:
        branching, eps: as for `tree_similarity`. The derivative with respect to eps is infinite at eps = 0.
        properties: their number No, > 0.
    Returns:
        shape (D+1,).
    Holds when: No is large against P (`sampled_spectrum` has the correction).
    """
    return jnp.sqrt(positive("properties", properties) * tree_spectrum(branching, eps))


def level_learning_time(
    fraction: Real[ArrayLike, "..."],
    s: Real[ArrayLike, "..."],
    u0: Real[ArrayLike, "..."],
    lam: Real[ArrayLike, "..."] = 1.0,
) -> Float[Array, "..."]:
    """When a two-layer network has learned a fraction f of a mode of the table.

    t = ln[f (s - u0) / ((1 - f) u0)] / (2 lam s);  f = 1/2 is the half time ln(s/u0 - 1) / (2 lam s).

    Arguments, which broadcast:
        fraction: f, in [0, 1).
        s: singular value of the table Y, >= 0: `level_singular_values`.
        u0: strength at t = 0, > 0.
        lam: how often each item is shown, > 0: 1 counts time per item, 1/P averages the loss over P items.
    Returns:
        t >= 0, of the broadcast shape; 0 if u0 >= f s > 0; infinite at s = 0.
    Holds when: the start is balanced and aligned with the table (`illusory_correlations.item_property_map`).
    Source: Saxe, McClelland & Ganguli 2013.
    """
    f, s = within("fraction", fraction, 0.0, 1.0), non_negative("s", s)
    u0, lam = positive("u0", u0), positive("lam", lam)
    f = require("fraction", f, f < 1, "must be below 1")
    learnt = jnp.logical_or(f * s <= u0, s == 0)
    safe_f, safe_s = jnp.where(learnt, 0.5, f), jnp.where(learnt, 4 * u0, s)
    t = jnp.log(safe_f / (1 - safe_f) * (safe_s / u0 - 1)) / (2 * lam * safe_s)
    return jnp.where(s == 0, jnp.inf, jnp.where(learnt, 0.0, t))


def stage_ratio(
    s: Real[ArrayLike, "..."], u0: Real[ArrayLike, "..."], edge: Real[ArrayLike, "..."] = 0.1
) -> Float[Array, "..."]:
    """How abrupt a stage is: half time over the time from `edge` s to (1 - edge) s.

    ln(s/u0 - 1) / (2 ln((1 - edge) / edge)): grows without bound as u0 -> 0, whatever the time unit.

    Arguments, which broadcast:
        s: singular value, > 0.
        u0: strength at t = 0, > 0, below s / 2.
        edge: fraction of s at which the rise is said to begin, in (0, 1/2).
    Returns:
        the ratio, of the broadcast shape.
    Source: Saxe, McClelland & Ganguli 2013.
    """
    s, u0, edge = positive("s", s), positive("u0", u0), within("edge", edge, 0.0, 0.5)
    edge = require("edge", edge, (edge > 0) & (edge < 0.5), "must lie strictly between 0 and 0.5")
    u0 = require("u0", u0, 2 * u0 < s, "must be below s / 2")
    return jnp.log(s / u0 - 1) / (2 * jnp.log((1 - edge) / edge))


def _branching(branching: Sequence[int]) -> tuple[int, ...]:
    """The children per level as a tuple of at least one whole number."""
    try:
        levels = tuple(branching)
    except TypeError as error:
        raise ValueError(f"branching must be a sequence of whole numbers, got {branching!r}") from error
    if not levels:
        raise ValueError("branching must hold at least one level, got none")
    return tuple(whole("branching", b) for b in levels)


def _flip(eps: Real[ArrayLike, ""]) -> Float[Array, ""]:
    return within("eps", eps, 0.0, 0.5)


def _blocks(branching: tuple[int, ...]) -> list[tuple[int, int]]:
    """(nodes at a level, leaves below one of them) for levels 0..D."""
    return [(int(np.prod(branching[:k])), int(np.prod(branching[k:]))) for k in range(len(branching) + 1)]


def _correlations(branching: tuple[int, ...], eps: Float[Array, ""]) -> Float[Array, " L"]:
    """q_0 ... q_D: the correlation of two leaves whose last common ancestor is at each level."""
    depth = len(branching)
    return jnp.stack([(1 - 2 * eps) ** (2 * (depth - k)) for k in range(depth + 1)])


def _helmert(n: int, i: int) -> np.ndarray:
    """The i-th of n-1 orthonormal contrasts: the mean of the first i against the next."""
    return np.concatenate([np.ones(i), [-i], np.zeros(n - i - 1)]) / np.sqrt(i * (i + 1))
