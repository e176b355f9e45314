"""What kernels of wide networks cost and how exact they are: against neural-tangents, a plain implementation, a floor.

    python -m benchmarks.kernels [against_peer | accuracy | floor | scaling] [--peers FOLDER] [--keep]

neural-tangents 0.6.5 on JAX 0.5.3, the newest that it imports with, takes part where `python -m benchmarks` has
installed it. Its kernels are compiled, as ours are. All are ratios of CPU time from one run, taking turns.
"""

from __future__ import annotations

import os
import tempfile
from functools import partial

os.environ.setdefault("JAX_ENABLE_X64", "1")

import jax
import jax.numpy as jnp
import mpmath
import numpy as np

from benchmarks.driver import run
from benchmarks.kept import Result, growth, point
from benchmarks.peer import leaves, peer
from benchmarks.timing import ratios, ratios_in_turns, timed
from theory.kernels.infinite import kernels

DIMENSION = 64
SIZES = {
    ("relu", 3): (500, 1000, 2000),
    ("erf", 3): (1000, 2000),
    ("relu", 10): (1000,),
}
AIMS = {("relu", "float32"): 3.0, ("relu", "float64"): 1.5, ("erf", "float32"): 1.0, ("erf", "float64"): 1.0}


def inputs(points: int, dtype: str):
    """The same on both sides of the pipe."""
    return jnp.asarray(np.random.default_rng(0).normal(size=(points, DIMENSION)), dtype)


def plain(depth: int, activation: str):
    """The textbook recursion on whole matrices, as anyone would write it first."""

    @jax.jit
    def both(x):
        k = theta = 2 * x @ x.T / x.shape[1]
        for _ in range(depth):
            q = jnp.diagonal(k)
            if activation == "relu":
                size = jnp.sqrt(q[:, None] * q[None, :])
                cosine = jnp.clip(k / size, -1, 1)
                angle = jnp.arccos(cosine)
                slope = (jnp.pi - angle) / jnp.pi
                k = size * (jnp.sin(angle) + (jnp.pi - angle) * cosine) / jnp.pi
            else:
                square = (1 + 2 * q)[:, None] * (1 + 2 * q)[None, :]
                slope = 8 / jnp.pi / jnp.sqrt(square - 4 * k * k)
                k = 4 / jnp.pi * jnp.arcsin(2 * k / jnp.sqrt(square))
            theta = k + theta * slope
        return k, theta

    return both


def against_peer(asked, peers: dict) -> list[Result]:
    """Both kernels of N points against neural-tangents, whose are checked to agree, and the plain recursion."""
    theirs, by_hand = {}, {}
    for dtype in ("float32", "float64"):
        with peer(asked.peers, "neural-tangents", "neural_tangents_peer", dtype) as other:
            if other:
                peers |= other.versions
            for (activation, depth), sizes in SIZES.items():
                for points in sizes:
                    x, recursion = inputs(points, dtype), plain(depth, activation)
                    seconds = {
                        "ours": timed(partial(kernels, x, depth=depth, activation=activation)),
                        "plain": timed(partial(recursion, x)),
                    }
                    if other:
                        about = dict(activation=activation, depth=depth, points=points, dtype=dtype)
                        seconds["theirs"], corner = other.call("infinite", alone=True, dimension=DIMENSION, **about)
                        own = kernels(x[:2], depth=depth, activation=activation)
                        np.testing.assert_allclose(corner, [own.ntk[0, 1], own.nngp[0, 1]], rtol=1e-4, atol=1e-4)
                    found = ratios_in_turns(seconds, "ours", asked.rounds)
                    name, x = f"{activation}, {dtype}", f"{depth} layers, N = {points}"
                    # The aim is for the sizes at which fixed costs no longer count.
                    aim = AIMS[activation, dtype] if points >= 1000 and depth == 3 else None
                    by_hand.setdefault(name, []).append(point(x, found["plain"]))
                    if other:
                        theirs.setdefault(name, []).append(point(x, found["theirs"], aim))
    unit = "CPU time over ours"
    comment = "What is left is two passes of inverse trigonometric functions through memory, and two stores."
    with_peer = [Result("Both kernels of N points: neural-tangents", "network", unit, theirs, comment=comment)]
    return (with_peer if theirs else []) + [Result("Both kernels of N points: plain JAX", "network", unit, by_hand)]


