"""Kernels of infinitely wide fully connected networks: NNGP and NTK, at any depth, to the last digits of any pair.

from theory.kernels.infinite import kernels
nngp, ntk = kernels(x, depth=3, activation="relu", weight_variance=2.0, bias_variance=0.1)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, ArrayLike, Float, Real

from theory.checks import matrix, non_negative, real, whole, within
from theory.kernels import activations
from theory.kernels.activations import Activation
from theory.kernels.pairs import Inputs, Pair, add, pairs_of_inputs, polar, scaled

PARAMETRISATIONS = ("ntk", "standard", "mup")


class Kernels(NamedTuple):
    """`nngp`: covariance of outputs over initial weights. `ntk`: neural tangent kernel; None where there is none."""

    nngp: Float[Array, "..."]
    ntk: Float[Array, "..."] | None


class Architecture(NamedTuple):
    """What is compiled for: everything of a network but its two variances and its residual strength."""

    depth: int
    activation: Activation
    parametrisation: str
    width: int
    biased: bool
    residual: bool
    layer_norm: bool


class Variances(NamedTuple):
    """Variance of weights (over fan-in) and biases, and the strength of what a residual block adds."""

    weight: Array
    bias: Array
    residual: Array


def kernels(
    x: Real[ArrayLike, "P d"],
    other: Real[ArrayLike, "R d"] | None = None,
    *,
    depth: int,
    activation: str | tuple | Activation = "relu",
    weight_variance: Real[ArrayLike, ""] = 2.0,
    bias_variance: Real[ArrayLike, ""] = 0.0,
    parametrisation: str = "ntk",
    width: int = 1,
    residual: Real[ArrayLike, ""] | None = None,
    layer_norm: bool = False,
    block: int = 128,
    devices: Sequence[Any] | None = None,
) -> Kernels:
    """NNGP and neural tangent kernel between inputs.

    K^1 = s_w x.x'/d + s_b,   K^{l+1} = s_w E[phi(u) phi(v)] + s_b,   (u, v) ~ N(0, K^l)
    Theta^1 = K^1,            Theta^{l+1} = K^{l+1} + s_w Theta^l E[phi'(u) phi'(v)]

    Arguments:
        x: inputs in rows, (P, d).
        other: a second set, (R, d); x itself if not given: then the upper half is computed and mirrored.
        depth: number of hidden layers, >= 0; up to 10^4 and more.
        activation: a name ("relu", "erf", ...), a name with parameters ("leaky_relu", 0.1), or an `Activation`.
        weight_variance: s_w > 0, variance of a weight times its fan-in; bias_variance: s_b >= 0.
        parametrisation: what is trained, at unit rate. "ntk": standard normal numbers, multiplied by sqrt(s_w / fan-in)
            and sqrt(s_b). "standard": weights and biases themselves, hidden layers of `width`. "mup": maximal update,
            whose layers have rates of their own; its output is 0 at the start, and so is its NNGP kernel. Biases are
            there, and trained, unless `bias_variance` is the number 0.
        width: of the hidden layers, for "standard" alone: its tangent kernel grows with it.
        residual: strength alpha of residual blocks h + alpha (W phi(h) + b) between hidden layers; none if not given.
        layer_norm: normalise pre-activations to mean zero and variance one before each activation.
        block: rows and columns computed at a time: memory beyond the result is a few matrices of that size.
        devices: compute blocks on all of these and gather the matrix in the host's memory; on one device if not given.
    Returns:
        `Kernels(nngp, ntk)`, each (P, R): the kernel of each output; outputs are independent. `ntk` is None for an
        activation that jumps. Errors are a few roundings of sqrt(K(x,x) K(x',x')), for ReLU and its family
        at any pair: duplicates, nearly coincident and opposite inputs, zero vectors, norms from 1e-8 to 1e8.
    Holds when: all hidden layers are infinitely wide.
    Source: Jacot, Gabriel & Hongler 2018 (arXiv:1806.07572), theorem 1; Lee et al. 2019 (arXiv:1902.06720), section 2
        and appendix E; residual blocks and LayerNorm: Novak et al. 2020 (arXiv:1912.02803); mup: Yang & Hu 2021
        (arXiv:2011.14522).
    """
    net, variances = _network(
        depth, activation, weight_variance, bias_variance, parametrisation, width, residual, layer_norm
    )
    x = matrix("x", x)
    block = whole("block", block)
    if other is not None:
        other = matrix("other", other, columns=x.shape[1]).astype(x.dtype)
    if devices is not None:
        return _on_devices(x, other, variances, net, block, list(devices))
    return _matrix(x, other, variances, net, block)


def kernel_diagonal(x: Real[ArrayLike, "P d"], **network) -> Kernels:
    """K(x, x) and Theta(x, x) of each input, without the matrix between them.

    Arguments:
        x: inputs in rows, (P, d).
        network: depth, activation, weight_variance, ... as for `kernels`.
    Returns:
        `Kernels(nngp, ntk)`, each (P,).
    Holds when: as for `kernels`.
    Source: as for `kernels`.
    """
    net, variances = _network(**network)
    x = matrix("x", x)
    q = polar(x).length ** 2
    return _propagated(Pair(q, q, *_constants(q, 1.0, 0.0, 1.0)), variances, net, x.shape[1])


def kernels_of_cosine(t: Real[ArrayLike, "*n"], **network) -> Kernels:
    """The kernels as functions of the cosine between inputs of squared norm d: zonal kernels on the sphere.

    Arguments:
        t: cosine, -1 <= t <= 1, any shape.
        network: depth, activation, weight_variance, ... as for `kernels`.
    Returns:
        `Kernels(nngp, ntk)` of the shape of t.
    Holds when: as for `kernels`; |x|^2 = d, so that K^1 = s_w t + s_b.
    Source: as for `kernels`.
    """
    net, variances = _network(**network)
    if net.parametrisation != "ntk":
        raise ValueError(f"parametrisation must be 'ntk' where the dimension is not given, got {net.parametrisation!r}")
    t = within("t", t, -1.0, 1.0)
    one = jnp.ones_like(t)
    return _propagated(Pair(one, one, t, (1 - t) / 2, (1 + t) / 2), variances, net, 1)


def _network(
    depth,
    activation="relu",
    weight_variance=2.0,
    bias_variance=0.0,
    parametrisation="ntk",
    width=1,
    residual=None,
    layer_norm=False,
) -> tuple[Architecture, Variances]:
    if parametrisation not in PARAMETRISATIONS:
        raise ValueError(f"parametrisation must be one of {', '.join(PARAMETRISATIONS)}, got {parametrisation!r}")
    weight = non_negative("weight_variance", weight_variance)
    bias = non_negative("bias_variance", bias_variance)
    for name, value in (("weight_variance", weight), ("bias_variance", bias)):
        if value.ndim:
            raise ValueError(f"{name} must be one number for all layers, got shape {value.shape}")
    # A bias that is known to be zero is left out of the program; one that is differentiated is not known.
    biased = not (isinstance(bias_variance, int | float) and bias_variance == 0)
    strength = real("residual", 0.0 if residual is None else residual)
    net = Architecture(
        whole("depth", depth, at_least=0),
        activations.activation(activation),
        parametrisation,
        whole("width", width),
        biased,
        residual is not None,
        bool(layer_norm),
    )
    return net, Variances(weight, bias, strength)


@partial(jax.jit, static_argnames="net")
def _propagated(first: Pair, variances: Variances, net: Architecture, dimension) -> Kernels:
    """Both kernels of `depth` hidden layers, from pairs of inputs: their squared norms and angle."""
    w, b, alpha = (v.astype(first.h.dtype) for v in variances)

    def dense(inputs, tangent, slope, fan_in):
        """One layer's kernels: `inputs` is what enters it, `tangent` the kernel of what lies below."""
        out = scaled(inputs, w)
        if net.biased:
            out = add(out, Pair(b, b, *_constants(first.h, 1.0, 0.0, 1.0)))
        own = out.covariance
        if net.parametrisation != "ntk":
            own = fan_in * inputs.covariance + net.biased
        return out, own if tangent is None else own + w * tangent * slope

    def hidden(k, theta):
        if net.layer_norm:
            size = k.size
            theta = None if theta is None else theta / jnp.where(size > 0, size, 1)
            k = k._replace(q1=jnp.where(k.q1 > 0, 1, k.q1), q2=jnp.where(k.q2 > 0, 1, k.q2))
        slope = None if theta is None else net.activation.derivative(k)
        return net.activation.dual(k), theta, slope

    def layer(_, state):
        k, theta = state
        inner, below, slope = hidden(k, theta)
        k_next, theta_next = dense(inner, below, slope, fan_in)
        if theta is None:
            theta_next = None
        if net.residual:
            k_next = add(k, scaled(k_next, alpha**2))
            theta_next = None if theta is None else theta + alpha**2 * theta_next
        return Pair(*(jnp.broadcast_to(n, o.shape).astype(o.dtype) for n, o in zip(k_next, k, strict=True))), theta_next

    # "ntk" divides by the fan-in, and the readout of "mup" by its square: rates then make up for all but this.
    fan_in = net.width if net.parametrisation == "standard" else 1
    trained = _trained(net)
    per_input = scaled(first, 1 / dimension)
    k, theta = dense(per_input, None, None, dimension)
    state = (k, theta if trained else None)
    if net.depth:
        # A loop even for few layers: XLA fuses layers written out into one program that is slower, and slow to compile.
        if net.depth > 1:
            state = jax.lax.fori_loop(1, net.depth, layer, state)
        inner, below, slope = hidden(*state)
        k, theta = dense(inner, below, slope, fan_in)
    nngp = k.covariance if net.parametrisation != "mup" else jnp.zeros_like(k.covariance)
    return Kernels(nngp, theta if trained else None)


