"""Fully connected networks and the transformer: parametrisations, branches, causality, refusals."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.special import erf
from scipy.special import ndtr

from sims.networks.linearised import linearised
from sims.networks.mlp import gelu, layer_norm, mlp, squared_error
from sims.networks.transformer import transformer
from sims.probes.ntk import trace_ntk
from theory.kernels.infinite import kernels

KEY = jax.random.key(0)
X = jax.random.normal(jax.random.key(1), (5, 3))
Y = jax.random.normal(jax.random.key(2), (5, 2))
WIDTHS = (3, 8, 8, 2)


def test_the_formula_by_hand():
    network = mlp(KEY, WIDTHS, 1.7, 0.3, jnp.tanh)
    h = np.asarray(X)
    for i, (w, b, n) in enumerate(zip(network.weights, network.biases, WIDTHS, strict=False)):
        h = np.sqrt(1.7 / n) * (np.tanh(h) if i else h) @ np.asarray(w).T + np.sqrt(0.3) * np.asarray(b)
    np.testing.assert_allclose(network(X), h, rtol=1e-12)
    np.testing.assert_allclose(network(X[1]), h[1], rtol=1e-12)
    np.testing.assert_allclose(squared_error(network, X, Y), np.sum((h - Y) ** 2) / 10, rtol=1e-12)


def test_parametrisations_are_one_function_and_unit_entries():
    ntk = mlp(KEY, (3, 400, 400, 2), 1.7, 0.3, jnp.tanh)
    standard = mlp(KEY, (3, 400, 400, 2), 1.7, 0.3, jnp.tanh, parametrisation="standard")
    np.testing.assert_allclose(ntk(X), standard(X), rtol=1e-12)
    # 160 000 squares of variance 2.
    assert abs(np.mean(ntk.weights[1] ** 2) - 1) < 5 * np.sqrt(2 / 160_000)
    assert abs(np.mean(standard.weights[1] ** 2) * 400 / 1.7 - 1) < 5 * np.sqrt(2 / 160_000)


def test_biases_are_there_if_they_have_variance_or_are_asked_for():
    assert mlp(KEY, WIDTHS).biases == ()
    assert len(mlp(KEY, WIDTHS, 2.0, 0.1).biases) == 3
    zero = mlp(KEY, WIDTHS, bias=True, parametrisation="standard")
    assert all(not np.any(b) for b in zero.biases) and len(zero.biases) == 3
    np.testing.assert_array_equal(zero(X), mlp(KEY, WIDTHS, parametrisation="standard")(X))


def test_residual_branches_add_to_layers_that_keep_the_width():
    plain = mlp(KEY, WIDTHS, 2.0, 0.1, jnp.tanh)
    branched = mlp(KEY, WIDTHS, 2.0, 0.1, jnp.tanh, residual=0.5)
    h = plain.layer(0, X)
    h = h + 0.5 * plain.layer(1, jnp.tanh(h))
    np.testing.assert_allclose(branched(X), plain.layer(2, jnp.tanh(h)), rtol=1e-12)
    square = mlp(KEY, (3, 3, 3), residual=0.5)
    np.testing.assert_allclose(square(X), mlp(KEY, (3, 3, 3))(X), rtol=1e-12)


def test_normalised_networks_do_not_see_the_size_of_hidden_weights():
    large = mlp(KEY, WIDTHS, 1.0, 0.0, jnp.tanh, normalise=True)
    doubled = eqx.tree_at(lambda network: network.weights[0], large, 2 * large.weights[0])
    # LayerNorm's epsilon of 1e-6 against variances of order one.
    np.testing.assert_allclose(doubled(X), large(X), rtol=1e-4)
    normed = layer_norm(jax.random.normal(KEY, (4, 50)) * 3 + 1)
    np.testing.assert_allclose(np.mean(normed, axis=1), 0, atol=1e-14)
    np.testing.assert_allclose(np.var(normed, axis=1), 1, rtol=1e-5)


def test_gelu_is_the_exact_one():
    x = np.linspace(-4, 4, 41)
    np.testing.assert_allclose(gelu(jnp.asarray(x)), x * ndtr(x), rtol=1e-12, atol=1e-15)


def test_linearised_networks_touch_the_network_and_are_linear():
    start = mlp(KEY, WIDTHS, 1.7, 0.3, jnp.tanh)
    tangent = linearised(start)
    np.testing.assert_allclose(tangent(X), start(X), rtol=1e-12)
    gradients = [jax.grad(squared_error)(net, X, Y) for net in (start, tangent)]
    for one, other in zip(*map(jax.tree.leaves, (gradients[0], gradients[1].displacement)), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-11, atol=1e-14)
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(gradients[1].start))

    def moved(scale):
        return linearised(start, jax.tree.map(lambda p: scale * jnp.cos(p), start))(X) - start(X)

    np.testing.assert_allclose(moved(3.0), 3 * moved(1.0), rtol=1e-10)


@pytest.mark.parametrize("outputs", [None, 3])
def test_transformers_are_causal_and_treat_samples_alone(outputs):
    network = transformer(KEY, 7, 6, width=8, heads=2, layers=1, outputs=outputs)
    tokens = jax.random.randint(KEY, (4, 6), 0, 7)
    logits = network(tokens)
    assert logits.shape == (4, 6, outputs or 7)
    np.testing.assert_allclose(logits[1], network(tokens[1]), rtol=1e-12)
    changed = np.abs(network(tokens.at[:, 3].set((tokens[:, 3] + 1) % 7)) - logits).max(axis=(0, 2))
    assert (changed[:3] == 0).all() and (changed[3:] > 1e-4).all()
    np.testing.assert_allclose(network(tokens[:, :4]), logits[:, :4], rtol=1e-11)


def test_transformer_parameters_are_counted_once_if_tied():
    def count(network):
        return sum(leaf.size for leaf in jax.tree.leaves(network))

    tied, free = transformer(KEY, 7, 6, width=8), transformer(KEY, 7, 6, width=8, outputs=7)
    assert count(free) - count(tied) == 7 * 8


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mlp(KEY, WIDTHS, parametrisation="mup"), "parametrisation must be"),
        (lambda: mlp(KEY, (3,)), "widths must hold"),
        (lambda: mlp(KEY, WIDTHS, -1.0), "weight_variance must"),
        (lambda: transformer(KEY, 7, 6, width=9, heads=2), "width must be a multiple"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    "options", [{"residual": 0.7}, {"normalise": True}, {"residual": 0.7, "normalise": True}], ids=str
)
def test_random_networks_with_branches_and_normalisation_have_the_kernels_of_the_limit(options):
    """NTK by its definition and NNGP by the outputs' moments, over independent networks."""
    draws, width, outputs = 48, 128, 32
    x = 3 * X[:4]

    @jax.jit
    def kernel(key):
        network = mlp(key, (3, width, width, width, outputs), 1.7, 0.3, erf, **options)
        f = network(x)
        return f @ f.T / outputs, trace_ntk(network, x)

    found = [np.stack(k) for k in zip(*(kernel(key) for key in jax.random.split(KEY, draws)), strict=True)]

    def deviation(residual, layer_norm):
        network = dict(activation="erf", weight_variance=1.7, bias_variance=0.3)
        limit = kernels(x, depth=3, residual=residual, layer_norm=layer_norm, **network)
        # Standard errors, and the shift of the mean by the order of 1/width in each of three layers.
        errors = (runs.std(axis=0, ddof=1) / np.sqrt(draws) for runs in found)
        sizes = (np.sqrt(np.outer(np.diag(k), np.diag(k))) for k in limit)
        return [
            np.abs((runs.mean(axis=0) - k) / np.hypot(error, 3 * size / width)).max()
            for runs, k, error, size in zip(found, limit, errors, sizes, strict=True)
        ]

    strength, norm = options.get("residual"), "normalise" in options
    assert max(deviation(strength, norm)) < 5
    # Branches of another strength and networks without normalisation would be seen.
    assert norm or max(deviation(0.5 * strength, norm)) > 5
    assert not norm or max(deviation(strength, False)) > 5
