"""Data correlations: all that a linear network sees of its data, and whether its modes decouple on them.

Mode-by-mode theory (Saxe, McClelland & Ganguli 2013) needs `Sxx` and `Syx` to share right singular vectors. White
data do; real data do not, and here is by how much.
"""

from __future__ import annotations

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Real

from theory.checks import matrix, real


class Correlations(eqx.Module):
    """`sxx` (n_in, n_in), `syx` (n_out, n_in), `syy` (n_out, n_out): all that a linear network sees of its data."""

    sxx: Float[Array, "n_in n_in"]
    syx: Float[Array, "n_out n_in"]
    syy: Float[Array, "n_out n_out"]


class Modes(eqx.Module):
    """Input-output modes: `Syx = left diag(s) right^T`, and what `Sxx` does to each right vector.

    `lam_i = v_i . Sxx v_i` is the input variance along v_i; `mixing_i = |Sxx v_i - lam_i v_i| / |Sxx v_i|` is the sine
    of the angle between v_i and Sxx v_i: 0 where mode i is decoupled.
    """

    left: Float[Array, "n_out k"]
    s: Float[Array, " k"]
    right: Float[Array, "n_in k"]
    lam: Float[Array, " k"]
    mixing: Float[Array, " k"]


def correlations(x: Real[ArrayLike, "n_in P"], y: Real[ArrayLike, "n_out P"]) -> Correlations:
    """Second moments of a data set.

    Sxx = X X^T / P,   Syx = Y X^T / P,   Syy = Y Y^T / P.

    Arguments:
        x, y: inputs (n_in, P) and targets (n_out, P); a sample is a column. Nothing is centred here.
    Returns:
        the three matrices.
    Holds when: always.
    Source: Saxe, McClelland & Ganguli 2013 (arXiv:1312.6120), section 1.
    """
    x, y = matrix("x", x), matrix("y", y)
    if x.shape[1] != y.shape[1] or not x.shape[1]:
        raise ValueError(f"y must have one column for each of x's samples, got shapes {y.shape} and {x.shape}")
    n = x.shape[1]
    return Correlations(x @ x.T / n, y @ x.T / n, y @ y.T / n)


def input_output_modes(sxx: Real[ArrayLike, "n_in n_in"], syx: Real[ArrayLike, "n_out n_in"]) -> Modes:
    """The modes of `Syx`, strongest first, and how far each is from an eigenvector of `Sxx`.

    Arguments:
        sxx, syx: input and input-output correlations.
    Returns:
        `Modes` with k = min(n_in, n_out).
    Holds when: always; vectors (and lam, mixing) of repeated or zero singular values are arbitrary within their
        subspace and have no derivative, s and everything that is a function of the network map have one.
    Source: Saxe, McClelland & Ganguli 2013 (arXiv:1312.6120), section 1.
    """
    sxx, syx = fitting(sxx, syx)
    left, s, right = jnp.linalg.svd(syx, full_matrices=False)
    image = right @ sxx
    lam = jnp.sum(image * right, axis=1)
    size = length(image)
    residual = length(image - lam[:, None] * right)
    return Modes(left, s, right.T, lam, residual / jnp.where(size > 0, size, 1))


def noncommutation(sxx: Real[ArrayLike, "n_in n_in"], syx: Real[ArrayLike, "n_out n_in"]) -> Float[Array, ""]:
    """How far `Sxx` and `Syx` are from sharing right singular vectors: 0 exactly where mode-by-mode theory is exact.

    |Sxx M - M Sxx| / (|Sxx| |M|),   M = Syx^T Syx, Frobenius norms.

    Arguments:
        sxx, syx: input and input-output correlations.
    Returns:
        a dimensionless scalar; 1/sqrt(2) for two one-dimensional projectors at 45 degrees; 0 if either vanishes.
    Holds when: always. It vanishes if and only if some SVD Syx = U diag(s) V^T has Sxx = V diag(lam) V^T.
    Source: condition of Saxe, McClelland & Ganguli 2013 (arXiv:1312.6120), section 1, as a commutator.
    """
    sxx, syx = fitting(sxx, syx)
    m = syx.T @ syx
    size = length(sxx.ravel()) * length(m.ravel())
    return length((sxx @ m - m @ sxx).ravel()) / jnp.where(size > 0, size, 1)


def training_loss(
    w: Real[ArrayLike, "n_out n_in"],
    sxx: Real[ArrayLike, "n_in n_in"],
    syx: Real[ArrayLike, "n_out n_in"],
    syy: Real[ArrayLike, "n_out n_out"],
) -> Float[Array, ""]:
    """Loss of a network map from the correlations of the data (of the test data: the test loss).

    L = tr Syy / 2 - tr(W Syx^T) + tr(W Sxx W^T) / 2 = (1/2P) sum over samples of |y - W x|^2.

    Arguments:
        w: network map; sxx, syx, syy: correlations.
    Returns:
        the loss, a scalar; absolute rounding is that of tr Syy.
    Holds when: always.
    Source: Saxe, McClelland & Ganguli 2013 (arXiv:1312.6120), section 1.
    """
    sxx, syx = fitting(sxx, syx)
    w, syy = matrix("w", w, *syx.shape), matrix("syy", syy, syx.shape[0], syx.shape[0])
    return jnp.trace(syy) / 2 - jnp.sum(w * syx) + jnp.sum((w @ sxx) * w) / 2


def projected_strengths(
    w: Real[ArrayLike, "*times n_out n_in"], left: Real[ArrayLike, "n_out k"], right: Real[ArrayLike, "n_in k"]
) -> Float[Array, "*times k"]:
    """How much of each mode a network map holds.

    u_i = left_i . W right_i.

    Arguments:
        w: network map, with any leading axes; left, right: the modes' vectors in columns.
    Returns:
        u, the leading axes of w followed by (k,).
    Holds when: always; it is a singular value of W only where W is aligned with the modes.
    Source: Saxe, McClelland & Ganguli 2013 (arXiv:1312.6120), section 1.
    """
    return jnp.einsum("ok,...oi,ik->...k", real("left", left), real("w", w), real("right", right))


def fitting(sxx, syx) -> tuple[Float[Array, "n_in n_in"], Float[Array, "n_out n_in"]]:
    """The correlations as matrices that fit each other."""
    syx = matrix("syx", syx)
    return matrix("sxx", sxx, syx.shape[1], syx.shape[1]), syx


def length(x: Float[Array, "*rows n"]) -> Float[Array, "*rows"]:
    """Euclidean norm over the last axis, with derivative zero at zero."""
    square = jnp.sum(x**2, axis=-1)
    return jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1)), 0)
