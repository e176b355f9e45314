"""Training with momentum in the linear regime: heavy ball and Nesterov, as spectral filters for `trained_outputs`.

Along each eigenvector of the tangent kernel the residual e, 1 at the start, obeys a linear recursion of two terms,

    e_{k+1} = tau e_k - delta e_{k-1},   x = lr (c lam + ridge),
    heavy ball: tau = 1 + beta - x,  delta = beta;     Nesterov: tau = (1 + beta)(1 - x),  delta = beta (1 - x),

and the filter is c lr h_k with h = (1 - e) / x. Modes with two real roots learn faster by 1/(1 - beta); modes of larger
lam ring. The textbook forms, with the roots, are 0/0 at lam = 0 and where the roots meet. Here h and its velocity are
advanced by powers of the optimiser's own map, by repeated squaring: it has no such places.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Real

from theory.checks import non_negative, positive, require
from theory.kernels.linearised_training import fitted_time, loss_rate, until, whole_steps

# Numbers of steps below 2^31.
BITS = 31


class Momentum(NamedTuple):
    """A learning rate and the momentum beta that goes with it."""

    lr: Float[Array, "..."]
    momentum: Float[Array, "..."]


def heavy_ball_filter(
    steps: Real[ArrayLike, "..."],
    lam: Real[ArrayLike, "..."],
    samples: int,
    lr: Real[ArrayLike, "..."],
    momentum: Real[ArrayLike, "..."],
    loss: str = "mean_half",
    ridge: Real[ArrayLike, ""] = 0.0,
) -> Float[Array, "..."]:
    """Spectral filter of gradient descent with heavy-ball momentum, from rest.

    h_{k+1} = 1 + (1 + beta - x) h_k - beta h_{k-1},   h_0 = 0,  h_1 = 1,   g_k = c lr h_k,   x = lr (c lam + ridge),
    for theta_{k+1} = theta_k - lr grad L + beta (theta_k - theta_{k-1}).

    Arguments, of which steps, lam, lr, momentum and ridge broadcast:
        steps: number k of steps, whole, >= 0, below 2^31.
        lr: learning rate, > 0; stable below `heavy_ball_stable_lr`.
        momentum: beta, 0 <= beta < 1; at 0 this is `descent_filter`.
        lam, samples, loss, ridge: as for `theory.kernels.linearised_training.flow_filter`.
    Returns:
        g, of the broadcast shape, for `trained_outputs`; to about k roundings.
    Holds when: the network is linear in its weights; the velocity starts at zero (optax and PyTorch do).
    Source: Polyak 1964, the heavy-ball method on a quadratic; per mode as in Goh 2017, "Why momentum really works".
    """
    c, x, beta = _checked(lam, samples, lr, momentum, loss, ridge)
    return c * lr * _advanced(counted(steps), [(1 - x, beta, 1.0), (-x, beta, 1.0)])


def nesterov_filter(
    steps: Real[ArrayLike, "..."],
    lam: Real[ArrayLike, "..."],
    samples: int,
    lr: Real[ArrayLike, "..."],
    momentum: Real[ArrayLike, "..."],
    loss: str = "mean_half",
    ridge: Real[ArrayLike, ""] = 0.0,
) -> Float[Array, "..."]:
    """Spectral filter of gradient descent with Nesterov momentum, from rest, in the form of optax and PyTorch.

    h_{k+1} = 1 + (1 + beta)(1 - x) h_k - beta (1 - x) h_{k-1},   h_0 = 0,  h_1 = 1 + beta,   g_k = c lr h_k,
    for v <- beta v + grad L,  theta <- theta - lr (grad L + beta v).

    Arguments: as for `heavy_ball_filter`; stable below `nesterov_stable_lr`.
    Returns: g, of the broadcast shape, for `trained_outputs`.
    Holds when: as for `heavy_ball_filter`. The weights are those at which gradients are taken, the "looked-ahead" ones.
    Source: Nesterov 1983; the form of Sutskever et al. 2013, on a quadratic.
    """
    c, x, beta = _checked(lam, samples, lr, momentum, loss, ridge)
    return c * lr * _advanced(counted(steps), [(1 - (1 + beta) * x, beta**2, 1 + beta), (-x, beta, 1.0)])


def heavy_ball_flow_filter(
    t: Real[ArrayLike, "..."],
    lam: Real[ArrayLike, "..."],
    samples: int,
    mass: Real[ArrayLike, "..."],
    loss: str = "mean_half",
    ridge: Real[ArrayLike, ""] = 0.0,
) -> Float[Array, "..."]:
    """Spectral filter of a flow with inertia, mass theta'' + theta' = -grad L, from rest.

    g = c (1 - e) / r,   e(t) = (b e^{-a t} - a e^{-b t}) / (b - a),   {a, b} = (1 -+ sqrt(1 - 4 mass r)) / (2 mass),
    r = c lam + ridge.

    Arguments, of which t, lam, mass and ridge broadcast:
        t: time, >= 0, infinity included. For steps of a heavy ball t = lr k / (1 - beta): the learning rate in effect.
        mass: inertia, > 0, in units of time; that of a heavy ball is `heavy_ball_mass`. As it vanishes the filter is
            `flow_filter`.
        lam, samples, loss, ridge: as for `theory.kernels.linearised_training.flow_filter`.
    Returns:
        g, of the broadcast shape. Modes with r > 1/(4 mass) ring, the others relax. Finite through r = 0.
    Holds when: the network is linear in its weights; of a heavy ball, to first order in lr / (1 - beta).
    Source: Qian 1999, momentum as a Newtonian particle in a viscous medium; Kovachki & Stuart 2021 (arXiv:1906.04285).
    """
    lam, ridge, mass = non_negative("lam", lam), non_negative("ridge", ridge), positive("mass", mass)
    c = loss_rate(samples, loss)
    return c * _inertial(*jnp.broadcast_arrays(until("t", t), c * lam + ridge, mass))


def heavy_ball_mass(lr: Real[ArrayLike, "..."], momentum: Real[ArrayLike, "..."]) -> Float[Array, "..."]:
    """Inertia of the flow that a heavy ball follows: (1 + beta) lr / (2 (1 - beta)^2), for t = lr k / (1 - beta).

    Arguments, which broadcast: lr: learning rate, > 0; momentum: beta, 0 <= beta < 1.
    Returns: the mass, of the broadcast shape.
    Holds when: lr / (1 - beta) is small against the times of interest.
    Source: Kovachki & Stuart 2021 (arXiv:1906.04285), modified equation of the heavy ball.
    """
    lr, beta = positive("lr", lr), fraction(momentum)
    return (1 + beta) * lr / (2 * (1 - beta) ** 2)


def heavy_ball_stable_lr(
    lam: Real[ArrayLike, "..."],
    samples: int,
    momentum: Real[ArrayLike, "..."],
    loss: str = "mean_half",
    ridge: Real[ArrayLike, ""] = 0.0,
) -> Float[Array, "..."]:
    """Learning rate from which on a heavy ball diverges along a mode: 2 (1 + beta) / (c lam + ridge).

    Arguments, which broadcast: lam: largest eigenvalue of the kernel, > 0; the others: as for `heavy_ball_filter`.
    Returns: the learning rate, of the broadcast shape: momentum raises it up to twofold.
    Holds when: the network is linear in its weights.
    Source: Polyak 1964; the root -1 of z^2 - (1 + beta - x) z + beta.
    """
    rate = loss_rate(samples, loss) * positive("lam", lam) + non_negative("ridge", ridge)
    return 2 * (1 + fraction(momentum)) / rate


def nesterov_stable_lr(
    lam: Real[ArrayLike, "..."],
    samples: int,
    momentum: Real[ArrayLike, "..."],
    loss: str = "mean_half",
    ridge: Real[ArrayLike, ""] = 0.0,
) -> Float[Array, "..."]:
    """Learning rate from which on Nesterov momentum diverges along a mode.

    2 (1 + beta) / ((1 + 2 beta)(c lam + ridge)).

    Arguments: as for `heavy_ball_stable_lr`.
    Returns: the learning rate, of the broadcast shape: Nesterov momentum lowers it, down to 4/(3 (c lam + ridge)).
    Holds when: the network is linear in its weights.
    Source: the root -1 of z^2 - (1 + beta)(1 - x) z + beta (1 - x).
    """
    beta = fraction(momentum)
    return heavy_ball_stable_lr(lam, samples, beta, loss, ridge) / (1 + 2 * beta)


def polyak_momentum(
    slowest: Real[ArrayLike, "..."],
    fastest: Real[ArrayLike, "..."],
    samples: int,
    loss: str = "mean_half",
    ridge: Real[ArrayLike, ""] = 0.0,
) -> Momentum:
    """Learning rate and momentum of the heavy ball that converges fastest on modes between two eigenvalues.

    lr = 4 / (sqrt(r_max) + sqrt(r_min))^2,   beta = ((sqrt(r_max) - sqrt(r_min)) / (sqrt(r_max) + sqrt(r_min)))^2.

    Arguments, which broadcast:
        slowest, fastest: smallest and largest eigenvalue of the kernel, slowest <= fastest; r = c lam + ridge > 0.
        samples, loss, ridge: as for `heavy_ball_filter`.
    Returns:
        `Momentum(lr, momentum)`: residuals fall as k sqrt(beta)^k, not ((r_max - r_min)/(r_max + r_min))^k.
    Holds when: the network is linear in its weights.
    Source: Polyak 1964, theorem on the heavy-ball method.
    """
    c, ridge = loss_rate(samples, loss), non_negative("ridge", ridge)
    low = positive("c * slowest + ridge", c * non_negative("slowest", slowest) + ridge)
    high = c * non_negative("fastest", fastest) + ridge
    high = require("fastest", high, high >= low, "must be at least slowest")
    total = jnp.sqrt(high) + jnp.sqrt(low)
    return Momentum(4 / total**2, ((jnp.sqrt(high) - jnp.sqrt(low)) / total) ** 2)


def fraction(momentum: Real[ArrayLike, "..."]) -> Float[Array, "..."]:
    """The momentum beta, 0 <= beta < 1."""
    beta = non_negative("momentum", momentum)
    return require("momentum", beta, beta < 1, "must be below 1")


def counted(steps: Real[ArrayLike, "..."]) -> Float[Array, "..."]:
    """A number of steps, finite."""
    steps = whole_steps("steps", steps)
    # A float: the whole number does not fit into the integers that go with float32.
    return require("steps", steps, steps < 2.0**BITS, f"must be below 2^{BITS}")


def _checked(lam, samples, lr, momentum, loss, ridge):
    """c, x = lr (c lam + ridge) and beta."""
    c = loss_rate(samples, loss)
    return c, positive("lr", lr) * (c * non_negative("lam", lam) + non_negative("ridge", ridge)), fraction(momentum)


@jax.jit
def _advanced(steps, step) -> Float[Array, "..."]:
    """h after steps of the affine map of (h, v) with the rows `step`, from rest, by squaring the map of (h, v, 1)."""
    steps, *entries = jnp.broadcast_arrays(steps, *step[0], *step[1], 0.0, 0.0, 1.0)
    once = jnp.stack(entries, -1).reshape(*steps.shape, 3, 3)

    def square_and_multiply(carry, _):
        power, state, left = carry
        state = jnp.where((left % 2 == 1)[..., None], jnp.einsum("...ij,...j->...i", power, state), state)
        # Powers that are no longer needed would overflow, and spoil the gradient, where training diverges.
        power = jnp.where((left > 1)[..., None, None], power @ power, power)
        return (power, state, left // 2), None

    start = (once, once[..., 2, :], steps.astype(jnp.int32))
    (_, state, _), _ = jax.lax.scan(square_and_multiply, start, length=BITS)
    return state[..., 0]


@jax.jit
def _inertial(t, rate, mass) -> Float[Array, "..."]:
    """h with mass h'' + h' + rate h = 1 from rest."""
    # Relaxing modes, past the first few times of inertia: both exponentials, which are then far apart.
    slow = (4 * mass * rate < 0.5) & (t > 8 * mass)
    root = jnp.sqrt(1 - jnp.where(slow, 4 * mass * rate, 0.0))
    late = jnp.where(slow, t, 1.0)
    lag = jnp.where(jnp.isinf(t) & (rate == 0), 0.0, fitted_time((1 + root) / (2 * mass), late))
    relaxing = (fitted_time(2 * rate / (1 + root), late) - lag) / root

    # All others: the matrix exponential, up to where e^{-t / 2 mass} is lost in rounding, or ended by then.
    near = jnp.where(slow, 0.0, jnp.minimum(t, 200 * mass))
    zero = jnp.zeros_like(rate)
    rows = [[zero, near, zero], [-near * rate / mass, -near / mass, near / mass], [zero, zero, zero]]
    generator = jnp.stack([jnp.stack(row, -1) for row in rows], -2)
    return jnp.where(slow, relaxing, jax.scipy.linalg.expm(generator, max_squarings=64)[..., 0, 2])
