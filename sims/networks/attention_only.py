"""An attention-only network with a classifier on its last token, in which an induction head can form.

Nothing is scaled, normalised or projected back unless asked for: token i of a layer becomes

    u_i + sum_h V_h sum_{j <= i} q^h_ij u_j,   q^h_i = softmax_{j <= i} (K_h u_j . Q_h u_i),

and ReLU layers and a linear readout act on the last token of the last layer. The last layer is evaluated for that
token only, and its keys and values never for all tokens, which changes no number and costs a third.
"""

from __future__ import annotations

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sims.networks.mlp import layer_norm


class Layer(eqx.Module):
    """H heads on a stream of width D, each with keys and queries of size E; `up` and `down` where there is an MLP."""

    query: Float[Array, "H E D"]
    key: Float[Array, "H E D"]
    value: Float[Array, "H D D"]
    up: Float[Array, "M D"] | None = None
    down: Float[Array, "D M"] | None = None


class Dense(eqx.Module):
    """A ReLU layer of the classifier."""

    weight: Float[Array, "M D"]
    bias: Float[Array, " M"]


class Reading(NamedTuple):
    """Logits (P, C), and the attention of every layer: (P, H, T, T), in the last one (P, H, T) of the last token."""

    logits: Float[Array, "P C"]
    attention: tuple


class AttentionOnly(eqx.Module):
    """Layers and a classifier; `place` (places, D) are learned positions, added to the tokens.

    `positions`  "one-hot", concatenated before the content; "learned"; "rotary", turning queries and keys; or "none".
    `normalise`  LayerNorm without gains on what each layer reads.
    """

    layers: tuple[Layer, ...]
    classifier: tuple[Dense, ...]
    readout: Float[Array, "C D"]
    place: Float[Array, "places D"] | None = None
    places: int = eqx.field(static=True, default=0)
    positions: str = eqx.field(static=True, default="one-hot")
    normalise: bool = eqx.field(static=True, default=False)

    def __call__(self, tokens, shift, clamps: dict | None = None) -> Reading:
        """Logits for the last of the tokens (P, T, D'), whose first stands at `shift` (P,).

        `clamps` puts a given pattern (P or 1, H or 1, T, T) in the place of the attention of a layer, or a share of it:
        {layer: (pattern, share)}.
        """
        clamps, attention = clamps or {}, []
        at = shift[:, None] + jnp.arange(tokens.shape[1])
        stream = self._embedded(tokens, at)
        for i, layer in enumerate(self.layers):
            last = i == len(self.layers) - 1
            stream, seen = self._attended(layer, stream, at, last, clamps.get(i))
            attention.append(seen)
        h = stream[:, -1]
        for dense in self.classifier:
            h = jax.nn.relu(h @ dense.weight.T + dense.bias)
        return Reading(h @ self.readout.T, tuple(attention))

    def _embedded(self, tokens, at):
        if self.positions == "one-hot":
            return jnp.concatenate([jax.nn.one_hot(at, self.places, dtype=tokens.dtype), tokens], axis=-1)
        return tokens + self.place[at] if self.positions == "learned" else tokens

    def _attended(self, layer, stream, at, last, clamp):
        """The stream after a layer, of its last token alone in the last layer, and the attention in it."""
        seen = layer_norm(stream) if self.normalise else stream
        asking, asked_at = (seen[:, -1:], at[:, -1:]) if last else (seen, at)
        pattern = jax.nn.softmax(self._scores(layer, seen, asking, at, asked_at), axis=-1)
        if clamp is not None:
            given, share = clamp
            pattern = share * given[:, :, -asking.shape[1] :] + (1 - share) * pattern
        # What is read is projected after the average over tokens: the same, once for each asking token.
        read = jnp.einsum("phts,psd->phtd", pattern, seen)
        stream = (stream[:, -1:] if last else stream) + jnp.einsum("phtd,hed->pte", read, layer.value)
        if layer.up is not None:
            now = layer_norm(stream) if self.normalise else stream
            stream = stream + jax.nn.gelu(now @ layer.up.T) @ layer.down.T
        return stream, pattern[:, :, 0] if last else pattern

    def _scores(self, layer, seen, asking, at, asked_at):
        if self.positions == "rotary":
            query = turned(jnp.einsum("hed,ptd->phte", layer.query, asking), asked_at[:, None])
            key = turned(jnp.einsum("hed,psd->phse", layer.key, seen), at[:, None])
            scores = jnp.einsum("phte,phse->phts", query, key)
        else:
            # Queries are taken back through the keys' weights, in the cheaper order: keys are never formed.
            if asking.shape[0] * asking.shape[1] > asking.shape[2]:
                merged = jnp.einsum("hed,hec->hcd", layer.key, layer.query)
                back = jnp.einsum("hcd,ptc->phtd", merged, asking)
            else:
                back = jnp.einsum("hed,phte->phtd", layer.key, jnp.einsum("hed,ptd->phte", layer.query, asking))
            scores = jnp.einsum("phtd,psd->phts", back, seen)
        past = at[:, None, None, :] <= asked_at[:, None, :, None]
        return jnp.where(past, scores, -jnp.inf)


