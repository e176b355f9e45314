"""An associative memory under sign descent and under Muon: which basis, and which frequencies, an optimiser can see.

The memory of `theory.induction.associative_memory` has at zero weights the gradient -U C diag(p) E^T, with values in
the columns of U, keys in those of E, C = 1 - 11^T / K. Three updates of unit size:

- sign descent, which Adam is without its averages, takes the sign of each entry. With one-hot keys and values that is
  2 delta - 1, the same for all frequencies. In a random basis it is gradient descent of another size, plus noise;
- Muon takes the polar factor, all singular values set to one: U Q E^T with Q the polar factor of C diag(p), the same
  in any basis. Q is nearly C, whatever p, but for a key much rarer than all others: it is the null vector;
- Muon in practice replaces the polar factor by a few steps of Newton and Schulz, which lift no singular value by more
  than a given factor.

Two levels of frequency, F frequent keys and R rare ones, are solved for any number of steps. Matrices of logits have a
row for each value and a column for each key. Memories start at zero.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Real

from theory.checks import matrix, non_negative, positive, real, require, whole, within
from theory.induction.associative_memory import Recall, checked_frequencies

# The quintic of Muon in practice: x -> a x + b x^3 + c x^5 on each singular value.
QUINTIC = (3.4445, -4.7750, 2.0315)
# Nodes of the integrals over a logarithm: at a spacing of a quarter their error is below rounding.
_NODES = 512


class TwoLevel(NamedTuple):
    """A matrix of logits with two kinds of keys, frequent and rare ones.

    `frequent`  a frequent key's own value; `frequent_other` another frequent one; `frequent_cross` a rare value.
    `rare`, `rare_other`, `rare_cross`: the same of a rare key, whose cross logits are those of frequent values.
    Steps come first, where there are any. With one rare key there is no other, and `rare_other` means nothing.
    """

    frequent: Float[Array, "*steps"]
    frequent_other: Float[Array, "*steps"]
    frequent_cross: Float[Array, "*steps"]
    rare: Float[Array, "*steps"]
    rare_other: Float[Array, "*steps"]
    rare_cross: Float[Array, "*steps"]


def logit_recall(logits: Real[ArrayLike, "values keys"]) -> Recall:
    """Recall of each key of a matrix of logits.

    Arguments:
        logits: z_jk of value j at key k, (K, K); a key's right value is on the diagonal.
    Returns:
        `Recall`, each part (K,).
    Holds when: always.
    Source: a definition.
    """
    z = matrix("logits", logits)
    if z.shape[0] != z.shape[1]:
        raise ValueError(f"logits must be a square matrix, got shape {z.shape}")
    behind = jnp.where(jnp.eye(len(z), dtype=bool), -jnp.inf, z - jnp.diagonal(z))
    return _recall(-jax.nn.logsumexp(behind, axis=0))


def sign_margin(steps: Real[ArrayLike, "*#steps"], lr: Real[ArrayLike, "*#rates"]) -> Float[Array, "..."]:
    """Margin of every key after sign descent with one-hot keys and values: 2 lr steps, whatever its frequency.

    Arguments:
        steps: number of steps >= 0; lr: size of a step > 0.
    Returns:
        the margin, the same for all keys.
    Holds when: keys and values are unit vectors of the basis in which signs are taken; no momentum.
    Source: derived in derivations/induction/spectral_descent.py.
    """
    return 2 * positive("lr", lr) * non_negative("steps", steps)


def rotated_sign_margin(frequencies: Real[ArrayLike, " K"], lr: Real[ArrayLike, ""] = 1.0) -> Float[Array, " K"]:
    """Mean margin of each key after one step of sign descent in a random basis: nearly proportional to its frequency.

    E[z_kk - mean of the others] = lr K^2/(K-1) sqrt(2/pi) p_k E[g_k^2 / sqrt(sum_l p_l^2 g_l^2)],  g ~ N(0, 1)^K,
    E[.] = pi^{-1/2} int_0^inf s^{-1/2} (1 + 2 s p_k^2)^{-1} prod_l (1 + 2 s p_l^2)^{-1/2} ds.

    For many keys of like frequency that is lr K sqrt(2/pi) p_k / |p|: gradient descent of another size. Each single
    logit scatters around its mean by about lr.

    Arguments:
        frequencies: p > 0, of sum one, (K,); lr: size of the step > 0.
    Returns:
        the mean margins, (K,).
    Holds when: keys and values are two independent uniformly random orthonormal bases; K large.
    Source: derived in derivations/induction/spectral_descent.py.
    """
    p, lr = checked_frequencies(frequencies), positive("lr", lr)
    q, k = p / jnp.max(p), len(p)
    u, spacing = _line(-_reach(q), _reach(q) - jnp.log(jnp.min(q)))
    # s = e^{2u}: both ends decay at least as e^{-|u|}, and the integrand is analytic for |Im u| < pi / 2.
    spread = 1 + 2 * jnp.exp(2 * u) * q[:, None] ** 2
    measure = 2 * spacing * jnp.exp(u - jnp.sum(jnp.log(spread), axis=0) / 2) / jnp.sqrt(jnp.pi)
    return lr * k**2 / (k - 1) * jnp.sqrt(2 / jnp.pi) * q * jnp.sum(measure / spread, axis=1)


def polar_factor(frequencies: Real[ArrayLike, " K"]) -> Float[Array, "K K"]:
    """Polar factor of C diag(p): the logits after one unit step of Muon, for any frequencies.

    Q_jk = delta_jk - (2/pi) int_0^inf p_k / [(p_j^2 + s^2)(p_k^2 + s^2) sum_l (p_l^2 + s^2)^{-1}] ds

    Arguments:
        frequencies: p > 0, of sum one, (K,); their ratios up to 1e17.
    Returns:
        Q, (K, K): Q Q^T = C, Q^T C diag(p) symmetric and positive semi-definite.
    Holds when: exact orthogonalisation, W = 0, no weight decay (momentum does not matter at the first step).
    Source: derived in derivations/induction/spectral_descent.py.
    """
    p = checked_frequencies(frequencies)
    q = p / jnp.max(p)
    u, spacing = _line(jnp.log(jnp.min(q)) - _reach(q), _reach(q))
    s = jnp.exp(u)
    poles = 1 / (q[:, None] ** 2 + s**2)
    weights = 2 / jnp.pi * spacing * s / jnp.sum(poles, axis=0)
    return jnp.eye(len(p), dtype=p.dtype) - (weights * poles) @ (q[:, None] * poles).T


def lone_rare_logit(ratio: Real[ArrayLike, "*#ratios"], classes: Real[ArrayLike, "*#classes"]) -> Float[Array, "..."]:
    """What Muon's first unit step gives a single key rarer than all others, which are alike: less than one.

    Q_rr = r (K-1)/K / sqrt(1/K + r^2 (K-1)/K),  about r sqrt(K) for r << K^{-1/2}, as 1/p is C diag(p)'s null vector.

    Arguments:
        ratio: r > 0, its frequency over that of another key; classes: K > 1, the rare one included.
    Returns:
        the key's own logit; all others have more than 1 - 1/(K-1).
    Holds when: as for `polar_factor`.
    Source: derived in derivations/induction/spectral_descent.py.
    """
    r, k = positive("ratio", ratio), positive("classes", classes)
    k = require("classes", k, k > 1, "must be above 1")
    return r * (k - 1) / k / jnp.sqrt(1 / k + r**2 * (k - 1) / k)


def newton_schulz(
    singular_values: Real[ArrayLike, "*shape"], iterations: int = 5, coefficients: tuple[float, float, float] = QUINTIC
) -> Float[Array, "*shape"]:
    """What Newton-Schulz iterations make of singular values: x -> a x + b x^3 + c x^5, again and again.

    Arguments:
        singular_values: of the matrix, over its Frobenius norm, between -1 and 1 (odd in them).
        iterations: how many, >= 0; coefficients: (a, b, c).
    Returns:
        the singular values of the result. The usual five lift small ones by a^5 = 485, to between about 0.7 and 1.2
        above 1/500; none is one.
    Holds when: exact arithmetic.
    Source: the iteration is Jordan et al. 2024, Muon.
    """
    x = within("singular_values", singular_values, -1 - 1e-6, 1 + 1e-6)
    return _quintic(x, whole("iterations", iterations, at_least=0), coefficients)


def two_level_polar(ratio: Real[ArrayLike, ""], frequent: Real[ArrayLike, ""], rare: Real[ArrayLike, ""]) -> TwoLevel:
    """Polar factor of C diag(p) where F keys share one frequency and R keys another, in closed form.

    With f = F / K, n^2 = 1 - f + r^2 f:  Q_AA = 1 - 1/F + (1 - f)/(n F),  Q_BB = 1 - 1/R + r f/(n R),
    others of the same kind one less, values of the other kind -1/(n K) at a frequent key, -r/(n K) at a rare one.

    Arguments:
        ratio: r > 0, frequency of a rare key over that of a frequent one.
        frequent: F >= 1; rare: R >= 1, numbers of keys.
    Returns:
        `TwoLevel` of numbers: logits for a unit step. Own logits are at least 1 - 1/F and 1 - 1/R.
    Holds when: as for `polar_factor`.
    Source: derived in derivations/induction/spectral_descent.py.
    """
    r, big, small = _checked_levels(ratio, frequent, rare)
    k = big + small
    f = big / k
    n = jnp.sqrt(1 - f + r**2 * f)
    a, b = (1 - f) / (n * big), r * f / (n * small)
    return TwoLevel(1 - 1 / big + a, a - 1 / big, -1 / (n * k), 1 - 1 / small + b, b - 1 / small, -r / (n * k))


def two_level_muon(
    steps: int,
    lr: Real[ArrayLike, ""],
    ratio: Real[ArrayLike, ""],
    frequent: Real[ArrayLike, ""],
    rare: Real[ArrayLike, ""],
    *,
    momentum: Real[ArrayLike, ""] = 0.0,
    iterations: int | None = None,
) -> TwoLevel:
    """Logits through many steps of Muon at two levels of frequency: an exact recursion on six numbers.

    The gradient stays of the form that two kinds of keys allow: a multiple of 1 - 11^T/F among frequent keys, of
    1 - 11^T/R among rare ones, and one singular pair across. Muon sets the three singular values to one.

    Arguments:
        steps: number of steps >= 0, a Python int; lr: size of a step > 0.
        ratio: r > 0; frequent: F >= 1; rare: R >= 1, as for `two_level_polar`.
        momentum: of Nesterov's kind with bias correction, as in optax, in [0, 1); 0 is none.
        iterations: of Newton and Schulz, as `newton_schulz`, on the update over its Frobenius norm; None is exact.
    Returns:
        `TwoLevel` at steps 0 to `steps`, each part (steps + 1,).
    Holds when: full-batch Muon from W = 0, no weight decay, orthonormal keys and values in any basis. Own margins
        below 700, beyond which the gradient is zero in double precision.
    Source: derived in derivations/induction/spectral_descent.py.
    """
    levels = _checked_levels(ratio, frequent, rare)
    lr, momentum = positive("lr", lr), within("momentum", momentum, 0.0, 1.0)
    momentum = require("momentum", momentum, momentum < 1, "must be below 1")
    steps = whole("steps", steps, at_least=0)
    iterations = None if iterations is None else whole("iterations", iterations)
    return _muon(lr, levels, momentum, steps, iterations)


def two_level_recall(
    logits: TwoLevel | tuple, frequent: Real[ArrayLike, ""], rare: Real[ArrayLike, ""]
) -> tuple[Recall, Recall]:
    """Recall of frequent and of rare keys.

    Arguments:
        logits: `TwoLevel`, parts of any one shape; frequent, rare: F >= 1 and R >= 1.
    Returns:
        two `Recall`, of frequent keys and of rare ones, each part of the shape of the logits.
    Holds when: always.
    Source: a definition.
    """
    z = TwoLevel(*(real(name, part) for name, part in zip(TwoLevel._fields, logits, strict=True)))
    _, big, small = _checked_levels(1.0, frequent, rare)
    return (
        _recall(-_behind(z.frequent, z.frequent_other, z.frequent_cross, big, small)),
        _recall(-_behind(z.rare, z.rare_other, z.rare_cross, small, big)),
    )


@partial(jax.jit, static_argnames=("steps", "iterations"))
def _muon(lr, levels, momentum, steps: int, iterations: int | None) -> TwoLevel:
    def step(state, count):
        z, mean = state
        gradient = _gradient(z, *levels)
        mean = jax.tree.map(lambda m, g: momentum * m + (1 - momentum) * g, mean, gradient)
        # Nesterov: the mean as it will be if the gradient comes again, each part with its own bias correction.
        ahead, now = momentum / (1 - momentum ** (count + 2)), (1 - momentum) / (1 - momentum ** (count + 1))
        force = jax.tree.map(lambda m, g: ahead * m + now * g, mean, gradient)
        z = TwoLevel(*(old + lr * new for old, new in zip(z, _update(force, *levels[1:], iterations), strict=True)))
        return (z, mean), z

    zero = jnp.zeros_like(levels[0] * levels[1] * levels[2] * lr)
    start = TwoLevel(*[zero] * 6)
    _, later = jax.lax.scan(step, (start, (zero,) * 4), jnp.arange(steps, dtype=zero.dtype))
    return TwoLevel(*(jnp.concatenate([first[None], rest]) for first, rest in zip(start, later, strict=True)))


def _gradient(z: TwoLevel, ratio, big, small):
    """Minus the gradient: its multiples of 1 - 11^T/F and 1 - 11^T/R, and what each kind of key owes to the other."""

    def kind(right, other, cross, own, others):
        loss = jax.nn.softplus(_behind(right, other, cross, own, others))
        wrong, astray = jnp.exp(other - right - loss), others * jnp.exp(cross - right - loss)
        return own * wrong + astray, astray

    within_frequent, from_frequent = kind(z.frequent, z.frequent_other, z.frequent_cross, big, small)
    within_rare, from_rare = kind(z.rare, z.rare_other, z.rare_cross, small, big)
    return within_frequent, ratio * within_rare, from_frequent, ratio * from_rare


def _update(force, big, small, iterations) -> TwoLevel:
    """The force with its singular values set to one, or to what Newton and Schulz make of them."""
    in_frequent, in_rare, from_frequent, from_rare = force
    k = big + small
    # The left singular vector across: +-, orthogonal to 1; the right one owes sqrt(K / F R) per unit of flow.
    left_frequent, left_rare = jnp.sqrt(small / (big * k)), -jnp.sqrt(big / (small * k))
    across = jnp.sqrt(big * from_frequent**2 + small * from_rare**2)
    safe = jnp.where(across > 0, across, 1.0)
    right_frequent, right_rare = from_frequent / safe, -from_rare / safe
    values = (in_frequent, in_rare, across * jnp.sqrt(k / (big * small)))
    if iterations is None:
        gains = [jnp.sign(value) for value in values]
    else:
        norm = jnp.sqrt((big - 1) * values[0] ** 2 + (small - 1) * values[1] ** 2 + values[2] ** 2)
        # A kind with a single key has no inner direction, and its value may exceed the norm of the rest.
        gains = [_quintic(jnp.clip(value / norm, -1, 1), iterations, QUINTIC) for value in values]
    a, b = gains[2] * left_frequent * right_frequent, gains[2] * left_rare * right_rare
    return TwoLevel(
        gains[0] * (1 - 1 / big) + a,
        -gains[0] / big + a,
        gains[2] * left_rare * right_frequent,
        gains[1] * (1 - 1 / small) + b,
        -gains[1] / small + b,
        gains[2] * left_frequent * right_rare,
    )


def _quintic(x, iterations: int, coefficients):
    a, b, c = coefficients
    for _ in range(iterations):
        x = x * (a + x**2 * (b + c * x**2))
    return x


def _behind(right, other, cross, own, others):
    """ln of the summed odds of wrong values: own - 1 of the same kind, `others` of the other."""
    same = jnp.where(own > 1, jnp.log(jnp.where(own > 1, own - 1, 1.0)) + other - right, -jnp.inf)
    return jnp.logaddexp(same, jnp.log(others) + cross - right)


def _recall(lead) -> Recall:
    return Recall(jax.nn.sigmoid(lead), jax.nn.sigmoid(-lead), jax.nn.softplus(-lead))


def _reach(x):
    """How far, in a logarithm, an end that decays as e^{-|u|} has to be followed."""
    return -jnp.log(jnp.finfo(x.dtype).eps) + 1


def _line(low, high):
    return jnp.linspace(low, high, _NODES), (high - low) / (_NODES - 1)


def _checked_levels(ratio, frequent, rare):
    r, big, small = positive("ratio", ratio), real("frequent", frequent), real("rare", rare)
    big = require("frequent", big, big >= 1, "must be at least 1")
    return r, big, require("rare", small, small >= 1, "must be at least 1")
