"""Inputs that a few hidden factors explain but for noise, labels that depend on the factors, and least squares."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float


class FactorModel(NamedTuple):
    """x = B z + e, y = theta . z + noise: z ~ N(0, I), and variances `specific` of each e and `noise`."""

    loadings: Float[np.ndarray, "d r"]
    specific: float
    theta: Float[np.ndarray, " r"]
    noise: float


def random_factor_model(
    rng: np.random.Generator, inputs: int, strengths: Sequence[float], specific: float, noise: float
) -> FactorModel:
    """Orthogonal loadings of given lengths, in random directions, and theta of length one."""
    directions = np.linalg.qr(rng.standard_normal((inputs, len(strengths))))[0]
    theta = rng.standard_normal(len(strengths))
    return FactorModel(directions * np.asarray(strengths), specific, theta / np.linalg.norm(theta), noise)


def factor_samples(
    rng: np.random.Generator, model: FactorModel, shape: tuple[int, ...]
) -> tuple[Float[np.ndarray, "*P d"], Float[np.ndarray, "*P"]]:
    """Inputs and their labels."""
    d, r = model.loadings.shape
    z = rng.standard_normal((*shape, r))
    x = z @ model.loadings.T + model.specific**0.5 * rng.standard_normal((*shape, d))
    return x, z @ model.theta + model.noise**0.5 * rng.standard_normal(shape)


def least_squares(x: Float[np.ndarray, "*P n p"], y: Float[np.ndarray, "*P n"]) -> Float[np.ndarray, "*P p"]:
    """Weights that fit each set of samples best; there must be as many samples as weights."""
    across = np.swapaxes(x, -1, -2)
    return np.linalg.solve(across @ x, across @ y[..., None])[..., 0]


def linear_risk(model: FactorModel, weights: Float[np.ndarray, "*P d"]) -> Float[np.ndarray, "*P"]:
    """Mean squared error of w . x on new samples, exactly: |theta - B^T w|^2 + specific |w|^2 + noise."""
    missed = model.theta - weights @ model.loadings
    return np.sum(missed**2, axis=-1) + model.specific * np.sum(weights**2, axis=-1) + model.noise
