"""Gated deep linear networks: pathways through shared layers race, and shared ones win.

Gates switch linear pathways on and off from example to example; a layer in which many pathways meet learns from all
of them (Saxe, Sodhani & Lewallen 2022, arXiv:2207.10430). From aligned weights each mode of a pathway is a product
of layer strengths that grow together, each at a rate of its own; here it is solved by one quadrature.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float, Real

from theory.checks import matrix, non_negative, positive, real, require, within
from theory.clock import SETTLED, differentiable, elapsed, when
from theory.flow import flow, times


class Domains(NamedTuple):
    """Strengths of one mode in the routing network: (T, M) into, (T,) through, and (T, M) out of the shared layer."""

    into: Float[Array, "T M"]
    shared: Float[Array, " T"]
    out: Float[Array, "T M"]


def pathway_strengths(
    t: Real[ArrayLike, "*time"],
    s: Real[ArrayLike, ""],
    b0: Real[ArrayLike, " N"],
    rates: Real[ArrayLike, " N"],
) -> Float[Array, "*time N"]:
    """Layer strengths of one mode of a pathway whose layers learn at different rates.

    db_l/dt = c_l prod_{m != l} b_m (s - prod_m b_m);   b_l^2 / c_l - b_m^2 / c_m is conserved, which leaves
    dy/dt = u (s - u),   b_l = sqrt(b_l(0)^2 + 2 c_l y),   u = prod_l b_l.

    Arguments:
        t: times, >= 0, of any shape.
        s: strength to learn: singular value of Syx over the eigenvalue of Sxx, > 0.
        b0: start b_l(0) of each layer, > 0, shape (N,). Turning the signs of two layers together changes nothing.
        rates: c_l > 0, shape (N,): how much of the data a layer sees, times the eigenvalue of Sxx.
    Returns:
        shape (*time, N); the product over the last axis is the strength u of the pathway, s as t -> infinity.
    Holds when: the start is aligned with the modes of the data; prod b0 and b0^2 / rates are within 1e-60 s ... 1e60 s.
    Source: Saxe, Sodhani & Lewallen 2022; for equal rates Saxe, McClelland & Ganguli 2013.
    """
    t, s = non_negative("t", t), positive("s", s)
    b0, rates = _layers(b0, rates)
    return _strengths_at(jnp.ravel(t), s, b0, rates).reshape(t.shape + b0.shape)


def pathway_time(
    fraction: Real[ArrayLike, ""],
    s: Real[ArrayLike, ""],
    b0: Real[ArrayLike, " N"],
    rates: Real[ArrayLike, " N"],
) -> Float[Array, ""]:
    """When a pathway has learned a fraction f of its mode.

    t = int_{u(0)}^{f s} dy / (u (s - u)),   u(y) = prod_l sqrt(b_l(0)^2 + 2 c_l y).

    Arguments:
        fraction: f, in (0, 1).
        s, b0, rates: as for `pathway_strengths`.
    Returns:
        t >= 0; 0 if prod b0 >= f s.
    Holds when: as for `pathway_strengths`.
    Source: as for `pathway_strengths`.
    """
    f, s = within("fraction", fraction, 0.0, 1.0), positive("s", s)
    f = require("fraction", f, (f > 0) & (f < 1), "must lie strictly between 0 and 1")
    return _time_to(f, s, *_layers(b0, rates))


def routing_rates(domains: Real[ArrayLike, ""], partners: Real[ArrayLike, ""]) -> Float[Array, "3"]:
    """Rates of the three layers of the routing network: the shared layer learns M times as fast as the others.

    c = (K/M^2, K/M, K/M^2): M input and M output domains, each trained with K partners; the loss is the sum over the
    M K trained pairs, divided by M^2.

    Arguments:
        domains: M, >= 1.
        partners: K, from 1 to M.
    Returns:
        shape (3,), for `pathway_strengths`: into, through and out of the shared hidden layer. With the loss averaged
        over the trained pairs all are M/K times as large: (1/M, 1, 1/M).
    Holds when: all domains start alike (`routing_domains` does without), with inputs Sxx = I.
    Source: Saxe, Sodhani & Lewallen 2022 (the routing task).
    """
    m, k = _routing(domains, partners)
    return jnp.stack([k / m**2, k / m, k / m**2])


def routing_strengths(
    t: Real[ArrayLike, "*time"],
    s: Real[ArrayLike, ""],
    b0: Real[ArrayLike, "*layers"],
    domains: Real[ArrayLike, ""],
    partners: Real[ArrayLike, ""],
) -> Float[Array, "*time 3"]:
    """Layer strengths of one mode of the routing network, the same in every domain.

    b1' = (K/M^2) b2 b3 (s - b1 b2 b3),  b2' = (K/M) b1 b3 (...),  b3' = (K/M^2) b1 b2 (...);  b2^2 - M b1^2 and
    b1^2 - b3^2 are conserved.

    Arguments:
        t, s: as for `pathway_strengths`.
        b0: start of the layers, > 0: one number, or shape (3,).
        domains, partners: as for `routing_rates`.
    Returns:
        shape (*time, 3): b1 into, b2 through and b3 out of the shared layer. Their product is the strength of every
        pair of domains, trained or not: zero-shot routing.
    Holds when: as for `pathway_strengths` and `routing_rates`.
    Source: Saxe, Sodhani & Lewallen 2022 (the routing task).
    """
    b0 = positive("b0", b0)
    if b0.shape not in ((), (3,)):
        raise ValueError(f"b0 must be one number or of shape (3,), got shape {b0.shape}")
    return pathway_strengths(t, s, jnp.broadcast_to(b0, (3,)), routing_rates(domains, partners))


def routing_plateau(
    s: Real[ArrayLike, ""],
    b0: Real[ArrayLike, ""],
    domains: Real[ArrayLike, ""],
    partners: Real[ArrayLike, ""],
) -> Float[Array, ""]:
    """Leading time that the routing network takes to learn a mode from a small start.

    t = (M^2 / (K s b0)) arctan(sqrt(M - 1)) / sqrt(M - 1), from dt = M^2 db2 / (K s (b2^2 + (M - 1) b0^2)).

    The first factor is what it would take if every layer learned at the rate K/M^2 of the outer ones: sharing
    shortens the plateau by sqrt(M - 1) / arctan(sqrt(M - 1)), (2/pi) sqrt(M) for many domains.

    Arguments: as for `routing_strengths`, with the same start b0 in all layers.
    Returns:
        t, a scalar.
    Holds when: b0 << s^(1/3): the corrections are smaller by b0 / s^(1/3), up to logarithms.
    Source: derived from the routing equations of Saxe, Sodhani & Lewallen 2022.
    """
    s, b0 = positive("s", s), positive("b0", b0)
    m, k = _routing(domains, partners)
    z = m - 1
    small = z < 1e-3
    root = jnp.sqrt(jnp.where(small, 1.0, z))
    series = 1 - z * (1 / 3 - z * (1 / 5 - z * (1 / 7 - z / 9)))
    return m**2 / (k * s * b0) * jnp.where(small, series, jnp.arctan(root) / root)


def routing_domains(
    t: Real[ArrayLike, " T"],
    s: Real[ArrayLike, ""],
    into: Real[ArrayLike, " M"],
    shared: Real[ArrayLike, ""],
    out: Real[ArrayLike, " M"],
    trained: Real[ArrayLike, "M M"],
) -> Domains:
    """Strengths of one mode of the routing network whose domains start differently or have different partners.

    M^2 da_i/dt = sum_o c_o b e_oi,  M^2 db/dt = sum_oi c_o a_i e_oi,  M^2 dc_o/dt = sum_i a_i b e_oi,
    e_oi = g_oi (s - c_o b a_i).

    Arguments:
        t: times, increasing, >= 0, shape (T,).
        s: strength to learn, > 0.
        into, shared, out: starts of a, b and c, of any sign.
        trained: g_oi, the weight of the pair of output o (rows) and input i (columns): 1 if trained, else 0.
    Returns:
        `Domains`; the strength of a pair is out_o shared into_i.
    Holds when: the start is aligned; times are not many orders of magnitude beyond the learning time; float32 cannot
        carry the integrator's tolerances.
    Source: Saxe, Sodhani & Lewallen 2022 (the routing task).
    """
    s, a, b, c = positive("s", s), real("into", into), real("shared", shared), real("out", out)
    g = matrix("trained", trained, rows=c.size, columns=a.size)
    g = require("trained", g, g >= 0, "must be non-negative") / a.size**2
    if a.shape != c.shape or a.ndim != 1 or b.ndim:
        raise ValueError(
            f"into, shared and out must be of shapes (M,), () and (M,), got {a.shape}, {b.shape}, {c.shape}"
        )
    return _routed(times("t", t), s, g, Domains(a, b, c))


@jax.jit
def _routed(t, s, g, start):
    def field(state):
        a, b, c = state
        error = g * (s - b * c[:, None] * a)
        return Domains(b * (c @ error), c @ error @ a, b * (error @ a))

    return flow(field, t, start, rtol=1e-12, atol=1e-15)


def pathway_velocity(
    weights: Sequence[Real[ArrayLike, "_ _"]],
    pathways: Sequence[Sequence[int]],
    syx: Sequence[Real[ArrayLike, "_ _"]],
    sxx: Mapping[tuple[int, int], Real[ArrayLike, "_ _"]],
) -> tuple[Float[Array, "_ _"], ...]:
    """Gradient flow of any gated deep linear network: every weight learns from all pathways that run through it.

    dW_e/dt = sum over pathways p through e of  (after e)^T [ Syx(p) - sum_q W_q Sxx(q, p) ] (before e)^T.

    Arguments:
        weights: the matrix of each edge of the graph.
        pathways: for each pathway the edges that it takes, from the input up, as indices into `weights`.
        syx: for each pathway <g_p y x_p^T>, the average over examples of gate, target and input.
        sxx: (q, p) -> <g_q g_p x_q x_p^T> for pathways q, p that end at the same output; those left out are zero.
    Returns:
        dW/dt, of the shapes of `weights`.
    Holds when: the loss is half the squared error, averaged over examples, and gates do not learn.
    Source: Saxe, Sodhani & Lewallen 2022 (the gradient flow of the gated deep linear network).
    """
    weights = [matrix("weights", w) for w in weights]
    for path in pathways:
        if not path or any(not 0 <= e < len(weights) for e in path):
            raise ValueError(f"pathways must name edges from 0 to {len(weights) - 1}, got {tuple(path)}")
    if len(syx) != len(pathways):
        raise ValueError(f"syx must hold one matrix for each of the {len(pathways)} pathways, got {len(syx)}")
    return _velocity(weights, pathways, [matrix("syx", m) for m in syx], {k: matrix("sxx", m) for k, m in sxx.items()})


def pathway_flow(
    t: Real[ArrayLike, " T"],
    weights: Sequence[Real[ArrayLike, "_ _"]],
    pathways: Sequence[Sequence[int]],
    syx: Sequence[Real[ArrayLike, "_ _"]],
    sxx: Mapping[tuple[int, int], Real[ArrayLike, "_ _"]],
) -> tuple[Float[Array, "T _ _"], ...]:
    """The weights of any gated deep linear network over time, by integration of `pathway_velocity`.

    Arguments:
        t: times, increasing, >= 0, shape (T,).
        weights: at t = 0; the others as for `pathway_velocity`.
    Returns:
        each weight with a leading axis of T.
    Holds when: as for `pathway_velocity`; times are not many orders of magnitude beyond the learning time; float32
        cannot carry the integrator's tolerances.
    Source: as for `pathway_velocity`.
    """
    pathway_velocity(weights, pathways, syx, sxx)
    syx, sxx = [jnp.asarray(m, float) for m in syx], {k: jnp.asarray(m, float) for k, m in sxx.items()}
    start = tuple(jnp.asarray(w, float) for w in weights)
    return _pathway_flow(times("t", t), start, tuple(tuple(path) for path in pathways), syx, sxx)


@partial(jax.jit, static_argnums=2)
def _pathway_flow(t, start, pathways, syx, sxx):
    return flow(lambda w: _velocity(w, pathways, syx, sxx), t, start, rtol=1e-12, atol=1e-15)


def _velocity(weights, pathways, syx, sxx):
    def product(edges, like):
        for e in edges:
            like = weights[e] @ like
        return like

    maps = [product(path, jnp.eye(weights[path[0]].shape[1])) for path in pathways]
    change = [jnp.zeros_like(w) for w in weights]
    for p, path in enumerate(pathways):
        error = syx[p] - sum(maps[q] @ m for (q, r), m in sxx.items() if r == p)
        for i, e in enumerate(path):
            before = product(path[:i], jnp.eye(weights[path[0]].shape[1]))
            after = product(path[i + 1 :], jnp.eye(weights[e].shape[0]))
            change[e] = change[e] + after.T @ error @ before.T
    return tuple(change)


class _Path(NamedTuple):
    """One mode of a pathway in its layers' common coordinate x = (b_l^2 / c_l - offsets_l)^{1/2}, from its start to
    its end, both told by r: x = end sigmoid(r) on the way up, end (1 + exp(-r)) on the way down."""

    rates: Float[Array, " N"]
    offsets: Float[Array, " N"]
    end: Float[Array, ""]
    end_product: Float[Array, ""]
    start: Float[Array, ""]
    rising: Bool[Array, ""]

    def at(self, r):
        return self.end * jnp.where(self.rising, jax.nn.sigmoid(r), 1 + jnp.exp(-jnp.where(self.rising, 0.0, r)))

    def density(self, r):
        """dt/dr, without a difference that could cancel: f(end) - f(x) = (end^2 - x^2) q / (f(end) + f(x))."""
        x = self.at(r)
        f, q = _product_and_quotient(x, self.end, self.offsets)
        pace = x * (self.end_product + f) / (jnp.prod(self.rates) * f * (self.end + x) * q)
        return pace * jnp.where(self.rising, x / self.end, 1.0)


def _path(s, b0, rates) -> _Path:
    squares = b0**2 / rates
    # Any common reference would do: to derivatives it is a constant.
    reference = jax.lax.stop_gradient(jnp.min(squares))
    offsets, x0 = squares - reference, jnp.sqrt(reference)
    end_product = s / jnp.sqrt(jnp.prod(rates))
    end = _level(end_product, offsets)
    rising = x0 < end
    gap = jnp.where(rising, end / x0, x0 / end) - 1
    gap = jnp.where(gap > 0, gap, gap + jnp.finfo(gap.dtype).eps)
    return _Path(rates, offsets, end, end_product, -jnp.log(gap), rising)


@jax.jit
def _strengths_at(t, s, b0, rates):
    path = _path(s, b0, rates)
    r = when(path.density, path.start, jnp.maximum(path.start, 0.0) + SETTLED, t)
    return jnp.sqrt(rates * (path.at(r)[:, None] ** 2 + path.offsets))


@jax.jit
def _time_to(fraction, s, b0, rates):
    path = _path(s, b0, rates)
    reached = jnp.prod(b0) >= fraction * s
    f = jnp.where(reached, 0.5, fraction)
    x = _level(f * path.end_product, path.offsets)
    _, quotient = _product_and_quotient(x, path.end, path.offsets)
    # end - x without cancellation.
    gap = (1 - f) * (1 + f) * path.end_product**2 / (quotient * (path.end + x))
    end = jnp.log(x / gap)
    return jnp.where(reached, 0.0, elapsed(path.density, jnp.where(reached, end, path.start), end))


def _product_and_quotient(x, end, offsets):
    """f(x) = prod_l sqrt(x^2 + d_l), and (f(end)^2 - f(x)^2) / (end^2 - x^2) as a sum of positive terms."""
    f, quotient, upper = jnp.ones_like(x), jnp.zeros_like(x), jnp.ones_like(x)
    for d in offsets:
        quotient = quotient * (x**2 + d) + upper
        f, upper = f * jnp.sqrt(x**2 + d), upper * (end**2 + d)
    return f, quotient


def _level(product, offsets):
    """x > 0 with prod_l sqrt(x^2 + d_l) = product."""
    n = offsets.size

    def step(log_x):
        squares = jnp.exp(2 * log_x)
        value = jnp.sum(jnp.log(squares + offsets)) / 2 - jnp.log(product)
        return log_x - value / jnp.sum(squares / (squares + offsets))

    # Convex in ln x, with one bend per layer; the start is on the right, so that Newton's steps do not overshoot.
    log_x = jax.lax.fori_loop(0, 10 + 4 * n, lambda _, x: step(x), jnp.log(product) / n)
    return jnp.exp(differentiable(step, log_x))


def _layers(b0, rates):
    b0, rates = positive("b0", b0), positive("rates", rates)
    if b0.ndim != 1 or b0.shape != rates.shape:
        raise ValueError(f"b0 and rates must be of one shape (N,), got {b0.shape} and {rates.shape}")
    return b0, rates


def _routing(domains, partners):
    m, k = positive("domains", domains), positive("partners", partners)
    m = require("domains", m, m >= 1, "must be at least 1")
    return m, require("partners", k, (k >= 1) & (k <= m), "must lie between 1 and the number of domains")
