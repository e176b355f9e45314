"""How many pairs of a group a network must see to learn its product.

Training on n of the M^2 pairs, networks memorise below a threshold and generalise above it. Three numbers bear on it,
and they differ.

    every element is seen   necessary: n ~ M ln M, the coupon collector's law (`unseen_elements`)
    networks generalise     n = 2.75 M ln M, cyclic groups; the constant is measured, not derived (`sample_threshold`)
    energies cross          n = (2/3) M^2: only above it does a node that knows the product have more energy than one
                            that memorises a single element (`memorising_energy`, `crossing_fraction`)

The last is a property of single nodes. So is the persistence of their maxima on a subsample (`sampled_ascent`). Neither
gives the threshold of networks, in which many nodes share the labels.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jax.scipy.special import gammaln
from jaxtyping import Array, ArrayLike, Float, Real

from theory.checks import matrix, positive, real, require, whole, within
from theory.lazy_rich.feature_emergence import Ascent, energy_maxima, sphere_ascent
from theory.lazy_rich.groups import Group


def sample_threshold(order: Real[ArrayLike, "..."], constant: Real[ArrayLike, "..."] = 2.7482) -> Float[Array, "..."]:
    """Samples from which on networks generalise: n = constant M ln M.

    Arguments: order: M > 1; constant: > 0. They broadcast.
    Returns: n, of the common shape, not rounded; it exceeds M^2 for M below 5.
    Holds when: abelian groups, two-layer networks with weight decay trained long enough. The constant 2.7482 is an
        empirical one, measured on trained networks; that n grows as M ln M is proved only as a sufficient number.
    Source: Tian 2025 (arXiv:2509.21519): the law as a theorem on generalising features, the constant from its code.
    """
    m, c = real("order", order), positive("constant", constant)
    m = require("order", m, m > 1, "must be above 1")
    return c * m * jnp.log(m)


def unseen_elements(order: int, samples: Real[ArrayLike, "..."]) -> Float[Array, "..."]:
    """Expected number of elements that stand first in no sample (or second in none, or are the product in none).

    M C(M^2 - M, n) / C(M^2, n),   about M exp(-n / M) for n far below M^2.

    Arguments: order: M, a Python int; samples: n, between 0 and M^2.
    Returns: the number, of the shape of n, between 0 and M.
    Holds when: n different pairs are drawn at random. Of pairs with an unseen element nothing can be learned: fewer
        than about M ln M samples are too few for any network.
    Source: derived in derivations/lazy_rich/group_samples.py.
    """
    m = whole("order", order)
    n = within("samples", samples, 0.0, float(m**2))
    some = n <= m**2 - m
    kept = jnp.where(some, n, 0.0)
    return jnp.where(some, m * jnp.exp(_log_binomial(m**2 - m, kept) - _log_binomial(m**2, kept)), 0.0)


def memorising_energy(order: int, samples: Real[ArrayLike, ""]) -> Float[Array, ""]:
    """Expected energy of a node that sees one element only, w = (e_g, 0), on a random part of the pairs.

    E / M -> p (1 - p) / 2 for large M,   p = n / M^2: its squares, constant over products on all pairs, no longer are.

    Arguments: order: M >= 2, a Python int; samples: n, between 1 and M^2.
    Returns: E of `feature_energy`, averaged over samples; exact at any M.
    Holds when: n different pairs are drawn at random, any group.
    Source: derived in derivations/lazy_rich/group_samples.py.
    """
    m = whole("order", order, at_least=2)
    return _memorising_energy(m, within("samples", samples, 1.0, float(m**2)))


def crossing_fraction(group: Group) -> Float[Array, " irreps"]:
    """Fraction p of the pairs at which a node of an irrep has the energy of a node that memorises one element.

    p = 1 / (1 + 2 E / M),   E of `energy_maxima`: 2/3 for cyclic groups, 1/2 for sign-like irreps.

    Arguments: group: the `Group`.
    Returns: (number of irreps - 1,). Below it the highest maxima of the energy are nodes that memorise.
    Holds when: M is large: the node of the irrep keeps p^2 E up to a relative order 1/(p M), the other p (1-p) M / 2.
        It is no threshold of networks, which generalise on much smaller parts of large groups.
    Source: derived in derivations/lazy_rich/group_samples.py.
    """
    return 1 / (1 + 2 * energy_maxima(group) / group.order)


def sampled_ascent(
    start: Real[ArrayLike, "*nodes D"], x: Real[ArrayLike, "n inputs"], labels: Real[ArrayLike, "samples M"]
) -> Ascent:
    """Ends of the ascent of `feature_energy` of given samples on the unit sphere: does a maximum of all pairs persist?

    Arguments:
        start: weights, for instance from `energy_maximiser`, (..., D), not zero.
        x: samples in rows, (n, D); labels: Y, (n, M), before centring.
    Returns:
        the `Ascent`, to a residual of 1e-8 or as far as 1000 steps lead. `irrep_power` of its weights says whether the
        irrep of the start has survived.
    Holds when: always. Persistence on a subsample is no threshold of networks.
    Source: Tian 2025 (arXiv:2509.21519), independent stage.
    """
    w, x = real("start", start), matrix("x", x)
    y = matrix("labels", labels, rows=x.shape[0])
    if w.shape[-1:] != x.shape[1:]:
        raise ValueError(f"start must have {x.shape[1]} entries along its last axis, got shape {w.shape}")
    return _sampled_ascent(w, x, y - jnp.mean(y, axis=0))


@partial(jax.jit, static_argnums=0)
def _memorising_energy(m: int, n):
    # r samples hold g in first place. Their products differ; the other n - r fall evenly on all products.
    r = jnp.arange(m + 1.0)
    possible = (r <= n) & (n - r <= m**2 - m)
    row, others = jnp.where(possible, r, 0.0), jnp.where(possible, n - r, 0.0)
    log_weight = _log_binomial(m, row) + _log_binomial(m**2 - m, others) - _log_binomial(m**2, n)
    weight = jnp.where(possible, jnp.exp(log_weight), 0.0)
    mean = others / m
    variance = others * (m - 1) / m**2 * (m**2 - m - others) / max(m**2 - m - 1, 1)
    hits = row + row * mean
    squares = row + 2 * row * mean + m * (variance + mean**2)
    return jnp.sum(weight * (row - 2 * row / n * hits + row**2 / n**2 * squares)) / 2


@jax.jit
def _sampled_ascent(w, x, y) -> Ascent:
    nodes = w.reshape(-1, w.shape[-1])
    energy = lambda w: jnp.sum(((x @ w) ** 2 @ y) ** 2) / 2  # noqa: E731
    end = jax.vmap(lambda w: sphere_ascent(energy, w, tolerance=1e-8, most=1000))(nodes)
    return jax.tree.map(lambda z: z.reshape(w.shape[:-1] + z.shape[1:]), end)


def _log_binomial(n, k):
    return gammaln(n + 1.0) - gammaln(k + 1.0) - gammaln(n - k + 1.0)
