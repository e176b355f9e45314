"""Training an infinitely wide network: linear dynamics in function space (Jacot et al. 2018; Lee et al. 2019).

At infinite width the outputs move along the tangent kernel Theta of the start, df/dt = -Theta grad_f L, and the
untrained outputs are a Gaussian process of covariance K. For a squared loss the trained outputs are therefore Gaussian
at all times,

    f_t(x) = f_0(x) + Theta(x, X) g_t(Theta) (y - f_0(X)),

and how the weights are trained enters only through the spectral filter g_t: gradient flow and gradient descent here,
momentum in `momentum`. Other losses are in `cross_entropy`, and when to stop in `early_stopping`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Real

from theory.checks import floating, matrix, non_negative, positive, real, require, whole
from theory.deep_linear.modes import decay_integral
from theory.kernels.infinite import kernels

# What multiplies f - y in grad_f L, by the loss that is meant, for P samples.
LOSSES = {
    "mean_half": lambda samples: 1 / samples,
    "sum_half": lambda samples: 1.0,
    "mean": lambda samples: 2 / samples,
}


class Blocks(NamedTuple):
    """One kernel on P training and R test points. Rows of `cross` are test points, its columns training points."""

    train: Real[ArrayLike, "P P"]
    cross: Real[ArrayLike, "R P"]
    test: Real[ArrayLike, "R R"]

    @classmethod
    def split(cls, joint: Real[ArrayLike, "M M"], samples: int) -> Blocks:
        """The blocks of a kernel on the training points (the first `samples` of them) and the test points together."""
        joint = matrix("joint", joint)
        return cls(joint[:samples, :samples], joint[samples:, :samples], joint[samples:, samples:])

    @classmethod
    def on_training_points(cls, train: Real[ArrayLike, "P P"]) -> Blocks:
        """The blocks with the training points as test points."""
        return cls(train, train, train)


class Outputs(NamedTuple):
    """Gaussian outputs on R test points: `mean` has an axis of outputs where the targets have one; different outputs
    are independent and share `covariance`."""

    mean: Float[Array, "*times R *C"]
    covariance: Float[Array, "*times R R"]


def flow_filter(
    t: Real[ArrayLike, "..."],
    lam: Real[ArrayLike, "..."],
    samples: int,
    loss: str = "mean_half",
    ridge: Real[ArrayLike, ""] = 0.0,
) -> Float[Array, "..."]:
    """Spectral filter of gradient flow: how far a mode of the kernel is fitted, over its eigenvalue.

    g_t(lam) = c (1 - e^{-(c lam + ridge) t}) / (c lam + ridge),   c = 1/P, 1 or 2/P by the loss.

    Arguments, of which t, lam and ridge broadcast:
        t: time, >= 0, infinity included, in units of 1 / learning rate.
        lam: eigenvalue of the P x P tangent kernel, >= 0.
        samples: number P of training samples, a Python int.
        loss: "mean_half" (1/2P) sum |y - f|^2, "sum_half" (1/2) sum |y - f|^2, "mean" (1/P) sum |y - f|^2. All of them
            sum over the outputs of a sample.
        ridge: weight decay towards the start, >= 0: (ridge/2) |theta - theta_0|^2 is added to the loss.
    Returns:
        g, of the broadcast shape. At t = infinity it is 1 / (lam + ridge/c), and 0 where lam = ridge = 0 (the
        pseudo-inverse); at lam = ridge = 0 it is c t.
    Holds when: the network is linear in its weights, as an infinitely wide one is in training.
    Source: Lee et al. 2019 (arXiv:1902.06720), section 2.2; weight decay from dtheta/dt = -grad L - ridge (theta -
        theta_0), which stays in the span of the gradients.
    """
    lam, ridge = non_negative("lam", lam), non_negative("ridge", ridge)
    c = loss_rate(samples, loss)
    return c * fitted_time(c * lam + ridge, until("t", t))


def descent_filter(
    steps: Real[ArrayLike, "..."],
    lam: Real[ArrayLike, "..."],
    samples: int,
    lr: Real[ArrayLike, "..."],
    loss: str = "mean_half",
    ridge: Real[ArrayLike, ""] = 0.0,
) -> Float[Array, "..."]:
    """Spectral filter of gradient descent, exact at any step size.

    g_m(lam) = c (1 - (1 - lr (c lam + ridge))^m) / (c lam + ridge).

    Arguments, of which steps, lam, lr and ridge broadcast:
        steps: number m of steps, whole, >= 0, infinity included.
        lr: learning rate, > 0. From `largest_stable_lr` on the filter of the largest eigenvalue grows with m, as
            training does.
        lam, samples, loss, ridge: as for `flow_filter`.
    Returns:
        g, of the broadcast shape; `flow_filter` at t = lr m, as lr -> 0.
    Holds when: as for `flow_filter`.
    Source: Lee et al. 2019 (arXiv:1902.06720), section 2.2, with steps of finite size.
    """
    lam, ridge, lr = non_negative("lam", lam), non_negative("ridge", ridge), positive("lr", lr)
    steps = whole_steps("steps", steps)
    c = loss_rate(samples, loss)
    x = lr * (c * lam + ridge)
    small = x < 0.5
    near, far = jnp.where(small, x, 0.0), jnp.where(small, 1.0, x)
    # 1 - x = e^{-decay}: no cancellation where x is small.
    decay = near * log_ratio(near)
    return c * lr * jnp.where(small, log_ratio(near) * fitted_time(decay, steps), (1 - (1 - far) ** steps) / far)


def trained_outputs(
    spectral_filter: Callable[[Float[Array, " P"]], Float[Array, "*times P"]],
    ntk: Blocks | tuple,
    nngp: Blocks | tuple,
    y: Real[ArrayLike, "P *C"],
    noise: Real[ArrayLike, ""] = 0.0,
) -> Outputs:
    """Mean and covariance of the trained outputs over random starts, for any linear training procedure.

    mean = A y,   cov = K(x, x') + A (K(X, X) + noise I) A^T - A K(X, x') - (A K(X, x'))^T,
    A = Theta(x, X) V g(Lambda) V^T,   Theta(X, X) = V Lambda V^T.

    Arguments:
        spectral_filter: eigenvalues (P,) -> filter (*times, P), such as `flow_filter` at some times.
        ntk: tangent kernel Theta; of the readout alone (which is K) if only that is trained.
        nngp: covariance K of the untrained outputs.
        y: targets, shape (P,) or (P, C).
        noise: variance of noise that each network's targets are given afresh, >= 0.
    Returns:
        `Outputs`, with leading axes of the filter's times. The covariance is positive semi-definite up to rounding.
    Holds when: the width is infinite and the outputs start as N(0, K). Null directions of Theta, which are found from
        rounding, P eps times its largest eigenvalue, stay as they started.
    Source: Lee et al. 2019 (arXiv:1902.06720), eqs. 14 and 15.
    """
    ntk, y = checked_blocks("ntk", ntk), targets(y, len(ntk[0]))
    nngp = checked_blocks("nngp", nngp, like=ntk)
    a = response(spectral_filter, ntk)
    spread = nngp.train + non_negative("noise", noise) * jnp.eye(len(y), dtype=y.dtype)
    once = a @ nngp.cross.T
    covariance = nngp.test + a @ spread @ a.mT - once - once.mT
    return Outputs(jnp.tensordot(a, y, 1), (covariance + covariance.mT) / 2)


def trained_function(
    spectral_filter: Callable[[Float[Array, " P"]], Float[Array, "*times P"]],
    ntk: Blocks | tuple,
    y: Real[ArrayLike, "P *C"],
    start_train: Real[ArrayLike, "P *C"],
    start_test: Real[ArrayLike, "R *C"],
) -> Float[Array, "*times R *C"]:
    """Outputs of one network that is linear in its weights, from its own start: f_0(x) + A (y - f_0(X)).

    Arguments:
        spectral_filter, ntk, y: as for `trained_outputs`; the kernel may be the network's own, J J^T. A network of
            several outputs has a kernel on all of them: give y and the starts flat, in the order of the kernel.
        start_train, start_test: its outputs f_0 before training.
    Returns:
        its outputs on the test points, with leading axes of the filter's times.
    Holds when: the network is linear in its weights: exactly for a linearised one, to order 1/width for a wide one.
        Mind that `samples` of a filter is the number of samples, also where the kernel is larger.
    Source: Lee et al. 2019 (arXiv:1902.06720), eqs. 8 to 11.
    """
    ntk, y = checked_blocks("ntk", ntk), targets(y, len(ntk[0]))
    first, test = real("start_train", start_train), real("start_test", start_test)
    if first.shape != y.shape or test.shape != ntk.cross.shape[:1] + y.shape[1:]:
        raise ValueError(f"start_train and start_test must fit y and the kernel, got {first.shape} and {test.shape}")
    return test + jnp.tensordot(response(spectral_filter, ntk), y - first, 1)


def flow_outputs(
    t: Real[ArrayLike, "*times"],
    ntk: Blocks | tuple,
    nngp: Blocks | tuple,
    y: Real[ArrayLike, "P *C"],
    *,
    loss: str = "mean_half",
    ridge: Real[ArrayLike, ""] = 0.0,
    noise: Real[ArrayLike, ""] = 0.0,
) -> Outputs:
    """Gaussian outputs of an infinitely wide network at time t of gradient flow: `trained_outputs` of `flow_filter`.

    Arguments:
        t: time or times, >= 0, infinity included, in units of 1 / learning rate.
        ntk, nngp, y, noise: as for `trained_outputs`; loss, ridge: as for `flow_filter`.
    Returns:
        `Outputs`; N(0, K) at t = 0, and at t = infinity, without ridge, the targets themselves on training points.
    Holds when: as for `trained_outputs`. With a ridge the end is kernel ridge regression, of ridge P `ridge` in the
        loss "mean_half".
    Source: Lee et al. 2019 (arXiv:1902.06720), eqs. 14 and 15.
    """
    t = until("t", t)[..., None]
    return trained_outputs(lambda lam: flow_filter(t, lam, len(lam), loss, ridge), ntk, nngp, y, noise)


def descent_outputs(
    steps: Real[ArrayLike, "*times"],
    lr: Real[ArrayLike, ""],
    ntk: Blocks | tuple,
    nngp: Blocks | tuple,
    y: Real[ArrayLike, "P *C"],
    *,
    loss: str = "mean_half",
    ridge: Real[ArrayLike, ""] = 0.0,
    noise: Real[ArrayLike, ""] = 0.0,
) -> Outputs:
    """Gaussian outputs of an infinitely wide network after steps of gradient descent.

    Arguments: steps, lr: as for `descent_filter`; the others: as for `flow_outputs`.
    Returns: `Outputs`, with the axes of `steps` leading.
    Holds when: as for `trained_outputs`; of a wide network, lr below `largest_stable_lr`.
    Source: Lee et al. 2019 (arXiv:1902.06720), eqs. 14 and 15, with steps of finite size.
    """
    steps = whole_steps("steps", steps)[..., None]
    return trained_outputs(lambda lam: descent_filter(steps, lam, len(lam), lr, loss, ridge), ntk, nngp, y, noise)


def nngp_posterior(nngp: Blocks | tuple, y: Real[ArrayLike, "P *C"], noise: Real[ArrayLike, ""] = 0.0) -> Outputs:
    """Bayesian posterior of an infinitely wide network: also the end of training its readout alone.

    mean = K(x, X) (K + noise I)^{-1} y,   cov = K(x, x') - K(x, X) (K + noise I)^{-1} K(X, x').

    Arguments:
        nngp: covariance K of the untrained outputs.
        y: targets, shape (P,) or (P, C).
        noise: variance of the noise on the targets, >= 0; at 0 null directions of K are left out.
    Returns:
        `Outputs`. Training all layers ends elsewhere: `flow_outputs` at t = infinity.
    Holds when: the width is infinite. It is the end of readout training without noise, and with noise where the loss
        is "sum_half", the ridge is `noise` and every network's targets have noise of their own.
    Source: Lee et al. 2018 (arXiv:1711.00165), eqs. 8 and 9; Lee et al. 2019, section 2.3.
    """
    nngp, noise = checked_blocks("nngp", nngp), non_negative("noise", noise)
    y = targets(y, len(nngp.train))
    a = response(lambda lam: fitted_time(lam + noise, jnp.inf), nngp)
    covariance = nngp.test - a @ nngp.cross.T
    return Outputs(jnp.tensordot(a, y, 1), (covariance + covariance.T) / 2)


def largest_stable_lr(
    lam: Real[ArrayLike, "..."], samples: int, loss: str = "mean_half", ridge: Real[ArrayLike, ""] = 0.0
) -> Float[Array, "..."]:
    """Learning rate from which on gradient descent diverges along a mode: 2 / (c lam + ridge).

    Arguments: lam: the largest eigenvalue of the P x P tangent kernel, > 0; samples, loss, ridge: as for `flow_filter`.
    Returns: the learning rate, of the broadcast shape; above half of it the mode oscillates.
    Holds when: the network is linear in its weights.
    Source: Lee et al. 2019 (arXiv:1902.06720), section 2.2: lr < 2 / (lambda_min + lambda_max) is safe, this is exact.
    """
    return 2 / (loss_rate(samples, loss) * positive("lam", lam) + non_negative("ridge", ridge))


def input_blocks(
    x_train: Real[ArrayLike, "P d"], x_test: Real[ArrayLike, "R d"], readout_only: bool = False, **network
) -> tuple[Blocks, Blocks]:
    """Tangent kernel and covariance of a fully connected network on training and test inputs.

    Arguments:
        x_train, x_test: inputs in rows.
        readout_only: whether only the last layer is trained: its tangent kernel is the covariance.
        network: depth, activation, weight_variance, ...: as for `theory.kernels.infinite.kernels`.
    Returns:
        (ntk, nngp), two `Blocks`.
    Holds when: the width is infinite; readout_only: in the NTK parametrisation, all biases of the last layer trained.
    Source: Jacot, Gabriel & Hongler 2018 (arXiv:1806.07572), theorem 1; Lee et al. 2019, section 2.3.
    """
    x_train = matrix("x_train", x_train)
    x_test = matrix("x_test", x_test, columns=x_train.shape[1])
    joint = kernels(jnp.concatenate([x_train, x_test]), **network)
    ntk = joint.nngp if readout_only else joint.ntk
    if ntk is None:
        raise ValueError(f"activation must have a derivative to be trained through, got {network.get('activation')!r}")
    return Blocks.split(ntk, len(x_train)), Blocks.split(joint.nngp, len(x_train))


def prediction(
    t: Real[ArrayLike, "*times"],
    x_train: Real[ArrayLike, "P d"],
    y: Real[ArrayLike, "P *C"],
    x_test: Real[ArrayLike, "R d"],
    *,
    loss: str = "mean_half",
    ridge: Real[ArrayLike, ""] = 0.0,
    **network,
) -> Outputs:
    """Outputs at time t of an infinitely wide network trained on (x_train, y): `flow_outputs` of `input_blocks`.

    Arguments:
        t, y, loss, ridge: as for `flow_outputs`.
        x_train, x_test, network: as for `input_blocks`.
    Returns:
        `Outputs` on the test inputs.
    Holds when: as for `trained_outputs`.
    Source: Lee et al. 2019 (arXiv:1902.06720), eqs. 14 and 15.
    """
    return flow_outputs(t, *input_blocks(x_train, x_test, **network), y, loss=loss, ridge=ridge)


def loss_rate(samples: int, loss: str) -> float:
    """c in grad_f L = c (f - y): 1/P, 1 or 2/P."""
    if loss not in LOSSES:
        raise ValueError(f"loss must be one of {', '.join(LOSSES)}, got {loss!r}")
    return LOSSES[loss](whole("samples", samples))


def response(spectral_filter, ntk: Blocks) -> Float[Array, "*times R P"]:
    """A = Theta(x, X) V g(Lambda) V^T: what the outputs are moved by, per unit of y - f_0(X)."""
    lam, v = spectrum("ntk", ntk.train)
    g = spectral_filter(lam)
    return (ntk.cross @ v * g[..., None, :]) @ v.T


def spectrum(name: str, kernel: Float[Array, "P P"]) -> tuple[Float[Array, " P"], Float[Array, "P P"]]:
    """Eigenvalues, below rounding set to zero, and eigenvectors in columns."""
    eps = jnp.finfo(kernel.dtype).eps
    lam, v = jnp.linalg.eigh(kernel)
    lam = require(name, lam, lam >= -jnp.sqrt(eps) * lam[-1], "must be positive semi-definite on the training points")
    return jnp.where(lam > len(lam) * eps * lam[-1], lam, 0.0), v


def checked_blocks(name: str, blocks: Blocks | tuple, like: Blocks | None = None) -> Blocks:
    """Finite blocks of shapes that fit each other, and those of `like`, with a symmetric kernel of training points."""
    train, cross, test = Blocks(*blocks)
    cross = matrix(f"{name}.cross", cross, *((None, None) if like is None else like.cross.shape))
    train = matrix(f"{name}.train", train, cross.shape[1], cross.shape[1])
    test = matrix(f"{name}.test", test, cross.shape[0], cross.shape[0])
    near = jnp.abs(train - train.T) <= jnp.sqrt(jnp.finfo(train.dtype).eps) * jnp.max(jnp.abs(train))
    return Blocks(require(f"{name}.train", train, near, "must be symmetric"), cross, test)


def targets(y: Real[ArrayLike, "P *C"], samples: int) -> Float[Array, "P *C"]:
    """The targets as a floating array of P rows."""
    y = real("y", y)
    if y.ndim not in (1, 2) or y.shape[0] != samples:
        raise ValueError(f"y must have shape ({samples},) or ({samples}, outputs), got {y.shape}")
    return y


def until(name: str, t: Real[ArrayLike, "..."]) -> Float[Array, "..."]:
    """A time, >= 0, infinity included."""
    t = floating(name, t)
    return require(name, t, t >= 0, "must be non-negative")


def whole_steps(name: str, steps: Real[ArrayLike, "..."]) -> Float[Array, "..."]:
    """Numbers of steps, >= 0, infinity included, as floats."""
    steps = until(name, steps)
    return require(name, steps, (steps == jnp.round(steps)) | jnp.isinf(steps), "must be whole numbers")


def fitted_time(rate: Float[Array, "..."], t: Real[ArrayLike, "..."]) -> Float[Array, "..."]:
    """int_0^t e^{-rate r} dr, and at infinite t the pseudo-inverse of the rate: 1 / rate, or 0 at rate 0."""
    forever = jnp.isinf(t)
    inverse = jnp.where(rate > 0, 1 / jnp.where(forever & (rate > 0), rate, 1.0), 0.0)
    return jnp.where(forever, inverse, decay_integral(rate, jnp.where(forever, 0.0, t)))


def log_ratio(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """-ln(1 - x) / x, smooth through x = 0, for x <= 1/2."""
    tiny = x < 1e-3
    near, far = jnp.where(tiny, x, 0.0), jnp.where(tiny, 0.5, x)
    series = 1 + near / 2 + near**2 / 3 + near**3 / 4 + near**4 / 5 + near**5 / 6
    return jnp.where(tiny, series, -jnp.log1p(-far) / far)
