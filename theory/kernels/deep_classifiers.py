"""The classifiers that infinitely deep networks become, and kernel machines of any finite depth on their way there.

All inputs are rows of unit norm. A classifier returns a score for each new input: its sign is the class if the labels
are +-1; a column of labels per class may be given, and the largest score is the class. Which limit belongs to which
activation is in `theory.kernels.deep_limits`.
"""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Real

from theory.checks import matrix, non_negative, positive, real, require, whole
from theory.kernels.deep_limits import (
    ROUNDING,
    DualLike,
    OfActivation,
    deep_limit,
    interpolation_distance,
    log_singular_kernel,
    normalised_dual,
)


def nearest_neighbour(
    x: Real[ArrayLike, "R _"], x_train: Real[ArrayLike, "P _"], y: Real[ArrayLike, "_ *C"]
) -> Float[Array, "R *C"]:
    """The label of the nearest training input: the deep limit where f(0) = f'(0) = 0.

    score(x) = y_i,   i = argmin_i |x - x_i|

    Arguments:
        x: new inputs, rows of unit norm, shape (R, d).
        x_train: training inputs, rows of unit norm, shape (P, d).
        y: their labels, shape (P,) or (P, C).
    Returns:
        the scores, shape (R,) or (R, C); of equally near inputs the first one counts.
    Source: Radhakrishnan, Belkin & Uhler 2023 (PNAS 120).
    """
    _, h, y = _checked(x, x_train, y)
    return y[jnp.argmin(h, axis=1)]


def majority_vote(y: Real[ArrayLike, "_ *C"]) -> Float[Array, "*C"]:
    """The mean label, whatever the input: the deep limit where f(0) > 0 and f'(1) >= 1.

    score = (1/P) sum_i y_i

    Arguments:
        y: training labels, shape (P,) or (P, C).
    Returns:
        the score, a scalar or shape (C,).
    Source: Radhakrishnan, Belkin & Uhler 2023 (PNAS 120).
    """
    return jnp.mean(real("y", y), axis=0)


def singular_classifier(
    x: Real[ArrayLike, "R _"],
    x_train: Real[ArrayLike, "P _"],
    y: Real[ArrayLike, "_ *C"],
    phi: DualLike,
) -> Float[Array, "R *C"]:
    """The vote of all training inputs, weighted by the singular kernel: the deep limit where f(0) = 0, 0 < f'(0) < 1.

    score(x) = sum_i y_i g(x . x_i) / sum_i |g(x . x_i)|

    Arguments:
        x, x_train, y: as for `nearest_neighbour`.
        phi: as for `deep_limits.normalised_dual`, concrete.
    Returns:
        the scores, shape (R,) or (R, C); the label itself at a training input.
    Holds when: as for `deep_limit`. As the number of samples grows the classifier is Bayes-optimal if the exponent of g
        is the dimension of the sphere that carries the inputs: below it all inputs keep their vote, above it only the
        nearest ones have one.
    Source: Radhakrishnan, Belkin & Uhler 2023 (PNAS 120); consistency of the singular kernel: Devroye, Gyorfi & Krzyzak
        1998 ("The Hilbert kernel regression estimate").
    """
    xi, h, y = _checked(x, x_train, y)
    log, sign = log_singular_kernel(xi, phi, h)
    return _vote(log, sign, h, y)


def hilbert_classifier(
    x: Real[ArrayLike, "R _"],
    x_train: Real[ArrayLike, "P _"],
    y: Real[ArrayLike, "_ *C"],
    exponent: Real[ArrayLike, ""],
) -> Float[Array, "R *C"]:
    """The vote of all training inputs, weighted by a power of their distance.

    score(x) = sum_i y_i |x - x_i|^-alpha / sum_i |x - x_i|^-alpha

    Arguments:
        x, x_train, y: as for `nearest_neighbour`.
        exponent: alpha > 0.
    Returns:
        the scores, shape (R,) or (R, C); the label itself at a training input.
    Holds when: always; Bayes-optimal with many samples if alpha is the dimension of the space that carries the inputs.
    Source: Devroye, Gyorfi & Krzyzak 1998 ("The Hilbert kernel regression estimate").
    """
    _, h, y = _checked(x, x_train, y)
    log = -positive("exponent", exponent) / 2 * jnp.log(jnp.where(h > 0, h, 1))
    return _vote(log, jnp.ones_like(log), h, y)


