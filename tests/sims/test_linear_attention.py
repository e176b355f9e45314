"""Layers of linear attention: token by token, as gradient descent, and the one vector that a single layer reads."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sims.networks.linear_attention import (
    Layers,
    descent_layers,
    effective_weights,
    even_weights,
    label_layers,
    random_layers,
    square_loss,
)
from sims.tasks.in_context_regression import gaussian_tasks, prompts

RNG = np.random.default_rng(0)
P, N, D = 3, 5, 2
X, Y, QUERY = (jnp.asarray(RNG.normal(size=shape)) for shape in ((P, N, D), (P, N), (P, D)))


def token_by_token(model, x, y, query):
    """Every sum of the definition, in loops."""
    e = [np.array([*a, b]) for a, b in zip(x, y, strict=True)] + [np.array([*query, 0.0])]
    for layer in model.layers:
        new = []
        for token in e:
            read = np.zeros(D + 1)
            for h, values in enumerate(layer.values):
                if hasattr(layer, "scores"):
                    scores = [one @ np.asarray(layer.scores[h]) @ token for one in e[:-1]]
                else:
                    scores = [
                        (np.asarray(layer.keys[h]) @ one) @ (np.asarray(layer.queries[h]) @ token) for one in e[:-1]
                    ]
                read += sum(s * np.asarray(values) @ one for s, one in zip(scores, e[:-1], strict=True)) / N
            new.append(token + read)
        e = new
    return np.array(e)


@pytest.mark.parametrize(("depth", "heads", "rank"), [(1, 1, None), (2, 2, None), (3, 2, 1), (1, 3, 2)])
def test_tokens_one_by_one(depth, heads, rank):
    model = random_layers(jax.random.key(1), D, 0.6, depth, heads, rank)
    for p in range(P):
        expected = token_by_token(model, *(np.asarray(one[p]) for one in (X, Y, QUERY)))
        np.testing.assert_allclose(model.tokens(X, Y, QUERY, depth)[p], expected, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(model(X, Y, QUERY)[p], -expected[-1, -1], rtol=1e-9)


def test_layers_are_steps_of_descent():
    steps = jnp.asarray(RNG.normal(size=(3, D, D)) / 3)
    model = descent_layers(steps)
    for p in range(P):
        w = np.zeros(D)
        for step in np.asarray(steps):
            w = w + step @ np.asarray(X[p]).T @ (Y[p] - X[p] @ w) / N
        np.testing.assert_allclose(model(X, Y, QUERY)[p], QUERY[p] @ w, rtol=1e-10)
        residuals = np.asarray(model.tokens(X, Y, QUERY, 3)[p, :-1, -1])
        np.testing.assert_allclose(residuals, Y[p] - X[p] @ w, rtol=1e-10)


@pytest.mark.parametrize("rank", [None, 2])
def test_what_a_single_layer_reads(rank):
    model = random_layers(jax.random.key(2), D, 0.6, 1, 2, rank)
    (layer,) = model.layers
    second = np.einsum("pia,pib->pab", X, X) / N
    g, square = np.einsum("pi,pia->pa", Y, X) / N, np.mean(np.asarray(Y) ** 2, axis=1)
    of_inputs, of_squares = even_weights(layer)
    expected = (
        np.einsum("pb,ba,pa->p", QUERY, effective_weights(layer), g)
        + np.einsum("pab,abc,pc->p", second, of_inputs, QUERY)
        + square * (QUERY @ of_squares)
    )
    np.testing.assert_allclose(model(X, Y, QUERY), expected, rtol=1e-10)
    odd = (model(X, Y, QUERY) - model(X, -Y, QUERY)) / 2
    np.testing.assert_allclose(odd, np.einsum("pb,ba,pa->p", QUERY, effective_weights(layer), g), rtol=1e-10)


def test_effective_weights_of_descent():
    step = jnp.asarray(RNG.normal(size=(1, D, D)))
    (layer,) = descent_layers(step).layers
    np.testing.assert_allclose(effective_weights(layer), step[0], rtol=1e-12)
    np.testing.assert_allclose(jnp.concatenate([jnp.ravel(one) for one in even_weights(layer)]), 0)


def test_layers_that_read_labels():
    (layer,) = label_layers(jax.random.key(6), D, 0.6).layers
    np.testing.assert_allclose(jnp.concatenate([jnp.ravel(one) for one in even_weights(layer)]), 0)
    expected = -layer.values[0, D, D] * layer.scores[0, :D, :D].T
    assert np.abs(expected).min() > 0
    np.testing.assert_allclose(effective_weights(layer), expected, rtol=1e-12)


def test_the_query_is_not_among_the_labelled():
    model = random_layers(jax.random.key(3), D, 0.6, 2)
    np.testing.assert_allclose(model(X[:, ::-1], Y[:, ::-1], QUERY), model(X, Y, QUERY), rtol=1e-10)
    doubled = model(jnp.concatenate([X, X], axis=1), jnp.concatenate([Y, Y], axis=1), QUERY)
    np.testing.assert_allclose(doubled, model(X, Y, QUERY), rtol=1e-10)


def test_loss_asks_for_the_last_pair():
    drawn = prompts(jax.random.key(4), gaussian_tasks(jax.random.key(5), 6, D), N + 1, 0.1)
    silent = Layers(descent_layers(jnp.zeros((1, D, D))).layers)
    np.testing.assert_allclose(square_loss(silent, drawn), np.mean(np.asarray(drawn.y)[:, -1] ** 2), rtol=1e-6)
