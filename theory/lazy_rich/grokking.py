"""Grokking without weight decay: a two-layer network that first fits by its kernel, then learns the feature behind it.

A network of N neurons with a fixed readout and a quadratic activation,

    f(x) = (alpha / N) sum_i phi(w_i . x),   phi(h) = h + (epsilon / 2) h^2,

is at every moment the quadratic function f(x) = b . x + x^T A x / 2 with b = alpha <w>, A = alpha epsilon <w w^T>,
averages over neurons. Trained on any data at the rate lr N / alpha^2, these averages close on themselves at any width,
for any finite step: a network of a thousand neurons is D + D(D+1)/2 numbers. Only the richness r = epsilon / alpha
and the start remain of alpha, epsilon and N. With a large alpha the tangent kernel stays what it was (lazy): the
samples are fitted, a feature beta in y = (beta . x)^2 / 2 is not seen unless they are many. At a finite alpha it is
found all the same, long after the samples have been fitted.

Time is lr times steps of the loss (1/2P) sum (f - y)^2. To train f - f(0), add f(0) to y.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Real

from theory.checks import matrix, non_negative, positive, real, require, whole
from theory.flow import flow, times


class Quadratic(NamedTuple):
    """The function f(x) = linear . x + x^T form x / 2 that a network is.

    `linear`  b = alpha <w>, (D,).  `form`  A = alpha epsilon <w w^T>, (D, D), symmetric. Times come first.
    """

    linear: Float[Array, "*times D"]
    form: Float[Array, "*times D D"]


def infinite_width(
    inputs: int, scale: Real[ArrayLike, ""], curvature: Real[ArrayLike, ""], variance: Real[ArrayLike, ""] = 1.0
) -> Quadratic:
    """The start of an infinitely wide network: b = 0, A = alpha epsilon variance.

    Arguments:
        inputs: dimension D, a Python int.
        scale: alpha > 0, the factor on the output; curvature: epsilon >= 0, of the activation.
        variance: of the weights, >= 0.
    Returns:
        the `Quadratic`.
    Holds when: weights are independent, of mean zero and this variance; at width N it fluctuates by 1/sqrt(N).
    Source: Kumar, Bordelon, Gershman & Pehlevan 2024 (arXiv:2310.06110), the polynomial regression model.
    """
    scale, curvature = positive("scale", scale), non_negative("curvature", curvature)
    size = scale * curvature * non_negative("variance", variance)
    d = whole("inputs", inputs)
    return Quadratic(jnp.zeros(d, size.dtype), size * jnp.eye(d, dtype=size.dtype))


def network_start(
    weights: Real[ArrayLike, "N D"], scale: Real[ArrayLike, ""], curvature: Real[ArrayLike, ""]
) -> Quadratic:
    """The function of a network of given weights: b = alpha <w>, A = alpha epsilon <w w^T>.

    Arguments:
        weights: one neuron a row, (N, D).
        scale: alpha > 0; curvature: epsilon >= 0.
    Returns:
        the `Quadratic`; the curves below are then this very network's, at any N.
    Holds when: always.
    Source: a definition.
    """
    w = matrix("weights", weights)
    scale, curvature = positive("scale", scale), non_negative("curvature", curvature)
    return Quadratic(scale * jnp.mean(w, axis=0), scale * curvature * w.T @ w / w.shape[0])


def quadratic_output(network: Quadratic | tuple, x: Real[ArrayLike, "P D"]) -> Float[Array, "*times P"]:
    """f(x) = b . x + x^T A x / 2.

    Arguments:
        network: with or without a leading axis of times; x: points in rows, (P, D).
    Returns:
        f, shape (..., P).
    Holds when: always.
    Source: a definition.
    """
    b, form = _checked_network(network)
    x = matrix("x", x, columns=b.shape[-1])
    return jnp.einsum("pd,...d->...p", x, b) + jnp.einsum("pd,...de,pe->...p", x, form, x) / 2


def quadratic_tangent_kernel(
    network: Quadratic | tuple, x: Real[ArrayLike, "P D"], other: Real[ArrayLike, "R D"], richness: Real[ArrayLike, ""]
) -> Float[Array, "*times P R"]:
    """Neural tangent kernel, in units in which the network learns at the rate lr N / alpha^2.

    K(x, x') = x.x' [1 + r b.(x + x') + r x^T A x'].

    Arguments:
        network: with or without a leading axis of times; x, other: points in rows, (P, D) and (R, D).
        richness: r = epsilon / alpha >= 0.
    Returns:
        K, (..., P, R), positive semi-definite for other = x. At the start of an infinitely wide network it is
        x.x' (1 + epsilon^2 variance x.x'): of a feature (beta.x)^2 / 2 it knows one part in epsilon^2.
    Holds when: always; df/dt = -(1/P) K (f - y) under gradient flow.
    Source: Kumar et al. 2024 (arXiv:2310.06110).
    """
    (b, form), r = _checked_network(network), non_negative("richness", richness)
    x = matrix("x", x, columns=b.shape[-1])
    other = matrix("other", other, columns=b.shape[-1])
    sums = jnp.einsum("pd,...d->...p", x, b)[..., :, None] + jnp.einsum("pd,...d->...p", other, b)[..., None, :]
    forms = jnp.einsum("pd,...de,re->...pr", x, form, other)
    return (x @ other.T) * (1 + r * (sums + forms))


def mean_squared_error(
    network: Quadratic | tuple,
    target: Quadratic | tuple,
    variance: Real[ArrayLike, ""],
    offset: Real[ArrayLike, ""] = 0.0,
) -> Float[Array, "*times"]:
    """E (f - y)^2 over Gaussian inputs: the error of generalisation, in three parts.

    (c + v tr B / 2)^2 + v |b - b*|^2 + v^2 |B|_F^2 / 2,   B = A - A*, c = -offset.

    Arguments:
        network: with or without a leading axis of times.
        target: y = b*.x + x^T A* x / 2 + offset; A* = beta beta^T for the square of one feature.
        variance: v of each coordinate of x, > 0; offset: a constant in the target, such as f(0) is not.
    Returns:
        the error, of the shape of the times. What is left of |B|^2 is misalignment, of tr B the scale.
    Holds when: x ~ N(0, v I).
    Source: Gaussian fourth moments (Isserlis); Kumar et al. 2024 (arXiv:2310.06110), the test loss.
    """
    (b, form), (b_star, form_star) = _checked_network(network), _checked_network(target)
    v, missing = positive("variance", variance), form - form_star
    constant = v * jnp.trace(missing, axis1=-2, axis2=-1) / 2 - real("offset", offset)
    return constant**2 + v * jnp.sum((b - b_star) ** 2, axis=-1) + v**2 * jnp.sum(missing**2, axis=(-2, -1)) / 2


def quadratic_flow(
    t: Real[ArrayLike, " T"],
    x: Real[ArrayLike, "P D"],
    y: Real[ArrayLike, " labels"],
    start: Quadratic | tuple,
    richness: Real[ArrayLike, ""],
) -> Quadratic:
    """Gradient flow of the network on given samples, closed in its mean weight and second moment.

    db/dt = -v - r S b,   dC/dt = -r (S C + C S),   A = C + r b b^T,
    v = (1/P) sum e x,  S = (1/P) sum e x x^T,  e = f - y.

    Arguments:
        t: times, increasing, >= 0, lr times steps, shape (T,).
        x, y: samples in rows (P, D) and their labels (P,).
        start: `infinite_width` or `network_start`.
        richness: r = epsilon / alpha >= 0; 0 leaves the kernel where it is.
    Returns:
        `Quadratic` with a leading axis of T. C changes by congruence: its rank and signs stay, so that a start of
        full rank meets a single feature only as t -> infinity.
    Holds when: full-batch gradient flow at the rate N / alpha^2, any width and any samples.
    Source: derived in derivations/lazy_rich/grokking.py, for the model of Kumar et al. 2024 (arXiv:2310.06110).
    """
    return _flow(times("t", t), *_checked_problem(x, y, start, richness))


def quadratic_descent(
    steps: int,
    x: Real[ArrayLike, "P D"],
    y: Real[ArrayLike, " labels"],
    start: Quadratic | tuple,
    richness: Real[ArrayLike, ""],
    lr: Real[ArrayLike, ""],
    every: int = 1,
) -> Quadratic:
    """The same network under gradient descent with finite steps: an exact recursion.

    b <- U b - lr v,   C <- U C U,   A = C + r b b^T,   U = 1 - lr r S.

    Arguments:
        steps: number of steps, a Python int >= 0; every: steps between two records, a divisor of it.
        x, y, start, richness: as for `quadratic_flow`.
        lr: the step, > 0, in the flow's time; the network's own learning rate is lr N / alpha^2. Above 2 P over the
            largest eigenvalue of the tangent kernel it diverges, and NaN comes back.
    Returns:
        `Quadratic` at steps 0, every, 2 every, ..., with a leading axis of steps / every + 1.
    Holds when: full-batch gradient descent, any step, any width, any samples.
    Source: as for `quadratic_flow`.
    """
    given = _checked_problem(x, y, start, richness)
    lr, every = positive("lr", lr), whole("every", every)
    steps = whole("steps", steps, at_least=0)
    if steps % every:
        raise ValueError(f"every must divide the {steps} steps, got {every}")
    return _descent(*given, lr, steps // every, every)


def first_time_below(
    t: Real[ArrayLike, " T"], error: Real[ArrayLike, "*runs T"], threshold: Real[ArrayLike, ""]
) -> Float[Array, "*runs"]:
    """When a curve first falls below a threshold: the time to fit (training error), to generalise (test error).

    Arguments:
        t: times, increasing, shape (T,); error: curves on these times, >= 0, last axis (T,).
        threshold: > 0.
    Returns:
        the time, by linear interpolation of ln error between records; infinity where it never does.
    Holds when: records are dense enough that ln error is straight between two of them.
    Source: a definition. Grokking is a large ratio of the two times.
    """
    t, error = times("t", t), non_negative("error", error)
    # An error of exactly zero is below any threshold.
    error = jnp.maximum(error, jnp.finfo(error.dtype).tiny)
    gap = jnp.log(error) - jnp.log(positive("threshold", threshold))
    below = gap <= 0
    at = jnp.argmax(below, axis=-1)
    before = jnp.maximum(at - 1, 0)
    high, low = (jnp.take_along_axis(gap, i[..., None], axis=-1)[..., 0] for i in (before, at))
    drop = high - low
    share = jnp.where((at > 0) & (drop > 0), high / jnp.where(drop > 0, drop, 1.0), 0.0)
    found = t[before] + share * (t[at] - t[before])
    return jnp.where(jnp.any(below, axis=-1), found, jnp.inf)


@jax.jit
def _flow(t, x, y, r, b, rest) -> Quadratic:
    def field(state):
        b, rest = state
        v, s = _forces(x, y, r, b, rest)
        turned = s @ rest
        return -v - r * s @ b, -r * (turned + turned.T)

    return _network(r, *flow(field, t, (b, rest)))


@partial(jax.jit, static_argnames=("records", "every"))
def _descent(x, y, r, b, rest, lr, records: int, every: int) -> Quadratic:
    def step(_, state):
        b, rest = state
        v, s = _forces(x, y, r, b, rest)
        u = jnp.eye(len(b), dtype=b.dtype) - lr * r * s
        return u @ b - lr * v, u @ rest @ u

    def record(state, _):
        state = jax.lax.fori_loop(0, every, step, state)
        return state, state

    _, later = jax.lax.scan(record, (b, rest), None, length=records)
    b, rest = (jnp.concatenate([first[None], others]) for first, others in zip((b, rest), later, strict=True))
    return _network(r, b, rest)


def _network(r, b, rest) -> Quadratic:
    return Quadratic(b, rest + r * b[:, :, None] * b[:, None, :])


def _forces(x, y, r, b, rest):
    """v and S of the errors of the network b, A = C + r b b^T."""
    form = rest + r * jnp.outer(b, b)
    wrong = (x @ b + jnp.sum((x @ form) * x, axis=1) / 2 - y) / x.shape[0]
    return x.T @ wrong, (x * wrong[:, None]).T @ x


def _checked_network(network) -> tuple[Array, Array]:
    b, form = (real(name, value) for name, value in zip(("linear", "form"), network, strict=True))
    d = b.shape[-1] if b.ndim else 0
    if form.shape[-2:] != (d, d):
        raise ValueError(f"form must be of shape (..., {d}, {d}) beside linear of shape {b.shape}, got {form.shape}")
    return b, form


def _checked_problem(x, y, start, richness):
    """Samples, labels, richness, b and the part C of A that changes by congruence."""
    b, form = _checked_network(start)
    x, y = matrix("x", x, columns=b.shape[-1]), real("y", y)
    if y.shape != x.shape[:1]:
        raise ValueError(f"y must hold a label for each of {x.shape[0]} samples, got shape {y.shape}")
    r = non_negative("richness", richness)
    require("form", form, jnp.abs(form - form.T) <= 1e-6 * jnp.max(jnp.abs(form)), "must be symmetric")
    return x, y, r, b, form - r * jnp.outer(b, b)
