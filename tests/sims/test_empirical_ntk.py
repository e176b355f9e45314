"""The empirical NTK: three strategies, one kernel, for every kind of network; what a kernel must be; refusals."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sims.networks.mlp import gelu, mlp, squared_error
from sims.networks.transformer import transformer
from sims.probes import ntk_structure
from sims.probes.ntk import (
    diagonal_ntk,
    empirical_ntk,
    kernel_distance,
    ntk_drift,
    ntk_vector_product,
    top_eigenpairs,
    trace_ntk,
)
from sims.probes.ntk_features import contraction, features
from sims.probes.ntk_program import traced

KEY = jax.random.key(0)
X = jax.random.normal(jax.random.key(1), (5, 3))
TOKENS = jax.random.randint(KEY, (5, 4), 0, 9)


def alone(network, x):
    return network(x)


def last_token(network, tokens):
    return network(tokens)[-1]


def with_dict(network, x):
    """Tied by the same array in two places, used transposed, scaled, and beside an integer and a loop."""
    h = jnp.tanh(network["embed"][x["tokens"]] * 0.7 + network["shift"])
    h, _ = jax.lax.scan(lambda h, _: (jnp.tanh(h @ network["loop"]), None), h, None, length=2)
    h = jnp.einsum("te,fe->tf", h, network["mix"] / network["count"]) * network["gain"]
    return jnp.sum(h @ network["readout"].T * x["weight"][:, None], axis=0)


def with_scalars(network, x):
    """Weights times and over numbers that differ between samples."""
    h = (network["embed"] * x["weight"][0])[x["tokens"]]
    return jnp.tanh(h @ (network["mix"] / x["weight"][1])).sum(axis=0) / network["count"]


def dictionary():
    keys = jax.random.split(KEY, 5)
    embed = jax.random.normal(keys[0], (9, 4))
    return {
        "embed": embed,
        "readout": embed,
        "shift": jax.random.normal(keys[1], (4,)),
        "loop": jax.random.normal(keys[2], (4, 4)),
        "mix": jax.random.normal(keys[3], (4, 4)),
        "gain": jax.random.normal(keys[4], ()),
        "count": jnp.array(3),
    }


CASES = {
    "ntk": (mlp(KEY, (3, 8, 6, 2), 1.7, 0.2), X, alone),
    "standard": (mlp(KEY, (3, 8, 6, 2), 1.7, parametrisation="standard"), X, alone),
    "residual": (mlp(KEY, (3, 6, 6, 6, 2), 1.7, 0.1, gelu, residual=0.5, normalise=True), X, alone),
    "equinox": (eqx.nn.MLP(3, 2, 8, 2, key=KEY), X, alone),
    "scalar": (eqx.nn.MLP(3, "scalar", 8, 1, key=KEY), X, alone),
    "tied": (transformer(KEY, 9, 4, width=4, hidden=5, layers=1), TOKENS, last_token),
    "transformer": (transformer(KEY, 9, 4, width=6, hidden=5, layers=1, outputs=2), TOKENS, alone),
    "scalars": (
        {name: dictionary()[name] for name in ("embed", "mix", "count")},
        {"tokens": TOKENS, "weight": 2 + jnp.cos(TOKENS)},
        with_scalars,
    ),
    "dictionary": (dictionary(), {"tokens": TOKENS, "weight": jnp.cos(TOKENS)}, with_dict),
}


def brute_force(network, x, apply):
    """Plain reverse mode, sample by sample, and one sum over all parameters."""
    floating, rest = eqx.partition(network, eqx.is_inexact_array)
    tied = isinstance(network, dict) and "readout" in network
    if tied:
        floating = {name: leaf for name, leaf in floating.items() if name != "readout"}

    def outputs(floating, sample):
        whole = floating | {"readout": floating["embed"]} if tied else floating
        return jnp.ravel(apply(eqx.combine(whole, rest), sample))

    def rows(sample):
        jacobians = jax.tree.leaves(jax.jacrev(outputs)(floating, sample))
        return jnp.concatenate([j.reshape(j.shape[0], -1) for j in jacobians], axis=1)

    jacobian = jax.jit(jax.vmap(rows))(x)
    return jnp.einsum("ikp,jmp->ikjm", jacobian, jacobian)


@pytest.mark.parametrize("name", CASES)
def test_all_strategies_give_the_kernel(name, monkeypatch):
    network, x, apply = CASES[name]
    expected = brute_force(network, x, apply)
    chosen = ("jacobian", "products", "structured") if name in ("ntk", "tied", "dictionary") else ("structured",)
    kernels = {s: empirical_ntk(network, x, apply=apply, strategy=s) for s in chosen}
    # Every layer that can be structured is, whatever it costs.
    monkeypatch.setattr(ntk_structure, "ELEMENTWISE", -1000)
    leaves, rest = eqx.partition(network, eqx.is_inexact_array)
    leaves, form = jax.tree.flatten(leaves)

    def outputs(leaves, sample):
        return jnp.ravel(apply(eqx.combine(jax.tree.unflatten(form, leaves), rest), sample))

    if name != "dictionary":
        found = jax.jit(lambda leaves, x: features(outputs, leaves, x, True))(leaves, x)
        kernels["forced"] = contraction(found)
        across = contraction(jax.tree.map(lambda leaf: leaf[:2], found), jax.tree.map(lambda leaf: leaf[1:], found))
        np.testing.assert_allclose(
            across, kernels["forced"][:2, :, 1:], rtol=1e-10, atol=1e-12 * np.abs(expected).max()
        )
    shape = jax.eval_shape(lambda one: apply(network, one), jax.tree.map(lambda leaf: leaf[0], x)).shape
    for strategy, kernel in kernels.items():
        assert strategy == "forced" or kernel.shape == (5, *shape, 5, *shape)
        error = np.abs(kernel.reshape(expected.shape) - expected).max()
        assert error < 1e-12 * np.abs(expected).max(), strategy
    flat = expected.reshape(5 * expected.shape[1], -1)
    np.testing.assert_allclose(flat, flat.T, atol=1e-13 * flat.max())
    assert np.linalg.eigvalsh(flat).min() > -1e-12 * np.trace(flat)


def structured_entries(network, x):
    """The entries of every layer that is structured, layer by layer."""
    leaves, form = jax.tree.flatten(network)
    program = traced(lambda leaves, x: jax.tree.unflatten(form, leaves)(x), leaves, x)
    return [layer.entries for layer in ntk_structure.layers(program, len(leaves))]


def test_what_is_structured():
    """Weights and biases of a dense layer together; large embeddings; what is used twice keeps its Jacobian."""
    residual = structured_entries(CASES["residual"][0], X[0])
    assert sorted(e.parameter for layer in residual for e in layer) == list(range(8))
    assert [len(layer) for layer in residual] == [2] * 4
    free = structured_entries(transformer(KEY, 500, 4, width=6, layers=1, outputs=2), TOKENS[0])
    assert [e.tokens for layer in free for e in layer].count(True) == 1
    tied = structured_entries(transformer(KEY, 500, 4, width=6, layers=1), TOKENS[0])
    assert 0 not in [e.parameter for layer in tied for e in layer]


@pytest.mark.parametrize("strategy", ["structured", "jacobian"])
def test_parts_and_blocks_are_those_of_the_whole(strategy):
    network, other = CASES["ntk"][0], X[:2] + 0.1
    whole, across = empirical_ntk(network, X, strategy="jacobian"), empirical_ntk(network, X, other)
    assert across.shape == (5, 2, 2, 2)
    options = {"strategy": strategy}
    for block in (2, 3):
        np.testing.assert_allclose(empirical_ntk(network, X, block=block, **options), whole, rtol=1e-11, atol=1e-12)
        np.testing.assert_allclose(
            empirical_ntk(network, X, other, block=block, **options), across, rtol=1e-11, atol=1e-12
        )
    trace = np.einsum("ikjk->ij", whole) / 2
    np.testing.assert_allclose(trace_ntk(network, X, **options), trace, rtol=1e-12)
    np.testing.assert_allclose(trace_ntk(network, X, block=2, **options), trace, rtol=1e-12)
    np.testing.assert_allclose(
        trace_ntk(network, X, other, **options), np.einsum("ikjk->ij", across) / 2, rtol=1e-11, atol=1e-12
    )
    np.testing.assert_allclose(
        diagonal_ntk(network, X, **options), whole[np.arange(5), :, np.arange(5)], rtol=1e-12, atol=1e-13
    )


def test_many_samples_take_the_symmetric_path():
    network, x = CASES["ntk"][0], jax.random.normal(KEY, (37, 3))
    twice = empirical_ntk(network, x, x, strategy="jacobian")
    np.testing.assert_allclose(empirical_ntk(network, x, strategy="jacobian"), twice, rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(empirical_ntk(network, x, strategy="auto"), twice, rtol=1e-11, atol=1e-12)


def test_products_and_eigenpairs():
    network, x, apply = CASES["tied"]
    kernel = empirical_ntk(network, x, apply=apply, strategy="jacobian")
    vector = jax.random.normal(KEY, (5, 9))
    found = ntk_vector_product(network, x, vector, apply=apply)
    np.testing.assert_allclose(found, np.einsum("ikjm,jm->ik", kernel, vector), rtol=1e-11, atol=1e-11)
    across = ntk_vector_product(network, x[:2], vector, x, apply=apply)
    np.testing.assert_allclose(across, found[:2], rtol=1e-11, atol=1e-11)
    values, vectors = top_eigenpairs(network, x, 3, apply=apply)
    expected = np.linalg.eigvalsh(kernel.reshape(45, 45))[::-1][:3]
    np.testing.assert_allclose(values, expected, rtol=1e-10)
    images = np.einsum("ikjm,njm->nik", kernel, vectors)
    np.testing.assert_allclose(images, values[:, None, None] * vectors, atol=1e-9 * values[0])


def test_a_small_step_of_gradient_descent_moves_outputs_by_the_kernel():
    network, y = CASES["ntk"][0], jnp.ones((5, 2))
    kernel = empirical_ntk(network, X)
    slope = (network(X) - y) / 5
    for step in (1e-3, 1e-4):
        moved = jax.tree.map(lambda p, g, s=step: p - s * g, network, jax.grad(squared_error)(network, X, y))
        change = (moved(X) - network(X)) / step
        # The second order of the step.
        np.testing.assert_allclose(change, -np.einsum("ikjm,jm->ik", kernel, slope), atol=30 * step)


def test_inside_jit_and_vmap():
    network = CASES["ntk"][0]
    stack = jax.tree.map(lambda p: jnp.stack([p, 2 * p]), network)
    kernels = jax.jit(jax.vmap(lambda network: empirical_ntk(network, X)))(stack)
    np.testing.assert_allclose(kernels[0], empirical_ntk(network, X, strategy="jacobian"), rtol=1e-11, atol=1e-12)


def test_only_what_is_trainable_counts():
    network = CASES["ntk"][0]
    last = eqx.tree_at(lambda mask: mask.weights[-1], jax.tree.map(lambda _: False, network), True)
    h = np.sqrt(1.7 / 3) * X @ network.weights[0].T + np.sqrt(0.2) * network.biases[0]
    h = np.sqrt(1.7 / 8) * np.maximum(h, 0) @ network.weights[1].T + np.sqrt(0.2) * network.biases[1]
    inputs = np.sqrt(1.7 / 6) * np.maximum(h, 0)
    expected = np.einsum("in,jn,km->ikjm", inputs, inputs, np.eye(2))
    np.testing.assert_allclose(empirical_ntk(network, X, trainable=last), expected, rtol=1e-12, atol=1e-14)


def test_drift_and_distance():
    network = CASES["standard"][0]
    doubled = jax.tree.map(lambda p: 2 * p, network)
    # Three layers of a homogeneous network: the outputs scale by 8, their derivatives by 4.
    np.testing.assert_allclose(ntk_drift(network, doubled, X), 15.0, rtol=1e-12)
    np.testing.assert_allclose(kernel_distance(jnp.eye(3), 5 * jnp.eye(3)), 0, atol=1e-15)
    np.testing.assert_allclose(kernel_distance(jnp.eye(2)[:, :1], jnp.eye(2)[:, 1:]), 1, rtol=1e-14)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda n: empirical_ntk(n, X, strategy="fast"), "strategy must be one of"),
        (lambda n: trace_ntk(n, X, strategy="products"), "strategy must be one of"),
        (lambda n: empirical_ntk(n, {"a": X, "b": X[:2]}), "x must hold samples along the first axis"),
        (lambda n: empirical_ntk(n, jnp.ones(())), "x must hold samples along the first axis"),
        (lambda n: empirical_ntk(n, X[:0]), "x must hold samples along the first axis"),
        (lambda n: empirical_ntk({"n": jnp.arange(3)}, X), "network must have parameters"),
        (lambda n: empirical_ntk({"n": jnp.ones(3) * 1j}, X), "network must have real floating parameters"),
        (lambda n: top_eigenpairs(n, X, 10), "k must be at least 1 and below the 10 rows"),
        (lambda n: empirical_ntk(n, X, block=0), "block must be"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call(CASES["ntk"][0])
