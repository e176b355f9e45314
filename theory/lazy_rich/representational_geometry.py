"""Representational geometry: do hidden units take after the inputs or after the targets? Tanh against ReLU.

Hidden units of a network f(x) = (1/N) sum_i a_i phi(h_i), h_i = w_i . x, are driven by errors alone. On a task in
which all samples look alike, as with inputs of kernel (1 - rho) 1 + rho y y^T and labels y = +-1, the errors of an
infinitely wide network stay proportional to the labels, and what is left of them is a speed: in the time tau that
counts how much error has been applied, every neuron moves on its own,

    dh_mu/dtau = a (1/P) sum_nu K_{mu nu} y_nu phi'(h_nu),    da/dtau = (1/P) sum_mu y_mu phi(h_mu).

So the representation goes down one path, whatever the loss; the loss decides how far. Squared error stops where f = y.
Logistic loss never does, and far down the path units of tanh saturate and say the label, while units of ReLU keep to
the samples that they were active on and say part of the input. (With a trained readout the units that were active on
most samples outgrow the others, exponentially in tau, so that ReLU too says the label in the end, at margins that no
logistic loss reaches.)
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Real

from theory.checks import matrix, real, require, whole, within
from theory.flow import flow, times

LOSSES = ("logistic", "squared")


class AlikeTask(NamedTuple):
    """Kernel of inputs (P, P) and labels of +-1, (P,), such that all samples look alike."""

    kernel: Float[Array, "P P"]
    labels: Float[Array, " P"]


class GeometryPath(NamedTuple):
    """What a network is at the times tau: `margin` y f (T,), and `features` <phi phi^T> of the samples (T, P, P)."""

    margin: Float[Array, " T"]
    features: Float[Array, "T P P"]


class Alignments(NamedTuple):
    """Centred alignment (CKA) of hidden features with the labels, y y^T, and with the inputs."""

    with_labels: Float[Array, "..."]
    with_inputs: Float[Array, "..."]


def alike_task(samples: int, alignment: Real[ArrayLike, ""]) -> AlikeTask:
    """Task with a tunable alignment of inputs with labels: x_mu = sqrt(1 - rho) e_mu + sqrt(rho) y_mu e_0.

    Arguments:
        samples: P, an even Python int; half of them have the label 1.
        alignment: rho in [0, 1]: 0 for orthonormal inputs, 1 for inputs that are the labels.
    Returns:
        the `AlikeTask`; kernel (1 - rho) 1 + rho y y^T.
    Holds when: always.
    Source: a definition, after the task families of Alleman, Lindsey & Fusi 2024 (arXiv:2401.13558).
    """
    p = whole("samples", samples, at_least=2)
    if p % 2:
        raise ValueError(f"samples must be even, got {p}")
    rho = within("alignment", alignment, 0.0, 1.0)
    y = jnp.concatenate([jnp.ones(p // 2), -jnp.ones(p // 2)])
    return AlikeTask((1 - rho) * jnp.eye(p) + rho * jnp.outer(y, y), y)


def geometry_path(
    tau: Real[ArrayLike, " T"],
    preactivations: Real[ArrayLike, "S samples"],
    readout: Real[ArrayLike, " neurons"],
    task: AlikeTask | tuple,
    activation: Callable[[Array], Array],
    *,
    train_readout: bool = True,
) -> GeometryPath:
    """The path of a representation: margin and hidden kernel against the amount of error that has been applied.

    The equations at the top of this file, for a population of neurons; y f = (1/P) sum_mu y_mu <a phi(h_mu)>.

    Arguments:
        tau: increasing, >= 0, shape (T,); dtau = lr e dt for an error e y_mu of every sample, dt the steps.
        preactivations, readout: h of each of S neurons on the samples, (S, P), and a, (S,), at the start: for Gaussian
            weights of variance s^2, h has the covariance s^2 K. Take pairs of opposite a, so that f(0) = 0.
        task: an `AlikeTask`, or (kernel, labels) of another in which samples look alike.
        activation: phi, elementwise.
        train_readout: False keeps a as it is.
    Returns:
        the `GeometryPath`, to a relative 1e-4. Its margin is the mean over samples: all have the same.
    Holds when: infinite width, rate lr N, no biases; any loss of the margin, any start that is symmetric under the
        task's permutations and under (a, y) -> -(a, y). Averages miss those of infinite width by order S^{-1/2}.
    Source: derived in derivations/lazy_rich/representational_geometry.py; the contrast of tanh with ReLU: Alleman,
        Lindsey & Fusi 2024 (arXiv:2401.13558).
    """
    kernel, labels = matrix("kernel", task[0]), real("labels", task[1])
    p = kernel.shape[0]
    h, a = matrix("preactivations", preactivations, columns=p), real("readout", readout)
    if labels.shape != (p,) or kernel.shape != (p, p) or a.shape != h.shape[:1]:
        raise ValueError(
            f"task and readout must fit {h.shape[0]} neurons on {p} samples, got a kernel of shape {kernel.shape}, "
            f"labels of {labels.shape}, readout of {a.shape}"
        )
    require("labels", labels, jnp.abs(labels) == 1, "must be 1 or -1")
    return GeometryPath(*_path(times("tau", tau), h, a, kernel, labels, activation, train_readout))


def time_on_path(
    tau: Real[ArrayLike, " T"], margin: Real[ArrayLike, " times"], loss: str = "logistic"
) -> Float[Array, " T"]:
    """When a loss brings a network to each point of its path: t = int dtau / e.

    e = 1 / (1 + exp(m)) for "logistic", ln(1 + e^{-m}),   e = 1 - m for "squared", (1 - m)^2 / 2.

    Arguments:
        tau, margin: of a `geometry_path`, from tau = 0 on, dense enough for the trapezoidal rule, shape (T,).
        loss: "logistic" or "squared".
    Returns:
        t, learning rate times steps, (T,); infinity from where the error is gone: squared error ends at margin 1.
    Holds when: as for `geometry_path`.
    Source: the definition of tau.
    """
    if loss not in LOSSES:
        raise ValueError(f"loss must be one of {', '.join(LOSSES)}, got {loss!r}")
    tau, m = times("tau", tau), real("margin", margin)
    if m.shape != tau.shape:
        raise ValueError(f"margin must hold a value for each of {tau.size} times, got shape {m.shape}")
    error = jax.nn.sigmoid(-m) if loss == "logistic" else 1 - m
    left = jnp.minimum(error[1:], error[:-1]) > 0
    slowness = 1 / jnp.where(error > 0, error, 1.0)
    steps = jnp.where(left, jnp.diff(tau) * (slowness[1:] + slowness[:-1]) / 2, jnp.inf)
    return jnp.concatenate([jnp.zeros(1, tau.dtype), jnp.cumsum(steps)])


def saturated_alignments(samples: int) -> Alignments:
    """End of the path of saturating units on orthonormal inputs: h = +-y, features y y^T.

    Arguments:
        samples: P, an even Python int.
    Returns:
        `Alignments`: 1 with the labels, 1 / sqrt(P - 1) with the inputs, which is what labels and inputs share.
    Holds when: tanh, orthonormal inputs, balanced labels, margin -> infinity.
    Source: derived in derivations/lazy_rich/representational_geometry.py.
    """
    p = _samples(samples)
    return Alignments(jnp.ones_like(p), 1 / jnp.sqrt(p - 1))


def rectified_alignments(samples: int) -> Alignments:
    """End of the path of rectified units with a fixed readout, orthonormal inputs: features 1 + J on each class.

    With labels (P/2 + 1) / n,   with inputs (3P/2 - 1) / (n sqrt(P - 1)),   n = sqrt(P^2/4 + 2P - 1).

    Arguments:
        samples: P, an even Python int.
    Returns:
        `Alignments`: a unit stays off on the samples of its class on which it started off, half of them.
    Holds when: ReLU, orthonormal inputs, balanced labels, fixed readout, margin -> infinity.
    Source: derived in derivations/lazy_rich/representational_geometry.py.
    """
    p = _samples(samples)
    size = jnp.sqrt(p**2 / 4 + 2 * p - 1)
    return Alignments((p / 2 + 1) / size, (1.5 * p - 1) / (size * jnp.sqrt(p - 1)))


@partial(jax.jit, static_argnames=("activation", "train_readout"))
def _path(tau, h, a, kernel, y, activation, train_readout: bool):
    def field(state):
        h, a = state
        phi, slope = jax.jvp(activation, (h,), (jnp.ones_like(h),))
        return a[:, None] * ((slope * y) @ kernel) / len(y), train_readout * (phi @ y) / len(y)

    def seen(h, a):
        phi = activation(h)
        return jnp.mean(a * (phi @ y)) / len(y), phi.T @ phi / len(a)

    # The course of a unit of ReLU has kinks, at each of which a tighter tolerance would take tiny steps.
    return jax.lax.map(lambda state: seen(*state), flow(field, tau, (h, a), rtol=1e-5, atol=1e-5))


def _samples(samples: int) -> Float[Array, ""]:
    p = whole("samples", samples, at_least=4)
    if p % 2:
        raise ValueError(f"samples must be even, got {p}")
    return jnp.asarray(float(p))
