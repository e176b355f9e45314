"""What unlabelled data are worth: regression on the few scores that they reveal, against regression on all inputs.

Inputs follow a factor model, x = B z + e, and labels depend on the factors, y = theta . z + noise. Enough unlabelled
inputs show the span of B; labels are then needed for r scores only, instead of d inputs, and the best that can be
predicted is the same, since all that inputs tell of z is in B^T x.
"""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Real

from theory.checks import matrix, non_negative, positive, real, require


def factor_risk(
    loadings: Real[ArrayLike, "d r"],
    specific: Real[ArrayLike, ""],
    theta: Real[ArrayLike, " r"],
    noise: Real[ArrayLike, ""] = 0.0,
) -> Float[Array, ""]:
    """The least mean squared error of labels, from all inputs or from the scores alone.

    R_0 = sigma^2 + theta^T (I + B^T B / s)^{-1} theta.

    Arguments:
        loadings: B, (d, r); specific: s > 0, variance of e in every input; theta: (r,); noise: sigma^2 >= 0.
    Returns:
        R_0, noise included: between sigma^2 and sigma^2 + |theta|^2.
    Holds when: z ~ N(0, I), e ~ N(0, s I).
    Source: textbook factor analysis.
    """
    b, weights = matrix("loadings", loadings), real("theta", theta)
    if weights.shape != b.shape[1:]:
        raise ValueError(f"theta must have an entry for each of the {b.shape[1]} factors, got shape {weights.shape}")
    told = jnp.eye(b.shape[1], dtype=b.dtype) + b.T @ b / positive("specific", specific)
    return non_negative("noise", noise) + weights @ jnp.linalg.solve(told, weights)


def regression_excess(
    risk: Real[ArrayLike, "..."], inputs: Real[ArrayLike, "..."] | int, labels: Real[ArrayLike, "..."] | int
) -> Float[Array, "..."]:
    """What least squares loses beyond the best linear rule, on average over samples.

    excess = R_0 p / (n - p - 1).

    Arguments, which broadcast:
        risk: R_0 > 0, of the best rule, noise included; inputs: p >= 0; labels: n > p + 1.
    Returns:
        the excess; infinite for n <= p + 1, where its mean does not exist or labels are too few.
    Holds when: inputs are Gaussian of mean zero and any covariance, the residual is independent of them.
        With p = r scores: after pretraining; with p = d: without.
    Source: mean of an inverse Wishart matrix; in this use Ge, Tang, Fan & Jin 2024 (arXiv:2303.01566).
    """
    best, p, n = positive("risk", risk), non_negative("inputs", inputs), positive("labels", labels)
    enough = n - p - 1 > 0
    return jnp.where(enough, best * p / jnp.where(enough, n - p - 1, 1.0), jnp.inf)


def break_even_labels(
    inputs: Real[ArrayLike, "..."] | int,
    factors: Real[ArrayLike, "..."] | int,
    labels: Real[ArrayLike, "..."] | int,
) -> Float[Array, "..."]:
    """Labels that plain regression needs to be as good as regression on scores is with some.

    n' = d + 1 + (d / r) (n - r - 1).

    Arguments, which broadcast:
        inputs: d; factors: r, from 1 to d; labels: n > r + 1, of the pretrained one.
    Returns:
        n', not rounded: d / r times as many, for many labels.
    Holds when: as `regression_excess`, with the span of the loadings known.
    Source: from there.
    """
    d, r, n = positive("inputs", inputs), positive("factors", factors), positive("labels", labels)
    r = require("factors", r, r <= d, "must be at most the number of inputs")
    n = require("labels", n, n > r + 1, "must be more than the factors and one")
    return d + 1 + d / r * (n - r - 1)
