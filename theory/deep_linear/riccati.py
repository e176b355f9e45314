"""The matrix Riccati flow dP/dt = F P + P F - P^2 behind balanced two-layer networks, exact at any time.

Fukumizu (1998) solved it in closed form, P(t) = e^{Ft} Q0^T [I + Q0 J(t) Q0^T]^{-1} Q0 e^{Ft}. Evaluated as written,
that form loses its digits without a word from 2 mu_max t = 20 on: a late mode drowns in the rounding of an early one.
Here each mode keeps its own exponent, and the hidden directions are sorted by how loud they are at time t.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int

from theory.deep_linear.modes import decay_integral


class Generator(NamedTuple):
    """A family of symmetric matrices F: `matrix(parameters)` is F, `spectrum(parameters)` its (mu, O), F = O mu O^T."""

    matrix: Callable[[Any], Float[Array, "n n"]]
    spectrum: Callable[[Any], tuple[Float[Array, " n"], Float[Array, "n n"]]]


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
@functools.partial(jax.jit, static_argnums=0)
def riccati_factor(
    generator: Generator | tuple, parameters: Any, t: Float[ArrayLike, "*T"], q0: Float[ArrayLike, "h n"]
) -> tuple[Float[Array, "*T r n"], Float[Array, "h r"]]:
    """Z and H with Z^T Z = P(t), where dP/dt = F P + P F - P^2 and P(0) = q0^T q0.

    Arguments:
        generator, parameters: F = matrix(parameters), symmetric (n, n), of a `Generator` (matrix, spectrum).
        t: one time, or a vector of increasing times, >= 0.
        q0: a factor of P(0); for a network [W1, W2^T], one row per hidden unit.
    Returns:
        Z: a factor of P(t), shape (*T, r, n) with r = min(n, h).
        H: orthonormal columns (zero where q0 lacks rank). H Z solves dQ/dt = Q F - Q Q^T Q / 2, Q(0) = q0, up to a
            rotation of the hidden space, which is the identity at t = 0 and for h = 1.
    Holds when: first derivatives are asked for; second ones are finite only if no eigenvalue of F repeats. What
        is below n ulp of the largest mode of q0 counts as zero: a start on a saddle stays there.
    Source: Fukumizu 1998, "Effect of batch learning in multilayer neural networks".
    """
    _, spectrum = generator
    mu, frame = spectrum(parameters)
    start = audible(q0 @ frame)
    if jnp.ndim(t) == 0:
        z, _, hidden = evolved(t, mu, start)
        return z @ frame.T, hidden
    start, hidden = hidden_frame(start)
    gaps = jnp.diff(t, prepend=0)
    # A step this short amplifies rounding by no more than eps^(-0.44): two directions cannot drown each other in it.
    short = gaps * jnp.max(mu) <= -0.11 * np.log(jnp.finfo(mu.dtype).eps)
    moments = short, gaps, jnp.exp(gaps[:, None] * mu), decay_integral(-2 * mu, gaps[:, None])

    def march(step):
        def one(z, moment):
            z = step(z, mu, *moment)
            return z, z

        return lambda: jax.lax.scan(one, start, moments)[1]

    # All times leave the eigenbasis in one product: faster than one by one.
    return jax.lax.cond(jnp.all(short), march(short_step), march(any_step)) @ frame.T, hidden


def short_step(z, mu, short, gap, growth, integral) -> Float[Array, "r n"]:
    """The textbook form in the eigenbasis, for a gap within which no digits are lost."""
    inner = jnp.eye(z.shape[0], dtype=z.dtype) + (z * integral) @ z.T
    root = jax.lax.linalg.cholesky(inner, symmetrize_input=False)
    return jax.lax.linalg.triangular_solve(root, z * growth, left_side=True, lower=True)


def any_step(z, mu, short, gap, growth, integral) -> Float[Array, "r n"]:
    """The step over a gap of any length."""

    def leap():
        y, _, hidden = evolved(gap, mu, z)
        return hidden @ y

    return jax.lax.cond(short, lambda: short_step(z, mu, short, gap, growth, integral), leap)


def evolved(
    t: Float[Array, ""], mu: Float[Array, " n"], q: Float[Array, "h n"]
) -> tuple[Float[Array, "r n"], Float[Array, "r n"], Float[Array, "h r"]]:
    """Z, Y and H at one time, from q = H Z at t = 0, in the eigenbasis: Z = Y exp(min(mu, 0) t).

    Mode i of q e^{Ft} grows as exp(mu_i t). Directions of the hidden space are taken loudest mode first, so that
    entry (k, i) is at most of order one once divided by the strength of the k-th direction, with which it saturates.
    """
    # mu = rising + falling; at mu = 0 all three take the derivative of the rising side, as they must together.
    grows = mu >= 0
    rising, falling = jnp.where(grows, mu, 0), jnp.where(grows, 0, mu)
    # int_0^t exp(2 mu r) dr = exp(2 rising t) width
    width = decay_integral(2 * (rising - falling), t)
    loudness = rising * t + 0.5 * jnp.log(jnp.maximum(width, jnp.finfo(width.dtype).tiny))
    upper, pivots, heads, hidden = graded(q, loudness)
    lead = jnp.where(heads > 0, rising[pivots], 0)
    start = jnp.exp(-lead * t)
    strength = jnp.sqrt(start**2 + width[pivots] * heads**2)
    # A mode that still outgrows the pivot at this exponent has no entry left in the pivot's direction.
    exponent = jnp.minimum((rising - lead[:, None]) * t, 0.4 * np.log(jnp.finfo(mu.dtype).max))
    y = upper * jnp.exp(exponent) / strength[:, None]
    inner = jnp.diag((start / strength) ** 2) + (y * width) @ y.T
    y = jax.scipy.linalg.solve_triangular(jnp.linalg.cholesky(inner), y, lower=True)
    return y * jnp.exp(falling * t), y, hidden


def graded(
    q: Float[Array, "h n"], loudness: Float[Array, " n"]
) -> tuple[Float[Array, "r n"], Int[Array, " r"], Float[Array, " r"], Float[Array, "h r"]]:
    """q = H R with orthonormal columns of H, by Gram-Schmidt on the columns of q, the loudest of q e^loudness first.

    Returns R, the mode taken in each round, its entry of R on that round, and H. Modes below n ulp of the largest
    are not taken: they are rounding.
    """
    h, n = q.shape
    rounds = min(n, h)
    floor = noise_floor(q)

    def take(k, state):
        rest, upper, pivots, heads, hidden = state
        left = jnp.sum(rest**2, axis=0)
        heard = left > floor
        p = jnp.argmax(jnp.where(heard, loudness + 0.5 * jnp.log(jnp.where(heard, left, 1)), -jnp.inf))
        head = jnp.sqrt(jnp.where(heard[p], left[p], 1))
        direction = jnp.where(heard[p], rest[:, p] / head, 0)
        row = direction @ rest
        # The taken mode is spent; what rounding leaves of it must not be taken again.
        rest = jnp.where(jnp.arange(n) == p, 0, rest - direction[:, None] * row)
        return (
            rest,
            upper.at[k].set(row),
            pivots.at[k].set(p.astype(pivots.dtype)),
            heads.at[k].set(jnp.where(heard[p], head, 0)),
            hidden.at[k].set(direction),
        )

    empty = jnp.zeros((rounds, n), q.dtype), jnp.zeros(rounds, jnp.int32), jnp.zeros(rounds, q.dtype)
    state = jax.lax.fori_loop(0, rounds, take, (q, *empty, jnp.zeros((rounds, h), q.dtype)))
    _, upper, pivots, heads, hidden = state
    return upper, pivots, heads, hidden.T


def hidden_frame(q: Float[Array, "h n"]) -> tuple[Float[Array, "r n"], Float[Array, "h r"]]:
    """q = H R, for a start: what q0 does not reach stays exactly zero in R."""
    upper, _, _, hidden = graded(q, jnp.zeros(q.shape[1], q.dtype))
    return upper, hidden


def audible(q: Float[Array, "h n"]) -> Float[Array, "h n"]:
    """q with the modes that are only rounding set to zero."""
    return jnp.where(jnp.sum(q**2, axis=0) > noise_floor(q), q, 0)


def noise_floor(q: Float[Array, "h n"]) -> Float[Array, ""]:
    """The squared length below which a mode of q is rounding: n ulp of the largest one."""
    return (q.shape[1] * jnp.finfo(q.dtype).eps) ** 2 * jnp.max(jnp.sum(q**2, axis=0))


@riccati_factor.defjvp
@functools.partial(jax.jit, static_argnums=0)
def _factor_tangent(generator, primals, tangents):
    """How the factor moves with F, t and q0, without the derivative of an eigenvector where eigenvalues meet."""
    (parameters, t, q0), (d_parameters, dt, dq0) = primals, tangents
    mu, frame, d_matrix = _turned(generator, parameters, d_parameters)
    start, d_start = audible(q0 @ frame), dq0 @ frame

    def at(t, dt):
        return _evolved_tangent(t, dt, mu, d_matrix, start, d_start)

    if jnp.ndim(t) == 0:
        z, dz, hidden = at(t, dt)
    else:
        z, dz, columns = jax.vmap(at)(t, dt)
        _, hidden = hidden_frame(start)
        # Every time sorts its own hidden directions; all are told in those of the start.
        turn = hidden.T @ columns
        z, dz = turn @ z, turn @ dz
    return (z @ frame.T, hidden), (dz @ frame.T, jnp.zeros_like(hidden))


def _turned(generator, parameters, d_parameters):
    """The spectrum of F, its frame, and dF in that frame."""
    matrix, spectrum = generator
    mu, frame = spectrum(parameters)
    _, d_matrix = jax.jvp(matrix, (parameters,), (d_parameters,))
    return mu, frame, frame.T @ d_matrix @ frame


def _evolved_tangent(t, dt, mu, d_matrix, q, dq):
    """Z, its tangent, and H, in the eigenbasis, at one time.

    The frame of F is turned only within pairs of eigenvalues that the time t tells apart. What remains of dF couples
    pairs with |mu_i - mu_j| t <= 1/2, where the divided differences of the exponential are smooth.
    """
    gap = mu[:, None] - mu
    near = jnp.abs(gap) * t <= 0.5
    turn = jnp.where(near, 0, d_matrix / jnp.where(near, 1, gap))
    coupling = jnp.where(near, d_matrix, 0) * (1 - jnp.eye(len(mu), dtype=mu.dtype))
    leak = coupling * decay_integral(jnp.where(near, -gap, 0), t)
    (z, y, hidden), (dz, *_) = jax.jvp(
        functools.partial(evolved, t), (mu, q), (jnp.diagonal(d_matrix), dq + q @ (leak - turn))
    )
    saturation = coupling * _width_difference(mu, t, near)
    dz = dz - 0.5 * (y @ saturation @ y.T) @ z + z @ turn
    return z, dz + dt * (z * mu - 0.5 * (z @ z.T) @ z), hidden


def _width_difference(mu, t, near) -> Float[Array, "n n"]:
    """exp((m_i + m_j) t) (w(mu_i) - w(mu_j)) / (mu_i - mu_j), w(mu) = int_0^t exp(-2 mu r) dr, m = min(mu, 0).

    For near pairs, where w' is smooth between mu_i and mu_j and six Gauss nodes carry its mean to 1e-15.
    """
    nodes, weights = np.polynomial.legendre.leggauss(6)
    nodes, weights = jnp.asarray((nodes + 1) / 2, mu.dtype), jnp.asarray(weights / 2, mu.dtype)
    other = jnp.where(near, mu, mu[:, None])
    between = mu[:, None, None] + (other - mu[:, None])[..., None] * nodes
    falling = jnp.minimum(mu, 0)
    falling = falling[:, None, None] + jnp.minimum(other, 0)[..., None]
    # w'(mu) = -2 int r exp(-2 mu r) dr; for mu < 0 told from the far end, where the integrand is largest.
    rate = 2 * jnp.abs(between)
    total, slope = jax.jvp(lambda rate: decay_integral(rate, t), (rate,), (jnp.ones_like(rate),))
    mean_time = jnp.where(between > 0, -slope, t * total + slope)
    shift = jnp.exp((falling - 2 * jnp.minimum(between, 0)) * t)
    return -2 * jnp.sum(weights * shift * mean_time, axis=-1)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
@functools.partial(jax.jit, static_argnums=0)
def riccati_limit(generator: Generator | tuple, parameters: Any, q0: Float[ArrayLike, "h n"]) -> Float[Array, "r n"]:
    """A factor of P(t -> infinity) = sum of 2 mu o o^T over the top positive eigenpairs that q0 reaches.

    Where the hidden space cannot hold all of a repeated eigenvalue, q0 decides which part of it is held.

    Arguments: as for `riccati_factor`.
    Returns:
        Z with Z^T Z = P(infinity), shape (r, n).
    Holds when: eigenvalues that differ do so by more than n ulp of the largest.
    """
    _, spectrum = generator
    mu, frame = spectrum(parameters)
    return _limit(merged(mu), audible(q0 @ frame)) @ frame.T


@riccati_limit.defjvp
@functools.partial(jax.jit, static_argnums=0)
def _limit_tangent(generator, primals, tangents):
    """Distinct eigenvalues turn the frame; within a repeated one, 2 mu Pi moves by 2 Pi dF Pi."""
    (parameters, q0), (d_parameters, dq0) = primals, tangents
    mu, frame, d_matrix = _turned(generator, parameters, d_parameters)
    mu, start = merged(mu), audible(q0 @ frame)
    gap = mu[:, None] - mu
    turn = jnp.where(gap == 0, 0, d_matrix / jnp.where(gap == 0, 1, gap))
    z, dz = jax.jvp(functools.partial(_limit, mu), (start,), (dq0 @ frame - start @ turn,))
    double = jnp.where(mu > 0, 2 * mu, 1)
    stretch = jnp.where(gap == 0, d_matrix, 0) / (double[:, None] * double)
    return z @ frame.T, (dz + z @ turn + (z @ stretch @ z.T) @ z) @ frame.T


def _limit(mu, q):
    forever = jnp.asarray(jnp.finfo(mu.dtype).max ** 0.9, mu.dtype)
    return evolved(forever, mu, q)[0]


def merged(mu: Float[Array, " n"]) -> Float[Array, " n"]:
    """`mu` with eigenvalues that agree up to rounding made equal."""
    order = jnp.argsort(mu)
    ascending = mu[order]
    close = 4 * len(mu) * jnp.finfo(mu.dtype).eps * jnp.max(jnp.abs(mu))
    group = jnp.cumsum(jnp.diff(ascending, prepend=ascending[:1]) > close)
    total = jax.ops.segment_sum(ascending, group, len(mu))
    members = jax.ops.segment_sum(jnp.ones_like(mu), group, len(mu))
    return jnp.zeros_like(mu).at[order].set((total / jnp.maximum(members, 1))[group])