def _constants(like, *values):
    return tuple(jnp.full_like(like, value) for value in values)


def _block(x, other, variances, net: Architecture, same=False) -> Kernels:
    itself = same & jnp.eye(len(x.x), len(other.x), dtype=bool)
    pairs = pairs_of_inputs(x, other, itself)
    return _propagated(pairs, variances, net, x.x.shape[1])


@partial(jax.jit, static_argnames=("net", "block"))
def _matrix(x, other, variances, net: Architecture, block: int) -> Kernels:
    """All pairs, a block at a time; of one set with itself (`other` None) the upper half, and its mirror image."""
    same = other is None
    rows, columns, places, first, second = _grid(x, other, block)
    places = jnp.asarray(places)

    def fill(k, found):
        i, j = places[k]
        parts = _block(_slice(first, i, rows), _slice(second, j, columns), variances, net, same & (i == j))
        return jax.tree.map(
            lambda k, part: jax.lax.dynamic_update_slice(k, part, (i * rows, j * columns)), found, parts
        )

    def mirror(k, found):
        """In a loop of its own (of more than one turn): else an entry is computed twice, and rounded differently."""
        i, j = places[k]

        def copy(whole):
            part = jax.lax.dynamic_slice(whole, (i * rows, j * rows), (rows, rows))
            upper = (i == j) & ~jnp.tri(rows, k=-1, dtype=bool)
            return jax.lax.dynamic_update_slice(whole, jnp.where(upper, part, part.T), (j * rows, i * rows))

        return jax.tree.map(copy, found)

    empty = jnp.zeros((len(first.x), len(second.x)), x.dtype)
    found = jax.lax.fori_loop(0, len(places), fill, Kernels(empty, empty if _trained(net) else None))
    if same:
        found = jax.lax.fori_loop(0, len(places), mirror, found)
    return jax.tree.map(lambda k: k[: x.shape[0], : (x if same else other).shape[0]], found)


