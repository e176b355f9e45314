"""How lazy was it? Measures of movement and of alignment, the same for a theory's kernels and for trained networks.

A lazy network fits by moving its weights so little that its kernel and its representation stay what they were; a rich
one turns them towards the task. All measures are pure functions of arrays: kernels and Gram matrices of P samples,
(..., P, P), from any theory or probe, with any leading axes (times, runs). None depends on the kernels' scale.

| measure | lazy | rich |
|---|---|---|
| `relative_change` of weights, kernels, representations | -> 0 | of order one |
| `alignment` of a kernel with its start, `sign_agreement` of hidden units | -> 1 | below |
| `target_alignment`, and CKA (`centred_alignment`) with the targets' Gram matrix | that of the start | grows |
| `effective_rank` of a kernel | that of the start | falls towards that of the task |
| `linearisation_error` of outputs | -> 0 | of order one |
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float, PyTree, Real

from theory.checks import real, require


def alignment(
    kernel: Real[ArrayLike, "*runs P samples"], other: Real[ArrayLike, "*others rows columns"]
) -> Float[Array, "..."]:
    """Kernel alignment: the cosine of the angle between two kernels.

    <K, K'> / (|K| |K'|), in Frobenius norms.

    Arguments:
        kernel, other: (..., P, P), of which leading axes broadcast; neither is zero.
    Returns:
        the cosine, of the leading axes' shape: between 0 and 1 for positive semi-definite kernels, 1 where one is a
        multiple of the other.
    Holds when: always.
    Source: Cristianini et al. 2001, kernel-target alignment.
    """
    kernel, other = _square("kernel", kernel), _square("other", other)
    return jnp.sum(_unit(kernel) * _unit(other), axis=(-2, -1))


def misalignment(
    kernel: Real[ArrayLike, "*runs P samples"], other: Real[ArrayLike, "*others rows columns"]
) -> Float[Array, "..."]:
    """1 - `alignment`, to full precision where kernels are nearly parallel: half the squared distance of unit kernels.

    Arguments: as for `alignment`.
    Returns: between 0 and 1 for positive semi-definite kernels, of the leading axes' shape.
    Holds when: always. Where a kernel moves by a relative change u, it is of order u^2.
    Source: the kernel distance of Fort et al. 2020 (arXiv:2010.15110).
    """
    kernel, other = _square("kernel", kernel), _square("other", other)
    return 0.5 * jnp.sum((_unit(kernel) - _unit(other)) ** 2, axis=(-2, -1))


def centred_alignment(
    kernel: Real[ArrayLike, "*runs P samples"], other: Real[ArrayLike, "*others rows columns"]
) -> Float[Array, "..."]:
    """Centred kernel alignment (CKA): alignment after the mean over samples is taken out.

    alignment(H K H, H K' H),   H = 1 - 1 1^T / P.

    Arguments: as for `alignment`; neither kernel is constant over samples.
    Returns: as for `alignment`. Of Gram matrices of two representations it does not see rotations, nor shifts.
    Holds when: always.
    Source: Cortes, Mohri & Rostamizadeh 2012; Kornblith et al. 2019 (arXiv:1905.00414), eq. 4 with linear kernels.
    """
    return alignment(_centred(_square("kernel", kernel)), _centred(_square("other", other)))


def target_alignment(
    kernel: Real[ArrayLike, "*runs P samples"], y: Real[ArrayLike, "P *outputs"]
) -> Float[Array, "*runs"]:
    """Alignment of a kernel with the targets: y^T K y / (|K| |y|^2) for one output, <K, Y Y^T> / (|K| |Y Y^T|).

    Arguments:
        kernel: (..., P, P); y: targets, (P,) or (P, outputs), not zero.
    Returns:
        the alignment, of the leading axes' shape.
    Holds when: always.
    Source: Cristianini et al. 2001.
    """
    return alignment(kernel, gram(y))


def gram(h: Real[ArrayLike, "P *units"]) -> Float[Array, "P P"]:
    """Gram matrix h h^T of a representation, samples in rows: what the alignments compare.

    Arguments: h: (P,) or (P, units).
    Returns: (P, P).
    Holds when: always.
    Source: a definition.
    """
    h = real("h", h)
    h = h[:, None] if h.ndim == 1 else h
    return h @ h.T


def relative_change(after: PyTree[Real[ArrayLike, "..."]], before: PyTree[Real[ArrayLike, "..."]]) -> Float[Array, ""]:
    """|after - before| / |before|, over all arrays of a pytree: of weights, of a kernel, of a representation.

    Arguments: after, before: arrays, or pytrees of arrays (weights), of one structure; before is not zero.
    Returns: the change, a scalar.
    Holds when: always. Weights of a wide lazy network change by 1/sqrt(width) of their norm, its kernel by 1/width.
    Source: Chizat, Oyallon & Bach 2019 (arXiv:1812.07956).
    """
    before = [real("before", leaf) for leaf in jax.tree.leaves(before)]
    after = [real("after", leaf) for leaf in jax.tree.leaves(after)]
    moved = sum(jnp.sum((b - a) ** 2) for a, b in zip(before, after, strict=True))
    size = jnp.asarray(sum(jnp.sum(a**2) for a in before))
    return jnp.sqrt(moved / require("before", size, size > 0, "must not be zero"))


def linearisation_error(
    outputs: Real[ArrayLike, "..."], linearised: Real[ArrayLike, "..."], start: Real[ArrayLike, "..."]
) -> Float[Array, ""]:
    """|f - f_lin| / |f_lin - f_0|: how far training has left the tangent of its start, relative to how far it went.

    Arguments: outputs of the network, of its linearisation at the start trained alike, and of both at the start.
    Returns: the error, a scalar.
    Holds when: always.
    Source: Chizat, Oyallon & Bach 2019 (arXiv:1812.07956); Lee et al. 2019 (arXiv:1902.06720).
    """
    f, tangent, f0 = (real(n, v) for n, v in (("outputs", outputs), ("linearised", linearised), ("start", start)))
    return jnp.linalg.norm(jnp.ravel(f - tangent)) / jnp.linalg.norm(jnp.ravel(tangent - f0))


def sign_agreement(
    before: Real[ArrayLike, "*units"] | Bool[ArrayLike, "*units"],
    after: Real[ArrayLike, "*units"] | Bool[ArrayLike, "*units"],
) -> Float[Array, ""]:
    """Share of hidden units, over samples, that are on the same side of zero: 1 in a lazy network of rectifiers.

    Arguments: before, after: pre-activations of one shape.
    Returns: the share, between 0 and 1.
    Holds when: always.
    Source: Chizat, Oyallon & Bach 2019 (arXiv:1812.07956), stability of activations.
    """
    return jnp.mean(_is_above("before", before) == _is_above("after", after), dtype=float)


def effective_rank(kernel: Real[ArrayLike, "*runs P samples"]) -> Float[Array, "*runs"]:
    """Participation ratio of a kernel's eigenvalues: (tr K)^2 / tr K^2.

    Arguments: kernel: symmetric, positive semi-definite, not zero, (..., P, P).
    Returns: between 1 and the rank, of the leading axes' shape; the rank where all eigenvalues that are not zero agree.
    Holds when: always.
    Source: a definition; of covariances Gao et al. 2017, "a theory of multineuronal dimensionality".
    """
    kernel = _unit(_square("kernel", kernel))
    return jnp.trace(kernel, axis1=-2, axis2=-1) ** 2


def _square(name: str, kernel) -> Float[Array, "*runs P P"]:
    kernel = real(name, kernel)
    if kernel.ndim < 2 or kernel.shape[-1] != kernel.shape[-2]:
        raise ValueError(f"{name} must be square in its last two axes, got shape {kernel.shape}")
    return require(name, kernel, jnp.any(kernel != 0, axis=(-2, -1), keepdims=True), "must not be zero")


def _is_above(name: str, value) -> Bool[Array, "*units"]:
    """Which entries are above zero; true and false already say so."""
    x = jnp.asarray(value)
    return x if x.dtype == bool else real(name, x) > 0


def _unit(kernel):
    """Norm one, without overflow of squares."""
    scaled = kernel / jnp.max(jnp.abs(kernel), axis=(-2, -1), keepdims=True)
    return scaled / jnp.sqrt(jnp.sum(scaled**2, axis=(-2, -1), keepdims=True))


def _centred(kernel):
    kernel = kernel - jnp.mean(kernel, axis=-1, keepdims=True)
    return kernel - jnp.mean(kernel, axis=-2, keepdims=True)
