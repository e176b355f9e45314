"""Bandits played on the device: any way of choosing, one compiled scan over the rounds.

A player is two functions: `choose(key, memory, t)` gives the arms of a batch, (P,), and
`learn(memory, arms, rewards, t)` what is remembered of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

Memory = Any


class Play(NamedTuple):
    """What happened to P players in T rounds: arms (P, T), rewards (P, T) and mean regrets of the arms (P, T)."""

    arms: Int[Array, "P T"]
    rewards: Float[Array, "P T"]
    regrets: Float[Array, "P T"]


def coin_arms(key, batch: int, arms: int) -> Float[Array, "P K"]:
    """Chances of success, uniform on [0, 1], of P bandits of K arms each."""
    return jax.random.uniform(key, (batch, arms))


def coin(key, means: Float[Array, " P"]) -> Float[Array, " P"]:
    """Rewards 0 or 1."""
    return (jax.random.uniform(key, means.shape) < means).astype(means.dtype)


def gaussian(deviation: float) -> Callable[[jax.Array, Float[Array, " P"]], Float[Array, " P"]]:
    """Rewards with Gaussian noise of that standard deviation."""
    return lambda key, means: means + deviation * jax.random.normal(key, means.shape)


def played(
    key,
    means: Float[Array, "P K"],
    rounds: int,
    choose: Callable[[jax.Array, Memory, jax.Array], Int[Array, " P"]],
    learn: Callable[[Memory, Int[Array, " P"], Float[Array, " P"], jax.Array], Memory],
    memory: Memory,
    reward: Callable[[jax.Array, Float[Array, " P"]], Float[Array, " P"]] = coin,
) -> Play:
    """T rounds of P players, each at a bandit of its own, of K mean rewards."""
    best = jnp.max(means, axis=1)

    def one(memory, now):
        t, key = now
        of_arm, of_reward = jax.random.split(key)
        arms = choose(of_arm, memory, t)
        mean = jnp.take_along_axis(means, arms[:, None], axis=1)[:, 0]
        earned = reward(of_reward, mean)
        return learn(memory, arms, earned, t), (arms, earned, best - mean)

    _, seen = jax.lax.scan(one, memory, (jnp.arange(rounds), jax.random.split(key, rounds)))
    return Play(*(x.T for x in seen))


def at_random(key, means: Float[Array, "P K"], rounds: int) -> Play:
    """Arms drawn uniformly, whatever was seen."""

    def choose(key, _, __):
        return jax.random.randint(key, (len(means),), 0, means.shape[1])

    return played(key, means, rounds, choose, lambda memory, *_: memory, ())


def tokens(play: Play, arms: int) -> Int[Array, "P T"]:
    """One token for each round with rewards 0 and 1: 2 a + r, before them all the token 2 K; the last is left out."""
    seen = 2 * play.arms + play.rewards.astype(jnp.int32)
    begin = jnp.full((len(seen), 1), 2 * arms, seen.dtype)
    return jnp.concatenate([begin, seen], axis=1)[:, :-1]


def counted(play: Play, arms: int) -> Int[Array, "P T K two"]:
    """Successes and failures of each arm before every round."""
    pulled = jax.nn.one_hot(play.arms, arms, dtype=jnp.int32)[..., None]
    won = play.rewards.astype(jnp.int32)[..., None, None]
    now = pulled * jnp.concatenate([won, 1 - won], axis=-1)
    return jnp.cumsum(now, axis=1) - now
