"""What an empirical NTK is made of, sample by sample, and the products that make it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sims.probes.ntk_program import evaluated, traced
from sims.probes.ntk_structure import Layer, Scaled, layers


class Factors(NamedTuple):
    """A layer's inputs (N, B, T, I), or tokens (N, T) with their scale (N,), and derivatives (N, C, B, T, O)."""

    inputs: jax.Array
    scale: jax.Array | None
    derivatives: jax.Array


class Features(NamedTuple):
    """What the kernel is made of: Jacobians of some parameters, flattened, (N, C, R), and factors of the others."""

    rows: jax.Array
    factors: tuple[Factors, ...]


def layer_inputs(layer: Layer, known: dict[int, Any]) -> tuple[jax.Array, jax.Array | None]:
    """The inputs of a layer for one sample, (B, T, I) with its biases among them, or tokens (T,) and their scale."""
    parts = []
    for one in layer.entries:
        scale = Scaled(one.z, one.scalars).scale(known)
        if one.tokens:
            return jnp.clip(known[one.inputs].reshape(-1), 0, one.width - 1), scale
        shape = (one.blocks, one.places, one.width)
        a = 1.0 if one.inputs is None else jnp.transpose(known[one.inputs], one.axes).reshape(shape)
        parts.append(jnp.broadcast_to(scale * a, shape))
    return jnp.concatenate(parts, axis=-1), None


def features(
    outputs: Callable[[list[jax.Array], Any], jax.Array], parameters: list[jax.Array], x: Any, structured: bool
) -> Features:
    """Of every sample of `x`: `outputs(parameters, sample)` is (C,); without `structured`, Jacobians alone."""
    one = jax.tree.map(lambda leaf: leaf[0], x)
    program = traced(outputs, parameters, one)
    chosen = layers(program, len(parameters)) if structured else []
    inside = {e.parameter for layer in chosen for e in layer.entries}
    kept = [p for p in range(len(parameters)) if p not in inside]
    entered = {layer.entries[0].z for layer in chosen}
    probes = {z: jnp.zeros(program.shapes[z], program.dtypes[z]) for z in entered}

    def of_sample(sample) -> Features:
        def probed(probes, differentiated):
            now = list(parameters)
            for p, value in zip(kept, differentiated, strict=True):
                now[p] = value
            known = evaluated(program, now + jax.tree.leaves(sample), probes)
            return known[program.result], [layer_inputs(layer, known) for layer in chosen]

        result, pull, inputs = jax.vjp(probed, probes, [parameters[p] for p in kept], has_aux=True)
        derivatives, jacobians = jax.vmap(pull)(jnp.eye(result.size, dtype=result.dtype))
        rows = [j.reshape(result.size, -1) for j in jacobians]
        factors = []
        for layer, (a, scale) in zip(chosen, inputs, strict=True):
            e = layer.entries[0]
            delta = jnp.transpose(derivatives[e.z], (0, *(1 + i for i in e.z_axes)))
            factors.append(Factors(a, scale, delta.reshape(result.size, e.blocks, e.places, e.outputs)))
        rows = jnp.concatenate(rows, 1) if rows else jnp.zeros((result.size, 0), result.dtype)
        return Features(rows, tuple(factors))

    return jax.vmap(of_sample)(x)


def contraction(left: Features, right: Features | None = None) -> Float[Array, "N1 C N2 C"]:
    """The kernel of two sets of features, or of one with itself: Jacobians, and inputs times derivatives by layer."""
    mine, theirs = (one.rows.reshape(math.prod(one.rows.shape[:2]), one.rows.shape[2]) for one in (left, right or left))
    kernel = _gram(mine) if right is None else mine @ theirs.T
    kernel = kernel.reshape(*left.rows.shape[:2], *(right or left).rows.shape[:2])
    for a, b in zip(left.factors, (right or left).factors, strict=True):
        inputs = _input_products(a, b)
        # Axes (B, N1, C, T, N2, C', T').
        outputs = jnp.einsum("icbto,jdbso->bictjds", a.derivatives, b.derivatives)
        kernel += jnp.sum(outputs * inputs[:, :, None, :, :, None, :], axis=(0, 3, 6))
    return kernel


def _gram(rows: Float[Array, "n R"], parts: int = 4) -> Float[Array, "n n"]:
    """rows rows^T, of whose mirrored blocks only one is worked out."""
    size = -(-rows.shape[0] // parts)
    if size < 16:
        return rows @ rows.T
    pieces = [rows[start : start + size] for start in range(0, len(rows), size)]
    products = {(i, j): p @ q.T for i, p in enumerate(pieces) for j, q in enumerate(pieces) if j >= i}
    places = range(len(pieces))
    return jnp.block([[products[i, j] if j >= i else products[j, i].T for j in places] for i in places])


def traced_contraction(left: Features, right: Features) -> Float[Array, "N1 N2"]:
    """The mean of the contraction's diagonal in the outputs."""
    kernel = jnp.tensordot(left.rows, right.rows, ((1, 2), (1, 2)))
    for a, b in zip(left.factors, right.factors, strict=True):
        outputs = jnp.einsum("icbto,jcbso->bitjs", a.derivatives, b.derivatives)
        kernel += jnp.sum(outputs * _input_products(a, b), axis=(0, 2, 4))
    return kernel / left.rows.shape[1]


def _input_products(a: Factors, b: Factors) -> Float[Array, "B N1 T N2 T"]:
    if a.scale is None:
        return jnp.einsum("ibtn,jbsn->bitjs", a.inputs, b.inputs)
    same = a.inputs[:, :, None, None] == b.inputs[None, None]
    return (same * a.scale[:, None, None, None] * b.scale[:, None])[None]