def turned(x: Float[Array, "*shape T E"], at, base: float = 10_000.0) -> Float[Array, "*shape T E"]:
    """Rotary positions: pairs (x_i, x_{i + E/2}) turned by the angle at base^{-2 i / E}."""
    half = x.shape[-1] // 2
    angle = at[..., None] * base ** (-jnp.arange(half, dtype=x.dtype) / half)
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    left, right = x[..., :half], x[..., half:]
    return jnp.concatenate([left * cos - right * sin, left * sin + right * cos], axis=-1).astype(x.dtype)


def attention_only(
    key,
    content: int,
    places: int,
    outputs: int,
    *,
    layers: int = 2,
    heads: int = 1,
    classifier: int = 1,
    positions: str = "one-hot",
    normalise: bool = False,
    mlp: bool = False,
    dtype=None,
) -> AttentionOnly:
    """Weights of variance 1 / width, ReLU layers of 2 / width and their biases zero, as in the source.

    `content` is the width of tokens, `places` the number of positions, `classifier` that of ReLU layers.
    Source: Reddy 2024 (arXiv:2312.03002), where heads are one, layers two, ReLU layers three.
    """
    if positions not in ("one-hot", "learned", "rotary", "none"):
        raise ValueError(f"positions must be 'one-hot', 'learned', 'rotary' or 'none', got {positions!r}")
    width = content + places if positions == "one-hot" else content
    if width % heads or (positions == "rotary" and (width // heads) % 2):
        raise ValueError(f"heads must divide the width of {width} (into even parts for rotary positions), got {heads}")
    keys = iter(jax.random.split(key, 5 * layers + classifier + 2))

    def drawn(*shape, scale=1.0):
        return jax.random.normal(next(keys), shape, dtype) * (scale / width) ** 0.5

    def layer():
        size = width // heads
        weights = drawn(heads, size, width), drawn(heads, size, width), drawn(heads, width, width)
        return Layer(*weights, *((drawn(4 * width, width), drawn(width, 4 * width, scale=0.25)) if mlp else ()))

    return AttentionOnly(
        tuple(layer() for _ in range(layers)),
        tuple(Dense(drawn(width, width, scale=2.0), jnp.zeros(width, dtype)) for _ in range(classifier)),
        drawn(outputs, width),
        drawn(places, width) if positions == "learned" else None,
        places,
        positions,
        normalise,
    )


def without_head(model: AttentionOnly, layer: int, head: int) -> AttentionOnly:
    """The network in which one head writes nothing."""
    silent = model.layers[layer].value.at[head].set(0.0)
    return eqx.tree_at(lambda m: m.layers[layer].value, model, silent)
