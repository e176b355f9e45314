"""Layers of linear attention on tokens (x_i, y_i): every token reads a bilinear form of itself and each labelled token.

A prompt is N labelled tokens and a query (x, 0). One layer adds to every token, the query too, what it reads of the
labelled ones; the labels of a layer's output are residuals, so that the prediction is minus the query's label.
"""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


class MergedHeads(eqx.Module):
    """H heads with one matrix of scores each: token j reads sum_i values e_i (e_i . scores e_j) / N."""

    scores: Float[Array, "H e e"]
    values: Float[Array, "H e e"]

    def products(self) -> Float[Array, "H e e"]:
        return self.scores


class SeparateHeads(eqx.Module):
    """H heads with keys and queries of rank r: scores keys^T queries."""

    keys: Float[Array, "H r e"]
    queries: Float[Array, "H r e"]
    values: Float[Array, "H e e"]

    def products(self) -> Float[Array, "H e e"]:
        return jnp.einsum("hra,hrb->hab", self.keys, self.queries)


class Layers(eqx.Module):
    """Layers one after the other, `MergedHeads` or `SeparateHeads`."""

    layers: tuple

    def __call__(self, x: Float[Array, "P N d"], y: Float[Array, "P N"], query: Float[Array, "P d"]):
        """Predictions (P,) for one query a prompt."""
        tokens = self.tokens(x, y, query, len(self.layers) - 1)
        # Of the last layer nobody reads the labelled tokens.
        asked = tokens[:, -1:] + read(self.layers[-1], tokens[:, :-1], tokens[:, -1:])
        return -asked[:, 0, -1]

    def tokens(self, x: Float[Array, "P N d"], y: Float[Array, "P N"], query: Float[Array, "P d"], depth: int):
        """Tokens (P, N + 1, d + 1) after `depth` layers, the query last."""
        labelled = jnp.concatenate([x, y[..., None]], axis=2)
        asked = jnp.pad(query, ((0, 0), (0, 1)))[:, None]
        tokens = jnp.concatenate([labelled, asked], axis=1)
        for layer in self.layers[:depth]:
            tokens = tokens + read(layer, tokens[:, :-1], tokens)
        return tokens


def read(layer, labelled: Float[Array, "P N e"], tokens: Float[Array, "P T e"]) -> Float[Array, "P T e"]:
    """What each token reads of the labelled ones: (1/N) sum over heads and i of values e_i (e_i . scores e_j)."""
    # The labelled tokens enter through their second moment alone.
    moment = jnp.einsum("pia,pib->pab", labelled, labelled) / labelled.shape[1]
    asked = jnp.einsum("hbc,ptc->phtb", layer.products(), tokens)
    return jnp.einsum("hab,phtb->pta", layer.values, jnp.einsum("pab,phtb->phta", moment, asked))


def random_layers(key, d: int, deviation, depth: int = 1, heads: int = 1, rank: int | None = None) -> Layers:
    """Gaussian layers for inputs of dimension d; merged, or with keys and queries of the given rank."""

    def one(key):
        of_values, of_keys, of_queries = jax.random.split(key, 3)
        square = (heads, d + 1, d + 1)
        values = deviation * jax.random.normal(of_values, square)
        if rank is None:
            return MergedHeads(deviation * jax.random.normal(of_keys, square), values)
        shape = (heads, rank, d + 1)
        drawn = (deviation * jax.random.normal(one, shape) for one in (of_keys, of_queries))
        return SeparateHeads(*drawn, values)

    return Layers(tuple(one(key) for key in jax.random.split(key, depth)))


def label_layers(key, d: int, deviation) -> Layers:
    """One merged layer that at first matches inputs and reads labels, all else zero; every entry can be trained."""
    (layer,) = random_layers(key, d, deviation).layers
    inputs = jnp.arange(d + 1) < d
    matched = jnp.where(inputs[:, None] & inputs, layer.scores, 0.0)
    return Layers((MergedHeads(matched, jnp.where(~inputs[:, None] & ~inputs, layer.values, 0.0)),))


def descent_layers(steps: Float[Array, "L d d"]) -> Layers:
    """Layers whose residuals are those of preconditioned gradient descent, w <- w + steps[l] X^T (y - X w) / N."""
    d = steps.shape[-1]
    padded = jnp.pad(jnp.asarray(steps), ((0, 0), (0, 1), (0, 1)))[:, None]
    reader = jnp.zeros((1, d + 1, d + 1)).at[:, d, d].set(-1.0)
    return Layers(tuple(MergedHeads(jnp.swapaxes(one, 1, 2), reader) for one in padded))


def effective_weights(layer) -> Float[Array, "d d"]:
    """A of the part x^T A (1/N) sum y_i x_i of what one layer predicts; the rest is even in the labels."""
    d = layer.values.shape[-1] - 1
    read_x, read_y = -layer.values[:, d, :d], -layer.values[:, d, d]
    scores = layer.products()
    matched, labelled = scores[:, :d, :d], scores[:, d, :d]
    return jnp.einsum("h,hab->ba", read_y, matched) + jnp.einsum("ha,hb->ba", read_x, labelled)


def even_weights(layer) -> tuple[Float[Array, "d d d"], Float[Array, " d"]]:
    """B and b of the rest, x . (sum_ab B_abc S_ab) + (b . x) sum y_i^2 / N: zero for a layer that ignores signs."""
    d = layer.values.shape[-1] - 1
    read_x, read_y = -layer.values[:, d, :d], -layer.values[:, d, d]
    scores = layer.products()
    return jnp.einsum("ha,hbc->abc", read_x, scores[:, :d, :d]), jnp.einsum("h,hc->c", read_y, scores[:, d, :d])


def square_loss(model, prompts) -> Float[Array, ""]:
    """Mean of (y - f)^2 for prompts whose last pair is asked for."""
    predicted = model(prompts.x[:, :-1], prompts.y[:, :-1], prompts.x[:, -1])
    return jnp.mean((prompts.y[:, -1] - predicted) ** 2)


class LabelHeads(eqx.Module):
    """A layer that only matches inputs and reads labels: f = sum_h values (1/N) sum_i y_i x_i . scores x."""

    values: Float[Array, " H"]
    scores: Float[Array, "H d d"]

    def __call__(self, x: Float[Array, "P N d"], y: Float[Array, "P N"], query: Float[Array, "P d"]):
        matched = jnp.einsum("pn,pna->pa", y, x) / x.shape[1]
        return jnp.einsum("h,pa,hab,pb->p", self.values, matched, self.scores, query)


class RankOneHeads(eqx.Module):
    """The same with scores keys queries^T of rank one."""

    values: Float[Array, " H"]
    keys: Float[Array, "H d"]
    queries: Float[Array, "H d"]

    def __call__(self, x: Float[Array, "P N d"], y: Float[Array, "P N"], query: Float[Array, "P d"]):
        matched = jnp.einsum("pn,pna->pa", y, x) / x.shape[1]
        return jnp.einsum("h,ph,ph->p", self.values, matched @ self.keys.T, query @ self.queries.T)
