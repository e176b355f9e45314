"""End-to-end flow of deep linear networks on any data: the theory that still holds where modes mix.

Real data are not white and `Sxx`, `Syx` do not share singular vectors, so the modes of Saxe, McClelland & Ganguli
(2013) do not decouple. The correlations alone still fix the whole course of training: through the layers, and, from
a balanced start, through the network map `W = W_N ... W_1` on its own (Arora, Cohen & Hazan 2018).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import accumulate, pairwise

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Real

from theory.checks import matrix, non_negative, positive, real, whole
from theory.deep_linear.correlations import fitting, input_output_modes, length, projected_strengths
from theory.deep_linear.modes import mode_strength
from theory.flow import descent_error, flow, times

Weights = tuple[Float[Array, "_ _"], ...]


def weight_velocity(
    weights: Sequence[Real[ArrayLike, "_ _"]],
    sxx: Real[ArrayLike, "n_in n_in"],
    syx: Real[ArrayLike, "n_out n_in"],
) -> Weights:
    """Gradient flow of each layer.

    dW_l/dt = (W_N ... W_{l+1})^T (Syx - W_N ... W_1 Sxx) (W_{l-1} ... W_1)^T, empty products being the identity.

    Arguments:
        weights: W_1 (hidden x n_in), ..., W_N (n_out x hidden), any N >= 1; sxx, syx: correlations.
    Returns:
        dW_l/dt for each layer, of the layers' shapes.
    Holds when: always.
    Source: Saxe, McClelland & Ganguli 2013 (arXiv:1312.6120), section 1.
    """
    sxx, syx = fitting(sxx, syx)
    return _velocity(_layers(weights, sxx, syx), sxx, syx)


def weight_flow(
    t: Real[ArrayLike, " T"],
    weights: Sequence[Real[ArrayLike, "_ _"]],
    sxx: Real[ArrayLike, "n_in n_in"],
    syx: Real[ArrayLike, "n_out n_in"],
) -> tuple[Float[Array, "T _ _"], ...]:
    """The layers at times t, from any start, of any depth, on any data: `weight_velocity` integrated.

    Arguments:
        t: increasing times, >= 0, shape (T,), in units of 1 / learning rate.
        weights: W_1, ..., W_N at t = 0; sxx, syx: correlations.
    Returns:
        W_l(t), each with a leading axis of T.
    Holds when: t times the largest curvature is below about 1e5 (the integrator is explicit). float32 gives 1e-4.
    Source: Saxe, McClelland & Ganguli 2013 (arXiv:1312.6120), section 1.
    """
    sxx, syx = fitting(sxx, syx)
    return _integral(times("t", t), _layers(weights, sxx, syx), sxx, syx)


def map_and_descent_error(
    t: Real[ArrayLike, " T"],
    weights: Sequence[Real[ArrayLike, "_ _"]],
    sxx: Real[ArrayLike, "n_in n_in"],
    syx: Real[ArrayLike, "n_out n_in"],
) -> tuple[Float[Array, "T n_out n_in"], Float[Array, "T n_out n_in"]]:
    """The network map under gradient flow, and what gradient descent adds to it per unit of learning rate.

    W_GD(t = lr k) = W(t) + lr e(t) + O(lr^2); e follows from `theory.flow.descent_error` on the layers.

    Arguments: as for `weight_flow`.
    Returns:
        (W(t), e(t)), each (T, n_out, n_in).
    Holds when: as for `weight_flow`, and lr is small against 2 / largest curvature.
    Source: backward error analysis of the Euler method (Hairer, Lubich & Wanner 2006, IX.1).
    """
    sxx, syx = fitting(sxx, syx)
    return _integral_with_error(times("t", t), _layers(weights, sxx, syx), sxx, syx)


def conserved_matrices(weights: Sequence[Real[ArrayLike, "_ _"]]) -> Weights:
    """What gradient flow conserves, whatever the data; all zero for a balanced network.

    C_l = W_{l+1}^T W_{l+1} - W_l W_l^T,   l = 1 .. N-1.

    Arguments:
        weights: W_1, ..., W_N.
    Returns:
        N - 1 matrices (hidden_l, hidden_l); none at N = 1.
    Holds when: gradient flow (gradient descent drifts by lr^2 a step).
    Source: Arora, Cohen & Hazan 2018 (arXiv:1802.06509), proof of theorem 1.
    """
    weights = _layers(weights)
    return tuple(b.T @ b - a @ a.T for a, b in pairwise(weights))


def balanced_weights(w: Real[ArrayLike, "n_out n_in"], depth: int) -> Weights:
    """Balanced layers whose product is `w`.

    With w = U diag(sigma) V^T and n_out <= n_in:  W_1 = U sigma^{1/N} V^T,  W_l = U sigma^{1/N} U^T for l > 1; with
    n_out > n_in the mirror image. All other balanced layers differ by rotations (and idle units) of the hidden layers.

    Arguments:
        w: network map; depth: number of layers N >= 1.
    Returns:
        N layers with hidden width min(n_in, n_out).
    Holds when: always; singular values below the rounding of the largest count as zero, where the derivative (which
        may be infinite) is taken as zero.
    Source: balanced initialisation of Arora, Cohen, Golowich & Hu 2019 (arXiv:1810.02281).
    """
    w, depth = matrix("w", w), whole("depth", depth)
    if depth == 1:
        return (w,)
    root, half = _powers(w, (1 / depth, 1 / (2 * depth)))
    if w.shape[0] <= w.shape[1]:
        return (root, *[half @ half.T] * (depth - 1))
    return (*[half.T @ half] * (depth - 1), root)


def end_to_end_velocity(
    w: Real[ArrayLike, "n_out n_in"], gradient: Real[ArrayLike, "n_out n_in"], depth: int
) -> Float[Array, "n_out n_in"]:
    """Gradient flow of the network map of a balanced network: depth acts as a preconditioner.

    dW/dt = - sum_{j=1}^N (W W^T)^{(N-j)/N} G (W^T W)^{(j-1)/N},   with zeroth powers the identity, whatever the rank.

    Arguments:
        w: network map; gradient: G = dL/dW of any loss (W Sxx - Syx for the square loss); depth: N >= 1.
    Returns:
        dW/dt, of w's shape: -G at N = 1; zero at W = 0 for N > 1.
    Holds when: all conserved matrices vanish. Singular values below the rounding of the largest count as zero, where
        the derivative (which may be infinite) is taken as zero.
    Source: Arora, Cohen & Hazan 2018 (arXiv:1802.06509), theorem 1.
    """
    w, depth = matrix("w", w), whole("depth", depth)
    g = matrix("gradient", gradient, *w.shape)
    if depth == 1:
        return -g
    halves = _powers(w, tuple(k / depth for k in range(1, depth)))
    left, right = jnp.einsum("kai,kbi->kab", halves, halves), jnp.einsum("kai,kaj->kij", halves, halves)
    between = jnp.einsum("kab,bi,kij->aj", left[-2::-1], g, right[:-1])
    return -(left[-1] @ g + between + g @ right[-1])


def single_output_velocity(
    w: Real[ArrayLike, " n_in"], gradient: Real[ArrayLike, " n_in"], depth: int
) -> Float[Array, " n_in"]:
    """`end_to_end_velocity` of a network with one output, without matrix powers.

    dw/dt = - |w|^{2-2/N} [ g + (N-1) w (w.g) / |w|^2 ]:  a learning rate that grows with |w|, and a pull along w.

    Arguments:
        w: network map as a vector; gradient: g = dL/dw of any loss; depth: N >= 1.
    Returns:
        dw/dt: -g at N = 1; zero at w = 0 for N > 1.
    Holds when: all conserved matrices vanish.
    Source: Arora, Cohen & Hazan 2018 (arXiv:1802.06509), theorem 1 for a single output.
    """
    w, g, depth = real("w", w), real("gradient", gradient), whole("depth", depth)
    if w.ndim != 1 or w.shape != g.shape:
        raise ValueError(f"w and gradient must be vectors of one length, got shapes {w.shape} and {g.shape}")
    if depth == 1:
        return -g
    size = length(w)
    direction = w / jnp.where(size > 0, size, 1)
    preconditioned = g + (depth - 1) * direction * (direction @ g)
    # A power of zero has no derivative below exponent 1 + 1; the safe base keeps it finite.
    return -jnp.where(size > 0, jnp.where(size > 0, size, 1) ** (2 - 2 / depth), 0) * preconditioned


def end_to_end_flow(
    t: Real[ArrayLike, " T"],
    w0: Real[ArrayLike, "n_out n_in"],
    sxx: Real[ArrayLike, "n_in n_in"],
    syx: Real[ArrayLike, "n_out n_in"],
    depth: int,
) -> Float[Array, "T n_out n_in"]:
    """The network map at times t from a balanced start, on any data: `end_to_end_velocity` integrated.

    It is integrated through `balanced_weights`, where the flow is smooth although fractional powers of W are not, and
    where modes far below the rounding of W keep their relative accuracy.

    Arguments:
        t: increasing times, >= 0, shape (T,), in units of 1 / learning rate.
        w0: network map at t = 0; sxx, syx: correlations; depth: N >= 1.
    Returns:
        W(t), (T, n_out, n_in).
    Holds when: all conserved matrices vanish at t = 0, and as for `weight_flow` and `balanced_weights`.
    Source: Arora, Cohen & Hazan 2018 (arXiv:1802.06509), theorem 1.
    """
    sxx, syx = fitting(sxx, syx)
    layers = balanced_weights(matrix("w0", w0, *syx.shape), depth)
    return jax.vmap(_product)(_integral(times("t", t), layers, sxx, syx))


def strength_curves(
    t: Real[ArrayLike, " T"],
    sxx: Real[ArrayLike, "n_in n_in"],
    syx: Real[ArrayLike, "n_out n_in"],
    u0: Real[ArrayLike, "*k"],
    depth: int,
) -> Float[Array, "T k"]:
    """Exact learning curve of every input-output mode on data that need not be white, from a small aligned start.

    u_i(t) = left_i . W(t) right_i,   W(0) = sum_i u0_i left_i right_i^T, W by `end_to_end_flow`.

    Arguments:
        t: increasing times, >= 0; sxx, syx: correlations; u0: starting strengths, >= 0, scalar or (k,); depth: N >= 1.
    Returns:
        u(t), (T, k), in the order of `input_output_modes`.
    Holds when: as for `end_to_end_flow`; singular values of Syx are distinct (else the modes are arbitrary).
    Source: Arora, Cohen & Hazan 2018 (arXiv:1802.06509), theorem 1.
    """
    modes = input_output_modes(sxx, syx)
    w0 = (modes.left * non_negative("u0", u0)) @ modes.right.T
    return projected_strengths(end_to_end_flow(t, w0, sxx, syx, depth), modes.left, modes.right)


def modewise_strengths(
    t: Real[ArrayLike, " T"],
    sxx: Real[ArrayLike, "n_in n_in"],
    syx: Real[ArrayLike, "n_out n_in"],
    u0: Real[ArrayLike, "*k"],
) -> Float[Array, "T k"]:
    """`strength_curves` of a two-layer network as if the modes did not mix: a logistic for each.

    du_i/dt = 2 u_i (s_i - lam_i u_i),   lam_i = v_i . Sxx v_i.

    Arguments: as for `strength_curves`, at depth 2; u0 > 0, and lam_i > 0 for every mode.
    Returns:
        u(t), (T, k).
    Holds when: Sxx and Syx share right vectors (`noncommutation` = 0): exact. Otherwise the error is of second order in
        the off-diagonal entries v_i . Sxx v_j (flipping one mode's sign flips these and leaves every u as it is, so
        that no first order is left), and the final strengths are s_i / lam_i instead of left_i . Syx Sxx^-1 right_i.
    Source: Saxe, McClelland & Ganguli 2013 (arXiv:1312.6120), eq. 12.
    """
    modes = input_output_modes(sxx, syx)
    return mode_strength(times("t", t)[:, None], modes.s, positive("u0", u0), modes.lam)


def _layers(weights, sxx=None, syx=None) -> Weights:
    """The weights as matrices that fit each other, and the data where given."""
    layers, below = [], None if sxx is None else sxx.shape[0]
    for i, w in enumerate(weights):
        top = None if syx is None or i + 1 < len(weights) else syx.shape[0]
        layers.append(matrix(f"weights[{i}]", w, top, below))
        below = layers[-1].shape[0]
    if not layers:
        raise ValueError("weights must hold at least one layer, got none")
    return tuple(layers)


def _product(weights):
    return list(accumulate(weights, lambda below, w: w @ below))[-1]


def _velocity(weights, sxx, syx):
    maps = list(accumulate(weights, lambda below, w: w @ below))
    back = syx - maps[-1] @ sxx
    velocity = []
    for w, below in zip(weights[:0:-1], maps[-2::-1], strict=True):
        velocity.append(back @ below.T)
        back = w.T @ back
    return (*[back], *velocity[::-1])


def _tolerances(t):
    """Tight for float64; the small absolute one keeps plateaus of tiny weights accurate."""
    double = t.dtype == jnp.float64
    return {"rtol": 1e-11, "atol": 1e-16} if double else {"rtol": 1e-5, "atol": 1e-9}


@jax.jit
def _integral(t, weights, sxx, syx):
    return flow(lambda w: _velocity(w, sxx, syx), t, weights, **_tolerances(t))


@jax.jit
def _integral_with_error(t, weights, sxx, syx):
    w, e = descent_error(lambda w: _velocity(w, sxx, syx), t, weights, **_tolerances(t))
    return jax.vmap(lambda w, e: jax.jvp(_product, (w,), (e,)))(w, e)


def _decomposed(w):
    """Thin SVD; singular values below rounding are exact zeros, and stand for 1 in `safe`."""
    u, sigma, v = jnp.linalg.svd(w, full_matrices=False)
    present = sigma > jnp.finfo(w.dtype).eps * max(w.shape) * sigma[0]
    return u, present, jnp.where(present, sigma, 1), v


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def _powers(w, powers):
    """U diag(sigma^p) V^T for each p in (0, 1], with a first derivative also at repeated singular values."""
    u, present, safe, v = _decomposed(w)
    return jnp.stack([(u * jnp.where(present, safe**p, 0)) @ v for p in powers])


@_powers.defjvp
def _powers_jvp(powers, primals, tangents):
    """Divided differences of sigma^p (Daleckii & Krein): no difference of singular values is divided by."""
    (w,), (dw,) = primals, tangents
    u, present, safe, v = _decomposed(w)
    inside = u.T @ dw @ v.T
    even, odd = (inside + inside.T) / 2, (inside - inside.T) / 2
    right, left = u.T @ dw - inside @ v, dw @ v.T - u @ inside
    sigma, both = jnp.where(present, safe, 0), present[:, None] & present
    gap = jnp.where(both, jnp.log(safe)[:, None] - jnp.log(safe), 0)
    total = sigma[:, None] + sigma
    value, tangent = [], []
    for p in powers:
        f, ratio = jnp.where(present, safe**p, 0), jnp.where(present, safe ** (p - 1), 0)
        equal = jnp.where(gap == 0, p, jnp.expm1(p * gap) / jnp.where(gap == 0, 1, jnp.expm1(gap)))
        difference = jnp.where(both, ratio * equal, ratio[:, None] + ratio)
        mean = (f[:, None] + f) / jnp.where(total > 0, total, 1)
        value.append((u * f) @ v)
        tangent.append(u @ (difference * even + mean * odd) @ v + (u * ratio) @ right + (left * ratio) @ v)
    return jnp.stack(value), jnp.stack(tangent)
