"""The peer's side of `benchmarks.peer`: in an environment of its own, with neural-tangents and Equinox."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import neural_tangents as nt
import numpy as np
from neural_tangents import stax

from benchmarks.serving import serve
from sims.networks.transformer import transformer

NONLINEARITY = {"relu": stax.Relu, "erf": stax.Erf}


def fully_connected(depth, activation):
    """Both kernels of a fully connected network, compiled."""
    layers = []
    for _ in range(depth):
        layers += [stax.Dense(512, W_std=math.sqrt(2), parameterization="ntk"), NONLINEARITY[activation]()]
    *_, kernel = stax.serial(*layers, stax.Dense(1, W_std=math.sqrt(2), parameterization="ntk"))
    return jax.jit(lambda x: tuple(kernel(x, None, ("nngp", "ntk"))))


def infinite(depth, activation, points, dtype, dimension):
    """Both kernels of random inputs, and two entries."""
    compiled = fully_connected(depth, activation)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(points, dimension)), dtype)
    nngp, ntk = compiled(x)
    assert nngp.dtype == ntk.dtype == jnp.dtype(dtype)
    return (lambda: jax.block_until_ready(compiled(x))), [float(ntk[0, 1]), float(nngp[0, 1])]


def entry(depth, activation, file, dtype):
    """The tangent kernel between pairs of inputs, (pairs, 2, dimension)."""
    compiled = fully_connected(depth, activation)
    pairs = jnp.asarray(np.load(file)["arr_0"], dtype)
    found = [float(compiled(pair)[1][0, 1]) for pair in pairs]
    return (lambda: jax.block_until_ready(compiled(pairs[0]))), found


def empirical(network, file, implementation):
    """The empirical kernel of a network whose parameters and inputs lie in `file`, and the row of its first entry."""
    stored = np.load(file)
    *parameters, x = (jnp.asarray(stored[f"arr_{i}"]) for i in range(len(stored.files)))
    apply, parameters = {"mlp": plain_mlp, "transformer": last_token}[network](parameters)
    kernel = nt.empirical_ntk_fn(apply, trace_axes=(), vmap_axes=0, implementation=nt.NtkImplementation[implementation])
    compiled = jax.jit(kernel)
    first = np.ravel(compiled(x, None, parameters)[0, 1]).tolist()
    return (lambda: jax.block_until_ready(compiled(x, None, parameters))), first


def plain_mlp(leaves):
    """Weights, then biases, as ReLU layers h @ w + b: the form in which the peer sees their structure."""
    half = len(leaves) // 2
    layers = [(w.T, b) for w, b in zip(leaves[:half], leaves[half:], strict=True)]

    def apply(layers, h):
        for i, (w, b) in enumerate(layers):
            h = (jax.nn.relu(h) if i else h) @ w + b
        return h

    return apply, layers


def last_token(leaves):
    """Our transformer, of the sizes in `benchmarks.empirical_ntk`."""
    form = jax.tree_util.tree_structure(transformer(jax.random.PRNGKey(0), 10, 8, hidden=64))
    return (lambda network, tokens: network(tokens)[:, -1]), jax.tree_util.tree_unflatten(form, leaves)


if __name__ == "__main__":
    versions = {"neural-tangents": f"{nt.__version__} on JAX {jax.__version__}"}
    serve(versions, {"infinite": infinite, "entry": entry, "empirical": empirical})
