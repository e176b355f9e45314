"""Bandits played on the device: rewards of the arms that were chosen, regrets, tokens, what players remember."""

import jax
import jax.numpy as jnp
import numpy as np

from sims.tasks.bandits import at_random, coin_arms, counted, gaussian, played, tokens

KEY = jax.random.key(0)
MANY = 4000


def test_rewards_and_regrets_are_those_of_the_arms():
    means = jnp.tile(jnp.array([0.0, 1.0, 0.3]), (MANY, 1))
    play = at_random(KEY, means, 3)
    shares = np.bincount(np.ravel(play.arms), minlength=3) / (3 * MANY)
    np.testing.assert_allclose(shares, 1 / 3, atol=5 * np.sqrt(2 / 9 / (3 * MANY)))
    rewards, arms = np.asarray(play.rewards), np.asarray(play.arms)
    assert (rewards[arms == 0] == 0).all() and (rewards[arms == 1] == 1).all()
    np.testing.assert_allclose(rewards[arms == 2].mean(), 0.3, atol=5 * np.sqrt(0.21 / MANY))
    np.testing.assert_allclose(play.regrets, np.array([1.0, 0.0, 0.7])[arms], rtol=1e-6)


def test_tokens_and_counts_know_only_the_past():
    play = at_random(KEY, coin_arms(KEY, 5, 2), 6)
    seen, counts = np.asarray(tokens(play, 2)), np.asarray(counted(play, 2))
    assert (seen[:, 0] == 4).all() and counts[:, 0].sum() == 0
    for t in range(6):
        for arm in (0, 1):
            for k, reward in enumerate((1, 0)):
                wanted = (seen[:, 1 : t + 1] == 2 * arm + reward).sum(axis=1)
                np.testing.assert_array_equal(counts[:, t, arm, k], wanted)
    np.testing.assert_array_equal(seen[:, 1:], (2 * play.arms + play.rewards.astype(int))[:, :-1])


def test_a_player_that_learns():
    """Every arm once, then the better one: with little noise nothing is paid from then on."""
    means = jax.random.normal(KEY, (50, 3))

    def choose(_, memory, t):
        return jnp.where(t < 3, jnp.full(50, t), jnp.argmax(memory, axis=1))

    def learn(memory, arms, rewards, t):
        return memory.at[jnp.arange(50), arms].set(rewards)

    play = played(KEY, means, 8, choose, learn, jnp.zeros((50, 3)), gaussian(1e-6))
    assert (play.regrets[:, 3:] < 1e-4).all()
    np.testing.assert_allclose(play.regrets[:, 0], means.max(axis=1) - means[:, 0], rtol=1e-5)
    noisy = played(KEY, jnp.zeros((MANY, 1)), 1, lambda *_: jnp.zeros(MANY, int), lambda m, *_: m, (), gaussian(2.0))
    np.testing.assert_allclose(noisy.rewards.var(), 4, rtol=5 * np.sqrt(2 / MANY))
