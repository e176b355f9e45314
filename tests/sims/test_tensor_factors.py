"""Tensors of rank one: entries by hand, factors that are held, factors that are shared."""

import jax
import jax.numpy as jnp
import numpy as np

from sims.networks.tensor_factors import TensorFactors, TwoMechanisms, contest_loss, half_mean_square

DIMS = (3, 5, 2, 4, 2, 4)


def drawn():
    rng = np.random.default_rng(0)
    return tuple(jnp.asarray(rng.normal(size=d)) for d in DIMS)


def test_entries_and_held_factors():
    a, _, b, c, *_ = drawn()
    model = TensorFactors((a, b, c), jnp.array([1.0, 0.0, 1.0]))
    found = model()
    assert found.shape == (3, 2, 4)
    np.testing.assert_allclose(found[2, 1, 3], a[2] * b[1] * c[3], rtol=1e-13)
    slope = jax.grad(lambda m: half_mean_square(m() - 1.0))(model)
    # By hand: the mean over 24 entries.
    missing = np.asarray(found) - 1
    np.testing.assert_allclose(slope.vectors[0], np.einsum("ijk,j,k->i", missing, b, c) / 24, rtol=1e-12)
    np.testing.assert_array_equal(slope.vectors[1], 0)
    np.testing.assert_array_equal(slope.free, 0)


def test_shared_factors_take_both_slopes():
    vectors = drawn()
    loss = lambda m: sum(jnp.sum(x**3) for x in m()[:2])  # noqa: E731
    tied, loose = (
        jax.grad(loss)(TwoMechanisms(vectors[:4] + vectors[2:4], jnp.ones(6), jnp.asarray(on))) for on in (1.0, 0.0)
    )
    for i in (2, 3):
        np.testing.assert_allclose(tied.vectors[i], loose.vectors[i] + loose.vectors[i + 2], rtol=1e-12)
        np.testing.assert_array_equal(tied.vectors[i + 2], 0)
    first, second, both = TwoMechanisms(vectors, jnp.ones(6), jnp.asarray(0.0))()
    a, d, _, _, _, c2 = vectors
    assert first.shape == (3, 2, 4)
    np.testing.assert_allclose(second[4, 0, 1], d[4] * vectors[4][0] * c2[1], rtol=1e-13)
    np.testing.assert_allclose(both, np.outer(a, d), rtol=1e-13)
    np.testing.assert_array_equal(tied.shared, 0)


def test_loss_of_a_contest():
    found = contest_loss(
        jnp.asarray(2.0), jnp.asarray(3.0), jnp.full((2, 2), 2.0), jnp.array([0.5, 1.0]), jnp.asarray(0.1)
    )
    np.testing.assert_allclose(found, 2.5 * 4 + 0.1 * 2, rtol=1e-13)
