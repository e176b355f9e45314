"""Markov heads and their sequences: outputs by loops, chance, stationarity, transitions, equally frequent symbols."""

import jax
import jax.numpy as jnp
import numpy as np

from sims.networks.markov_head import MarkovHead, next_symbol_loss, untrained_markov_head
from sims.tasks.markov_chains import chain_sequences, doubly_stochastic_chains, random_chains, stationary_shares


def test_outputs_by_loops():
    rng = np.random.default_rng(0)
    matrix, lags, x = rng.normal(size=(3, 3)), rng.normal(size=5), rng.integers(0, 3, size=5)
    found = MarkovHead(jnp.asarray(matrix), jnp.asarray(lags))(jnp.asarray(x[None]))[0]
    expected = np.zeros((5, 3))
    for t in range(5):
        for s in range(t + 1):
            weights = np.exp(lags[[s - j for j in range(s + 1)]])
            gathered = sum(w * np.eye(3)[x[j]] for j, w in enumerate(weights)) / weights.sum()
            expected[t, x[s]] += matrix[x[t]] @ gathered
    expected -= np.log(np.exp(expected).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(found, expected, rtol=1e-10)
    # Nothing is known of what comes later.
    later = MarkovHead(jnp.asarray(matrix), jnp.asarray(lags))(jnp.asarray(np.append(x[:4], (x[4] + 1) % 3)[None]))[0]
    np.testing.assert_allclose(later[:4], expected[:4], rtol=1e-10)


def test_chance_at_the_start():
    x = jnp.asarray(np.random.default_rng(1).integers(0, 3, size=(4, 6)))
    np.testing.assert_allclose(next_symbol_loss(untrained_markov_head(3, 5), x), np.log(3), rtol=1e-12)
    model = MarkovHead(jnp.ones((3, 3)), jnp.zeros(5))
    by_hand = -np.mean([np.asarray(model(x[:, :-1]))[n, t, x[n, t + 1]] for n in range(4) for t in range(5)])
    np.testing.assert_allclose(next_symbol_loss(model, x), by_hand, rtol=1e-12)


def test_chains():
    for draw in (random_chains, doubly_stochastic_chains):
        chains = np.asarray(draw(jax.random.key(0), 4000, 3))
        np.testing.assert_allclose(chains.sum(axis=2), 1, rtol=1e-12)
        shares = np.asarray(stationary_shares(jnp.asarray(chains)))
        np.testing.assert_allclose(np.einsum("ni,nij->nj", shares, chains), shares, atol=1e-12)
        assert (chains >= 0).all()
        np.testing.assert_allclose(chains.mean(axis=0), 1 / 3, atol=5 * chains.std() / np.sqrt(4000))
    np.testing.assert_allclose(chains.sum(axis=1), 1, rtol=1e-12)
    np.testing.assert_allclose(shares, 1 / 3, rtol=1e-9)
    # Uniform rows: an entry of two has variance 1/12 in both ensembles, of three 1/18 where rows are uniform.
    two = np.asarray(doubly_stochastic_chains(jax.random.key(1), 4000, 2))
    np.testing.assert_allclose(two[:, 0, 0], two[:, 1, 1], rtol=1e-12)
    np.testing.assert_allclose(two[:, 0, 0].var(), 1 / 12, atol=5 * 0.0745 / np.sqrt(4000))
    rows = np.asarray(random_chains(jax.random.key(2), 4000, 3))
    np.testing.assert_allclose(rows.var(axis=0), 1 / 18, atol=0.01)


def test_sequences():
    chain = np.array([[0.1, 0.6, 0.3], [0.5, 0.3, 0.2], [0.2, 0.2, 0.6]])
    x = np.asarray(chain_sequences(jax.random.key(3), jnp.asarray(np.tile(chain, (6000, 1, 1))), 4))
    shares = np.asarray(stationary_shares(jnp.asarray(chain[None])))[0]
    for t in (0, 3):
        np.testing.assert_allclose(np.bincount(x[:, t], minlength=3) / 6000, shares, atol=5 * 0.5 / np.sqrt(6000))
    joint = np.zeros((3, 3))
    np.add.at(joint, (x[:, 1], x[:, 2]), 1 / 6000)
    np.testing.assert_allclose(joint, shares[:, None] * chain, atol=5 * 0.4 / np.sqrt(6000))
