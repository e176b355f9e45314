"""The peer's side of `benchmarks.peer`: in an environment of its own, with neural-tangents and Equinox.

Reads one JSON request a line, {"kind": "infinite" or "empirical", ...}. The first time it makes the kernel and answers
with entries of it, then with the CPU seconds of one call.
"""

import json
import math
import sys
import time

import jax
import jax.numpy as jnp
import neural_tangents as nt
import numpy as np
from neural_tangents import stax

from sims.networks.transformer import transformer

NONLINEARITY = {"relu": stax.Relu, "erf": stax.Erf}


def infinite(depth, activation, points, dtype, dimension):
    """Both kernels of a fully connected network, and two entries."""
    layers = []
    for _ in range(depth):
        layers += [stax.Dense(512, W_std=math.sqrt(2), parameterization="ntk"), NONLINEARITY[activation]()]
    *_, kernel = stax.serial(*layers, stax.Dense(1, W_std=math.sqrt(2), parameterization="ntk"))
    x = jnp.asarray(np.random.default_rng(0).normal(size=(points, dimension)), dtype)
    compiled = jax.jit(lambda x: tuple(kernel(x, None, ("nngp", "ntk"))))
    nngp, ntk = compiled(x)
    assert nngp.dtype == ntk.dtype == jnp.dtype(dtype)
    return (lambda: compiled(x)), [float(ntk[0, 1]), float(nngp[0, 1])]


def empirical(network, file, implementation):
    """The empirical kernel of a network whose parameters and inputs lie in `file`, and the row of its first entry."""
    stored = np.load(file)
    *parameters, x = (jnp.asarray(stored[f"arr_{i}"]) for i in range(len(stored.files)))
    apply, parameters = {"mlp": plain_mlp, "transformer": last_token}[network](parameters)
    kernel = nt.empirical_ntk_fn(apply, trace_axes=(), vmap_axes=0, implementation=nt.NtkImplementation[implementation])
    compiled = jax.jit(kernel)
    return (lambda: compiled(x, None, parameters)), np.ravel(compiled(x, None, parameters)[0, 1]).tolist()


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


def seconds(call):
    start = time.process_time()
    jax.block_until_ready(call())
    return time.process_time() - start


prepared = {}
print(json.dumps({"jax": jax.__version__, "neural_tangents": nt.__version__}), flush=True)
for line in sys.stdin:
    if line not in prepared:
        request = json.loads(line)
        kind = request.pop("kind")
        # One infinite kernel at a time: they are large.
        if kind == "infinite":
            prepared.clear()
        prepared[line], entries = {"infinite": infinite, "empirical": empirical}[kind](**request)
        print(json.dumps({"corner": entries}), flush=True)
    else:
        print(json.dumps({"seconds": seconds(prepared[line])}), flush=True)
