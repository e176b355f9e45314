"""When to stop training an infinitely wide network: its expected test error through training, and where it is least.

Whatever the network is trained with (flow, descent, momentum), its expected error is a quadratic form in the spectral
filter g: a constant, minus what is gained from the teacher, plus what noise and random starts let through.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Real

from theory.checks import non_negative, real, require
from theory.deep_linear.generalization import minimising_time
from theory.kernels.linearised_training import Blocks, checked_blocks, flow_filter, loss_rate, spectrum, targets

# Times that are compared before the best of them is refined.
POINTS = 256


class ErrorForm(NamedTuple):
    """Expected squared error, constant - 2 linear . g + g . quadratic g, of a filter g on the eigenvalues `lam`."""

    constant: Float[Array, ""]
    linear: Float[Array, " P"]
    quadratic: Float[Array, "P P"]
    lam: Float[Array, " P"]


class Stop(NamedTuple):
    """When to stop, and the expected error then."""

    time: Float[Array, ""]
    error: Float[Array, ""]


def known_truth(y_train: Real[ArrayLike, "P *C"], y_test: Real[ArrayLike, "R *C"]) -> Blocks:
    """A teacher that is one known function, as the second moments of its values: y y^T, summed over outputs.

    Arguments:
        y_train: targets on the training points, with whatever noise they have, shape (P,) or (P, C).
        y_test: true values on the test points, shape (R,) or (R, C).
    Returns:
        `Blocks` for `error_form`, whose noise is then 0: it is in y_train already.
    Holds when: always.
    Source: definition. A Gaussian process of covariance T, as teacher, is `Blocks` of T.
    """
    y_test = real("y_test", y_test)
    y_train = targets(y_train, len(jnp.atleast_1d(jnp.asarray(y_train))))
    if y_train.shape[1:] != y_test.shape[1:]:
        raise ValueError(f"y_test must have the outputs of y_train, {y_train.shape[1:]}, got shape {y_test.shape}")
    first, second = (y.reshape(len(y), -1) for y in (y_train, y_test))
    return Blocks(first @ first.T, second @ first.T, second @ second.T)


def error_form(
    ntk: Blocks | tuple,
    teacher: Blocks | tuple,
    nngp: Blocks | tuple | None = None,
    noise: Real[ArrayLike, ""] = 0.0,
    outputs: int = 1,
) -> ErrorForm:
    """Expected squared error on the test points, averaged over them, for any spectral filter.

    E = (1/R) tr[S(x, x) - 2 A S(X, x) + A (S(X, X) + noise I) A^T],
    S = T + outputs K,   A = Theta(x, X) g(Theta(X, X)).

    Arguments:
        ntk: tangent kernel Theta.
        teacher: second moments T of the true function: the covariance of a Gaussian teacher, or `known_truth`.
        nngp: covariance K of the untrained outputs; none if networks are centred to start at zero.
        noise: variance of the noise on the training targets (summed over outputs), >= 0. The test error is against
            the truth, without noise.
        outputs: number of outputs of the network, which all add variance of their own.
    Returns:
        `ErrorForm`, for `expected_error`.
    Holds when: as for `theory.kernels.linearised_training.trained_outputs`, averaged over starts, noise and teachers.
    Source: mean and covariance of Lee et al. 2019 (arXiv:1902.06720), eqs. 14 and 15, in the squared error.
    """
    ntk = checked_blocks("ntk", ntk)
    signal = checked_blocks("teacher", teacher, like=ntk)
    if nngp is not None:
        signal = Blocks(*(t + outputs * k for t, k in zip(signal, checked_blocks("nngp", nngp, like=ntk), strict=True)))
    lam, v = spectrum("ntk", ntk.train)
    tests = len(ntk.cross)
    reach = ntk.cross @ v
    heard = v.T @ signal.train @ v + non_negative("noise", noise) * jnp.eye(len(lam), dtype=lam.dtype)
    linear = jnp.sum(reach * (signal.cross @ v), axis=0) / tests
    return ErrorForm(jnp.trace(signal.test) / tests, linear, (reach.T @ reach) * heard / tests, lam)


def expected_error(form: ErrorForm | tuple, g: Real[ArrayLike, "*times P"]) -> Float[Array, "*times"]:
    """Expected squared error of training with spectral filter g: constant - 2 linear . g + g . quadratic g.

    Arguments:
        form: from `error_form`.
        g: the filter at `form.lam`, such as `flow_filter(t, form.lam, P)`; times lead.
    Returns:
        the error, of the shape of the times.
    Holds when: as for `error_form`.
    Source: as for `error_form`.
    """
    form, g = _checked(form), real("g", g)
    return form.constant - 2 * g @ form.linear + jnp.sum(g @ form.quadratic * g, axis=-1)


def best_stopping_time(form: ErrorForm | tuple, loss: str = "mean_half", ridge: Real[ArrayLike, ""] = 0.0) -> Stop:
    """Time of gradient flow at which the expected test error is least.

    t_opt = argmin_t E(g_t),   g_t(lam) = c (1 - e^{-(c lam + ridge) t}) / (c lam + ridge).

    Arguments:
        form: from `error_form`; of positive trace, which a kernel that is not zero has.
        loss, ridge: as for `theory.kernels.linearised_training.flow_filter`.
    Returns:
        `Stop(time, error)`: 0 if training never helps, infinity if it never hurts. With steps of size lr, stop after
        time / lr of them. Differentiable where the time is positive and finite.
    Holds when: as for `error_form`. The error may have several minima in time: the least of `POINTS` times, from 1e-3
        of the fastest to 40 of the slowest mode's time constant, is refined.
    Source: the minimum over t of the exact expression; for one mode, Advani & Saxe 2017 (arXiv:1710.03667).
    """
    form, ridge = _checked(form), non_negative("ridge", ridge)
    fastest = loss_rate(len(form.lam), loss) * jnp.max(form.lam) + ridge
    fastest = require("form", fastest, fastest > 0, "must have a positive eigenvalue")
    return _best_stopping_time(form, fastest, ridge, loss)


def _checked(form: ErrorForm | tuple) -> ErrorForm:
    """The form, of finite numbers."""
    return ErrorForm(*(real(f"form.{name}", x) for name, x in zip(ErrorForm._fields, form, strict=True)))


@partial(jax.jit, static_argnames="loss")
def _best_stopping_time(form: ErrorForm, fastest: Float[Array, ""], ridge: Float[Array, ""], loss: str) -> Stop:
    """The least of the errors at the best time in between, at zero and at infinity."""
    rates = loss_rate(len(form.lam), loss) * form.lam + ridge
    slowest = jnp.min(jnp.where(rates > 0, rates, fastest))

    def error(t):
        return expected_error(form, flow_filter(t, form.lam, len(form.lam), loss, ridge))

    inside = minimising_time(error, 1e-3 / fastest, 40 / slowest, POINTS)
    times = jnp.stack([jnp.zeros_like(inside), inside, jnp.full_like(inside, jnp.inf)])
    errors = jax.vmap(error)(times)
    # Where the ends are as good, they are meant: the flat tail of the curve has its minimum anywhere.
    slack = 8 * jnp.finfo(errors.dtype).eps * jnp.abs(errors[0])
    best = jnp.where(errors[2] <= errors[1] + slack, 2, 1)
    best = jnp.where(errors[0] <= errors[best] + slack, 0, best)
    return Stop(times[best], errors[best])
