"""How features emerge in a network that learns a group: from a lazy readout to nodes that are Fourier modes.

A two-layer network F = sigma(X W), outputs F V, sigma(z) = z^2, is shown pairs (g, h) of elements of a group of order M
as two one-hot vectors, and is to name the product gh. Weights decay by eta. Training passes through three stages.

    lazy          the readout V fits by ridge regression on random features; the gradient that then reaches the
                  features is proportional to what weight decay leaves unfitted
    independent   each hidden node w = (u, v) ascends an energy of its own, E(w) = |Y^T sigma(X w)|^2 / 2; on the unit
                  sphere its local maxima are single irreducible representations (frequencies, if the group is cyclic)
    interactive   learned nodes change the energy of the others: `theory.lazy_rich.interacting_features`

Features F and labels Y are centred over samples. With the loss |Y - F V|^2 / 2 + eta |V|^2 / 2, a sum over samples.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Integer, Real

from theory.checks import matrix, non_negative, positive, real, require
from theory.lazy_rich.groups import Group, division, group_table


class Ascent(NamedTuple):
    """Where an ascent on the unit sphere ended.

    `weights`   unit vectors, (..., D).
    `energy`    there, (...).
    `residual`  |part of the gradient along the sphere| / |gradient|: zero at a critical point.
    """

    weights: Float[Array, "*nodes D"]
    energy: Float[Array, "*nodes"]
    residual: Float[Array, "*nodes"]


def lazy_gradient(
    features: Real[ArrayLike, "n K"], labels: Real[ArrayLike, "samples M"], decay: Real[ArrayLike, ""]
) -> Float[Array, "n K"]:
    """Gradient that reaches the features once the readout has fitted them: G = (Y - F V) V^T, V by ridge regression.

    G = eta Q Y Y^T Q F,   Q = (F F^T + eta)^{-1}.

    Arguments:
        features: F of n samples, (n, K), before centring; labels: Y, (n, M), before centring.
        decay: eta >= 0. At 0 the readout is the one of least norm.
    Returns:
        minus the gradient of |Y - F V|^2 / 2 with respect to F, (n, K). Without decay it is zero wherever F fits Y
        exactly; it goes as eta where eta is small beside F F^T, and is Y Y^T F / eta where it is large.
    Holds when: V is at its minimum; any activation, any labels.
    Source: derived in derivations/lazy_rich/feature_emergence.py; Tian 2025 (arXiv:2509.21519), lazy stage.
    """
    f = centred(matrix("features", features))
    y = centred(matrix("labels", labels, rows=f.shape[0]))
    eta = non_negative("decay", decay)
    left, s, right = jnp.linalg.svd(f, full_matrices=False)
    # Directions that rounding alone fills are none: without decay they would count in full.
    s = jnp.where(s > jnp.finfo(f.dtype).eps * max(f.shape) * s[0], s, 0.0)
    filled = s > 0
    fitted = jnp.where(filled, s**2 / jnp.where(filled, s**2 + eta, 1.0), 0.0)
    readout = jnp.where(filled, s / jnp.where(filled, s**2 + eta, 1.0), 0.0)
    inside = left.T @ y
    missing = y - left @ (fitted[:, None] * inside)
    return missing @ ((readout[:, None] * inside).T @ right)


def lazy_rate(
    width: Real[ArrayLike, "..."], decay: Real[ArrayLike, "..."], variance: Real[ArrayLike, "..."]
) -> Float[Array, "..."]:
    """Rate at which random features begin to move: the gradient of each node is this times that of its own energy.

    eta / (eta + 4 K v^2)^2.

    Arguments:
        width: K, number of nodes, > 0; decay: eta, >= 0; variance: v of every weight, > 0. They broadcast.
    Returns:
        the rate, of the common shape. It is largest at eta = 4 K v^2, where it is 1/(16 K v^2), and zero without decay.
    Holds when: all M^2 pairs of any group are samples, sigma(z) = z^2, weights are independent of mean zero, and K
        is large: G = rate Y Y^T F up to a relative order M / sqrt(K). Centred labels are then an eigenspace of F F^T,
        of eigenvalue 4 K v^2.
    Source: derived in derivations/lazy_rich/feature_emergence.py.
    """
    k, eta, v = positive("width", width), non_negative("decay", decay), positive("variance", variance)
    return eta / (eta + 4 * k * v**2) ** 2


def feature_energy(
    w: Real[ArrayLike, "*nodes D"], x: Real[ArrayLike, "n inputs"], labels: Real[ArrayLike, "samples M"]
) -> Float[Array, "*nodes"]:
    """Energy that a node ascends while nodes are independent: E(w) = |Y^T sigma(X w)|^2 / 2, sigma(z) = z^2.

    Arguments:
        w: weights of nodes, (..., D); x: samples in rows, (n, D); labels: Y, (n, M), before centring.
    Returns:
        E, of the nodes' leading axes.
    Holds when: always; it drives the nodes where F F^T is small beside eta, or a multiple of one on the labels.
    Source: Tian 2025 (arXiv:2509.21519), independent stage.
    """
    w, x = real("w", w), matrix("x", x)
    y = centred(matrix("labels", labels, rows=x.shape[0]))
    if w.shape[-1:] != x.shape[1:]:
        raise ValueError(f"w must have {x.shape[1]} entries along its last axis, got shape {w.shape}")
    return jnp.sum(((w @ x.T) ** 2 @ y) ** 2, axis=-1) / 2


def group_energy(w: Real[ArrayLike, "*nodes D"], table: Integer[ArrayLike, "M N"]) -> Float[Array, "*nodes"]:
    """The same on all pairs of a group: 2 |u * v|^2 less the mean of the group convolution u * v.

    E(w) = 2 sum_a ((u * v)(a) - mean)^2 = (2 / M) sum over irreps but the trivial one of c d |u^ v^|_F^2.

    Arguments:
        w: weights (u, v) of nodes, first and second element's, (..., 2M); table: multiplication table, (M, M).
    Returns:
        E, of the nodes' leading axes; c d and u^, v^ are those of `irrep_power` and `fourier`.
    Holds when: every pair (g, h) is a sample, once. Squares of u and v are constant over products and drop out.
    Source: derived in derivations/lazy_rich/feature_emergence.py; Tian 2025 (arXiv:2509.21519).
    """
    u, v, quotient = _parts(w, table)
    return _group_energy(u, v, quotient)


def group_energy_gradient(w: Real[ArrayLike, "*nodes D"], table: Integer[ArrayLike, "M N"]) -> Float[Array, "*nodes D"]:
    """Gradient of `group_energy`, through two more convolutions.

    dE/du(g) = 4 sum_h c(gh) v(h),   dE/dv(h) = 4 sum_g c(gh) u(g),   c = u * v - mean.

    Arguments: as for `group_energy`.
    Returns: (..., 2M). Its product with w is 4 E.
    Holds when: as for `group_energy`.
    Source: derived in derivations/lazy_rich/feature_emergence.py.
    """
    u, v, quotient = _parts(w, table)
    c = _product(u, v, quotient)
    by_pair = 4 * c[..., jnp.asarray(table)]
    du, dv = jnp.einsum("...gh,...h->...g", by_pair, v), jnp.einsum("...gh,...g->...h", by_pair, u)
    return jnp.concatenate([du, dv], axis=-1)


def energy_maxima(group: Group) -> Float[Array, " irreps"]:
    """Values of the local maxima of `group_energy` on the unit sphere, one for each irrep but the trivial one.

    M / (2 d) for the real type, M / (4 d) for a complex pair and for the quaternionic type.

    Arguments: group: the `Group`.
    Returns: (number of irreps - 1,), in their order; d is the dimension over the complex numbers.
    Holds when: all pairs are samples. Energies lie below the largest of these.
    Source: derived in derivations/lazy_rich/feature_emergence.py. Tian 2025 (arXiv:2509.21519) has the same ratios.
    """
    shares = [2 if irrep.kind == "real" else 4 for irrep in group.irreps[1:]]
    return jnp.array([group.order / (c * rho.dimension) for c, rho in zip(shares, group.irreps[1:], strict=True)])


def energy_maximiser(
    group: Group,
    place: int,
    left: Real[ArrayLike, "d parts"],
    middle: Real[ArrayLike, "e parts"],
    right: Real[ArrayLike, "f parts"],
) -> Float[Array, " D"]:
    """A node at a local maximum: u(g) ~ Re a^+ rho(g) b, v(h) ~ Re b^+ rho(h) c, each of squared norm 1/2.

    Its outputs by product, u * v, are ~ Re a^+ rho(gh) c: the node has found the product. For a cyclic group u and v
    are cosines of one frequency and of any two phases, which the output adds.

    Arguments:
        group: the `Group`; place: of the irrep, 1 or larger.
        left, middle, right: a, b, c, not zero, real and imaginary parts in columns, (d, 2). Only real parts count
            where the irrep is of the real type.
    Returns:
        w = (u, v), of norm one, (2M,).
    Holds when: all pairs are samples. Every local maximum in this irrep is of this form.
    Source: derived in derivations/lazy_rich/feature_emergence.py.
    """
    if isinstance(place, bool) or place not in range(1, len(group.irreps)):
        raise ValueError(f"place must be from 1 to {len(group.irreps) - 1}, got {place!r}")
    rho = group.irreps[place]
    given = [
        matrix(name, part, rows=rho.dimension, columns=2)
        for name, part in (("left", left), ("middle", middle), ("right", right))
    ]
    parts = [part[:, 0] + (0 if rho.kind == "real" else 1j) * part[:, 1] for part in given]
    sides = [jnp.einsum("i,gij,j->g", jnp.conj(a), rho.matrices, b).real for a, b in pairwise(parts)]
    norms = [jnp.linalg.norm(side) for side in sides]
    for name, norm in zip(("left and middle", "middle and right"), norms, strict=True):
        require(name, norm, norm > 0, "must not be zero")
    return jnp.concatenate([side / norm for side, norm in zip(sides, norms, strict=True)]) / jnp.sqrt(2)


def ascended(start: Real[ArrayLike, "*nodes D"], table: Integer[ArrayLike, "M N"]) -> Ascent:
    """Ends of the ascent of `group_energy` on the unit sphere, each node by itself.

    Arguments: start: first weights, (..., 2M), not zero; table: multiplication table, (M, M).
    Returns: the `Ascent`: weights that are one of `energy_maximiser`, energies from `energy_maxima`.
    Holds when: the start is generic (not on the edge between two basins).
    Source: Tian 2025 (arXiv:2509.21519), independent stage.
    """
    return _ascended(jnp.concatenate(_parts(start, table)[:2], axis=-1), division(group_table(table)))


def sphere_ascent(
    energy: Callable[[Array], Array], start: Float[Array, " D"], tolerance: float = 1e-11, most: int = 4000
) -> Ascent:
    """Ascent of any energy on the unit sphere, by steps of fixed relative size: w <- w + g / (2 |g|), normalised.

    Arguments:
        energy: weights (D,) -> a scalar, differentiable; start: (D,), not zero. Under `vmap` for many.
        tolerance: residual at which it ends; most: steps after which it ends anyway.
    Returns:
        the `Ascent`. The residual says whether it has arrived.
    Holds when: the gradient is not zero at the start.
    Source: a normalised gradient ascent.
    """
    slope = jax.grad(energy)

    def along(w):
        g = slope(w)
        size = jnp.linalg.norm(g)
        g = g / jnp.where(size > 0, size, 1.0)
        return g, jnp.linalg.norm(g - (g @ w) * w)

    def step(state):
        w, g, _, count = state
        w = w + g / 2
        w = w / jnp.linalg.norm(w)
        return w, *along(w), count + 1

    w = start / jnp.linalg.norm(start)
    # Rounding leaves a residual of its own.
    least = jnp.maximum(tolerance, 50 * jnp.finfo(w.dtype).eps)
    state = (w, *along(w), jnp.zeros((), int))
    w, _, residual, _ = jax.lax.while_loop(lambda s: (s[2] > least) & (s[3] < most), step, state)
    return Ascent(w, energy(w), residual)


@jax.jit
def _ascended(w, quotient) -> Ascent:
    nodes = w.reshape(-1, w.shape[-1])
    end = jax.vmap(lambda w: sphere_ascent(lambda w: _group_energy(*jnp.split(w, 2), quotient), w))(nodes)
    return jax.tree.map(lambda x: x.reshape(w.shape[:-1] + x.shape[1:]), end)


def _group_energy(u, v, quotient):
    return 2 * jnp.sum(_product(u, v, quotient) ** 2, axis=-1)


def _product(u, v, quotient):
    """u * v less its mean."""
    product = jnp.einsum("...g,...ga->...a", u, v[..., quotient])
    return product - jnp.mean(product, axis=-1, keepdims=True)


def _parts(w, table):
    """u, v and the table of quotients."""
    w, table = real("w", w), group_table(table)
    if w.shape[-1:] != (2 * table.shape[0],):
        raise ValueError(f"w must have {2 * table.shape[0]} entries along its last axis, got shape {w.shape}")
    u, v = jnp.split(w, 2, axis=-1)
    return u, v, division(table)


def centred(x: Float[Array, "n K"]) -> Float[Array, "n K"]:
    """Columns less their mean over samples.

    Arguments: x: samples in rows, (n, K).
    Returns: (n, K).
    Holds when: always.
    Source: a definition.
    """
    return x - jnp.mean(x, axis=0)
