"""Training an infinitely wide network on cross-entropy, or on any loss: the linear regime without a closed form.

The outputs still move along a fixed kernel, df/dt = -Theta grad_f L, but the right side is not linear in them. All of
training lies in one coefficient per training sample and output,

    f_t(x) = f_0(x) + Theta(x, X) a_t,   da/dt = -grad_f L(f_0(X) + Theta(X, X) a) - ridge a,   a_0 = 0,

so that test points cost nothing to follow. With separable data and no ridge the outputs never settle: margins grow as
ln t, exactly so for one sample.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Int, Real

from theory.checks import non_negative, positive, real, require, whole
from theory.flow import flow
from theory.kernels.linearised_training import Blocks, checked_blocks, whole_steps
from theory.kernels.momentum import fraction

Loss = Callable[[Float[Array, "P *C"]], Float[Array, ""]]


class Trained(NamedTuple):
    """Outputs on the training and the test points, with the times on the first axis."""

    train: Float[Array, "T P *C"]
    test: Float[Array, "T R *C"]


def cross_entropy(f: Real[ArrayLike, "P C"], y: Real[ArrayLike, "P C"]) -> Float[Array, ""]:
    """Cross-entropy of a softmax, averaged over samples: -(1/P) sum_i sum_c y_ic ln p_ic,  p = softmax(f_i).

    Arguments:
        f: outputs, one per class, shape (P, C).
        y: probabilities of the classes, or 1 for the right one and 0 for the others, shape (P, C).
    Returns:
        the loss, a scalar; its gradient with respect to f is (p - y) / P.
    Holds when: each row of y sums to 1.
    Source: Lee et al. 2019 (arXiv:1902.06720), section 2.4.
    """
    f, y = real("f", f), real("y", y)
    return -jnp.mean(jnp.sum(y * jax.nn.log_softmax(f, axis=-1), axis=-1))


def logistic(f: Real[ArrayLike, " P"], y: Real[ArrayLike, " P"]) -> Float[Array, ""]:
    """Logistic loss, averaged over samples: (1/P) sum_i ln(1 + e^{-y_i f_i}).

    Arguments: f: outputs, shape (P,); y: labels -1 and +1, shape (P,).
    Returns: the loss, a scalar.
    Holds when: always; it is `cross_entropy` of the outputs (f, 0).
    Source: the cross-entropy of two classes with one output.
    """
    return jnp.mean(jax.nn.softplus(-real("y", y) * real("f", f)))


def loss_flow(
    t: Real[ArrayLike, " T"],
    loss: Loss,
    ntk: Blocks | tuple,
    start_train: Real[ArrayLike, "P *C"],
    start_test: Real[ArrayLike, "R *C"],
    *,
    ridge: Real[ArrayLike, ""] = 0.0,
    **options,
) -> Trained:
    """Outputs under gradient flow of any differentiable loss, at fixed tangent kernel.

    df/dt = -Theta grad_f L - ridge (f - f_0), integrated in the coefficients a of f = f_0 + Theta a.

    Arguments:
        t: times, increasing, >= 0, in units of 1 / learning rate.
        loss: outputs on the training points, in the shape of `start_train`, -> scalar; its factor 1/P included.
        ntk: tangent kernel. A kernel of infinite width (P x P) acts on each output; one network's own kernel, on all
            outputs of all samples, goes with flat starts and a loss of them.
        start_train, start_test: outputs before training, zeros for a network that is centred there.
        ridge: weight decay towards the start, >= 0: (ridge/2) |theta - theta_0|^2 is added to the loss.
        options: rtol, atol, max_steps of `theory.flow.flow`.
    Returns:
        `Trained` outputs at the times.
    Holds when: the network is linear in its weights, as an infinitely wide one is at any fixed time: on separable data
        weights grow without bound as ln t, and the time must be short against the width.
    Source: Jacot, Gabriel & Hongler 2018 (arXiv:1806.07572), section 5; Lee et al. 2019 (arXiv:1902.06720), eq. 5.
    """
    train, start, test, ridge = _checked(ntk, start_train, start_test, ridge)
    a = flow(lambda a: _velocity(loss, train.train, start, ridge, a), t, jnp.zeros_like(start), **options)
    return _outputs(a, train, start, test)


def loss_descent(
    steps: Int[ArrayLike, " T"],
    lr: Real[ArrayLike, ""],
    loss: Loss,
    ntk: Blocks | tuple,
    start_train: Real[ArrayLike, "P *C"],
    start_test: Real[ArrayLike, "R *C"],
    *,
    momentum: Real[ArrayLike, ""] = 0.0,
    nesterov: bool = False,
    ridge: Real[ArrayLike, ""] = 0.0,
) -> Trained:
    """Outputs under gradient descent of any differentiable loss, with or without momentum, at fixed tangent kernel.

    v <- beta v + grad_f L + ridge a,   a <- a - lr v   (Nesterov: a <- a - lr (grad_f L + ridge a + beta v)).

    Arguments:
        steps: numbers of steps at which the outputs are wanted, increasing, >= 0, concrete.
        lr: learning rate, > 0; momentum: beta, 0 <= beta < 1; nesterov: the form that optax and PyTorch use.
        loss, ntk, start_train, start_test, ridge: as for `loss_flow`.
    Returns:
        `Trained` outputs after those numbers of steps.
    Holds when: as for `loss_flow`; exact at any step size, step for step.
    Source: Lee et al. 2019 (arXiv:1902.06720), eq. 5 with steps of finite size.
    """
    train, start, test, ridge = _checked(ntk, start_train, start_test, ridge)
    lr, beta = positive("lr", lr), fraction(momentum)
    counts = whole_steps("steps", steps)
    if counts.ndim != 1 or not counts.size:
        raise ValueError(f"steps must be a vector of numbers of steps, got shape {counts.shape}")
    gaps = jnp.diff(counts, prepend=0)
    gaps = require("steps", gaps, gaps >= 0, "must increase").astype(int)

    def step(_, state):
        a, v = state
        downhill = _velocity(loss, train.train, start, ridge, a)
        v = beta * v + downhill
        return a + lr * (downhill + beta * v if nesterov else v), v

    def interval(state, gap):
        state = jax.lax.fori_loop(0, gap, step, state)
        return state, state[0]

    _, a = jax.lax.scan(interval, (jnp.zeros_like(start), jnp.zeros_like(start)), gaps)
    return _outputs(a, train, start, test)


def softmax_margin(
    t: Real[ArrayLike, "..."],
    rate: Real[ArrayLike, "..."],
    start: Real[ArrayLike, "..."] = 0.0,
    classes: int = 2,
) -> Float[Array, "..."]:
    """Margin of one sample under gradient flow of the cross-entropy: linear in time at first, logarithmic in the end.

    dm/dt = (C/(C-1)) rate (1 - p),   p = 1 / (1 + (C-1) e^{-m}),   solved by   m + e^m/(C-1) = const + C rate t/(C-1).

    Arguments, which broadcast:
        t: time, >= 0.
        rate: Theta(x, x) / P, >= 0: the sample's own tangent kernel over the number of samples.
        start: margin at t = 0, with a finite exponential: below 690.
        classes: number C >= 2 of outputs, static.
    Returns:
        m(t), the output of the right class minus that of each other one, of the broadcast shape; ~ ln(C rate t).
    Holds when: the sample's kernel with all others vanishes, and the wrong outputs start equal. The logistic loss of
        one output f has the margin y f, of half the speed: rate Theta(x, x) / 2P with C = 2.
    Source: df/dt = -Theta grad_f L of Lee et al. 2019 (arXiv:1902.06720), eq. 5, for one sample.
    """
    t, rate, start = non_negative("t", t), non_negative("rate", rate), real("start", start)
    most = 0.98 * jnp.log(jnp.finfo(start.dtype).max)
    start = require("start", start, start < most, "must have a finite exponential")
    others = whole("classes", classes, at_least=2) - 1.0
    # In w = m - ln(C - 1) the law is w + e^w = z.
    w = start - jnp.log(others)
    z = w + jnp.exp(w) + (1 + 1 / others) * rate * t
    # Convex and increasing: from the right Newton's method runs to the root without a bracket.
    w = jnp.where(z > 1, jnp.log(jnp.maximum(z, 1.0)), z)
    for _ in range(8):
        grown = jnp.exp(w)
        w = w - (w + grown - z) / (1 + grown)
    return w + jnp.log(others)


def _velocity(loss, kernel, start, ridge, a) -> Float[Array, "P *C"]:
    """da/dt = -grad_f L - ridge a."""
    return -jax.grad(loss)(start + jnp.tensordot(kernel, a, 1)) - ridge * a


def _outputs(a, ntk: Blocks, start, test) -> Trained:
    along = "rp,tp...->tr..."
    return Trained(start + jnp.einsum(along, ntk.train, a), test + jnp.einsum(along, ntk.cross, a))


def _checked(ntk, start_train, start_test, ridge) -> tuple:
    ntk, ridge = checked_blocks("ntk", ntk), non_negative("ridge", ridge)
    start, test = real("start_train", start_train), real("start_test", start_test)
    if start.ndim not in (1, 2) or start.shape[:1] != ntk.train.shape[:1]:
        raise ValueError(f"start_train must have {len(ntk.train)} rows and at most two axes, got shape {start.shape}")
    if test.shape != ntk.cross.shape[:1] + start.shape[1:]:
        raise ValueError(f"start_test must have shape {ntk.cross.shape[:1] + start.shape[1:]}, got {test.shape}")
    return ntk, start, test, ridge
