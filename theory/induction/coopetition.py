"""Coopetition: two mechanisms that share parts, of which the first to come is not the one to stay.

In-context learning can appear in training and fade again, when a slower mechanism that solves the same task takes
over. The model of two mechanisms, tensors of rank one that share two factors,

    loss = (l_1 + mu_1) (l_2 + mu_2) + (alpha / 2) mean((a (x) d)^2),
    l_1 = (1/2) mean((A (x) B (x) C - a (x) b (x) c)^2),   l_2 = (1/2) mean((D (x) B (x) C - d (x) b (x) c)^2).

Either mechanism alone would do, up to its floor mu. They cooperate through b and c, and compete through alpha. Each
vector moves in the plane of itself and its truth, so that training is two numbers a factor, at any dimension and step.

Factors come in the order a, d, b, c: four of them. With six, a, d, b, c, b', c', the second mechanism has shared parts
of its own, b' and c', and nothing but the product of losses and alpha joins the two.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Real

from theory.checks import non_negative, positive, real, whole
from theory.flow import flow, times
from theory.induction.subcircuits import Factors, reduced_force, reduced_loss


class Contest(NamedTuple):
    """Two mechanisms.

    `truth`        lengths |A|, |D|, |B|, |C| of the true factors, > 0, (4,).
    `entries`      of the two tensors and of a (x) d: products of dimensions, > 0, (3,).
    `floors`       mu_1 and mu_2 >= 0, (2,): the loss that a mechanism does not get rid of.
    `competition`  alpha >= 0.
    """

    truth: Float[ArrayLike, " four"]
    entries: Real[ArrayLike, " three"]
    floors: Float[ArrayLike, " two"]
    competition: Float[ArrayLike, ""]


class MechanismLosses(NamedTuple):
    """`first` l_1 and `second` l_2, without floors, and the `total` loss."""

    first: Float[Array, "..."]
    second: Float[Array, "..."]
    total: Float[Array, "..."]


def mechanism_losses(factors: Factors | tuple, contest: Contest | tuple) -> MechanismLosses:
    """Losses of both mechanisms and of the whole.

    Arguments:
        factors: p along the truth and q across, (..., 4) in the order a, d, b, c, or (..., 6).
        contest: the `Contest`.
    Returns:
        the `MechanismLosses`, (...).
    Holds when: always.
    Source: Singh, Moskovitz, Dragutinovic, Hill, Chan & Saxe 2025 (arXiv:2503.05631), the toy model of coopetition.
    """
    (p, q), contest = _checked(factors, contest)
    return MechanismLosses(*_losses(p, q, *contest))


def explained(contest: Contest | tuple) -> Float[Array, " two"]:
    """What each mechanism can explain: its loss at zero, tau = |truth|^2 / (2 D).

    Arguments: contest: the `Contest`.
    Returns: tau_1 and tau_2, (2,).
    Holds when: always.
    Source: a definition.
    """
    truth, entries, *_ = _checked_contest(contest)
    return truth[:2] ** 2 * jnp.prod(truth[2:]) ** 2 / (2 * entries[:2])


def settled_losses(contest: Contest | tuple) -> Float[Array, " two"]:
    """Loss of either mechanism alone, perfect, the other gone: mu_1 (tau_2 + mu_2) and mu_2 (tau_1 + mu_1).

    Arguments: contest: the `Contest`.
    Returns: (2,). The lower one is that of the smaller mu / tau: it wins if anything takes training there.
    Holds when: always. With mu_1 > 0 mechanism 1 alone is not stationary: d is driven, at the rate mu_1 tau_2 / |D|^2.
    Source: derived in derivations/induction/coopetition.py.
    """
    first, second = explained(contest)
    _, _, (mu1, mu2), _ = _checked_contest(contest)
    return jnp.stack([mu1 * (second + mu2), mu2 * (first + mu1)])


def competition_strength(contest: Contest | tuple) -> Float[Array, ""]:
    """Competition in units of what is to be learned: kappa = sqrt(alpha sigma / (tau_1 tau_2)).

    sigma = |A|^2 |D|^2 / (2 entries of a (x) d).

    Arguments: contest: the `Contest`.
    Returns: kappa, for `replacement_floor`.
    Holds when: always.
    Source: derived in derivations/induction/coopetition.py.
    """
    truth, entries, _, alpha = _checked_contest(contest)
    both = jnp.prod(truth[:2]) ** 2 / (2 * entries[2])
    return jnp.sqrt(alpha * both / jnp.prod(explained(contest)))


def replacement_floor(competition: Real[ArrayLike, "..."]) -> Float[Array, "..."]:
    """Floor of mechanism 1, over tau_1, above which mechanism 2 replaces it, once shared factors are learned and held.

    mu_1 / tau_1 = 3 kappa z / (4 (z^2 + 1)),   z^3 - 3 z = 4 / kappa,  z > sqrt(3).

    Arguments:
        competition: kappa > 0, `competition_strength`.
    Returns:
        the critical mu_1 / tau_1: (3/4) kappa (kappa/4)^{1/3} for small kappa. Below it mechanism 2 grows only in part
        and mechanism 1 stays: the loss has a valley between the two.
    Holds when: b = B, c = C held, mu_2 = 0, mechanism 2 grows slowly from nothing (tau_2 / |D|^2 << tau_1 / |A|^2). If
        shared factors go on learning they grow, at the expense of the competition, and end the stay: see
        `shared_growth`.
    Source: derived in derivations/induction/coopetition.py.
    """
    kappa = positive("competition", competition)
    # z = u + 1/u with u^3 + 1/u^3 = 4 / kappa: a hyperbolic angle, or a circular one for strong competition.
    half = 2 / kappa
    weak = half >= 1
    angle = jnp.arccosh(jnp.where(weak, half, 1.0)) / 3
    z = 2 * jnp.where(weak, jnp.cosh(angle), jnp.cos(jnp.arccos(jnp.where(weak, 1.0, half)) / 3))
    return 3 * kappa * z / (4 * (z**2 + 1))


def shared_growth(factors: Factors | tuple, contest: Contest | tuple) -> Float[Array, "..."]:
    """Rate of |b|^2 - |a|^2 - |d|^2: 4 alpha |a|^2 |d|^2 / entries, never negative.

    Arguments: as for `mechanism_losses`, four factors.
    Returns: the rate, (...); that of |c|^2 - |a|^2 - |d|^2 is the same, and |b|^2 - |c|^2 is kept.
    Holds when: gradient flow, shared factors. So while both mechanisms live, competition takes length from a and d and
        leaves it to what they share.
    Source: derived in derivations/induction/coopetition.py.
    """
    (p, q), (_, entries, _, alpha) = _checked(factors, contest)
    if p.shape[-1] != 4:
        raise ValueError(f"factors must be the four a, d, b, c, got {p.shape[-1]}")
    n = p**2 + q**2
    return 4 * alpha * n[..., 0] * n[..., 1] / entries[2]


def coopetition_flow(
    t: Real[ArrayLike, " T"],
    start: Factors | tuple,
    contest: Contest | tuple,
    held: tuple[int, ...] = (),
) -> Factors:
    """Gradient flow of both mechanisms.

    Arguments:
        t: times, increasing, >= 0, learning rate times steps, (T,).
        start: p and q, (4,) in the order a, d, b, c, or (6,).
        contest: the `Contest`.
        held: factors that do not learn, places in that order, a tuple of Python ints. Start them at zero to leave a
            mechanism out, at the truth to clamp it.
    Returns:
        `Factors` (T, 4) or (T, 6).
    Holds when: full-batch gradient flow, any dimensions.
    Source: the closure is derived in derivations/induction/coopetition.py, for the model of Singh et al. 2025
        (arXiv:2503.05631).
    """
    t, (p, q, free, contest) = times("t", t), _checked_start(start, contest, held)
    return _flow(t, p, q, free, contest)


def coopetition_descent(
    steps: int,
    start: Factors | tuple,
    contest: Contest | tuple,
    lr: Real[ArrayLike, ""],
    held: tuple[int, ...] = (),
    every: int = 1,
) -> Factors:
    """Gradient descent of both mechanisms with finite steps: the same planes, an exact recursion.

    Arguments:
        steps: a Python int >= 0; every: steps between two records, a divisor of it.
        start, contest, held: as for `coopetition_flow`; lr: the step, > 0.
    Returns:
        `Factors` at steps 0, every, 2 every, ..., with a leading axis of steps / every + 1.
    Holds when: full-batch gradient descent, any dimensions and step.
    Source: as for `coopetition_flow`.
    """
    given = _checked_start(start, contest, held)
    lr, every, steps = positive("lr", lr), whole("every", every), whole("steps", steps, at_least=0)
    if steps % every:
        raise ValueError(f"every must divide the {steps} steps, got {every}")
    return _descent(*given, lr, steps // every, every)


def _places(count: int):
    """Which factors the two mechanisms are made of."""
    return jnp.array([0, 2, 3]), jnp.array([1, 2, 3] if count == 4 else [1, 4, 5])


def _truths(truth):
    return truth[jnp.array([0, 2, 3])], truth[jnp.array([1, 2, 3])]


def _losses(p, q, truth, entries, floors, alpha):
    parts = [
        reduced_loss(p[..., places], q[..., places], s, d)
        for places, s, d in zip(_places(p.shape[-1]), _truths(truth), entries[:2], strict=True)
    ]
    n = p[..., :2] ** 2 + q[..., :2] ** 2
    fight = alpha * n[..., 0] * n[..., 1] / (2 * entries[2])
    return *parts, (parts[0] + floors[0]) * (parts[1] + floors[1]) + fight


def _force(p, q, truth, entries, floors, alpha):
    """Minus the gradient of the total loss in p and in q."""
    first, second, _ = _losses(p, q, truth, entries, floors, alpha)
    n = p**2 + q**2
    pull = alpha * n[jnp.array([1, 0])] / entries[2]
    found = [jnp.zeros_like(x).at[:2].set(-pull * x[:2]) for x in (p, q)]
    weights = second + floors[1], first + floors[0]
    for places, s, d, weight in zip(_places(p.size), _truths(truth), entries[:2], weights, strict=True):
        moves = reduced_force(p[places], q[places], s, d)
        found = [total.at[places].add(weight * move) for total, move in zip(found, moves, strict=True)]
    return tuple(found)


@jax.jit
def _flow(t, p, q, free, contest) -> Factors:
    def field(state):
        return tuple(jnp.where(free, move, 0.0) for move in _force(*state, *contest))

    return Factors(*flow(field, t, (p, q), rtol=1e-9, atol=1e-11))


@partial(jax.jit, static_argnames=("records", "every"))
def _descent(p, q, free, contest, lr, records: int, every: int) -> Factors:
    def step(_, state):
        moves = _force(*state, *contest)
        return tuple(x + jnp.where(free, lr * move, 0.0) for x, move in zip(state, moves, strict=True))

    def record(state, _):
        state = jax.lax.fori_loop(0, every, step, state)
        return state, state

    first = (p, q)
    _, later = jax.lax.scan(record, first, None, length=records)
    return Factors(*(jnp.concatenate([one[None], others]) for one, others in zip(first, later, strict=True)))


def _checked_contest(contest):
    truth, entries, floors, alpha = contest
    truth, entries = positive("truth", truth), positive("entries", entries)
    floors, alpha = non_negative("floors", floors), non_negative("competition", alpha)
    shapes = truth.shape, entries.shape, floors.shape, alpha.shape
    if shapes != ((4,), (3,), (2,), ()):
        raise ValueError(f"contest must hold 4 lengths, 3 numbers of entries, 2 floors and alpha, got shapes {shapes}")
    return truth, entries, floors, alpha


def _checked(factors, contest):
    p, q = (real(name, value) for name, value in zip(Factors._fields, factors, strict=True))
    if p.shape != q.shape or p.shape[-1:] not in ((4,), (6,)):
        raise ValueError(f"factors must be of shape (..., 4) or (..., 6), got {p.shape} and {q.shape}")
    return (p, q), _checked_contest(contest)


def _checked_start(start, contest, held):
    (p, q), contest = _checked(start, contest)
    if p.ndim != 1:
        raise ValueError(f"start must hold one run of factors, got shape {p.shape}")
    wanted = [whole("held", one, at_least=0) for one in held]
    if any(one >= p.size for one in wanted):
        raise ValueError(f"held must be places from 0 to {p.size - 1}, got {held}")
    return p, q, jnp.array([i not in wanted for i in range(p.size)]), contest
