"""Which algorithm is it: each rule is found to be itself, the phases of noise, distances of weights, refusals."""

import functools

import jax
import numpy as np
import pytest

from theory.bayes_icl.algorithms import gradient_descent, least_squares, nearest_neighbours, ridge
from validation.nearest_algorithm import nearest_algorithm, rules

SIZES = dict(dimension=3, context=8, prompts=100)


def predictor(rule):
    return jax.jit(lambda x, y, queries: jax.vmap(lambda query: rule(x, y, query))(queries))


@pytest.mark.parametrize("name", rules(1.0, 3, 8))
def test_every_rule_is_itself(name):
    report = nearest_algorithm(predictor(rules(1.0, 3, 8)[name]), (1.0,), **SIZES)
    assert report.nearest == (name,)
    assert report.output_distance[0, report.names.index(name)] < 1e-20
    assert (report.linearity[0] > 0.9) == (name != "3 neighbours")


def test_phases_of_noise():
    """A rule that was made for one level is least squares below it, and a step of gradient descent far above."""
    report = nearest_algorithm(predictor(functools.partial(ridge, penalty=0.3)), (1e-4, 0.3, 1e3), **SIZES)
    assert report.nearest[1] == "ridge"
    small, large = (report.output_distance[i, report.names.index("ridge")] for i in (0, 2))
    assert small == pytest.approx(report.output_distance[0, report.names.index("least squares")], rel=1e-2)
    assert large > report.output_distance[1, report.names.index("ridge")]


def test_distances_are_those_of_weights():
    """For linear rules and white queries both distances have one mean; here over 600 queries and 100 prompts."""
    report = nearest_algorithm(predictor(least_squares), (0.25,), **SIZES)
    column = report.names.index("one step")
    assert report.output_distance[0, column] == pytest.approx(report.weight_distance[0, column], rel=0.25)
    assert report.weight_distance[0, report.names.index("least squares")] < 1e-20


def test_own_algorithms_and_table():
    def mine(noise, dimension, context):
        return {"two steps": functools.partial(gradient_descent, rate=0.05, steps=2), "nearest": nearest_neighbours}

    report = nearest_algorithm(
        predictor(functools.partial(gradient_descent, rate=0.05, steps=2)), (0.5, 2.0), algorithms=mine, **SIZES
    )
    assert report.nearest == ("two steps", "two steps")
    lines = report.table().splitlines()
    assert len(lines) == 3 and "two steps" in lines[0] and "*" in lines[1] and len(set(map(len, lines))) == 1


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (dict(noises=(0.0,)), "noises must be positive and finite"),
        (dict(dimension=0), "dimension must be a whole number of at least 1, got 0"),
        (dict(predictor=lambda x, y, q: q), r"predictor must give 6 predictions for 6 queries, got \(6, 3\)"),
        (dict(predictor=lambda x, y, q: np.full(6, np.nan)), "predictor must give finite predictions, got nan"),
    ],
)
def test_refusals(change, sentence):
    given = dict(predictor=predictor(least_squares), noises=(0.25,)) | SIZES | change
    with pytest.raises(ValueError, match=sentence):
        nearest_algorithm(given.pop("predictor"), given.pop("noises"), **given)
