"""Two Gaussian classes, the linear rule that logistic regression descends to, and the rule of estimated means."""

from __future__ import annotations

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from sims.engine import Simulation
from sims.training import training


class LinearRule(eqx.Module):
    """Class 1 where w . x + b > 0, class 0 elsewhere."""

    weights: Float[Array, " d"]
    bias: Float[Array, ""]

    def __call__(self, x: Float[Array, "*P d"]) -> Float[Array, "*P"]:
        """w . x + b for inputs in rows."""
        return x @ self.weights + self.bias


class Samples(NamedTuple):
    """Inputs in rows (P, d), their classes 0 and 1 (P,), and which of them count: 1 or 0 (P,)."""

    x: Float[Array, "P d"]
    y: Int[Array, " P"]
    counted: Float[Array, " P"]


def opposite_means(
    dimensions: Int[np.ndarray, " k"], distances: Float[np.ndarray, " k"]
) -> tuple[Float[np.ndarray, "k 2 d"], Float[np.ndarray, "k d"]]:
    """Means at so many distances, shared equally by so many features, and spreads: one, or zero for blank features."""
    used = (np.arange(max(dimensions)) < dimensions[:, None]).astype(float)
    half = (distances / np.sqrt(dimensions) / 2)[:, None] * used
    return np.stack([-half, half], axis=1), used


def gaussian_classes(key, means: Float[Array, "2 d"], most: int, used=None, spread=1.0) -> Samples:
    """`most` samples of each class, N(means[y], spread^2) in each feature; only the first `used` of a class count.

    `spread` is one number or one for each feature: where it is zero, and the means are, a feature is blank.
    """
    y = jnp.arange(2 * most) % 2
    x = means[y] + spread * jax.random.normal(key, (2 * most, means.shape[1]), means.dtype)
    counted = jnp.arange(2 * most) // 2 < (most if used is None else used)
    return Samples(x, y, counted.astype(means.dtype))


def logistic_loss(rule: LinearRule, samples: Samples) -> Float[Array, ""]:
    """Mean cross-entropy of the samples that count."""
    each = optax.sigmoid_binary_cross_entropy(rule(samples.x), samples.y)
    return jnp.sum(samples.counted * each) / jnp.sum(samples.counted)


def estimated_means(samples: Samples) -> LinearRule:
    """The best rule if the means were those of the samples: w = m_1 - m_0, b = (|m_0|^2 - |m_1|^2) / 2."""
    weights = samples.counted * jnp.stack([samples.y == 0, samples.y == 1])
    zero, one = weights @ samples.x / jnp.sum(weights, axis=1, keepdims=True)
    return LinearRule(one - zero, (zero @ zero - one @ one) / 2)


def mistakes(rule: LinearRule, samples: Samples) -> Float[Array, ""]:
    """Share of the samples that the rule gets wrong."""
    return jnp.mean((rule(samples.x) > 0) != (samples.y == 1))


def rule_training(most: int, tests: int, lr: float) -> Simulation:
    """Logistic regression by descent with momentum on all samples, and beside it the rule of their means.

    Hyperparameters are `means` (2, d), `spread` (d,) and `samples`, of each class. Of both rules it records weights,
    biases and mistakes on `tests` fresh samples of each class.
    """

    def prepare(key, hyper):
        of_samples, of_tests = jax.random.split(key)
        drawn = gaussian_classes(of_samples, hyper["means"], most, hyper["samples"], hyper["spread"])
        return hyper | {"drawn": drawn, "tests": of_tests}

    def untrained(key, hyper):
        means = hyper["means"]
        return LinearRule(jnp.zeros(means.shape[1], means.dtype), jnp.zeros((), means.dtype))

    def record(rule, hyper):
        fresh = gaussian_classes(hyper["tests"], hyper["means"], tests, None, hyper["spread"])
        both = rule, estimated_means(hyper["drawn"])
        found = [{"weights": r.weights, "bias": r.bias, "mistakes": mistakes(r, fresh)} for r in both]
        return jax.tree.map(lambda *parts: jnp.stack(parts), *found)

    descent = optax.sgd(lr, momentum=0.9, nesterov=True)
    return training(untrained, logistic_loss, lambda _: descent, lambda _, hyper: hyper["drawn"], record, prepare)


def largest_errors(rng: np.random.Generator, runs: int, samples: int, dimension: int) -> Float[np.ndarray, " runs"]:
    """The largest error among the means of `dimension` features of variance one, each from so many samples."""
    drawn = (rng.standard_normal((samples, dimension), np.float32).mean(axis=0) for _ in range(runs))
    return np.array([np.abs(mean).max() for mean in drawn])
