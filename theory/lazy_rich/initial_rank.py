"""Rank of the initial weights: a low rank makes a two-layer linear network richer, unless it is aligned with the task.

A network f(x) = w2 W1 x of one output has the tangent kernel x S x', S = W1^T W1 + |w2|^2 I. From a small start it
learns beta with balanced layers, whatever it started from, so that the kernel ends as

    S = beta beta^T / |beta| + |beta| I.

How far the kernel turns is therefore how far the start was from that: a start W1 of high rank is nearly isotropic, and
so is the end; one of low rank looks elsewhere, and has to turn, unless it happens to look along beta. What counts of
the start's singular values is the participation ratio of W1^T W1 (`theory.lazy_rich.laziness.effective_rank`).
At larger starts this fades, and one of low rank waits long at a saddle: `two_layer_alignment` has every scale.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Real

from theory.checks import matrix, real, require, whole, within
from theory.flow import flow, times
from theory.lazy_rich.laziness import alignment


def kernel_map(w1: Real[ArrayLike, "H d"], w2: Real[ArrayLike, " H"]) -> Float[Array, "d d"]:
    """S = W1^T W1 + |w2|^2 I, the tangent kernel x S x' of a two-layer linear network of one output.

    Arguments:
        w1: first layer, (H, d); w2: readout, (H,).
    Returns:
        S, (d, d).
    Holds when: always.
    Source: Braun, Dominé, Fitzgerald & Saxe 2022, the section on the neural tangent kernel.
    """
    w1 = matrix("w1", w1)
    w2 = _vector("w2", w2, w1.shape[0])
    return w1.T @ w1 + jnp.sum(w2**2) * jnp.eye(w1.shape[1], dtype=w1.dtype)


def learned_kernel_map(beta: Real[ArrayLike, " d"]) -> Float[Array, "d d"]:
    """S after learning f(x) = beta.x from a small start: beta beta^T / |beta| + |beta| I.

    Arguments:
        beta: what is learned, (d,), not zero; on data that do not span all directions its part within their span.
    Returns:
        S, (d, d).
    Holds when: gradient flow from |W1|, |w2| -> 0, which ends with balanced layers; corrections are of the order of
        the start's squared norm over |beta|.
    Source: Atanasov, Bordelon & Pehlevan 2022 (arXiv:2111.00034), silent alignment; Saxe, McClelland & Ganguli 2014.
    """
    beta = _vector("beta", beta)
    size = jnp.linalg.norm(require("beta", beta, jnp.any(beta != 0), "must not be zero"))
    return jnp.outer(beta, beta) / size + size * jnp.eye(len(beta), dtype=beta.dtype)


def small_start_alignment(
    start: Real[ArrayLike, "d dims"],
    beta: Real[ArrayLike, " inputs"],
    x: Real[ArrayLike, "P features"] | None = None,
) -> Float[Array, ""]:
    """Alignment of the kernel at a small start with the kernel at the end, on given data.

    Arguments:
        start: S at the start, `kernel_map` of its shape: its scale does not count, (d, d).
        beta: what is learned, (d,).
        x: samples in rows, (P, d); white data (x^T x a multiple of 1) if not given.
    Returns:
        the cosine between the kernels; 2 / sqrt(d + 3) on white data for W1 = s u beta^T, w2 = 0.
    Holds when: as for `learned_kernel_map`.
    Source: Liu, Baratin, Cornford, Mihalas, Shea-Brown & Lajoie 2024 (arXiv:2310.08513), which states the effect.
    """
    start = matrix("start", start)
    start = matrix("start", start, start.shape[0], start.shape[0])
    end = learned_kernel_map(_vector("beta", beta, start.shape[0]))
    if x is None:
        return alignment(start, end)
    x = matrix("x", x, columns=start.shape[0])
    return alignment(x @ start @ x.T, x @ end @ x.T)


def expected_alignment(rank: Real[ArrayLike, "..."], inputs: int) -> Float[Array, "..."]:
    """Mean of `small_start_alignment` over targets of random direction.

    (1 + 1/d) sqrt(PR / (d + 3)).

    Arguments:
        rank: PR, participation ratio of W1^T W1, between 1 and d (`effective_rank`); r of equal singular values.
        inputs: d, a Python int.
    Returns:
        the mean, (...): it rises from (1 + 1/d) / sqrt(d + 3) to (d + 1) / sqrt(d (d + 3)).
    Holds when: white data, w2 = 0 at a small start, beta uniform on a sphere.
    Source: derived in derivations/lazy_rich/initial_rank.py; the effect is that of Liu et al. 2024 (arXiv:2310.08513).
    """
    rank, d = _rank(rank, inputs)
    return (1 + 1 / d) * jnp.sqrt(rank / (d + 3))


def alignment_deviation(rank: Real[ArrayLike, "..."], inputs: int) -> Float[Array, "..."]:
    """Standard deviation of `small_start_alignment` over targets of random direction.

    sqrt(2 (1 - PR / d) / (d (d + 2) (d + 3))).

    Arguments, regime and source: as for `expected_alignment`.
    Returns: the deviation, (...), zero at full rank with equal singular values.
    """
    rank, d = _rank(rank, inputs)
    return jnp.sqrt(2 * (1 - rank / d) / (d * (d + 2) * (d + 3)))


def two_layer_alignment(
    t: Real[ArrayLike, " T"],
    x: Real[ArrayLike, "P d"],
    y: Real[ArrayLike, " labels"],
    w1: Real[ArrayLike, "H features"],
    w2: Real[ArrayLike, " H"],
) -> Float[Array, " T"]:
    """Alignment of the tangent kernel on the samples with its start, while a two-layer linear network is trained.

    Arguments:
        t: times, increasing, >= 0, learning rate times steps, shape (T,).
        x, y: samples in rows, (P, d), and their targets, (P,).
        w1, w2: first layer (H, d) and readout (H,) at the start, of any scale, rank and balance.
    Returns:
        the alignment, shape (T,).
    Holds when: gradient flow on (1/2P) sum (y - f)^2; exact. Starts of low rank pass saddles, where steps of any size
        and rounding delay or hasten real networks.
    Source: the gradient flow itself, on as few neurons as the start has directions: rank is kept to the last digit.
    """
    x, w1 = matrix("x", x), matrix("w1", w1)
    w1 = matrix("w1", w1, columns=x.shape[1])
    w2, y = _vector("w2", w2, w1.shape[0]), _vector("y", y, x.shape[0])
    return _alignment_in_time(times("t", t), x, y, w1, w2)


@jax.jit
def _alignment_in_time(t, x, y, w1, w2):
    """In weights, not in moments: there an error is a neuron that the network has not, which grows at saddles."""
    _, sizes, rows = jnp.linalg.svd(jnp.concatenate([w1, w2[:, None]], axis=1), full_matrices=False)
    floor = 10 * max(w1.shape) * jnp.finfo(sizes.dtype).eps * jnp.max(sizes)
    # As few neurons as do the same; those that are rounding are none.
    rows = jnp.where(sizes > floor, sizes, 0.0)[:, None] * rows

    def field(weights):
        w1, w2 = weights
        drive = x.T @ (y - x @ (w1.T @ w2)) / x.shape[0]
        return jnp.outer(w2, drive), w1 @ drive

    def kernel(w1, w2):
        return x @ kernel_map(w1, w2) @ x.T

    later = jax.vmap(kernel)(*flow(field, t, (rows[:, :-1], rows[:, -1])))
    return alignment(later, kernel(w1, w2))


def _rank(rank, inputs) -> tuple[Array, int]:
    d = whole("inputs", inputs)
    # A ratio of d exactly is off by rounding.
    return jnp.minimum(within("rank", rank, 1 - 1e-9, d * (1 + 1e-9)), d), d


def _vector(name: str, value, size: int | None = None) -> Float[Array, " n"]:
    value = real(name, value)
    if value.ndim != 1 or size not in (None, value.shape[0]):
        raise ValueError(f"{name} must be a vector of length {'any' if size is None else size}, got {value.shape}")
    return value
