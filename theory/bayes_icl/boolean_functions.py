"""Boolean functions learned in context: the Bayes predictor of conjunctions, disjunctions, normal forms, thresholds.

A hypothesis says for each of d coordinates whether it must be +1, must be -1, or does not matter; a conjunction is true
where all its literals hold. Nothing is noisy: labels strike hypotheses out. But generators that force an input to be a
positive example with probability rho (otherwise hardly any would be) let the inputs themselves tell about the
hypothesis w of k literals,

    p(x | w) = (1 - rho) 2^-d + rho 1[x satisfies w] 2^{k - d},

the input that is asked for included, so that the Bayes predictor weighs w by the density of every x seen as well. The
sum over all 3^d conjunctions also is an alternating sum over subsets of the negative examples, for any d.

Labels are 1 (true) and 0, inputs +1 and -1.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jax.scipy.special import gammaln, logsumexp, xlogy
from jaxtyping import Array, ArrayLike, Bool, Float, Int, Real

from theory.bayes_icl.prequential import log_posterior
from theory.checks import matrix, non_negative, real, require, whole, within

# Chances of the generators of Bhattamishra et al.: a literal is absent; an input is made a positive example.
ABSENT, FORCED = 0.7, 0.3
# Subsets of negative examples are all held at once.
_MOST_NEGATIVES = 16


def literal_sets(d: int, terms: int = 1) -> np.ndarray:
    """All choices of literals of d coordinates, in each of several terms.

    {-1, 0, +1}^(terms x d).

    Arguments:
        d: coordinates, a Python int.
        terms: of a normal form, a Python int; 1: conjunctions.
    Returns:
        0 for an absent literal, else the sign that it asks for, (3^(terms d), terms, d). Terms are in order, so that a
        normal form of different terms comes once for each order of them.
    Holds when: 3^(terms d) rows fit into memory: terms d up to about 12.
    Source: a definition.
    """
    size = whole("d", d) * whole("terms", terms)
    signs = np.stack(np.meshgrid(*[np.array([0, 1, -1])] * size, indexing="ij"), axis=-1)
    return signs.reshape(-1, terms, d)


def literal_log_prior(literals: Int[ArrayLike, "C m d"], absent: Real[ArrayLike, ""] = ABSENT) -> Float[Array, " C"]:
    """Every literal for itself: absent, or of either sign.

    ln P(w) = sum_i (ln p_0 if absent, else ln (1 - p_0) / 2).

    Arguments:
        literals: of C hypotheses, as from `literal_sets`.
        absent: p_0, in [0, 1].
    Returns:
        log probabilities, (C,), -inf where p_0 = 0 or 1 rules w out.
    Holds when: always.
    Source: the generators of Bhattamishra et al. 2023 (arXiv:2310.03016): p_0 = 0.7, of normal forms 0.8.
    """
    w, p = _literals(literals), within("absent", absent, 0.0, 1.0)
    present = jnp.sum(w != 0, axis=(1, 2)).astype(p.dtype)
    return xlogy(present, (1 - p) / 2) + xlogy(w[0].size - present, p)


def normal_form(literals: Int[ArrayLike, "..."], x: Real[ArrayLike, "n d"]) -> Bool[Array, "C n"]:
    """Truth of conjunctions (one term), or of disjunctions of them, at the inputs.

    any over terms of all over coordinates of (w_i = 0 or w_i = x_i).

    Arguments:
        literals: of C hypotheses, as from `literal_sets`.
        x: inputs, +1 and -1, (n, d).
    Returns:
        whether they are true, (C, n). A term without literals is true everywhere.
    Holds when: always. The conjunctive normal form of w at x is false where this is true for labels exchanged.
    Source: a definition.
    """
    return jnp.any(_terms(_literals(literals), _signs(x)), axis=1)


def threshold_function(
    weights: Real[ArrayLike, "C d"], x: Real[ArrayLike, "n d"], threshold: Real[ArrayLike, "..."] = 0.0
) -> Bool[Array, "C n"]:
    """Truth of a weighted vote at the inputs; of a majority, for weights 0 and 1.

    1[w . x > theta].

    Arguments:
        weights: of C hypotheses, (C, d).
        x: inputs, +1 and -1, (n, d).
        threshold: theta, () or (C, 1).
    Returns:
        whether they are true, (C, n); a tie is false.
    Holds when: always.
    Source: a definition.
    """
    return matrix("weights", weights) @ _signs(x).T > real("threshold", threshold)


def input_log_density(
    literals: Int[ArrayLike, "C m d"], x: Real[ArrayLike, "n d"], forced: Real[ArrayLike, ""] = FORCED
) -> Float[Array, "C n"]:
    """What the inputs themselves tell: with probability rho an input is made to satisfy one term, at random.

    ln p(x | w) = -d ln 2 + ln[(1 - rho) + (rho / m) sum_j 1[x satisfies term j] 2^{k_j}].

    Arguments:
        literals: of C hypotheses, of m terms, as from `literal_sets`.
        x: inputs, +1 and -1, (n, d).
        forced: rho, in [0, 1]; 0: inputs tell nothing.
    Returns:
        log densities, (C, n), -inf where rho = 1 rules x out.
    Holds when: inputs are uniform otherwise.
    Source: the generators of Bhattamishra et al. 2023 (arXiv:2310.03016): rho = 0.3, of normal forms 0.35.
    """
    w, x, rho = _literals(literals), _signs(x), within("forced", forced, 0.0, 1.0)
    gained = jnp.exp2(jnp.sum(w != 0, axis=2).astype(x.dtype))[:, :, None]
    density = 1 - rho + rho * jnp.mean(jnp.where(_terms(w, x), gained, 0.0), axis=1)
    return jnp.log(density) - x.shape[1] * jnp.log(2.0)


def class_predictions(
    truth: Bool[ArrayLike, "C n"],
    y: Real[ArrayLike, "..."],
    log_input: Real[ArrayLike, "..."] = 0.0,
    log_prior: Real[ArrayLike, "..."] | None = None,
) -> Float[Array, " n"]:
    """P(y_t = 1) from the pairs before and from x_t, of any class of functions without noise.

    P(w | past, x_t) prop. to P(w) prod_{u <= t} p(x_u | w) prod_{u < t} 1[y_u = w(x_u)].

    Arguments:
        truth: w(x_t) of C hypotheses at all inputs, (C, n).
        y: labels, 0 and 1, (n,).
        log_input: ln p(x_t | w), (C, n) or () where inputs tell nothing.
        log_prior: up to a constant, (C,); uniform by default.
    Returns:
        probabilities, (n,): exactly 0 or 1 once all hypotheses left agree.
    Holds when: some hypothesis agrees with all labels (refused otherwise).
    Source: Bayes' rule.
    """
    true, labels = jnp.asarray(truth, bool), _labels(y)
    if true.ndim != 2 or labels.shape != true.shape[1:]:
        raise ValueError(f"truth must have a column for each label of y, got {true.shape} and {labels.shape}")
    inputs = jnp.broadcast_to(jnp.asarray(log_input), true.shape)
    agree = jnp.where(true == (labels == 1), 0.0, -jnp.inf)
    belief = log_posterior(inputs + agree, log_prior)[:, :-1] + inputs
    yes = logsumexp(jnp.where(true, belief, -jnp.inf), axis=0)
    return jnp.exp(yes - logsumexp(belief, axis=0))


def conjunction_predictions(
    x: Real[ArrayLike, "n d"],
    y: Real[ArrayLike, "..."],
    absent: Real[ArrayLike, ""] = ABSENT,
    forced: Real[ArrayLike, ""] = FORCED,
) -> Float[Array, " n"]:
    """P(y_t = 1) from the pairs before and from x_t, when the function is a conjunction: all 3^d of them.

    Arguments:
        x: inputs, +1 and -1, (n, d).
        y: labels, 0 and 1, (n,).
        absent: p_0, chance that a coordinate does not matter, in [0, 1].
        forced: rho, chance that an input is made a positive example, in [0, 1]; 0: label-only Bayes.
    Returns:
        probabilities, (n,); the first is rho + (1 - rho) ((1 + p_0) / 2)^d.
    Holds when: as `class_predictions`; d up to about 10, beyond which `conjunction_chance` goes on.
    Source: Bayes' rule, for the generators of Bhattamishra et al. 2023 (arXiv:2310.03016).
    """
    x = _signs(x)
    w = literal_sets(x.shape[1])
    return class_predictions(normal_form(w, x), y, input_log_density(w, x, forced), literal_log_prior(w, absent))


def disjunction_predictions(
    x: Real[ArrayLike, "n d"],
    y: Real[ArrayLike, "..."],
    absent: Real[ArrayLike, ""] = ABSENT,
    forced: Real[ArrayLike, ""] = FORCED,
) -> Float[Array, " n"]:
    """P(y_t = 1) when the function is true where some literal holds: conjunctions of the opposite literals, denied.

    Arguments:
        x, y, absent: as for `conjunction_predictions`.
        forced: rho, chance that an input is made a negative example.
    Returns:
        probabilities, (n,).
    Holds when: as `conjunction_predictions`.
    Source: De Morgan's law.
    """
    return 1 - conjunction_predictions(x, 1 - _labels(y), absent, forced)


def conjunction_chance(
    query: Real[ArrayLike, " d"],
    positives: Real[ArrayLike, "..."],
    negatives: Real[ArrayLike, "..."],
    absent: Real[ArrayLike, ""] = ABSENT,
    forced: Real[ArrayLike, ""] = FORCED,
) -> Float[Array, ""]:
    """P(y = 1) at a query when the function is a conjunction, for any number d of coordinates.

    Z(pos, neg) = sum over T subset of neg of (-1)^|T| sum_k C(a_T, k) p_1^k p_0^{d-k} f(k),
    f(k) = ((1 - rho) + rho 2^k)^|pos| (1 - rho)^|neg|,   P = Z(pos + q, neg) / [Z(pos + q, neg) + Z(pos, neg + q)],

    a_T the number of coordinates on which all of pos and T agree.

    Arguments:
        query, positives, negatives: inputs, +1 and -1, (d,), (P, d) and (N, d); P or N may be 0, N at most 15.
        absent: p_0, in [0, 1]; p_1 = (1 - p_0) / 2.
        forced: rho, in [0, 1).
    Returns:
        the probability, (). The sum alternates: absolute error 1e-12 with eleven negatives.
    Holds when: some conjunction agrees with all examples (refused otherwise).
    Source: inclusion and exclusion, derived in derivations/bayes_icl/boolean_functions.py.
    """
    q = _signs(jnp.asarray(query)[None])
    d = q.shape[1]
    yes, no = (_examples(name, some, d) for name, some in (("positives", positives), ("negatives", negatives)))
    if len(no) >= _MOST_NEGATIVES:
        raise ValueError(f"negatives must be fewer than {_MOST_NEGATIVES}, got {len(no)}")
    p, rho = within("absent", absent, 0.0, 1.0), within("forced", forced, 0.0, 1.0)
    rho = require("forced", rho, rho < 1, "must be below 1")
    # Factors (1 - rho)^|neg| of the same negatives cancel.
    true = _evidence(jnp.concatenate([yes, q]), no, p, rho)
    false = (1 - rho) * _evidence(yes, jnp.concatenate([no, q]), p, rho)
    total = true + false
    total = require("positives", total, total > 0, "and negatives contradict every conjunction: their evidence")
    return jnp.clip(true / total, 0.0, 1.0)


def teaching_sequence(literals: Int[ArrayLike, " d"]) -> tuple[Float[Array, "n d"], Float[Array, " n"]]:
    """Examples that leave one conjunction: two positive ones that differ wherever they may, one denial per literal.

    Arguments:
        literals: of one conjunction, 0 where absent, else its sign, (d,); concrete numbers.
    Returns:
        inputs (k + 2, d) and labels (k + 2,), k the number of literals.
    Holds when: always.
    Source: Bhattamishra et al. 2023 (arXiv:2310.03016).
    """
    w = np.asarray(literals)
    if w.ndim != 1 or not np.isin(w, (-1, 0, 1)).all():
        raise ValueError(f"literals must be 0, 1 or -1, one for each coordinate, got {literals!r}")
    low = np.where(w == 0, -1, w)
    denied = np.array([np.where(np.arange(len(w)) == i, -low, low) for i in np.flatnonzero(w)]).reshape(-1, len(w))
    x = np.concatenate([low[None], np.where(w == 0, 1, w)[None], denied]).astype(float)
    return jnp.asarray(x), jnp.asarray([1.0, 1.0] + [0.0] * len(denied))


def neighbour_predictions(x: Real[ArrayLike, "n d"], y: Real[ArrayLike, " n"], random: int) -> Float[Array, " n"]:
    """Chance that each label is 1, where labels are coin flips at first and then those of the nearest earlier input.

    P(y_t = 1 | past) = 1/2 for t < random,   y_s afterwards, s = argmax_{s < t} cos(x_s, x_t), the first of equals.

    Arguments:
        x: inputs, (n, d), none zero; y: labels, 0 or 1, (n,); random: how many labels are coin flips, from 1 on.
    Returns:
        (n,), 0, 1/2 or 1: exact, and certain once the flips are over.
    Holds when: cosines that agree to seven decimals count as equal, as in the generator.
    Source: Bhattamishra et al. 2023 (arXiv:2310.03016).
    """
    cosine, labels = _cosines(x, y)
    flips = whole("random", random)
    nearest = jnp.argmax(jnp.where(_earlier(len(labels)), jnp.round(cosine, 7), -jnp.inf), axis=1)
    return jnp.where(jnp.arange(len(labels)) < flips, 0.5, labels[nearest])


def neighbour_head(
    x: Real[ArrayLike, "n d"], y: Real[ArrayLike, " n"], sharpness: Real[ArrayLike, ""]
) -> Float[Array, " n"]:
    """What a head of attention by cosine says of each label: the nearest earlier one, as far as it is sharp.

    sum_{s < t} softmax_s[beta cos(x_s, x_t)] y_s.

    Arguments:
        x: inputs, (n, d), none zero; y: labels, 0 or 1, (n,); sharpness: beta >= 0.
    Returns:
        (n,); 1/2 for the first. For beta -> inf `neighbour_predictions` after its coin flips, with the mean of equally
        near labels in place of the first.
    Source: Bhattamishra et al. 2023 (arXiv:2310.03016).
    """
    cosine, labels = _cosines(x, y)
    earlier = _earlier(len(labels))
    logits = jnp.where(earlier, non_negative("sharpness", sharpness) * cosine, -jnp.inf)
    pattern = jnp.where(earlier, jnp.exp(logits - jnp.max(logits, axis=1, keepdims=True, initial=-1e300)), 0.0)
    read = pattern @ labels / jnp.maximum(jnp.sum(pattern, axis=1), jnp.finfo(labels.dtype).tiny)
    return jnp.where(jnp.arange(len(labels)) > 0, read, 0.5)


def _cosines(x, y):
    inputs, labels = matrix("x", x), _labels(y)
    if labels.shape != inputs.shape[:1]:
        raise ValueError(f"y must have a label for each of the {len(inputs)} inputs, got shape {labels.shape}")
    norm = jnp.linalg.norm(inputs, axis=1, keepdims=True)
    unit = inputs / require("x", norm, norm > 0, "must have rows other than zero: their norm")
    return unit @ unit.T, labels


def _earlier(n: int):
    return np.tril(np.ones((n, n), bool), -1)


def _evidence(positives, negatives, p, rho):
    """Z without its factor (1 - rho)^|neg|: all subsets of the negatives at once."""
    many, d = len(negatives), positives.shape[1]
    chosen = (np.arange(2**many)[:, None] >> np.arange(many)) & 1 == 1
    high = jnp.max(positives, axis=0, initial=-1.0)
    low = jnp.min(positives, axis=0, initial=1.0)
    for one, there in zip(negatives, chosen.T, strict=True):
        high = jnp.maximum(high, jnp.where(there[:, None], one, -1.0))
        low = jnp.minimum(low, jnp.where(there[:, None], one, 1.0))
    # Nothing seen: both signs are possible everywhere.
    agreed = jnp.broadcast_to(jnp.sum(high == low, axis=-1), (2**many,))
    k = jnp.arange(d + 1)
    factor = (1 - rho + rho * jnp.exp2(k.astype(p.dtype))) ** len(positives)
    choices = jnp.arange(d + 1)[:, None]
    ways = gammaln(choices + 1) - gammaln(k + 1) - gammaln(jnp.maximum(choices - k, 0) + 1)
    ways = jnp.where(k <= choices, jnp.round(jnp.exp(ways)), 0.0)
    of_agreed = ways @ (((1 - p) / 2) ** k * p ** (d - k) * factor)
    of_none = ways[d] @ ((1 - p) ** k * p ** (d - k) * factor)
    empty = ~chosen.any(axis=1) & (len(positives) == 0)
    sign = np.where(chosen.sum(axis=1) % 2, -1.0, 1.0)
    return jnp.sum(sign * jnp.where(empty, of_none, of_agreed[agreed]))


def _terms(w, x):
    """Whether each term holds, (C, m, n)."""
    return ~jnp.any(w[:, :, None, :] * x == -1, axis=-1)


def _literals(literals):
    """Literals, checked: integers."""
    w = jnp.asarray(literals)
    if w.ndim != 3 or not jnp.issubdtype(w.dtype, jnp.integer):
        raise ValueError(f"literals must be whole numbers (hypotheses, terms, coordinates), got {w.dtype} {w.shape}")
    return w


def _signs(x):
    """Inputs, checked."""
    x = matrix("x", x)
    return require("x", x, jnp.abs(x) == 1, "must be 1 or -1")


def _examples(name, some, d):
    """Inputs of d coordinates, of which there may be none."""
    x = matrix(name, some, columns=d)
    return require(name, x, jnp.abs(x) == 1, "must be 1 or -1")


def _labels(y):
    labels = real("y", y)
    return require("y", labels, (labels == 0) | (labels == 1), "must be 0 or 1")
