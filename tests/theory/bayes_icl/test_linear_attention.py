"""The best layer of linear attention: all prompts of a finite law, sampled prompts, limits, symmetries, refusals."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from theory.bayes_icl.linear_attention import Prompts, checked_length, layer_risk, optimal_layer, optimal_risk

seeds = st.integers(0, 10_000)
lengths = st.floats(1, 200)
D = 3


def drawn(seed, d=D):
    """Covariances of inputs and tasks, a noise, a layer."""
    rng = np.random.default_rng(seed)
    s, w = (m @ m.T / d + 0.1 * np.eye(d) for m in rng.normal(size=(2, d, d)))
    return Prompts(s, w, rng.uniform(0, 2)), rng.normal(size=(d, d))


def every_prompt(layer, tasks, noise, pairs, values, chances):
    """Risk over all prompts whose coordinates take finitely many values; two coordinates, tasks +-w, noise +-."""
    total = 0.0
    inputs = list(itertools.product(range(len(values)), repeat=2))
    for chosen in itertools.product(inputs, repeat=pairs + 1):
        x = np.array([[values[a], values[b]] for a, b in chosen])
        chance = np.prod([chances[a] * chances[b] for a, b in chosen])
        for signs in itertools.product((-1, 1), repeat=pairs):
            error = np.sqrt(noise) * np.array(signs)
            for w in tasks:
                y = x[:-1] @ w + error
                miss = x[-1] @ w - x[-1] @ layer @ (y @ x[:-1]) / pairs
                total += chance * (miss**2 + noise) / (2**pairs * len(tasks))
    return total


def test_every_prompt_of_a_finite_law():
    """Coordinates -1.5, 0, 1.5, which are not Gaussian."""
    values, chances = np.array([-1.5, 0.0, 1.5]), np.array([0.2, 0.6, 0.2])
    variance, fourth = chances @ values**2, chances @ values**4
    tasks = np.array([[1.0, 0.5], [-0.3, 2.0]])
    layer = np.array([[0.4, 0.3], [-0.2, 0.7]])
    law = Prompts(np.full(2, variance), tasks.T @ tasks / 2, 0.3, fourth - 3 * variance**2)
    for pairs in (1, 2):
        expected = every_prompt(layer, tasks, 0.3, pairs, values, chances)
        np.testing.assert_allclose(layer_risk(layer, law, pairs), expected, rtol=1e-12)


def test_sampled_prompts():
    """Gaussian inputs, correlated: the mean over many prompts, five standard errors."""
    law, layer = drawn(3)
    rng, size, n = np.random.default_rng(0), 200_000, 4
    x = rng.normal(size=(size, n + 1, D)) @ np.linalg.cholesky(law.inputs).T
    # Tasks that are not Gaussian: +- the columns of a root.
    root = np.linalg.cholesky(law.tasks) * np.sqrt(D)
    w = root.T[rng.integers(0, D, size)] * rng.choice([-1, 1], size)[:, None]
    y = np.einsum("pnd,pd->pn", x, w) + np.sqrt(law.noise) * rng.normal(size=(size, n + 1))
    g = np.einsum("pn,pnd->pd", y[:, :-1], x[:, :-1]) / n
    for a in (layer, np.asarray(optimal_layer(law, n))):
        errors = (y[:, -1] - np.einsum("pa,ab,pb->p", x[:, -1], a, g)) ** 2
        assert abs(errors.mean() - layer_risk(a, law, n)) < 5 * errors.std() / np.sqrt(size)


def test_uniform_inputs():
    """One step of the best rate at d = n = 10, from another program."""
    for half, rate, risk in ((0.5, 6.0606, 2 * 0.20623), (1.0, 1.51515, 2 * 0.82492)):
        variance, fourth = half**2 / 3, half**4 / 5
        law = Prompts(np.full(10, variance), 1.0, 0.0, fourth - 3 * variance**2)
        np.testing.assert_allclose(optimal_layer(law, 10), rate * np.eye(10), rtol=1e-4, atol=1e-12)
        np.testing.assert_allclose(optimal_risk(law, 10), risk, rtol=1e-4)


def test_other_lengths():
    """Trained at 16, tested elsewhere, and the best of each length: values from another program."""
    law = Prompts(np.ones(8), 1.0, 0.25)
    at16 = optimal_layer(law, 16)
    found = [layer_risk(at16, law, m) for m in (4, 16, 64, 1e12)]
    np.testing.assert_allclose(found, [8.752, 3.181, 1.788, 1.324], atol=2e-3)
    np.testing.assert_allclose([optimal_risk(law, n) for n in (4, 16, 64)], [5.835, 3.181, 1.260], atol=2e-3)


@given(seeds, lengths)
def test_no_layer_is_better(seed, n):
    law, change = drawn(seed)
    best, least = optimal_layer(law, n), optimal_risk(law, n)
    slope = jax.grad(layer_risk)(best, law, n)
    np.testing.assert_allclose(slope, 0, atol=1e-9 * (1 + float(least)))
    excess = layer_risk(best + change, law, n) - least
    second = jax.jvp(lambda a: jax.grad(layer_risk)(a, law, n), (best,), (jnp.asarray(change),))[1]
    np.testing.assert_allclose(excess, np.sum(change * second) / 2, rtol=1e-8)
    np.testing.assert_allclose(best, best.T, atol=1e-10 * np.max(np.abs(best)))
    s, w, noise, _ = law
    assert noise < least < noise + np.sum(s * w)
    np.testing.assert_allclose(least, noise + np.trace(s @ w) - np.trace(s @ best @ s @ w), rtol=1e-9)


@given(seeds, lengths, st.floats(0.1, 10))
def test_units(seed, n, c):
    """Longer inputs and shorter tasks are the same prompts; longer labels scale the risk and leave the layer."""
    law, layer = drawn(seed)
    s, w, noise, _ = law
    shorter = Prompts(c * s, w / c, noise)
    np.testing.assert_allclose(optimal_risk(shorter, n), optimal_risk(law, n), rtol=1e-9)
    np.testing.assert_allclose(optimal_layer(shorter, n) * c, optimal_layer(law, n), rtol=1e-8, atol=1e-10)
    louder = Prompts(s, c * w, c * noise)
    np.testing.assert_allclose(layer_risk(layer, louder, n), c * layer_risk(layer, law, n), rtol=1e-9)
    turn = np.linalg.qr(layer)[0]
    turned = Prompts(turn @ s @ turn.T, turn @ w @ turn.T, noise)
    np.testing.assert_allclose(layer_risk(turn @ layer @ turn.T, turned, n), layer_risk(layer, law, n), rtol=1e-9)


def test_limits():
    law, _ = drawn(1)
    s, w, noise, _ = law
    np.testing.assert_allclose(optimal_layer(law, 1e14), np.linalg.inv(s), rtol=1e-9)
    np.testing.assert_allclose(optimal_risk(law, 1e14), noise, rtol=1e-10)
    np.testing.assert_allclose(optimal_layer(law._replace(noise=1e14), 5), 0, atol=1e-10)
    np.testing.assert_allclose(optimal_risk(law._replace(noise=1e6), 5), 1e6 + np.trace(s @ w), rtol=1e-4)
    # White inputs and tasks, and tasks that undo the inputs.
    white = optimal_layer(Prompts(np.ones(5), 1.0, 0.3), 7)
    np.testing.assert_allclose(white, 7 / (7 + 1 + 5 + 0.3) * np.eye(5), atol=1e-14)
    undone = Prompts(s, np.linalg.inv(s), noise)
    np.testing.assert_allclose(optimal_layer(undone, 7), np.linalg.inv(s) * 7 / (8 + D + noise), rtol=1e-9)


def test_what_does_not_vary_is_not_used():
    """Singular covariances: directions without inputs or tasks."""
    law = Prompts(np.array([1.0, 2.0, 0.0]), np.array([1.0, 0.0, 1.0]), 0.2)
    found = np.asarray(optimal_layer(law, 4))
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found[1], 0)
    alone = optimal_risk(Prompts(np.array([1.0]), 1.0, 0.2), 4)
    np.testing.assert_allclose(optimal_risk(law, 4), alone, rtol=1e-12)
    gradient = jax.grad(lambda noise: optimal_risk(law._replace(noise=noise), 4))(0.2)
    assert np.isfinite(gradient) and gradient > 1
    one_sided = Prompts(np.eye(2), np.diag([1.0, 0.0]), 0.0)
    assert np.isfinite(optimal_layer(one_sided, 1)).all()


def test_gaussian_cumulants_change_nothing():
    law, layer = drawn(2)
    np.testing.assert_allclose(optimal_layer(law._replace(cumulants=0.0), 6), optimal_layer(law, 6), rtol=1e-9)
    np.testing.assert_allclose(layer_risk(layer, law._replace(cumulants=np.zeros(D)), 6), layer_risk(layer, law, 6))
    # Flat inputs tell more of their task.
    flat, heavy = (optimal_risk(Prompts(np.ones(D), 1.0, 0.1, k), 6) for k in (-2.0, 3.0))
    assert flat < optimal_risk(Prompts(np.ones(D), 1.0, 0.1), 6) < heavy


@given(seeds, st.integers(1, 20))
def test_mixed_lengths_count_by_their_harmonic_mean(seed, n):
    law, layer = drawn(seed)
    mean = (layer_risk(layer, law, n) + layer_risk(layer, law, 3 * n)) / 2
    np.testing.assert_allclose(layer_risk(layer, law, 2 / (1 / n + 1 / (3 * n))), mean, rtol=1e-10)


LAW = Prompts(np.ones(2), 1.0, 0.1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: optimal_layer(LAW, 0.5), "context must be at least 1, got 0.5"),
        (lambda: checked_length(np.ones(2)), "context must be one length"),
        (lambda: optimal_layer(LAW._replace(noise=-0.1), 4), "noise must be non-negative and finite, got -0.1"),
        (lambda: optimal_layer(Prompts(np.ones(2), 0.0, 0.0), 4), "noise must be positive where"),
        (lambda: optimal_layer(LAW._replace(inputs=1.0), 4), "inputs must have shape"),
        (lambda: optimal_layer(LAW._replace(inputs=np.array([1.0, -1.0])), 4), "inputs must be non-negative"),
        (lambda: optimal_layer(LAW._replace(tasks=np.ones(3)), 4), "tasks must have shape"),
        (lambda: optimal_layer(LAW._replace(inputs=np.array([[1.0, 0.5], [0.0, 1.0]])), 4), "inputs must be symmetric"),
        (
            lambda: optimal_layer(LAW._replace(tasks=np.array([[1.0, 2.0], [2.0, 1.0]])), 4),
            "tasks must be positive semi",
        ),
        (lambda: optimal_layer(LAW._replace(cumulants=-2.1), 4), "cumulants must be at least -2 times"),
        (lambda: optimal_layer(LAW._replace(cumulants=np.ones(3)), 4), "cumulants must have shape"),
        (lambda: optimal_layer(Prompts(np.array([1.0, 0.0]), 1.0, 0.1, 0.0), 4), "inputs must be positive definite"),
        (lambda: layer_risk(np.ones((2, 3)), LAW, 4), "layer must be a matrix of shape"),
        (lambda: layer_risk(np.full((2, 2), np.nan), LAW, 4), "layer must be finite"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call()
