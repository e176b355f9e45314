"""Hypothesis strategies that draw physics: use them to test your own solver.

    from hypothesis import given
    from validation.strategies import balanced_networks, modes

    @given(modes())
    def test_my_solver(mode):
        u = my_solver(mode.t, mode.s, mode.u0)

A regime that a theorem needs (balance, gaps, an aligned start) is built into the strategy, never filtered with
`assume`. Shapes come from a short list, because every new shape is compiled anew; matrices are drawn by seed,
the numbers that matter (singular values, scales, times) as themselves, so that they shrink. All arrays are NumPy.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from hypothesis import strategies as st

seeds = st.integers(0, 2**32 - 1)


class Mode(NamedTuple):
    """One mode: time, singular value of Syx, strength at the start, eigenvalue of Sxx."""

    t: float
    s: float
    u0: float
    lam: float


class Task(NamedTuple):
    """Correlations of a data set: Sxx (n_in, n_in) symmetric positive definite, Syx (n_out, n_in)."""

    sxx: np.ndarray
    syx: np.ndarray


class Network(NamedTuple):
    """A two-layer lambda-balanced start on white inputs, W2^T W2 - W1 W1^T = lam I, and its task Syx."""

    w1: np.ndarray
    w2: np.ndarray
    syx: np.ndarray
    lam: float


class Teacher(NamedTuple):
    """High-dimensional regression: samples per input alpha, signal, noise and start variances."""

    alpha: float
    signal: float
    noise: float
    start: float


def log_uniform(low: float, high: float) -> st.SearchStrategy[float]:
    """Positive floats, uniform in their logarithm, ends included."""
    exponents = st.floats(np.log(low), np.log(high), allow_nan=False, allow_subnormal=False)
    return exponents.map(lambda e: float(np.clip(np.exp(e), low, high)))


def rotations(n: int) -> st.SearchStrategy[np.ndarray]:
    """Orthogonal n x n matrices, uniform (Haar), drawn by seed."""
    return seeds.map(lambda seed: _rotation(np.random.default_rng(seed), n))


@st.composite
def spectra(draw, n: int, smallest: float = 0.2, gap: float = 0.2) -> np.ndarray:
    """n singular values in falling order, the last at least `smallest`, neighbours at least `gap` apart."""
    gaps = draw(st.lists(st.floats(gap, 1.5), min_size=n - 1, max_size=n - 1))
    last = draw(st.floats(smallest, 1.5))
    return last + np.concatenate([np.cumsum(gaps[::-1])[::-1], [0.0]])


@st.composite
def modes(draw, depth: int = 2, smallest_start: float = 1e-8, longest: float = 10.0) -> Mode:
    """A mode, at a time drawn in units of its own learning time, so that every stage is met.

    The start lies between `smallest_start` and 0.9 of the final strength s/lam.
    """
    s, lam = draw(log_uniform(0.05, 20)), draw(log_uniform(0.1, 10))
    ratio = draw(log_uniform(smallest_start, 0.9))
    # The time scale of the plateau (the growth rate at the start is depth s u0^(1-2/depth)), with its logarithm.
    u0 = ratio * s / lam
    learning_time = (1 - np.log(ratio)) / (depth * s * u0 ** (1 - 2 / depth)) if depth > 1 else 1 / lam
    return Mode(draw(st.floats(0, longest)) * float(learning_time), s, u0, lam)


@st.composite
def tasks(draw, shapes: tuple[tuple[int, int], ...] = ((3, 2), (2, 3), (4, 4))) -> Task:
    """Correlations of some (n_in, n_out), in general without common singular vectors; condition number below 30."""
    n_in, n_out = draw(st.sampled_from(shapes))
    rng = np.random.default_rng(draw(seeds))
    rotation = _rotation(rng, n_in)
    sxx = (rotation * rng.uniform(0.1, 3, n_in)) @ rotation.T
    return Task((sxx + sxx.T) / 2, draw(st.floats(0.1, 2)) * rng.normal(size=(n_out, n_in)))


@st.composite
def balanced_networks(
    draw,
    shapes: tuple[tuple[int, int, int], ...] = ((2, 2, 2), (3, 2, 4), (2, 4, 3), (4, 5, 4)),
    largest: float = 3.0,
) -> Network:
    """A lambda-balanced start of some (n_in, n_hidden, n_out) and a task with distinct singular values.

    lambda may have either sign where the dimensions allow it (lambda > 0 needs n_hidden <= n_out, lambda < 0
    n_hidden <= n_in), and is zero elsewhere.
    """
    n_in, n_hidden, n_out = draw(st.sampled_from(shapes))
    low = -largest if n_hidden <= n_in else 0.0
    high = largest if n_hidden <= n_out else 0.0
    lam = draw(st.floats(low, high, allow_subnormal=False)) if low < high else 0.0
    rank = min(n_in, n_out)
    scale, s = draw(log_uniform(1e-3, 1.0)), draw(spectra(rank))
    rng = np.random.default_rng(draw(seeds))
    w1, w2 = _balanced(rng, (n_in, n_hidden, n_out), lam, scale)
    left, right = _rotation(rng, n_out)[:, :rank], _rotation(rng, n_in)[:, :rank]
    return Network(w1, w2, (left * s) @ right.T, lam)


def teachers() -> st.SearchStrategy[Teacher]:
    """Regression problems from few to many samples per input (including exactly one), noiseless to noisy."""
    alphas = st.one_of(st.just(1.0), log_uniform(0.1, 10))
    variances = st.one_of(st.just(0.0), log_uniform(1e-3, 10))
    return st.builds(Teacher, alphas, log_uniform(0.1, 10), variances, variances)


def _rotation(rng: np.random.Generator, n: int) -> np.ndarray:
    q, r = np.linalg.qr(rng.normal(size=(n, n)))
    return q * np.sign(np.diag(r))


def _balanced(rng, widths: tuple[int, int, int], lam: float, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """W1 = R diag(a) V^T and W2 = U diag(b) R^T with b^2 - a^2 = lam for every hidden unit."""
    n_in, n_hidden, n_out = widths
    a, b = np.zeros(n_hidden), np.zeros(n_hidden)
    k = min(widths)
    product = scale * rng.uniform(0.5, 1.5, k)
    # The larger of the two layers first: the other would be a small difference of large numbers.
    big = np.sqrt((np.hypot(lam, 2 * product) + abs(lam)) / 2)
    a[:k], b[:k] = (product / big, big) if lam >= 0 else (big, product / big)
    (b if lam >= 0 else a)[k:] = np.sqrt(abs(lam))
    hidden, left, right = (_rotation(rng, n) for n in (n_hidden, n_out, n_in))
    ka, kb = min(n_hidden, n_in), min(n_hidden, n_out)
    return (hidden[:, :ka] * a[:ka]) @ right[:, :ka].T, (left[:, :kb] * b[:kb]) @ hidden[:, :kb].T
