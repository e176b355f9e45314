"""Refusals at the public entries: one clear sentence naming the argument and its value.

Each function returns its argument as a floating array, so that an entry reads
`t = non_negative("t", t)`. A concrete value that breaks the rule raises `ValueError` at once; a traced
one (inside `jit`, `vmap`, `grad`) carries the same sentence to run time through `equinox.error_if`.
"""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, Real


def real(name: str, value: Real[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
    """`value` as a floating array; every entry must be finite."""
    x = floating(name, value)
    return require(name, x, jnp.isfinite(x), "must be finite")


def positive(name: str, value: Real[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
    """`value` as a floating array; every entry must be finite and above zero."""
    x = floating(name, value)
    return require(name, x, jnp.isfinite(x) & (x > 0), "must be positive and finite")


def non_negative(name: str, value: Real[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
    """`value` as a floating array; every entry must be finite and at least zero."""
    x = floating(name, value)
    return require(name, x, jnp.isfinite(x) & (x >= 0), "must be non-negative and finite")


def within(name: str, value: Real[ArrayLike, "*shape"], low: float, high: float) -> Float[Array, "*shape"]:
    """`value` as a floating array; every entry must lie in the closed interval [low, high]."""
    x = floating(name, value)
    return require(name, x, (x >= low) & (x <= high), f"must lie between {low:g} and {high:g}")


def whole(name: str, value: int, at_least: int = 1) -> int:
    """`value` as a Python integer not below `at_least`: depths, widths and counts are static."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < at_least:
        raise ValueError(f"{name} must be a whole number of at least {at_least}, got {value!r}")
    return int(value)


def matrix(name: str, value: Real[ArrayLike, "..."], rows=None, columns=None) -> Float[Array, "r c"]:
    """`value` as a finite floating matrix, of the given number of rows and columns where these are given."""
    x = real(name, value)
    wanted = f"({'any' if rows is None else rows}, {'any' if columns is None else columns})"
    fits = x.ndim == 2 and rows in (None, x.shape[0]) and columns in (None, x.shape[1])
    if not fits:
        raise ValueError(f"{name} must be a matrix of shape {wanted}, got shape {x.shape}")
    return x


def floating(name: str, value) -> Float[Array, "..."]:
    """`value` as a floating array of the precision it has, or of the default one if it is not floating."""
    try:
        x = jnp.asarray(value)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be an array of real numbers, got {value!r}") from error
    if jnp.issubdtype(x.dtype, jnp.complexfloating) or x.dtype == bool:
        raise ValueError(f"{name} must be real, got an array of {x.dtype}")
    return x if jnp.issubdtype(x.dtype, jnp.floating) else x.astype(jnp.result_type(float))


def require(name: str, x: Float[Array, "..."], holds: Bool[Array, "..."], must: str) -> Float[Array, "..."]:
    """`x`, or the sentence "`name` `must`, got ..." where `holds` is false anywhere."""
    try:
        fine = np.asarray(holds)
        found = np.asarray(x)
    except jax.errors.TracerArrayConversionError:
        return eqx.error_if(x, ~jnp.all(holds), f"{name} {must}")
    if not fine.all():
        culprit = found[~fine].flat[0] if fine.shape == found.shape else found
        raise ValueError(f"{name} {must}, got {culprit}")
    return x
