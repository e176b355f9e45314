"""Mixtures of hidden Markov models: in-context learning as finding out which concept a document is about.

A concept c is a hidden Markov model; a document is drawn from one of them, which one is not told. The Bayes predictor
runs the forward filter of every concept and weighs them by what they made of the past,

    p(x_t = o | past) = sum_c P(c | past) sum_h P_c(h_t = h | past) B_c[h, o].

A prompt may be a string that a concept cannot give: its filter dies, its posterior is zero from then on, and only a
string that no concept can give is refused. An average of the concepts' predictions with equal weights is not Bayes.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Int, Real

from theory.bayes_icl.dirichlet_ngrams import SymbolPredictions, checked_symbols, mixture, predictions, safe_log
from theory.bayes_icl.prequential import log_posterior
from theory.checks import non_negative, require


def filter_predictions(
    sequence: Int[ArrayLike, " n"],
    start: Real[ArrayLike, " H"],
    transition: Real[ArrayLike, "H H"],
    emission: Real[ArrayLike, "H O"],
) -> SymbolPredictions:
    """Every symbol from those before it, for one hidden Markov model: its forward filter.

    f_h = P(h_t = h | past) B[h, x_t],   p(x_t | past) = sum_h f_h,   P(h_{t+1} | past, x_t) = f A / sum_h f_h.

    Arguments:
        sequence: symbols 0 .. O - 1, (n,).
        start: law of the first hidden state, (H,); transition: A, rows of sum one, (H, H); emission: B, rows of sum
        one, (H, O).
    Returns:
        `SymbolPredictions`: log laws (n + 1, O), log densities (n,), -inf for a symbol that cannot come. After that
        the filter stands still.
    Holds when: the model is known.
    Source: Baum & Petrie 1966.
    """
    pi, a, b = _checked(start, transition, emission, 0)
    x = checked_symbols(sequence, b.shape[-1])
    return predictions(_laws(x, pi, a, b), x)


def concept_predictions(
    sequence: Int[ArrayLike, " n"],
    start: Real[ArrayLike, "C H"],
    transition: Real[ArrayLike, "C H H"],
    emission: Real[ArrayLike, "C H O"],
    log_prior: Real[ArrayLike, " C"] | None = None,
) -> SymbolPredictions:
    """Every symbol from those before it, when one of several hidden Markov models holds.

    p(o | past) = sum_c P(c | past) p_c(o | past).

    Arguments:
        sequence: symbols 0 .. O - 1, (n,).
        start, transition, emission: of each concept, (C, H), (C, H, H), (C, H, O).
        log_prior: of the concepts, up to a constant, (C,); uniform by default.
    Returns:
        `SymbolPredictions`.
    Holds when: some concept can give the string (refused otherwise: smooth the transitions).
    Source: Xie et al. 2022 (arXiv:2111.02080).
    """
    x, laws, density = _filters(sequence, start, transition, emission)
    return mixture(log_posterior(density, log_prior), laws, x)


def concept_posterior(
    sequence: Int[ArrayLike, " n"],
    start: Real[ArrayLike, "C H"],
    transition: Real[ArrayLike, "C H H"],
    emission: Real[ArrayLike, "C H O"],
    log_prior: Real[ArrayLike, " C"] | None = None,
) -> Float[Array, "C m"]:
    """Which concept a document is about, before each symbol and after the last.

    ln P(c | x_0 .. x_{t-1}).

    Arguments: as for `concept_predictions`.
    Returns:
        log probabilities, (C, n + 1); -inf once a concept is ruled out.
    Holds when: as `concept_predictions`.
    Source: Xie et al. 2022 (arXiv:2111.02080).
    """
    _, _, density = _filters(sequence, start, transition, emission)
    return log_posterior(density, log_prior)


def smoothed_rows(
    probabilities: Real[ArrayLike, "*batch h k"], share: Real[ArrayLike, ""]
) -> Float[Array, "*batch h k"]:
    """Rows with a little of the uniform law, so that no string is impossible.

    p <- (1 - e) p + e / k.

    Arguments:
        probabilities: rows of sum one, (..., h, k); share: e, from 0 to 1.
    Returns:
        rows of sum one, none of their entries below e / k.
    Source: a definition; without it prompts of examples with delimiters are impossible under every concept.
    """
    rows = _rows("probabilities", probabilities)
    e = non_negative("share", share)
    e = require("share", e, e <= 1, "must be at most 1")
    return (1 - e) * rows + e / rows.shape[-1]


def _filters(sequence, start, transition, emission):
    """Symbols, and of each concept log laws (C, n + 1, O) and log densities (C, n)."""
    pi, a, b = _checked(start, transition, emission, 1)
    x = checked_symbols(sequence, b.shape[-1])
    laws = jax.vmap(_laws, in_axes=(None, 0, 0, 0))(x, pi, a, b)
    return x, laws, jnp.take_along_axis(laws[:, :-1], x[None, :, None], axis=2)[:, :, 0]


@jax.jit
def _laws(x, pi, a, b):
    """Log laws before each symbol and after the last, (n + 1, O)."""

    def step(state, symbol):
        joint = state * b[:, symbol]
        chance = jnp.sum(joint)
        # A filter that dies stands still: it is ruled out, and must not become NaN.
        alive = chance > 0
        after = jnp.where(alive, joint / jnp.where(alive, chance, 1.0), state)
        return after @ a, safe_log(state @ b)

    last, laws = jax.lax.scan(step, pi, x)
    return jnp.concatenate([laws, safe_log(last @ b)[None]])


def _checked(start, transition, emission, axes):
    pi, a, b = _rows("start", start), _rows("transition", transition), _rows("emission", emission)
    concepts, states = pi.shape[:axes], pi.shape[-1]
    fit = pi.ndim == axes + 1 and a.shape == (*concepts, states, states) and b.shape[:-1] == (*concepts, states)
    if not fit or b.ndim != axes + 2:
        shapes = f"{pi.shape}, {a.shape} and {b.shape}"
        raise ValueError(f"start, transition and emission must fit each other, got shapes {shapes}")
    kind = jnp.result_type(pi, a, b)
    return pi.astype(kind), a.astype(kind), b.astype(kind)


def _rows(name, value):
    p = non_negative(name, value)
    return require(name, p, jnp.abs(jnp.sum(p, axis=-1, keepdims=True) - 1) < 1e-6, "must have rows of sum 1")
