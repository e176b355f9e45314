"""Documents and prompts about hidden concepts: hidden Markov models after the GINC data set.

A hidden state is an entity and a property. Entities move as one chain that all concepts share, and mostly stay;
properties move as a chain that is the concept. A table gives every state its token: 0, the delimiter, where the
property is 0, and any other token elsewhere. A document is a string of one concept; a prompt is made of examples, which
begin anew after each delimiter, at the same property.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

DELIMITER = 0


class Concepts(NamedTuple):
    """C concepts of H = entities x properties hidden states, numbered entity * properties + property.

    `start` (C, H), `transition` (C, H, H), and one table of `tokens` (entities, properties).
    """

    start: Float[Array, "C H"]
    transition: Float[Array, "C H H"]
    tokens: Int[Array, "E S"]


class Strings(NamedTuple):
    """P strings of tokens (P, T), and the concept of each (P,)."""

    tokens: Int[Array, "P T"]
    concept: Int[Array, " P"]


def random_concepts(
    rng: np.random.Generator,
    count: int,
    entities: int,
    properties: int,
    vocabulary: int,
    *,
    stay: float = 0.9,
    temperature: float = 0.1,
    start_temperature: float = 10.0,
) -> Concepts:
    """Concepts with property chains and start laws of their own; one entity chain and one table for all.

    Chains mix as many random permutations as they have states, with weights softmax(u / temperature), u uniform.
    Entities stay besides with probability `stay`.
    """
    tokens = rng.integers(1, vocabulary, (entities, properties))
    tokens[:, 0] = DELIMITER
    moves = stay * np.eye(entities) + (1 - stay) * mixed_permutations(rng, entities, temperature)
    chains = [mixed_permutations(rng, properties, temperature) for _ in range(count)]
    start = _softmax(rng.random((count, entities * properties)) / start_temperature)
    return Concepts(start, np.stack([np.kron(moves, chain) for chain in chains]), tokens)


def mixed_permutations(rng: np.random.Generator, size: int, temperature: float) -> Float[np.ndarray, "S S"]:
    """A random average of random permutation matrices: rows and columns of sum one."""
    weights = _softmax(rng.random(size) / temperature)
    return sum(weight * np.eye(size)[rng.permutation(size)] for weight in weights)


def smoothed(concepts: Concepts, share: float) -> Concepts:
    """The same concepts, whose hidden states move with probability `share` to any at random.

    Without it most transitions are impossible, and so are most strings of examples, under every concept.
    """
    states = concepts.transition.shape[-1]
    return concepts._replace(transition=(1 - share) * concepts.transition + share / states)


def documents(key, concepts: Concepts, batch: int, length: int) -> Strings:
    """Strings of concepts that are drawn uniformly."""
    of_concept, of_path = jax.random.split(key)
    concept = jax.random.randint(of_concept, (batch,), 0, len(concepts.start))
    chance = jax.random.uniform(of_path, (length, batch), concepts.start.dtype)
    first = _drawn(jnp.asarray(concepts.start)[concept], chance[0])
    return Strings(_tokens(concepts, _paths(concepts, concept, first, chance[1:])).T, concept)


def prompts(key, concepts: Concepts, batch: int, examples: int, length: int) -> Strings:
    """`examples` examples of `length` tokens with a delimiter after each, and one more without: T = n (k + 1) + k.

    Every example begins at an entity of its own, drawn uniformly, and at the property of the prompt, which is not that
    of delimiters, and goes on as the concept has it. The last token of an example is what those before it ask for.
    """
    of_concept, of_property, of_entity, of_path = jax.random.split(key, 4)
    entities, properties = concepts.tokens.shape
    concept = jax.random.randint(of_concept, (batch,), 0, len(concepts.start))
    shared = jax.random.randint(of_property, (batch,), 1, properties)
    entity = jax.random.randint(of_entity, (batch, examples + 1), 0, entities)
    first = (entity * properties + shared[:, None]).reshape(-1)
    chance = jax.random.uniform(of_path, (length - 1, first.size), concepts.start.dtype)
    states = _paths(concepts, jnp.repeat(concept, examples + 1), first, chance)
    tokens = _tokens(concepts, states).T.reshape(batch, examples + 1, length)
    joined = jnp.pad(tokens, ((0, 0), (0, 0), (0, 1)), constant_values=DELIMITER)
    return Strings(joined.reshape(batch, -1)[:, :-1], concept)


def _paths(concepts, concept, first, chance):
    """Hidden states from the first ones on, (T, P): one more than there are rows of chances."""
    transition = jnp.asarray(concepts.transition)

    def step(state, chance):
        after = _drawn(transition[concept, state], chance)
        return after, after

    _, rest = jax.lax.scan(step, first, chance)
    return jnp.concatenate([first[None], rest])


def _tokens(concepts, states):
    return jnp.asarray(concepts.tokens).reshape(-1)[states]


def _drawn(law, chance):
    """Where the cumulative probability passes the chance; the last state takes what rounding leaves."""
    return jnp.sum(chance[:, None] >= jnp.cumsum(law, axis=1)[:, :-1], axis=1)


def _softmax(logits):
    weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)
