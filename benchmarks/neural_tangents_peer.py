"""The peer's side of `benchmarks.kernels`: in an environment of its own, with neural-tangents and nothing of ours.

Reads one JSON request a line, {"kind": ..., ...}, and answers with the least CPU seconds of one call.
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

NONLINEARITY = {"relu": stax.Relu, "erf": stax.Erf}
prepared = {}


def infinite(depth, activation, points, dtype, dimension):
    layers = []
    for _ in range(depth):
        layers += [stax.Dense(512, W_std=math.sqrt(2), parameterization="ntk"), NONLINEARITY[activation]()]
    *_, kernel = stax.serial(*layers, stax.Dense(1, W_std=math.sqrt(2), parameterization="ntk"))
    x = jnp.asarray(np.random.default_rng(0).normal(size=(points, dimension)), dtype)
    compiled = jax.jit(lambda x: tuple(kernel(x, None, ("nngp", "ntk"))))
    return lambda: compiled(x)


def seconds(call, rounds=1):
    best = math.inf
    for _ in range(rounds):
        start = time.process_time()
        jax.block_until_ready(call())
        best = min(best, time.process_time() - start)
    return best


print(json.dumps({"jax": jax.__version__, "neural_tangents": nt.__version__}), flush=True)
for line in sys.stdin:
    request = json.loads(line)
    key = json.dumps(request, sort_keys=True)
    if key not in prepared:
        prepared.clear()
        prepared[key] = infinite(**request)
        nngp, ntk = jax.block_until_ready(prepared[key]())
        assert nngp.dtype == ntk.dtype == jnp.dtype(request["dtype"])
        print(json.dumps({"corner": [float(ntk[0, 1]), float(nngp[0, 1])]}), flush=True)
        continue
    print(json.dumps({"seconds": seconds(prepared[key])}), flush=True)
