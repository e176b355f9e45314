"""Which algorithm is it? Rules that predict a query from a context, and distances between such rules.

Every rule takes a context x (n, d), y (n,), a query (d,), and `seen` (n,), one where a pair is given and zero where it
is not yet; `prefix_predictions` runs any such rule, one of your own as well, at every prefix. Rules that are linear in
y filter the spectrum of X^T X: w = sum_i f(lambda_i) / lambda_i v_i v_i^T X^T y.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Real

from theory.checks import matrix, non_negative, positive, real, require, whole

Rule = Callable[..., Array]


class ImplicitWeights(NamedTuple):
    """The linear rule nearest to some predictions: w (d,), and the share of their variance that it explains."""

    w: Float[Array, " d"]
    r2: Float[Array, ""]


def prefix_predictions(rule: Rule, x: Real[ArrayLike, "n d"], y: Real[ArrayLike, " n"]) -> Float[Array, " n"]:
    """What a rule predicts for every label from the pairs before it.

    yhat_t = rule of (x_0, y_0) .. (x_{t-1}, y_{t-1}) at x_t.

    Arguments:
        rule: (x, y, query, seen) -> a number; x: inputs, (n, d); y: labels, (n,).
    Returns:
        (n,); the first is what the rule says of nothing.
    Source: a definition.
    """
    inputs, targets = _context(x, y)
    given = jnp.tril(jnp.ones((len(targets), len(targets)), inputs.dtype), -1)
    return jax.vmap(lambda query, seen: rule(inputs, targets, query, seen))(inputs, given)


def spectral_rule(x, y, query, seen=None, *, share: Callable[[Array], Array]) -> Float[Array, ""]:
    """A rule that learns a share of the least-squares solution along each eigenvector of X^T X.

    yhat = query . sum_i f(lambda_i) / lambda_i v_i v_i^T X^T y,   X^T X v_i = lambda_i v_i.

    Arguments:
        x, y, query, seen: see the head of this file; all pairs are given by default.
        share: f, from positive eigenvalues to shares, both (min(n, d),); directions without data are left out.
    Returns:
        yhat, ().
    Holds when: any n and d; singular values of X below max(n, d) eps of the largest count as zero. Derivatives in x
        exist where those of X are distinct; in y, the query and the parameters of f always.
    Source: standard; f = lambda / (lambda + ridge) is ridge regression, 1 - (1 - eta lambda)^k gradient descent.
    """
    inputs, targets, point, _ = _given(x, y, query, seen)
    if not len(targets):
        return jnp.zeros((), inputs.dtype)
    u, root, vt = jnp.linalg.svd(inputs, full_matrices=False)
    real_direction = root > max(inputs.shape) * jnp.finfo(root.dtype).eps * root[0]
    # Where there are no data the filter is asked for the largest eigenvalue there is, which it must know anyway.
    safe = jnp.where(real_direction, root, jnp.where(root[0] > 0, root[0], 1.0))
    gain = jnp.where(real_direction, share(safe**2) / safe, 0.0)
    return (vt @ point) @ (gain * (u.T @ targets))


def ridge(x, y, query, seen=None, *, penalty: Real[ArrayLike, ""]) -> Float[Array, ""]:
    """Ridge regression.

    yhat = query . (X^T X + penalty I)^{-1} X^T y.

    Arguments:
        x, y, query, seen: see the head of this file; penalty >= 0, of the SUM of squares, not of their mean.
    Returns:
        yhat, (): the Bayes predictor for w ~ N(0, tau^2 I) and noise sigma^2 at penalty = sigma^2 / tau^2.
    Source: Hoerl & Kennard 1970.
    """
    weight = non_negative("penalty", penalty)
    return spectral_rule(x, y, query, seen, share=lambda lam: lam / (lam + weight))


def least_squares(x, y, query, seen=None) -> Float[Array, ""]:
    """Least squares, of minimum norm where there are many solutions.

    yhat = query . X^+ y.

    Arguments:
        x, y, query, seen: see the head of this file.
    Returns:
        yhat, ().
    Holds when: always; with noise its mean squared error is infinite for d - 1, d and d + 1 pairs of Gaussian inputs.
    Source: standard; in this use Garg et al. 2022 (arXiv:2208.01066).
    """
    return spectral_rule(x, y, query, seen, share=jnp.ones_like)


def gradient_descent(x, y, query, seen=None, *, rate: Real[ArrayLike, ""], steps: int = 1) -> Float[Array, ""]:
    """Full-batch gradient descent from zero.

    w_{k+1} = w_k - rate X^T (X w_k - y),   that is f = 1 - (1 - rate lambda)^k.

    Arguments:
        x, y, query, seen: see the head of this file; rate > 0, on 1/2 |X w - y|^2 (a sum); steps: k, a Python int >= 0.
    Returns:
        yhat, ().
    Holds when: always; it converges for rate below 2 / lambda_max.
    Source: Akyurek et al. 2023 (arXiv:2211.15661), von Oswald et al. 2023 (arXiv:2212.07677).
    """
    eta, count = positive("rate", rate), whole("steps", steps, at_least=0)
    return spectral_rule(x, y, query, seen, share=lambda lam: 1 - (1 - eta * lam) ** count)


def one_pass_sgd(x, y, query, seen=None, *, rate: Real[ArrayLike, ""]) -> Float[Array, ""]:
    """One pass of stochastic gradient descent from zero, a pair at a time and in their order.

    w <- w + rate (y_t - w . x_t) x_t.

    Arguments:
        x, y, query, seen: see the head of this file; rate > 0.
    Returns:
        yhat, ().
    Holds when: always; stable for rate below 2 / |x_t|^2.
    Source: Akyurek et al. 2023 (arXiv:2211.15661).
    """
    inputs, targets, point, given = _given(x, y, query, seen)
    return _one_pass(inputs, targets, point, given, positive("rate", rate))


@jax.jit
def _one_pass(inputs, targets, point, given, eta):
    def step(w, pair):
        row, target, here = pair
        return w + here * eta * (target - row @ w) * row, None

    return jax.lax.scan(step, jnp.zeros_like(point), (inputs, targets, given))[0] @ point


def averaging(x, y, query, seen=None) -> Float[Array, ""]:
    """The mean of labels times inputs.

    yhat = query . (1 / n) X^T y.

    Arguments:
        x, y, query, seen: see the head of this file.
    Returns:
        yhat, (); zero for no pairs.
    Holds when: inputs are white: then it is unbiased, and consistent.
    Source: Garg et al. 2022 (arXiv:2208.01066).
    """
    inputs, targets, point, given = _given(x, y, query, seen)
    return point @ (inputs.T @ targets) / jnp.maximum(jnp.sum(given), 1)


def nearest_neighbours(x, y, query, seen=None, *, neighbours: int = 3) -> Float[Array, ""]:
    """The mean label of the nearest inputs.

    yhat = (1 / k) sum of y over the k pairs of least |x - query|.

    Arguments:
        x, y, query, seen: see the head of this file; neighbours: k, a Python int >= 1, or all pairs if fewer.
    Returns:
        yhat, (); zero for no pairs.
    Source: Garg et al. 2022 (arXiv:2208.01066).
    """
    inputs, targets, point, given = _given(x, y, query, seen)
    distance = jnp.where(given > 0, jnp.sum((inputs - point) ** 2, axis=1), jnp.inf)
    rank = jnp.argsort(jnp.argsort(distance))
    used = jnp.where((rank < whole("neighbours", neighbours)) & (given > 0), 1.0, 0.0)
    return jnp.sum(used * targets) / jnp.maximum(jnp.sum(used), 1)


def squared_difference(f: Real[ArrayLike, "*shape"], g: Real[ArrayLike, "*shape"]) -> Float[Array, ""]:
    """Mean squared difference of two rules' predictions on the same queries (SPD).

    SPD = E (f - g)^2.

    Arguments:
        f, g: predictions of the same shape.
    Returns:
        (), in units of y squared.
    Holds when: its mean exists: not for least squares with noise on d - 1, d or d + 1 pairs.
    Source: Akyurek et al. 2023 (arXiv:2211.15661).
    """
    one, other = real("f", f), real("g", g)
    if one.shape != other.shape or not one.size:
        raise ValueError(f"f and g must have one shape and at least one entry, got {one.shape} and {other.shape}")
    return jnp.mean((one - other) ** 2)


def implicit_weights(queries: Real[ArrayLike, "m d"], predictions: Real[ArrayLike, " m"]) -> ImplicitWeights:
    """The weights that a rule behaves as if it had, from its predictions on fresh queries with one context.

    w = argmin sum_j (f(x_j) - w . x_j)^2,   R^2 = 1 - residual / sum_j f(x_j)^2.

    Arguments:
        queries: (m, d), m >= d, of full rank; predictions: f of each, (m,).
    Returns:
        `ImplicitWeights`; E |w_f - w_g|^2 over contexts is the implicit linear weight difference (ILWD), which equals
        the SPD for linear rules and white queries. It means little where R^2 is below 0.9.
    Holds when: predictions are not all zero (R^2 is then one).
    Source: Akyurek et al. 2023 (arXiv:2211.15661).
    """
    points, values = matrix("queries", queries), real("predictions", predictions)
    if values.shape != points.shape[:1] or points.shape[0] < points.shape[1]:
        raise ValueError(
            f"queries must be (m, d) with m >= d and a prediction each, got {points.shape}, {values.shape}"
        )
    q, r = jnp.linalg.qr(points)
    pivots = jnp.abs(jnp.diagonal(r))
    small = len(points) * jnp.finfo(points.dtype).eps * jnp.max(pivots)
    require("queries", pivots, pivots > small, "must have full rank: a pivot of their QR factor")
    fitted = q.T @ values
    residual, total = jnp.sum((values - q @ fitted) ** 2), jnp.sum(values**2)
    w = jax.scipy.linalg.solve_triangular(r, fitted)
    return ImplicitWeights(w, 1 - residual / jnp.where(total > 0, total, 1.0))


def _given(x, y, query, seen):
    """Pairs that are not given are blanked, so that they add nothing to any sum."""
    inputs, targets = _context(x, y)
    point = real("query", query)
    if point.shape != inputs.shape[1:]:
        raise ValueError(f"query must have shape {inputs.shape[1:]}, got {point.shape}")
    given = jnp.ones_like(targets) if seen is None else real("seen", seen).astype(targets.dtype)
    if given.shape != targets.shape:
        raise ValueError(f"seen must have an entry for each of the {len(targets)} pairs, got shape {given.shape}")
    return inputs * given[:, None], targets * given, point, given


def _context(x, y):
    inputs, targets = matrix("x", x), real("y", y)
    if targets.shape != inputs.shape[:1]:
        raise ValueError(f"x must have a row for each label of y, got shapes {inputs.shape} and {targets.shape}")
    dtype = jnp.result_type(inputs, targets)
    return inputs.astype(dtype), targets.astype(dtype)
