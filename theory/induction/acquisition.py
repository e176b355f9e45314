"""In-context learning against memorisation: two scalars learn to copy a label while a memoriser takes their signal.

A context holds N labelled items, labels +1 or -1, one of them a copy of the item that is asked for. The answer is

    z = phi + w sum_j softmax_j(beta x.x_j) l_j,

phi a memoriser of items, w the weight of the attended label, beta the sharpness of the attention. In many dimensions
different items are orthogonal, and all that a context says is the sum s of the other M = N - 1 labels, each times the
right one. The copy outweighs them once e^beta is some sqrt(N). Until then w and beta feed each other slowly,

    dw/dtau = e^beta - c_2 w,   dbeta/dtau = w e^beta,   dtau = c_1 dt / N,

driven by the memoriser's mean error c_1 and damped by the noise of the other labels. u = e^{-beta} is then the height
of a particle that falls with friction c_2 into a logarithmic well, u'' + c_2 u' + 1/u = 0; its fall has a closed form,
and it takes the same time T in units of tau whatever the memoriser does: the head is acquired when the accumulated
error int c_1 dt reaches N T. A memoriser that has learned its items before leaves it unacquired for ever.

Time is learning rate times steps, the loss is in nats.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import log_ndtr, logsumexp
from jaxtyping import Array, ArrayLike, Float, Real

from theory.checks import non_negative, positive, real, require, whole, within
from theory.flow import flow, times


class Circuit(NamedTuple):
    """The in-context path: `weight` w of the attended label, `sharpness` beta of the attention."""

    weight: Float[Array, "..."]
    sharpness: Float[Array, "..."]


class Contexts(NamedTuple):
    """What contexts look like: the number M of `others`, values s of their `sums`, and how `probable` each is."""

    others: Real[ArrayLike, ""]
    sums: Real[ArrayLike, " S"]
    probable: Real[ArrayLike, " S"]


class Moments(NamedTuple):
    """A memoriser: mean `error` c_1 = <sigma(-phi)>, `noise` c_2 = 1 - <sigma(-phi)^2> / c_1, `odds` c_3 = <e^-phi>."""

    error: Float[Array, "..."]
    noise: Float[Array, "..."]
    odds: Float[Array, "..."]


# Margins of a memoriser that knows nothing.
UNTRAINED = np.zeros(1)


def random_contexts(context: int) -> Contexts:
    """Contexts of independent labels: s = 2 k - M, k binomial of M = N - 1 fair coins.

    Arguments:
        context: N, labelled items with the copy, a Python int >= 2.
    Returns:
        `Contexts` of N sums; probabilities of the tails underflow to 0.
    Holds when: labels are independent and +1 or -1 with equal chance.
    Source: a definition.
    """
    m = whole("context", context, at_least=2) - 1
    # ln of the binomial coefficients, factor by factor and symmetric, in double precision whatever JAX uses.
    steps = np.log(np.arange(m, 0, -1)) - np.log(np.arange(1, m + 1))
    weights = np.concatenate([[0.0], np.cumsum(steps)])
    weights = np.exp((weights + weights[::-1]) / 2 - m * np.log(2))
    return Contexts(float(m), jnp.asarray(2.0 * np.arange(m + 1) - m), jnp.asarray(weights / weights.sum()))


def balanced_contexts(context: int) -> Contexts:
    """Contexts of as many labels +1 as -1: the others always sum to s = -1.

    Arguments:
        context: N, labelled items with the copy, an even Python int >= 2.
    Returns:
        `Contexts` of one sum. For beta > 0 the head comes without noise; for beta < 0 descent finds another answer,
        "the label that is missing", with w and beta both going to minus infinity.
    Holds when: contexts are balanced.
    Source: a definition.
    """
    n = whole("context", context, at_least=2)
    if n % 2:
        raise ValueError(f"context must be even to be balanced, got {n}")
    return Contexts(n - 1.0, jnp.array([-1.0]), jnp.array([1.0]))


def attended_label(
    sharpness: Real[ArrayLike, "..."], contexts: Contexts | tuple, copies: Real[ArrayLike, ""] = 2.0
) -> Float[Array, "... S"]:
    """What attention reads, times the right label: a = (e^beta + s) / (M + c e^beta).

    Arguments:
        sharpness: beta, any number.
        contexts: of S sums.
        copies: c >= 1, tokens that match the item asked for: 2 if it sees itself, unlabelled, and 1 if it does not.
    Returns:
        a for every sum, (..., S), finite at any beta: 1/c for beta -> inf.
    Holds when: different items are orthogonal, all of unit length.
    Source: the phenomenological model of Nguyen & Reddy 2024 (arXiv:2412.00104).
    """
    return _attention(real("sharpness", sharpness), *checked_contexts(contexts, copies))[0]


def in_context_loss(
    circuit: Circuit | tuple,
    contexts: Contexts | tuple,
    margins: Real[ArrayLike, "*times Q"] = UNTRAINED,
    copies: Real[ArrayLike, ""] = 2.0,
) -> Float[Array, "..."]:
    """Cross-entropy of circuit and memoriser together: E softplus(-phi - w a), in nats.

    Arguments:
        circuit: (w, beta), scalars or with leading axes.
        contexts: of S sums.
        margins: phi, the memoriser's logit times the right label, on Q items of equal chance; 0: untrained.
        copies: as for `attended_label`.
    Returns:
        the loss, of the shape of w; ln 2 at w = 0 without a memoriser.
    Holds when: as for `attended_label`, contexts independent of the item asked for.
    Source: the phenomenological model of Nguyen & Reddy 2024 (arXiv:2412.00104).
    """
    w, beta, phi, m, s, p, c = _checked(circuit, contexts, margins, copies)
    a = _attention(beta, m, s, p, c)[0]
    loss = jax.nn.softplus(-phi[..., :, None] - (w[..., None] * a)[..., None, :])
    return jnp.sum(p * jnp.mean(loss, axis=-2), axis=-1)


def ascent(
    circuit: Circuit | tuple,
    contexts: Contexts | tuple,
    margins: Real[ArrayLike, "*times Q"] = UNTRAINED,
    copies: Real[ArrayLike, ""] = 2.0,
) -> Circuit:
    """Minus the gradient of the loss: the direction in which descent moves the circuit.

    -dL/dw = E sigma(-phi - w a) a,   -dL/dbeta = E sigma(-phi - w a) w e^beta (M - c s) / (M + c e^beta)^2.

    Arguments: as for `in_context_loss`.
    Returns:
        `Circuit` of derivatives, of the shape of w.
    Holds when: as for `in_context_loss`.
    Source: derived in derivations/induction/acquisition.py.
    """
    return force(*_checked(circuit, contexts, margins, copies))[1]


def in_context_accuracy(
    circuit: Circuit | tuple, contexts: Contexts | tuple, copies: Real[ArrayLike, ""] = 2.0
) -> Float[Array, "..."]:
    """Share of new items that the circuit labels right, no memoriser: P(w a > 0) + P(w a = 0) / 2.

    Arguments: as for `in_context_loss`.
    Returns:
        the accuracy, of the shape of w: 1/2 at w = 0. It has steps in beta, so that it has no derivative.
    Holds when: as for `attended_label`.
    Source: a definition.
    """
    w, beta, _, _, s, p, _ = _checked(circuit, contexts, UNTRAINED, copies)
    return _accuracy(w, beta, s, p)


def acquisition_flow(
    t: Real[ArrayLike, " T"],
    contexts: Contexts | tuple,
    margins: Real[ArrayLike, "*times Q"] = UNTRAINED,
    start: Circuit | tuple = (0.0, 0.0),
    copies: Real[ArrayLike, ""] = 2.0,
    decay: Real[ArrayLike, ""] = 0.0,
) -> Circuit:
    """Gradient flow of the circuit beside a memoriser that goes its own way.

    dw/dt = -dL/dw - lambda w,   dbeta/dt = -dL/dbeta.

    Arguments:
        t: times, increasing, >= 0, (T,).
        contexts: of S sums.
        margins: phi on Q items, (Q,), constant; or (T, Q), the memoriser's margins at the times t, straight in between.
        start: (w, beta) at t = 0, scalars. From w = 0 and e^beta below sqrt(N) there is a plateau.
        copies: as for `attended_label`.
        decay: lambda >= 0, of the weight w alone.
    Returns:
        `Circuit` at the times, (T,) each.
    Holds when: small steps on large batches; margins are those of a memoriser trained beside the circuit, or alone.
    Source: the phenomenological model of Nguyen & Reddy 2024 (arXiv:2412.00104).
    """
    t = times("t", t)
    w, beta, phi, *rest = _checked(start, contexts, margins, copies)
    if w.ndim or beta.ndim:
        raise ValueError(f"start must hold two numbers, got shapes {w.shape} and {beta.shape}")
    if phi.ndim > 2 or (phi.ndim == 2 and len(phi) != len(t)):
        raise ValueError(f"margins must be (Q,), or ({len(t)}, Q) beside {len(t)} times, got shape {phi.shape}")
    return _flow(t, w, beta, jnp.broadcast_to(phi, (len(t), phi.shape[-1])), non_negative("decay", decay), *rest)


def memoriser_moments(margins: Real[ArrayLike, "*times Q"]) -> Moments:
    """All that a circuit notices of a memoriser, before (c_1, c_2) and after (c_3) its acquisition.

    c_1 = <sigma(-phi)>,   c_2 = <sigma(-phi) sigma(phi)> / c_1 = 1 - <sigma(-phi)^2> / c_1,   c_3 = <e^{-phi}>.

    Arguments:
        margins: phi, logit times right label, of Q items on the last axis.
    Returns:
        `Moments`, of the leading shape. Untrained: 1/2, 1/2, 1. All items learned: c_1 -> c_3 -> 0 and c_2 -> 1.
    Holds when: always; c_3 overflows below phi = -700.
    Source: Nguyen & Reddy 2024 (arXiv:2412.00104), the memoriser's moments.
    """
    phi = real("margins", margins)
    if not phi.ndim or not phi.shape[-1]:
        raise ValueError(f"margins must hold one item or more on the last axis, got shape {phi.shape}")
    error, both = -jax.nn.softplus(phi), -jax.nn.softplus(phi) - jax.nn.softplus(-phi)
    # A ratio of sums of exponentials, each of which may underflow.
    noise = jnp.exp(logsumexp(both, axis=-1) - logsumexp(error, axis=-1))
    return Moments(jnp.mean(jnp.exp(error), axis=-1), noise, jnp.mean(jnp.exp(-phi), axis=-1))


def required_error(sharpness: Real[ArrayLike, "..."], noise: Real[ArrayLike, "..."] = 0.5) -> Float[Array, "..."]:
    """T: the memoriser's accumulated error per labelled item, int c_1 dt / N, at which the circuit is acquired.

    T = (1 / c_2) ln(1 + h Phi(h) / g(h)),   h = c_2 e^{-beta},   Phi and g the normal distribution and its density.

    Arguments, which broadcast:
        sharpness: beta at the start, w = 0 there.
        noise: c_2 >= 0 of the memoriser, 1/2 if untrained, 0 without noise of other labels. A decay lambda of the
            weight adds N lambda / c_1 to it.
    Returns:
        T > 0; sqrt(pi/2) e^{-beta} for h -> 0 (free fall), c_2 e^{-2 beta} / 2 for h -> inf (friction).
    Holds when: `reduced_flow`.
    Source: derived in derivations/induction/acquisition.py, for the model of Nguyen & Reddy 2024 (arXiv:2412.00104).
    """
    beta, c2 = real("sharpness", sharpness), non_negative("noise", noise)
    return _required(beta, c2)


def reduced_flow(
    tau: Real[ArrayLike, "..."], sharpness: Real[ArrayLike, "..."], noise: Real[ArrayLike, "..."] = 0.5
) -> Circuit:
    """The circuit on its plateau, to the leading order in 1/N: dw/dtau = e^beta - c_2 w, dbeta/dtau = w e^beta.

    Phi(m) = Phi(h) - g(h) (e^{c_2 tau} - 1) / h,   beta = beta_0 + c_2 tau + (m^2 - h^2) / 2,   w = c_2 e^{-beta} - m.

    Arguments, which broadcast:
        tau: time in units of N / c_1, int c_1 dt / N, 0 <= tau < `required_error`, where w and beta diverge.
        sharpness: beta_0 at the start, where w = 0; noise: c_2 >= 0.
    Returns:
        `Circuit`, of the broadcast shape.
    Holds when: N >> 1, e^beta << N, w a << 1, c_2 constant, which ends shortly before acquisition does.
    Source: derived in derivations/induction/acquisition.py, for the model of Nguyen & Reddy 2024 (arXiv:2412.00104).
    """
    tau, beta, c2 = non_negative("tau", tau), real("sharpness", sharpness), non_negative("noise", noise)
    left = _required(beta, c2) - tau
    tau = require("tau", tau, left > 0, "must be below the time of acquisition")
    return _fall(tau, left, beta, c2)


def acquisition_time(
    context: Real[ArrayLike, "..."],
    sharpness: Real[ArrayLike, "..."],
    error: Real[ArrayLike, "..."] = 0.5,
    noise: Real[ArrayLike, "..."] = 0.5,
) -> Float[Array, "..."]:
    """When the circuit is acquired beside a memoriser at rest: t = N T(beta, c_2) / c_1.

    Arguments, which broadcast:
        context: N >= 2, labelled items; sharpness: beta at the start.
        error: c_1 in (0, 1], the memoriser's mean error; noise: its c_2 >= 0.
    Returns:
        t, learning rate times steps. Over Gaussian beta log-normal where e^beta is large, heavier-tailed elsewhere.
    Holds when: N >> 1 and e^beta << sqrt(N); the leading correction is of relative size N^{-1/4} or smaller.
    Source: Nguyen & Reddy 2024 (arXiv:2412.00104), t_ICL proportional to N; T derived here.
    """
    n, c1 = real("context", context), within("error", positive("error", error), 0.0, 1.0)
    n = require("context", n, n >= 2, "must be at least 2")
    return n * required_error(sharpness, noise) / c1


def critical_diversity(
    needed: Real[ArrayLike, "..."], amplitude: Real[ArrayLike, "..."], exponent: Real[ArrayLike, "..."]
) -> Float[Array, "..."]:
    """Number of items above which contexts are used, below which items are memorised: K* = (needed / A)^{1/nu}.

    Arguments, which broadcast:
        needed: accumulated error int c_1 dt that acquisition takes, > 0: N `required_error` at many labels.
        amplitude, exponent: A > 0 and nu > 0 of the law int c_1 dt = A K^nu of the memoriser alone.
    Returns:
        K*, of the broadcast shape; it grows as N^{1/nu}, and falls as e^{-beta/nu} where other labels are no noise.
    Holds when: memorisation follows the power law; c_2 varies little.
    Source: Nguyen & Reddy 2024 (arXiv:2412.00104), the scaling of K*.
    """
    ratio = positive("needed", needed) / positive("amplitude", amplitude)
    return jnp.exp(jnp.log(ratio) / positive("exponent", exponent))


def _attention(beta, m, s, p, c):
    """a, and its derivative by beta, from the shares of one copy and of one other token."""
    balance = beta + jnp.log(c / m)
    copy, other = jax.nn.sigmoid(balance) / c, jax.nn.sigmoid(-balance) / m
    copy, other = copy[..., None], other[..., None]
    return copy + s * other, copy * other * (m - c * s)


def force(w, beta, phi, m, s, p, c) -> tuple[Array, Circuit]:
    """The mean error E sigma(-phi - w a) that drives a memoriser, and `ascent`, both without refusals."""
    a, slope = _attention(beta, m, s, p, c)
    wrong = jax.nn.sigmoid(-phi[..., :, None] - (w[..., None] * a)[..., None, :])
    push = p * jnp.mean(wrong, axis=-2)
    return jnp.sum(push, axis=-1), Circuit(jnp.sum(push * a, axis=-1), w * jnp.sum(push * slope, axis=-1))


@jax.jit
def _accuracy(w, beta, s, p):
    # The sign of e^beta + s, with beta = 0 exactly 1 + s.
    sign = jnp.sign(w[..., None]) * jnp.sign(jnp.exp(beta)[..., None] + s)
    return jnp.sum(p * (1 + sign) / 2, axis=-1)


@jax.jit
def _flow(t, w, beta, phi, decay, m, s, p, c) -> Circuit:
    def field(state):
        now, w, beta = state
        margins = jax.vmap(lambda column: jnp.interp(now, t, column), in_axes=1)(phi)
        dw, dbeta = force(w, beta, margins, m, s, p, c)[1]
        return jnp.ones_like(now), dw - decay * w, dbeta

    return Circuit(*flow(field, t, (jnp.zeros_like(t[0]), w, beta), rtol=1e-9, atol=1e-11)[1:])


@jax.jit
def _required(beta, c2):
    """ln(1 + e^y) / c_2, and its limit e^y / c_2 where c_2 is zero."""
    # Below this h its square is lost beside one.
    h = c2 * jnp.exp(-beta)
    some = h > jnp.finfo(h.dtype).eps
    h, c2 = jnp.where(some, h, 1.0), jnp.where(some, c2, 1.0)
    y = jnp.log(h) + log_ndtr(h) - _log_density(h)
    return jnp.where(some, jnp.logaddexp(0.0, y) / c2, np.sqrt(np.pi / 2) * jnp.exp(-beta))


@jax.jit
def _fall(tau, left, beta, c2) -> Circuit:
    h = c2 * jnp.exp(-beta)
    # ln of both tails of m: Phi(-m), of what has been fallen since the start, and Phi(m), of what is left of it.
    start, pace = log_ndtr(-h), beta + _log_density(h)
    since = start + c2 * tau + jnp.log(jnp.exp(-c2 * tau) + jnp.exp(pace - start) * _damped(tau, c2))
    until = pace + c2 * (tau + left) + jnp.log(_damped(left, c2))
    half = jnp.log(0.5)
    high = since < half
    m = jnp.where(high, -_normal_quantile(jnp.where(high, since, half)), _normal_quantile(jnp.where(high, half, until)))
    sharpness = beta + c2 * tau + (m - h) * (m + h) / 2
    return Circuit(c2 * jnp.exp(-sharpness) - m, sharpness)


def _log_density(x):
    return -(x**2) / 2 - np.log(2 * np.pi) / 2


def _damped(tau, c2):
    """(1 - e^{-c_2 tau}) / c_2, tau where c_2 is zero."""
    some = c2 > 0
    return jnp.where(some, -jnp.expm1(-c2 * tau) / jnp.where(some, c2, 1.0), tau)


def _normal_quantile(log_p):
    """x with ln Phi(x) = log_p <= ln 1/2: Newton's method on a concave function, from the left of the root."""

    def step(_, x):
        value = log_ndtr(x)
        return x - (value - log_p) * jnp.exp(value - _log_density(x))

    return jax.lax.fori_loop(0, 12, step, -jnp.sqrt(-2 * log_p))


def checked_contexts(contexts: Contexts | tuple, copies) -> tuple[Array, Array, Array, Array]:
    """M, sums, probabilities and copies, of shapes that fit."""
    m, s, p = contexts
    m, s, p = positive("others", m), real("sums", s), non_negative("probable", p)
    if s.ndim != 1 or p.shape != s.shape:
        raise ValueError(f"sums and probable must be two vectors of one length, got shapes {s.shape} and {p.shape}")
    c = real("copies", copies)
    return m, s, p, require("copies", c, c >= 1, "must be at least 1")


def _checked(circuit, contexts, margins, copies):
    w, beta = (real(name, value) for name, value in zip(Circuit._fields, circuit, strict=True))
    phi = real("margins", margins)
    if not phi.ndim or not phi.shape[-1]:
        raise ValueError(f"margins must hold one item or more on the last axis, got shape {phi.shape}")
    return w, beta, phi, *checked_contexts(contexts, copies)
