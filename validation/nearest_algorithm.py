"""Which algorithm is my network? Distances of a predictor to the usual ones, at several levels of noise.

    from validation.nearest_algorithm import nearest_algorithm

    report = nearest_algorithm(my_predictor, noises=(0.01, 0.25, 4.0), dimension=8, context=16)
    print(report.table())

A predictor takes x (n, d), y (n,) and queries (m, d) to predictions (m,), and may be any Python function: a network, a
service, a rule of your own. It is asked on linear tasks w ~ N(0, I) with inputs N(0, I).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax
import numpy as np

from theory.bayes_icl.algorithms import (
    averaging,
    gradient_descent,
    implicit_weights,
    least_squares,
    nearest_neighbours,
    one_pass_sgd,
    ridge,
)

Predictor = Callable[[np.ndarray, np.ndarray, np.ndarray], object]
# Below this share of a predictor's own size, a linear fit to it says little.
LINEAR = 0.9


class Report(NamedTuple):
    """Rows are levels of noise, columns the algorithms of `names`.

    `output_distance` is the mean squared difference of predictions (SPD), `weight_distance` that of the weights that
    each behaves as if it had (ILWD), `linearity` the R^2 of the predictor's (noises,): below 0.9 weights mean little.
    """

    names: tuple[str, ...]
    noises: np.ndarray
    output_distance: np.ndarray
    weight_distance: np.ndarray
    linearity: np.ndarray

    @property
    def nearest(self) -> tuple[str, ...]:
        """The algorithm nearest in outputs, at each level of noise."""
        return tuple(self.names[i] for i in np.argmin(self.output_distance, axis=1))

    def table(self) -> str:
        """Distances in outputs, the nearest marked by a star; a tilde beside R^2 warns of a rule that is not linear."""
        width = max(map(len, self.names)) + 1
        lines = ["   noise    R²  " + " ".join(f"{name:>{width}}" for name in self.names)]
        for noise, row, share in zip(self.noises, self.output_distance, self.linearity, strict=True):
            marks = np.where(row == row.min(), "*", "")
            # What rounding leaves is no distance.
            shown = np.where(row < 1e-20, 0.0, row)
            cells = " ".join(f"{f'{value:.3g}{mark}':>{width}}" for value, mark in zip(shown, marks, strict=True))
            lines.append(f"{noise:8.3g} {share:5.2f}{' ' if share >= LINEAR else '~'} {cells}")
        return "\n".join(lines)


def rules(noise: float, dimension: int, context: int) -> dict[str, Callable]:
    """The usual algorithms, each with the parameters that are best for such tasks.

    Bayes is ridge regression with penalty sigma^2. One step has the best rate for all tasks, 1 / (n + 1 + d + sigma^2).
    """
    rate = 1 / (context + 1 + dimension + noise)
    return {
        "ridge": functools.partial(ridge, penalty=noise),
        "least squares": least_squares,
        "one step": functools.partial(gradient_descent, rate=rate),
        "one pass": functools.partial(one_pass_sgd, rate=1 / (dimension + 2)),
        "averaging": averaging,
        "3 neighbours": nearest_neighbours,
    }


def nearest_algorithm(
    predictor: Predictor,
    noises: Sequence[float] = (0.01, 0.25, 4.0),
    *,
    dimension: int,
    context: int,
    prompts: int = 200,
    seed: int = 0,
    algorithms: Callable[[float, int, int], Mapping[str, Callable]] = rules,
) -> Report:
    """Ask a predictor and the algorithms on the same prompts, and measure how far apart they are.

    Arguments:
        predictor: see above; noises: sigma^2 > 0 of each row; dimension: d; context: n pairs given.
        prompts: how many for each level; each has 2 d queries. seed: of all that is drawn.
        algorithms: rules by name for (noise, dimension, context), as those of `theory.bayes_icl.algorithms`.
    Returns:
        `Report`.
    Holds when: means exist. Least squares on d - 1 to d + 1 noisy pairs has none: choose another context.
    """
    levels = np.asarray(noises, float)
    if levels.ndim != 1 or not levels.size or not np.all(np.isfinite(levels) & (levels > 0)):
        raise ValueError(f"noises must be positive and finite, one at least, got {noises}")
    for name, value in {"dimension": dimension, "context": context, "prompts": prompts}.items():
        if value != int(value) or value < 1:
            raise ValueError(f"{name} must be a whole number of at least 1, got {value}")
    names = tuple(algorithms(1.0, int(dimension), int(context)))
    rng = np.random.default_rng(seed)
    shapes = ((dimension,), (context, dimension), (2 * dimension, dimension), (context,))
    w, x, queries, errors = (rng.normal(size=(prompts, *shape)) for shape in shapes)
    rows = []
    # The same tasks, inputs and errors at every level, so that rows differ by the size of the errors alone.
    for noise in levels:
        y = np.einsum("pnd,pd->pn", x, w) + noise**0.5 * errors
        ours = np.stack([_answer(predictor, *prompt) for prompt in zip(x, y, queries, strict=True)])
        mine, linearity = _behaviour(queries, ours)
        outputs, weights = [], []
        for name in names:
            theirs = _said(algorithms, name, int(dimension), int(context))(noise, x, y, queries)
            outputs.append(np.mean((np.asarray(theirs) - ours) ** 2))
            weights.append(np.mean(np.sum((np.asarray(_behaviour(queries, theirs)[0]) - mine) ** 2, axis=1)))
        rows.append((outputs, weights, np.mean(linearity)))
    return Report(names, levels, *(np.stack(part) for part in zip(*rows, strict=True)))


@functools.cache
def _said(algorithms, name, dimension, context):
    """What an algorithm says of all queries: compiled once for all levels of noise."""

    def one(noise, x, y, queries):
        rule = algorithms(noise, dimension, context)[name]
        return jax.vmap(lambda query: rule(x, y, query))(queries)

    return jax.jit(jax.vmap(one, in_axes=(None, 0, 0, 0)))


@jax.jit
def _behaviour(queries, predictions):
    return jax.vmap(implicit_weights)(queries, predictions)


def _answer(predictor, x, y, queries):
    said = np.asarray(predictor(x, y, queries), float)
    if said.shape != queries.shape[:1]:
        raise ValueError(f"predictor must give {len(queries)} predictions for {len(queries)} queries, got {said.shape}")
    if not np.all(np.isfinite(said)):
        raise ValueError(f"predictor must give finite predictions, got {said[~np.isfinite(said)][0]}")
    return said
