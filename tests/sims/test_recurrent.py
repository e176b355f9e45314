"""Recurrent networks: unrolled by hand, structured weights, the evidence task."""

import jax
import jax.numpy as jnp
import numpy as np

from sims.networks.recurrent import Recurrent, evidence, of_rank, under_dales_law

RNG = np.random.default_rng(0)


def test_states_by_hand():
    w, w_in, out = RNG.normal(size=(3, 3)), RNG.normal(size=(3, 2)), RNG.normal(size=3)
    x = RNG.normal(size=(4, 5, 2))
    h = np.zeros((4, 3))
    for t in range(5):
        h = np.maximum(h @ w.T + x[:, t] @ w_in.T, 0)
    model = Recurrent(jnp.asarray(w), jnp.asarray(w_in), jnp.asarray(out))
    np.testing.assert_allclose(model.states(jnp.asarray(x)), h, rtol=1e-12)
    np.testing.assert_allclose(model(jnp.asarray(x)), h @ out, rtol=1e-12)


def test_a_lower_rank_of_the_same_norm():
    w = jnp.asarray(RNG.normal(size=(6, 4)))
    for rank in (1, 3):
        low = of_rank(w, rank)
        assert np.linalg.matrix_rank(low) == rank
        np.testing.assert_allclose(np.linalg.norm(low), np.linalg.norm(w), rtol=1e-12)
    np.testing.assert_allclose(of_rank(w, 4), w, rtol=1e-9)
    # The directions that are kept are the largest.
    top = np.linalg.svd(w)[2][0]
    np.testing.assert_allclose(np.abs(of_rank(w, 1) @ top), np.linalg.norm(of_rank(w, 1), axis=1), rtol=1e-9)


def test_dales_law():
    signs, scales = jnp.array([1.0, 1.0, -1.0]), jnp.array([1.0, 2.0, 4.0])
    w = under_dales_law(jax.random.key(0), signs, scales, 20_000)
    assert (np.sign(w) == np.asarray(signs)).all()
    np.testing.assert_allclose(np.abs(w).mean(axis=0), np.sqrt(2 / np.pi) * np.asarray(scales), rtol=0.03)


def test_evidence():
    x, y = evidence(jax.random.key(1), 4000, 6, 0.4)
    assert x.shape == (4000, 6, 2) and set(np.unique(y)) == {-1.0, 1.0}
    gap = np.asarray((x[..., 0] - x[..., 1]).mean(axis=1) * y)
    assert abs(gap.mean() - 0.8) < 5 * gap.std() / np.sqrt(4000)
