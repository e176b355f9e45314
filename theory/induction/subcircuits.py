"""Three subcircuits that work only together: a tensor of rank one, learned factor by factor.

An induction head is a product: look at the previous token, match, copy. Its simplest model learns T = A (x) B (x) C by
a (x) b (x) c, on half the mean squared entry, loss = |T - a (x) b (x) c|^2 / (2 D). Each factor waits for the product
of the others: hence the plateau and the abrupt end, where every factor alone would learn smoothly.

Each update of a is a sum of A and a, so that a moves in the plane of A and its own start. Two numbers a factor, its
length p along A and its length q across, are then all that training depends on, step by step, at any dimension. Nothing
here is special to three factors: K of them are two for a matrix of rank one, one for linear regression.

To clamp a factor is to set it to the truth and hold it there. Time t is the learning rate times steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Real

from theory.checks import non_negative, positive, real, require, whole
from theory.deep_linear.modes import decay_integral
from theory.flow import flow, times


class Factors(NamedTuple):
    """K factors in their planes: p `along` the true factor (signed), q `across` (its sign is free), (..., K) each.

    Overlap with the true factor of length S: p S. Squared length: p^2 + q^2.
    """

    along: Float[Array, "..."]
    across: Float[Array, "..."]


class EquivalentMode(NamedTuple):
    """Arguments of `theory.deep_linear.modes.mode_strength`: correlation s, curvature lam, and the depth."""

    s: Float[Array, ""]
    lam: Float[Array, ""]
    depth: int


def plane_coordinates(
    vectors: Sequence[Real[ArrayLike, "..."]], truths: Sequence[Real[ArrayLike, "..."]]
) -> tuple[Factors, Float[Array, " K"]]:
    """Factors given as vectors, in the planes in which they will move.

    p = a . A / |A|,   q = |a - p A / |A||.

    Arguments:
        vectors: a, b, c ..., K vectors; truths: A, B, C ..., of the same dimensions and not zero.
    Returns:
        the `Factors` (K,), and the lengths |A|, |B|, |C| ..., (K,): the `truth` of every function below.
    Holds when: always.
    Source: a definition.
    """
    pairs = [(real("vectors", a), real("truths", b)) for a, b in zip(vectors, truths, strict=True)]
    for a, b in pairs:
        if a.ndim != 1 or a.shape != b.shape:
            raise ValueError(f"vectors must have the shapes of the truths, got {a.shape} against {b.shape}")
    lengths = positive("length of a true factor", jnp.stack([jnp.linalg.norm(b) for _, b in pairs]))
    units = [b / length for (_, b), length in zip(pairs, lengths, strict=True)]
    along = jnp.stack([a @ unit for (a, _), unit in zip(pairs, units, strict=True)])
    rest = [a - p * unit for (a, _), p, unit in zip(pairs, along, units, strict=True)]
    return Factors(along, jnp.stack([jnp.linalg.norm(one) for one in rest])), lengths


def tensor_loss(
    factors: Factors | tuple, truth: Real[ArrayLike, " K"], entries: Real[ArrayLike, ""]
) -> Float[Array, "..."]:
    """Half the mean squared entry of what is missing.

    L = (prod S^2 - 2 prod p S + prod (p^2 + q^2)) / (2 D).

    Arguments:
        factors: (..., K); truth: lengths S of the true factors, > 0, (K,).
        entries: D > 0, of the tensor: the product of the dimensions.
    Returns:
        L, (...), to full precision also where little is missing.
    Holds when: always.
    Source: Singh, Moskovitz, Hill, Chan & Saxe 2024 (arXiv:2404.07129), the toy model of three clamped subcircuits.
    """
    return reduced_loss(*_checked(factors, truth, entries))


def subcircuit_loss(
    factors: Factors | tuple, truth: Real[ArrayLike, " K"], entries: Real[ArrayLike, ""]
) -> Float[Array, "... K"]:
    """Progress of each factor: the loss that it would have among true ones, at the better of its two signs.

    l_i = ((S_i - |p_i|)^2 + q_i^2) prod_{j != i} S_j^2 / (2 D).

    Arguments: as for `tensor_loss`.
    Returns: l, (..., K).
    Holds when: always. Flipping the signs of two factors changes nothing, and a progress measure must not see it.
    Source: as for `tensor_loss`.
    """
    p, q, s, d = _checked(factors, truth, entries)
    return ((s - jnp.abs(p)) ** 2 + q**2) * product_of_others(s) ** 2 / (2 * d)


def misalignment(factors: Factors | tuple) -> Float[Array, "... K"]:
    """Progress of each factor's direction: 1 - cos^2 of its angle to the true one, q^2 / (p^2 + q^2).

    Arguments: factors: (..., K), none of them zero.
    Returns: (..., K), from 1 to 0.
    Holds when: always.
    Source: as for `tensor_loss`.
    """
    p, q = _checked_factors(factors)
    square = p**2 + q**2
    return q**2 / require("factors", square, square > 0, "must not vanish: the squared length")


def overlap_growth(
    factors: Factors | tuple, truth: Real[ArrayLike, " K"], entries: Real[ArrayLike, ""]
) -> Float[Array, "..."]:
    """Rate of the product of overlaps, which says whether the factors agree in sign.

    dO/dt = (1/D) sum_i [O_i^2 S_i^2 - O N_i],   O = prod_j p_j S_j,  O_i and N_i = products of the other overlaps and
    squared lengths.

    Arguments: as for `tensor_loss`.
    Returns: dO/dt, (...). Positive wherever O <= 0 (unless two overlaps vanish).
    Holds when: gradient flow. So a product that is positive stays so, and a negative one must pass through zero, while
        every squared length falls, at the rate 2 (O - prod n) / D: it forgets before it learns, a long plateau.
    Source: derived in derivations/induction/subcircuits.py.
    """
    p, q, s, d = _checked(factors, truth, entries)
    overlaps = p * s
    others, pull = product_of_others(overlaps), product_of_others(p**2 + q**2)
    return jnp.sum(others**2 * s**2 - jnp.prod(overlaps, axis=-1, keepdims=True) * pull, axis=-1) / d


def factor_flow(
    t: Real[ArrayLike, " T"],
    start: Factors | tuple,
    truth: Real[ArrayLike, " K"],
    entries: Real[ArrayLike, ""],
    clamped: tuple[int, ...] = (),
) -> Factors:
    """Gradient flow of the factors.

    D dp_i/dt = S_i prod_{j != i} p_j S_j - p_i N_i,   D dq_i/dt = -q_i N_i,   N_i = prod_{j != i} (p_j^2 + q_j^2).

    Arguments:
        t: times, increasing, >= 0, (T,).
        start: (K,); truth, entries: as for `tensor_loss`.
        clamped: which factors are set to the truth and held, a tuple of Python ints from 0 to K - 1.
    Returns:
        `Factors` (T, K). Differences of the free p_i^2 + q_i^2 are constants of motion; every |q_i| falls.
    Holds when: full-batch gradient flow, any dimensions.
    Source: the six-number closure is derived in derivations/induction/subcircuits.py.
    """
    along, across, s, d, free = _checked_start(start, truth, entries, clamped)
    return _flow(times("t", t), along, across, s, d, free)


def factor_descent(
    steps: int,
    start: Factors | tuple,
    truth: Real[ArrayLike, " K"],
    entries: Real[ArrayLike, ""],
    lr: Real[ArrayLike, ""],
    clamped: tuple[int, ...] = (),
    every: int = 1,
) -> Factors:
    """Gradient descent of the factors with finite steps: the same plane, an exact recursion.

    p_i <- p_i + (lr/D) (S_i prod_{j != i} p_j S_j - p_i N_i),   q_i <- q_i (1 - (lr/D) N_i).

    Arguments:
        steps: a Python int >= 0; every: steps between two records, a divisor of it.
        start, truth, entries, clamped: as for `factor_flow`.
        lr: the step, > 0; where lr N_i / D exceeds 2 it may diverge.
    Returns:
        `Factors` at steps 0, every, 2 every, ..., (steps / every + 1, K).
    Holds when: full-batch gradient descent, any dimensions and step.
    Source: as for `factor_flow`.
    """
    given = _checked_start(start, truth, entries, clamped)
    lr, every, steps = positive("lr", lr), whole("every", every), whole("steps", steps, at_least=0)
    if steps % every:
        raise ValueError(f"every must divide the {steps} steps, got {every}")
    return _descent(*given, lr, steps // every, every)


def lone_factor_loss(
    steps: Real[ArrayLike, "..."],
    along: Real[ArrayLike, "..."],
    across: Real[ArrayLike, "..."],
    truth: Real[ArrayLike, "..."],
    rate: Real[ArrayLike, "..."],
    lr: Real[ArrayLike, "..."],
) -> Float[Array, "..."]:
    """Loss where all factors but one are clamped: no plateau, a straight line in ln L.

    L_k = (rate / 2) ((p - S)^2 + q^2) (1 - lr rate)^{2k},   rate = prod_{others} S^2 / D.

    Arguments, which broadcast:
        steps: k >= 0; along, across: p and q of the free factor at the start; truth: its S > 0.
        rate: > 0, of the clamped factors; lr: the step, > 0.
    Returns: L_k. The whole vector obeys a_k = A + (a_0 - A) (1 - lr rate)^k.
    Holds when: gradient descent, any step.
    Source: derived in derivations/induction/subcircuits.py.
    """
    k, p, q = non_negative("steps", steps), real("along", along), real("across", across)
    s, rate = positive("truth", truth), positive("rate", rate)
    return rate / 2 * ((p - s) ** 2 + q**2) * jnp.abs(1 - positive("lr", lr) * rate) ** (2 * k)


def factor_pair(
    t: Real[ArrayLike, " T"],
    start: Factors | tuple,
    truth: Real[ArrayLike, " two"],
    rate: Real[ArrayLike, ""],
) -> Factors:
    """Two factors, the others clamped: the flow in closed form, from any start.

    (a, b) = e^{rate G t} (a_0, b_0) / sqrt(1 + rate int_0^t |e^{rate G r} (a_0, b_0)|^2 dr),
    G = [[delta/2, A B^T], [B A^T, -delta/2]],   delta = |a|^2 - |b|^2, a constant of motion.

    Arguments:
        t: times, >= 0, (T,); start: of the two, (2,); truth: their S, (2,).
        rate: > 0, prod_{clamped} S^2 / D.
    Returns:
        `Factors` (T, 2). From a small start the wait is logarithmic in it: ln(1/size) / (rate S_1 S_2).
    Holds when: gradient flow.
    Source: derived in derivations/induction/subcircuits.py; for rank one the solution that Tarmoun, Franca, Haeffele &
        Vidal 2021 (ICML, "Understanding the dynamics of gradient flow in overparameterized linear models") give.
    """
    (p, q), s, t = _checked_factors(start), positive("truth", truth), non_negative("t", t)
    if p.shape != (2,) or s.shape != (2,):
        raise ValueError(f"start and truth must hold two factors, got shapes {p.shape} and {s.shape}")
    return _pair(positive("rate", rate) * t, p, q, s)


def equivalent_mode(
    truth: Real[ArrayLike, " K"], entries: Real[ArrayLike, ""], clamped: tuple[int, ...] = ()
) -> EquivalentMode:
    """The mode of a deep linear network that factors are which point along the truth and are equally long.

    u = prod_{free} p,   du/dt = m u^{2 - 2/m} (s - lam u),   lam = prod_{clamped} S^2 / D,   s = lam prod_{free} S.

    Arguments: as for `factor_flow`.
    Returns: the `EquivalentMode`, of depth m = K less the clamped: each clamp takes a layer away.
    Holds when: q = 0 and all free p are equal at the start; then always. For random starts both hold only late.
    Source: derived in derivations/induction/subcircuits.py.
    """
    s, d = positive("truth", truth), positive("entries", entries)
    free = _free(clamped, s.size)
    lam = jnp.prod(jnp.where(free, 1.0, s**2)) / d
    return EquivalentMode(lam * jnp.prod(jnp.where(free, s, 1.0)), lam, s.size - len(clamped))


def emergence_time(
    along: Real[ArrayLike, " three"],
    truth: Real[ArrayLike, " K"],
    entries: Real[ArrayLike, ""],
    share: Real[ArrayLike, ""] = 1 - 0.5**0.5,
) -> Float[Array, ""]:
    """When three factors that start small have grown together: the length of the plateau, by Carlson's integral.

    t = (D / P) R_F(p_1^2, p_2^2, p_3^2) - (D / 3 P^{4/3}) (3/w - g(w)),   P = prod S,  w = share^{1/3},
    g(w) = int_0^w 3 v / (1 - v^3) dv. If prod p < 0, the first R_F becomes 2 R_F(0, p_2^2 - p_1^2, p_3^2 - p_1^2) less
    it, with p_1 the shortest: this one must first be unlearned, through zero.

    Arguments:
        along: p at the start, none zero, (3,), |p| << S; across of the same order.
        truth, entries: as for `tensor_loss`, K = 3.
        share: of the truth that the product has reached, in (0, 1). The default is half the loss at zero.
    Returns:
        t. It grows as 1/size of the start, and with a wrong sign the more, the closer the two shortest are.
    Holds when: gradient flow from a small start; relative corrections vanish with its size.
    Source: derived in derivations/induction/subcircuits.py.
    """
    p, s, d = real("along", along), positive("truth", truth), positive("entries", entries)
    if p.shape != (3,) or s.shape != (3,):
        raise ValueError(f"along and truth must hold three factors, got shapes {p.shape} and {s.shape}")
    p, share = require("along", p, p != 0, "must not be zero"), real("share", share)
    share = require("share", share, (share > 0) & (share < 1), "must lie in (0, 1)")
    squares = jnp.sort(p**2)
    ahead = carlson(squares)
    through = carlson(jnp.stack([jnp.zeros_like(p[0]), squares[1] - squares[0], squares[2] - squares[0]]))
    wait = jnp.where(jnp.prod(jnp.sign(p)) > 0, ahead, 2 * through - ahead)
    w, product, root = jnp.cbrt(share), jnp.prod(s), jnp.sqrt(3.0)
    g = jnp.log(jnp.sqrt(1 + w + w**2) / (1 - w)) - root * (jnp.arctan((2 * w + 1) / root) - jnp.pi / 6)
    return d / product * wait - d / (3 * product ** (4 / 3)) * (3 / w - g)


@jax.jit
def carlson(squares: Float[Array, " three"]) -> Float[Array, ""]:
    """Carlson's R_F(x, y, z) = (1/2) int_0^inf ds / sqrt((s + x)(s + y)(s + z)); infinite where two of three are zero.

    Source: Carlson 1995 (Numerical Algorithms 10, 13): duplication, then a series.
    """

    def halve(_, x):
        r = jnp.sqrt(x)
        return (x + r[0] * r[1] + r[1] * r[2] + r[2] * r[0]) / 4

    # Differences shrink fourfold a time: 14 of them leave a series in 1e-8.
    x = jax.lax.fori_loop(0, 14, halve, squares)
    mean = jnp.mean(x)
    off = 1 - x / mean
    e2, e3 = off[0] * off[1] + off[1] * off[2] + off[2] * off[0], jnp.prod(off)
    value = (1 - e2 / 10 + e3 / 14 + e2**2 / 24 - 3 * e2 * e3 / 44) / jnp.sqrt(mean)
    return jnp.where(jnp.sum(squares == 0) > 1, jnp.inf, value)


def product_of_others(x: Float[Array, "*times K"]) -> Float[Array, "*times K"]:
    """prod_{j != i} x_j, without dividing by x_i."""
    return jnp.prod(jnp.where(jnp.eye(x.shape[-1], dtype=bool), 1.0, x[..., None, :]), axis=-1)


def reduced_loss(p, q, s, d) -> Float[Array, "..."]:
    """`tensor_loss` of checked arrays, as a sum of squares: (prod S - prod p)^2, and what is across, one by one."""
    one = jnp.ones_like(p[..., :1])
    before = jnp.concatenate([one, jnp.cumprod((p**2 + q**2)[..., :-1], axis=-1)], axis=-1)
    after = jnp.flip(jnp.concatenate([one, jnp.cumprod(jnp.flip(p**2, -1)[..., :-1], axis=-1)], axis=-1), -1)
    across = jnp.sum(before * q**2 * after, axis=-1)
    return ((jnp.prod(s, axis=-1) - jnp.prod(p, axis=-1)) ** 2 + across) / (2 * d)


def reduced_force(p, q, s, d) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """Minus the gradient of `reduced_loss` in p and in q."""
    pull = product_of_others(p**2 + q**2) / d
    return s * product_of_others(p * s) / d - pull * p, -pull * q


@jax.jit
def _flow(t, along, across, s, d, free) -> Factors:
    def field(state):
        return tuple(jnp.where(free, one, 0.0) for one in reduced_force(*state, s, d))

    return Factors(*flow(field, t, (along, across), rtol=1e-9, atol=1e-11))


@partial(jax.jit, static_argnames=("records", "every"))
def _descent(along, across, s, d, free, lr, records: int, every: int) -> Factors:
    def step(_, state):
        moves = reduced_force(*state, s, d)
        return tuple(x + jnp.where(free, lr * move, 0.0) for x, move in zip(state, moves, strict=True))

    def record(state, _):
        state = jax.lax.fori_loop(0, every, step, state)
        return state, state

    first = (along, across)
    _, later = jax.lax.scan(record, first, None, length=records)
    return Factors(*(jnp.concatenate([one[None], others]) for one, others in zip(first, later, strict=True)))


@jax.jit
def _pair(t, p, q, s) -> Factors:
    product, half = s[0] * s[1], jnp.sum(jnp.array([1.0, -1.0]) * (p**2 + q**2)) / 2
    omega, angle = jnp.hypot(product, half), jnp.arctan2(product, half) / 2
    turn = jnp.array([[jnp.cos(angle), jnp.sin(angle)], [-jnp.sin(angle), jnp.cos(angle)]])
    # The growing and the falling part of (p_1, p_2), q_1 and q_2: each with a rate of its own.
    rates = jnp.stack([omega, -omega, half, -half])
    parts = jnp.concatenate([turn @ p, q])
    t = t[:, None]
    # In units of e^{omega t}.
    grown = parts * jnp.exp((rates - omega) * t)
    spent = jnp.exp(2 * (jnp.maximum(rates, 0) - omega) * t) * decay_integral(2 * jnp.abs(rates), t)
    size = jnp.sqrt(jnp.exp(-2 * omega * t) + jnp.sum(parts**2 * spent, axis=1, keepdims=True))
    return Factors(grown[:, :2] @ turn / size, grown[:, 2:] / size)


def _free(clamped, count: int):
    wanted = [whole("clamped", one, at_least=0) for one in clamped]
    if len(set(wanted)) < len(wanted) or any(one >= count for one in wanted):
        raise ValueError(f"clamped must hold different places from 0 to {count - 1}, got {clamped}")
    return jnp.array([i not in wanted for i in range(count)])


def _checked_factors(factors):
    p, q = (real(name, value) for name, value in zip(Factors._fields, factors, strict=True))
    if p.shape != q.shape or not p.ndim:
        raise ValueError(f"along and across must be of one shape (..., K), got {p.shape} and {q.shape}")
    return p, q


def _checked(factors, truth, entries):
    (p, q), s = _checked_factors(factors), positive("truth", truth)
    if s.shape != p.shape[-1:]:
        raise ValueError(f"truth must hold a length for each of {p.shape[-1]} factors, got shape {s.shape}")
    return p, q, s, positive("entries", entries)


def _checked_start(start, truth, entries, clamped):
    p, q, s, d = _checked(start, truth, entries)
    if p.ndim != 1:
        raise ValueError(f"start must hold one run of factors, (K,), got shape {p.shape}")
    free = _free(clamped, p.size)
    return jnp.where(free, p, s), jnp.where(free, q, 0.0), s, d, free