def interpolating_classifier(
    x: Real[ArrayLike, "R _"],
    x_train: Real[ArrayLike, "P _"],
    y: Real[ArrayLike, "_ *C"],
    phi: DualLike,
) -> Float[Array, "R *C"]:
    """Interpolation with the kernel -D and a free constant: the deep limit where f(0) > 0 and f'(1) < 1, without ridge.

    score(x) = c - sum_i beta_i D(x . x_i),   [-D(X X^T) 1; 1^T 0] [beta; c] = [y; 0]

    Arguments:
        x, x_train, y: as for `nearest_neighbour`; no training input twice.
        phi: as for `deep_limits.normalised_dual`, concrete.
    Returns:
        the scores, shape (R,) or (R, C); exactly the labels at the training inputs.
    Holds when: as for `deep_limit`. A tangent kernel of depth L comes as near as 1/L, an NNGP kernel as f'(1)^L; with
        any ridge both become `majority_vote`.
    Source: derivations/kernels/deep_limits.py.
    """
    xi, h, y = _checked(x, x_train, y)
    train, train_h = _geometry(x_train, x_train)
    coefficients, constant = _augmented(interpolation_distance(train, phi, train_h), 0.0, 0.0, y)
    return constant - interpolation_distance(xi, phi, h) @ coefficients


def deep_classifier(
    x: Real[ArrayLike, "R _"],
    x_train: Real[ArrayLike, "P _"],
    y: Real[ArrayLike, "_ *C"],
    phi: DualLike,
    depth: int,
    *,
    kernel: str = "ntk",
    ridge: Real[ArrayLike, ""] = 0.0,
) -> Float[Array, "R *C"]:
    """The kernel machine of a network of finite depth, up to a positive factor for each input.

    score(x) ~ k(x)^T (K + ridge)^{-1} y,   Sigma <- f(Sigma),   Theta <- f(Sigma) + Theta f'(Sigma),
    from Theta = Sigma = xi on, all over their diagonal

    Arguments:
        x, x_train, y: as for `nearest_neighbour`.
        phi: as for `deep_limits.normalised_dual`, concrete.
        depth: number L of hidden layers, a Python int >= 0.
        kernel: "ntk" (Theta) or "nngp" (Sigma).
        ridge: >= 0, in units of the kernel's diagonal.
    Returns:
        the scores, shape (R,) or (R, C): the regression itself where f(0) > 0 and, for "ntk", f'(1) <= 1. Elsewhere its
        values vanish with depth, and are divided by the largest |k(x, x_i)|: signs and largest columns are the same.
    Holds when: as for `deep_limit`, at any depth: off-diagonals are followed in their logarithms, deviations from one
        without cancellation (a smooth activation that is not given by its coefficients loses the latter, of the tangent
        kernel, below 1e-15).
    Source: Radhakrishnan, Belkin & Uhler 2023 (PNAS 120), recursion of the normalised kernels.
    """
    xi, h, y = _checked(x, x_train, y)
    depth, ridge, dual = whole("depth", depth, at_least=0), non_negative("ridge", ridge), normalised_dual(phi)
    if kernel not in ("ntk", "nngp"):
        raise ValueError(f"kernel must be 'ntk' or 'nngp', got {kernel!r}")
    train, limit = _geometry(x_train, x_train), deep_limit(dual)
    if limit.case == "nearest neighbour" and isinstance(dual, OfActivation):
        raise ValueError("phi must be given by its squared Hermite coefficients where f(0) = f'(0) = 0")
    slope = jnp.asarray(limit.slope) if kernel == "ntk" else None
    # Off-diagonals of Theta that stay behind the diagonal vanish, as all do where f(0) = 0.
    if limit.constant > ROUNDING and (kernel == "nngp" or limit.slope < 1 + ROUNDING):
        own, new = (_deviation(dual, *pair, slope, depth) for pair in (train, (xi, h)))
        scale = jnp.where(own.max() > 0, own.max(), 1)
        coefficients, constant = _augmented(own / scale, ridge / scale, scale, y)
        return constant - new / scale @ coefficients
    own, own_sign = _log_entries(dual, dual.order, *train, slope, depth)
    new, new_sign = _log_entries(dual, dual.order, xi, h, slope, depth)
    coefficients = jnp.linalg.solve(own_sign * jnp.exp(own) + ridge * jnp.eye(len(y)), y)
    return new_sign * jnp.exp(new - jnp.max(new, axis=1, keepdims=True)) @ coefficients


@eqx.filter_jit
def _deviation(dual, xi, h, slope, depth: int) -> Array:
    """1 - K / diagonal of K, for the tangent kernel; with `slope` = None (no backward pass) for the NNGP kernel."""

    def step(_, state):
        xi, h, off, inverse = state
        if slope is None:
            xi, h = dual.layer(xi, h)
            return xi, h, 2 * h, inverse
        # inverse = 1 / Theta(x, x), which obeys Theta <- 1 + slope Theta.
        after, lost = inverse / (inverse + slope), dual.slope_deficit(xi, h) / slope
        xi, h = dual.layer(xi, h)
        return xi, h, 2 * h * after + (1 - after) * (off + (1 - off) * lost), after

    return jax.lax.fori_loop(0, depth, step, (xi, h, 2 * h, jnp.ones(())))[2]


