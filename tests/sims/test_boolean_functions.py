"""Conjunctions to learn: rates of literals and of positive examples."""

import jax
import numpy as np

from sims.tasks.boolean_functions import conjunctions

MANY = 20_000


def test_rates():
    """A literal is absent with its probability; an input is right with (1 - rho) ((1 + p) / 2)^d + rho."""
    drawn = conjunctions(jax.random.key(0), MANY, 2, 3, 0.6, 0.25)
    w, x, y = (np.asarray(part) for part in (drawn.literals, drawn.x, drawn.y))
    tolerance = 5 * np.sqrt(0.25 / MANY)
    np.testing.assert_allclose([(w == s).mean() for s in (-1, 0, 1)], [0.2, 0.6, 0.2], atol=tolerance)
    np.testing.assert_allclose(y.mean(axis=0), 0.75 * 0.8**3 + 0.25, atol=tolerance)
    np.testing.assert_array_equal(y, ((w[:, None] == 0) | (w[:, None] == x)).all(axis=-1))
    # What no literal asks for is fair.
    np.testing.assert_allclose(x[np.broadcast_to((w == 0)[:, None], x.shape)].mean(), 0, atol=tolerance)
    forced = np.asarray(conjunctions(jax.random.key(1), 50, 4, 3, 0.3, 1.0).y)
    assert (forced == 1).all()