def _on_devices(x, other, variances, net: Architecture, block: int, devices) -> Kernels:
    """The same blocks, dealt out to devices and put together in the host's memory."""
    same = other is None
    rows, columns, places, first, second = _grid(x, other, block)
    mesh = Mesh(np.array(devices), ("devices",))
    # Every device gets equally many; the last ones repeat the first block.
    dealt = places + places[:1] * (-len(places) % len(devices))
    program = _dealt_blocks(mesh, net, rows, columns, same)
    blocks = jax.device_get(program(jnp.asarray(dealt), first, second, variances))
    found = [np.zeros((len(first.x), len(second.x)), x.dtype) for _ in range(1 + _trained(net))]
    for entries, parts in zip(found, blocks, strict=False):
        for (i, j), part in zip(places, parts, strict=False):
            entries[i * rows : (i + 1) * rows, j * columns : (j + 1) * columns] = part
            if same:
                mirrored = part.T if i != j else np.triu(part) + np.triu(part, 1).T
                entries[j * rows : (j + 1) * rows, i * rows : (i + 1) * rows] = mirrored
    kept = [jnp.asarray(entries[: len(x), : len(x if same else other)]) for entries in found]
    return Kernels(kept[0], kept[1] if _trained(net) else None)


@lru_cache(maxsize=32)
def _dealt_blocks(mesh, net: Architecture, rows: int, columns: int, same: bool):
    """A compiled program: blocks at (block row, block column), shared out along the mesh."""

    def one(place, x, other, variances):
        first, second = _slice(x, place[0], rows), _slice(other, place[1], columns)
        return _block(first, second, variances, net, same & (place[0] == place[1]))

    def mine(places, x, other, variances):
        return jax.lax.map(lambda place: one(place, x, other, variances), places)

    spread, everywhere = PartitionSpec("devices"), PartitionSpec()
    return jax.jit(
        jax.shard_map(
            mine, mesh=mesh, in_specs=(spread, everywhere, everywhere, everywhere), out_specs=spread, check_vma=False
        )
    )


def _grid(x, other, block: int) -> tuple[int, int, list[tuple[int, int]], Inputs, Inputs]:
    """Rows and columns of a block, all blocks' places in the grid, and the inputs, padded to fill it.

    Without `other` the places are those of the upper half, of a grid of at least two by two.
    """
    same = other is None
    padded, shape = [], []
    for z in (x,) if same else (x, other):
        blocks = max(1 + same, math.ceil(len(z) / block))
        # As equal as can be, so that little is padded.
        size = math.ceil(len(z) / blocks)
        padded.append(polar(jnp.pad(z, ((0, blocks * size - len(z)), (0, 0)))))
        shape.append((blocks, size))
    (down, rows), (across, columns) = shape[0], shape[-1]
    places = [(i, j) for i in range(down) for j in range(i if same else 0, across)]
    return rows, columns, places, padded[0], padded[-1]


def _slice(inputs: Inputs, block, rows: int) -> Inputs:
    return jax.tree.map(lambda z: jax.lax.dynamic_slice_in_dim(z, block * rows, rows), inputs)


def _trained(net: Architecture) -> bool:
    return net.depth == 0 or net.activation.derivative is not None