@eqx.filter_jit
def _log_entries(dual, order: int, xi, h, slope, depth: int) -> tuple[Array, Array]:
    """ln |K / diagonal of K| and the sign of K, where f(0) = 0: Sigma in its logarithm, and Theta over Sigma.

    Theta / Sigma <- 1 + (Theta / Sigma) kappa,   kappa = xi f'(xi) / f(xi), the order of f at small xi.
    """
    tiny = jnp.full((), 1e-18)
    leading = jnp.log(dual.layer(tiny, (1 - tiny) / 2)[0]) - order * jnp.log(tiny)

    def step(_, state):
        xi, h, log, sign, ratio = state
        small = jnp.abs(xi) < 1e-18
        after, h_after = dual.layer(xi, h)
        safe = jnp.where(small | (after == 0), 1, after)
        kappa = jnp.where(small, order, xi * dual.slope(xi, h) / safe)
        log = jnp.where(small, order * log + leading, jnp.log(jnp.abs(safe)))
        sign = jnp.where(small, sign**order, jnp.sign(after))
        return after, h_after, log, sign, ratio if slope is None else 1 + ratio * kappa

    away = jnp.where(xi == 0, 1e-300, xi)
    start = (xi, h, jnp.log(jnp.abs(away)), jnp.sign(xi), jnp.ones_like(xi))
    _, _, log, sign, ratio = jax.lax.fori_loop(0, depth, step, start)
    # The diagonal of Theta is 1 + slope + ... + slope^depth, slope >= 1; its logarithm, from the largest term on.
    powers = 0.0 if slope is None else jnp.log(slope) * jnp.arange(depth + 1)
    diagonal = jax.scipy.special.logsumexp(powers)
    log, sign = log + jnp.log(jnp.abs(ratio)) - diagonal, sign * jnp.sign(ratio)
    return jnp.where(h > 0, log, 0.0), jnp.where(h > 0, sign, 1.0)


def _augmented(deviation, ridge, scale, y) -> tuple[Array, Array]:
    """beta and c of [ridge - deviation, 1; 1^T, -scale] [beta; c] = [y; 0].

    This is (1 1^T - scale deviation + scale ridge) alpha = y with beta = scale alpha and c = 1^T alpha, which remains
    solvable as the scale of the deviations goes to zero.
    """
    samples = len(y)
    system = jnp.ones((samples + 1, samples + 1))
    system = system.at[:samples, :samples].set(ridge * jnp.eye(samples) - deviation).at[samples, samples].set(-scale)
    solution = jnp.linalg.solve(system, jnp.concatenate([y, jnp.zeros_like(y[:1])]))
    return solution[:samples], solution[samples]


def _vote(log, sign, h, y) -> Array:
    """sum_i y_i w_i / sum_i |w_i| of weights given by logarithm and sign; a coincident input votes alone."""
    exact = (h == 0).astype(log.dtype)
    known = exact.any(axis=1, keepdims=True)
    log = jnp.where(known, 0.0, log)
    weights = jnp.where(known, exact, sign * jnp.exp(log - log.max(axis=1, keepdims=True)))
    return jnp.einsum("rp,p...->r...", weights / jnp.abs(weights).sum(axis=1, keepdims=True), y)


def _checked(x, x_train, y) -> tuple[Array, Array, Array]:
    """Cosines and half gaps (1 - xi)/2 of shape (R, P), and the labels."""
    x_train = matrix("x_train", x_train)
    x = matrix("x", x, columns=x_train.shape[1])
    for name, rows in (("x", x), ("x_train", x_train)):
        norms = jnp.linalg.norm(rows, axis=1)
        require(name, rows, (jnp.abs(norms - 1) < 1e-5).all(), "must have rows of norm one")
    y = real("y", y)
    if y.ndim not in (1, 2) or len(y) != len(x_train):
        raise ValueError(f"y must hold a label for each of the {len(x_train)} training inputs, got shape {y.shape}")
    return *_geometry(x, x_train), y


@jax.jit
def _geometry(x, x_train) -> tuple[Array, Array]:
    """Cosines xi, and h = |x - x'|^2 / 4 from differences: zero for coincident inputs, and precise for close ones."""
    differences = jnp.asarray(x)[:, None] - jnp.asarray(x_train)[None]
    return jnp.clip(x @ jnp.asarray(x_train).T, -1, 1), jnp.clip(jnp.sum(differences**2, axis=-1) / 4, 0, 1)