def accuracy(asked, peers: dict) -> list[Result]:
    """Largest relative error of the tangent kernel of ReLU networks between inputs, in units of the aim."""
    rng = np.random.default_rng(1)
    distances = (0.0, 1e-6, 1e-4, 1e-2, 1.0)
    allowed = {"float32": 1e-6, "float64": 1e-14}
    series: dict = {}
    for dtype, most in allowed.items():
        base, direction = rng.normal(size=(2, len(distances), 4, DIMENSION))
        apart = np.array(distances)[:, None, None] * direction
        pairs = np.stack([base, base + apart], axis=2).astype(dtype)
        exact = [[reference(pair) for pair in some] for some in pairs]
        found = {"ours": [[float(kernels(jnp.asarray(p), depth=3).ntk[0, 1]) for p in some] for some in pairs]}
        with (
            peer(asked.peers, "neural-tangents", "neural_tangents_peer", dtype) as other,
            tempfile.TemporaryDirectory() as folder,
        ):
            if other:
                peers |= other.versions
                file = leaves(folder, "pairs", [pairs.reshape(-1, 2, DIMENSION)])
                _, entries = other.call("entry", depth=3, activation="relu", file=file, dtype=dtype)
                found["neural-tangents"] = np.reshape(entries, pairs.shape[:2])
        for name, values in found.items():
            error = np.abs(np.asarray(values, float) / np.asarray(exact) - 1).max(axis=1)
            # No number has an error far below its rounding.
            error = np.maximum(error, np.finfo(dtype).eps / 4)
            aim = 1.0 if name == "ours" else None
            series[f"{name}, {dtype}"] = [point(f"{d:g}", most / e, aim) for d, e in zip(distances, error, strict=True)]
    title = "Error of the tangent kernel, three ReLU layers, against 40 digits"
    unit = "allowed relative error (1e-6 in float32, 1e-14 in float64) / error"
    comment = (
        "Angles by their cosines lose half the digits between inputs that are close; we carry squared distances. "
        "An error below a quarter of the rounding unit counts as that."
    )
    return [Result(title, "distance of the inputs", unit, series, comment=comment)]


def reference(pair: np.ndarray, depth: int = 3) -> float:
    """The tangent kernel of two inputs in 40 digits."""
    with mpmath.workdps(40):
        x, y = ([mpmath.mpf(float(each)) for each in point] for point in pair)
        a, b, k = (2 * mpmath.fdot(u, v) / len(x) for u, v in ((x, x), (y, y), (x, y)))
        theta = k
        for _ in range(depth):
            size = mpmath.sqrt(a * b)
            cosine = min(k / size, mpmath.mpf(1))
            angle = mpmath.acos(cosine)
            k = size * (mpmath.sin(angle) + (mpmath.pi - angle) * cosine) / mpmath.pi
            theta = k + theta * (mpmath.pi - angle) / mpmath.pi
        return float(theta)


@jax.jit
def one_product_and_two_stores(x):
    k = jnp.matmul(x, x.T, precision=jax.lax.Precision.HIGHEST)
    return k, k + 1


@jax.jit
def one_inverse_cosine(k):
    return jnp.arccos(k)


def floor(asked, peers: dict) -> list[Result]:
    """What cannot be saved, in units of our kernels: below 1, and the closer to it the better."""
    series: dict = {}
    for dtype in ("float32", "float64"):
        for points in (1000, 2000):
            x = inputs(points, dtype)
            cosines = jnp.clip(x @ x.T / DIMENSION, -1, 1)
            calls = {
                "ours": partial(kernels, x, depth=3),
                "product and stores": partial(one_product_and_two_stores, x),
                "one inverse cosine": partial(one_inverse_cosine, cosines),
            }
            for name, each in ratios(calls, "ours", asked.rounds).items():
                series.setdefault(f"{name}, {dtype}", []).append(point(points, each))
    return [Result("Both kernels of three ReLU layers: what no kernel can do without", "N", "floor / ours", series)]


def scaling(asked, peers: dict) -> list[Result]:
    """Cost against the number of points and of layers."""
    few = inputs(500, "float32")
    axes = {
        "points": ((250, 500, 1000, 2000), lambda n: partial(kernels, inputs(n, "float32"), depth=3)),
        "layers": ((2, 4, 8, 16, 32), lambda n: partial(kernels, few, depth=n)),
    }
    return [growth("Both kernels, ReLU, float32: growth", "points or layers", axes, asked.rounds)]


def main() -> None:
    parts = dict(against_peer=against_peer, accuracy=accuracy, floor=floor, scaling=scaling)
    run("kernels", "Kernels of wide networks", __doc__, parts)


if __name__ == "__main__":
    main()
