"""Gradient flows without a closed form, and by how much gradient descent misses its flow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import diffrax
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, PyTree, Real

from theory.checks import floating, non_negative, require


def flow(
    field: Callable[[Any], Any],
    t: Real[ArrayLike, " T"],
    x0: PyTree[Float[ArrayLike, "..."]],
    *,
    rtol: float = 1e-10,
    atol: float = 1e-13,
    max_steps: int = 100_000,
    stiff: bool = False,
) -> PyTree[Float[Array, "..."]]:
    """The solution of dx/dt = field(x), x(0) = x0.

    Arguments:
        field: x -> dx/dt, of the structure of x0; a pure function.
        t: times, increasing, >= 0, shape (T,).
        x0: the start, a pytree of floating arrays.
        rtol, atol: local error of the adaptive integrator: Tsitouras 5(4), or Kvaerno 5(4) if `stiff`.
        max_steps: steps after which the integration is given up, with an error.
        stiff: take implicit steps, for a flow that forgets faster than it moves; dear where x is large.
    Returns:
        x(t), each leaf with a leading axis of T.
    Holds when: the flow is not stiff, or `stiff` is set; float32 cannot carry the default tolerances.
    """
    t = times("t", t)
    x0 = jax.tree.map(jnp.asarray, x0)
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(lambda _, x, __: field(x)),
        diffrax.Kvaerno5() if stiff else diffrax.Tsit5(),
        t0=jnp.zeros_like(t[0]),
        t1=jnp.maximum(t[-1], jnp.finfo(t.dtype).tiny),
        dt0=None,
        y0=x0,
        saveat=diffrax.SaveAt(ts=t),
        stepsize_controller=diffrax.PIDController(rtol=rtol, atol=atol),
        max_steps=max_steps,
    )
    return solution.ys


def descent_error(
    field: Callable[[Any], Any],
    t: Real[ArrayLike, " T"],
    x0: PyTree[Float[ArrayLike, "..."]],
    **options,
) -> tuple[PyTree[Float[Array, "..."]], PyTree[Float[Array, "..."]]]:
    """The flow, and the leading error of gradient descent against it per unit of learning rate.

    x_{k+1} = x_k + lr field(x_k) follows x(lr k) + lr e(lr k) + O(lr^2), where e' = J e - J field / 2 along the
    flow, e(0) = 0, J the Jacobian of the field.

    Arguments: as for `flow`.
    Returns:
        (x(t), e(t)), each leaf with a leading axis of T.
    Holds when: lr times the largest eigenvalue of -J is small against 2.
    Source: backward error analysis of the Euler method (Hairer, Lubich & Wanner 2006, IX.1).
    """

    def joint(state):
        x, e = state
        f = field(x)
        half = jax.tree.map(lambda e, f: e - f / 2, e, f)
        return f, jax.jvp(field, (x,), (half,))[1]

    x0 = jax.tree.map(jnp.asarray, x0)
    return flow(joint, t, (x0, jax.tree.map(jnp.zeros_like, x0)), **options)


def times(name: str, t: Real[ArrayLike, " T"]) -> Float[Array, " T"]:
    """`t` as a floating vector of increasing times from 0 on."""
    t = non_negative(name, t)
    if t.ndim != 1 or not t.size:
        raise ValueError(f"{name} must be a vector of times, got shape {floating(name, t).shape}")
    return require(name, t, jnp.concatenate([jnp.array([True]), jnp.diff(t) > 0]), "must increase")
