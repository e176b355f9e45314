"""What the dynamical mean field of feature learning costs, against fixed-point iterations, and how it grows.

    python -m benchmarks.mean_field [linear | residuals | sampled | scaling] [--published FILE] [--keep]

Published solvers iterate the self-consistent equations on whole matrices, operation by operation in JAX, a number of
times that is given beforehand. `fixed_point` has their cost; FILE, the utility module with `solve_kernels` (deep linear
networks) that circulates with papers after Bordelon & Pehlevan 2022, takes part as written if it is given.
JAX_ENABLE_X64=0 measures float32. All are ratios of CPU time from one run on one machine.
"""

from __future__ import annotations

import importlib.util
import os
from functools import partial
from pathlib import Path

os.environ.setdefault("JAX_ENABLE_X64", "1")

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.driver import run
from benchmarks.kept import Result, growth, point
from benchmarks.timing import ratios
from theory.lazy_rich.mean_field_linear import linear_mean_field, residual
from theory.lazy_rich.mean_field_sampled import sampled_mean_field, single_neuron_noise

GAMMA, LR, INPUTS = 1.0, 0.1, 10
# (samples, times, layers), and the ratio to an iteration of 5 steps that is aimed at.
LINEAR = {(2, 50, 2): 10.0, (4, 50, 2): 10.0, (4, 100, 4): None, (8, 100, 2): 2.5}
ITERATIONS, ENOUGH = 5, 1e-6


def data(samples: int):
    rng = np.random.default_rng(0)
    return jnp.asarray(rng.normal(size=(samples, INPUTS))), jnp.asarray(rng.normal(size=samples))


def ours(samples: int, times: int, depth: int):
    return partial(linear_mean_field, times - 1, *data(samples), GAMMA, LR, depth)


def fixed_point(kernel, y, depth: int, times: int, iterations: int):
    """Features (L, T Q, T Q), by iterating the equations of `theory.lazy_rich.mean_field_linear.residual`.

    As published solvers do, errors follow from the tangent kernel by steps of gradient flow, which are off by the step.
    """
    q, n, square = len(y), times * len(y), GAMMA**2
    earlier = jnp.tril(jnp.ones((times, times)), -1)
    tall, wide = jnp.repeat(earlier, q, axis=0), jnp.repeat(earlier, q, axis=1)
    h = [jnp.tile(kernel, (times, times))] * (depth + 1)
    g = [jnp.ones((times, times))] * (depth + 1)
    a, b = [jnp.zeros((n, times))] * (depth + 1), [jnp.zeros((times, n))] * (depth + 1)
    for _ in range(iterations):
        errors = errors_of(h, g, y) / q
        for i in range(depth):
            c = tall * (a[i] + LR * jnp.einsum("nsm,sm->ns", h[i].reshape(n, times, q), errors))
            d = wide * (b[i + 1] + LR * (g[i + 1][:, :, None] * errors).reshape(times, n))
            around = jnp.linalg.inv(jnp.eye(n) - square * c @ d)
            back = jnp.linalg.inv(jnp.eye(times) - square * d @ c)
            h[i + 1], a[i + 1] = around @ (h[i] + square * c @ g[i + 1] @ c.T) @ around.T, around @ c
            g[i], b[i] = back @ (g[i + 1] + square * d @ h[i] @ d.T) @ back.T, back @ d
    return jnp.stack(h[1:])


def errors_of(h, g, y) -> np.ndarray:
    """y - f at every step, (T, Q), under the tangent kernel sum_l H^l(t, t) G^{l+1}(t, t)."""
    q, times = len(y), len(g[0])
    now = np.zeros((times, q, q))
    errors = [np.asarray(y)]
    # Early iterations may blow up at late times; a solver does not stop for that.
    with np.errstate(all="ignore"):
        for features, gradients in zip(h, g, strict=True):
            same = np.asarray(features).reshape(times, q, times, q)
            now += np.einsum("tmtn->tmn", same) * np.diagonal(gradients)[:, None, None]
        for kernel in now[:-1]:
            errors.append(errors[-1] - LR / q * kernel @ errors[-1])
    return np.array(errors)


def published(file: Path):
    """The published solver, with the arguments of `fixed_point`."""
    spec = importlib.util.spec_from_file_location("published_mean_field", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def solve(kernel, y, depth, times, iterations):
        return module.solve_kernels(kernel, y, depth, LR, GAMMA, T=times, num_steps=iterations)[0]

    return solve


def iterations_needed(solve) -> int | None:
    """How many iterations bring the last hidden kernel within 1e-6 of where it goes, of some tried; None if none do."""
    converged = np.asarray(solve(iterations=40)[-1])
    for count in (8, 10, 12, 14, 18, 24, 32):
        if np.abs(np.asarray(solve(iterations=count)[-1]) - converged).max() <= ENOUGH * np.abs(converged).max():
            return count
    return None


def linear(asked, peers: dict) -> list[Result]:
    """Deep linear networks: one pass in time, against iterations."""
    ways = {"fixed point": fixed_point}
    if asked.published:
        ways["published"] = published(asked.published)
        peers["published"] = asked.published.stem
    series: dict = {}
    for (samples, times, depth), aim in LINEAR.items():
        x, y = data(samples)
        calls = {"ours": ours(samples, times, depth)}
        for name, way in ways.items():
            solve = partial(way, x @ x.T / INPUTS, y, depth, times)
            calls[f"{name}, {ITERATIONS} iterations"] = partial(solve, iterations=ITERATIONS)
            # Converged, the largest case takes too long.
            count = iterations_needed(solve) if samples * times <= 200 else None
            if count:
                calls[f"{name}, to 1e-6"] = partial(solve, iterations=count)
        for name, each in ratios(calls, "ours", min(asked.rounds, 3)).items():
            held = aim if name.endswith("iterations") else None
            series.setdefault(name, []).append(point(f"{samples}, {times}, {depth}", each, held))
    comment = (
        "Five iterations are 1e-3 from where they go, and that is 1e-2 from gradient descent, whose steps are finite; "
        "one pass is exact. Both cost (samples x times)^3 in the end, and then a pass saves the iterations alone."
    )
    title, x = "Mean field of deep linear networks: one pass in time, against iterations", "samples, times, layers"
    return [Result(title, x, "iterations / one pass, CPU time", series, comment=comment)]


def residuals(asked, peers: dict) -> list[Result]:
    """By how much the pass misses the equations, in units of what is allowed."""
    exact = {case: ours(*case)() for case in LINEAR}
    points = []
    for (samples, times, depth), field in exact.items():
        missed = max(float(residual(field, *data(samples), GAMMA, LR)), float(jnp.finfo(field.outputs.dtype).eps))
        points.append(point(f"{samples}, {times}, {depth}", ENOUGH / missed, 1.0))
    title = "Mean field of deep linear networks: how well the equations hold"
    comment = "Each row is solved for once, so that what is missed is rounding, which float32 has more of."
    return [
        Result(
            title, "samples, times, layers", "allowed residual (1e-6) / residual", {"one pass": points}, comment=comment
        )
    ]


def sampled_call(samples: int, times: int, neurons: int):
    """Two hidden tanh layers, sampled neurons."""
    x, y = data(samples)
    noise = single_neuron_noise(jax.random.key(0), neurons, times - 1, samples, 2)
    call = jax.jit(lambda noise, x, y: sampled_mean_field(noise, x, y, GAMMA, LR, jnp.tanh))
    return call.lower(noise, x, y).compile(), (noise, x, y)


def sampled(asked, peers: dict) -> list[Result]:
    """Sampled neurons: memory in units of all responses of a layer's neurons, (samples x times)^2 for each."""
    points = []
    for samples, times, neurons in ((2, 17, 500), (2, 17, 1000), (2, 33, 500), (4, 17, 500)):
        compiled, (_, _, y) = sampled_call(samples, times, neurons)
        used = getattr(compiled.memory_analysis(), "temp_size_in_bytes", 0)
        responses = neurons * (samples * times) ** 2 * y.dtype.itemsize
        points.append(point(f"{samples}, {times}, {neurons}", responses / max(used, 1)))
    title, x = "Mean field of two tanh layers: memory", "samples, times, neurons"
    return [Result(title, x, "responses of a layer's neurons / memory beside in- and outputs", {"sampled": points})]


def scaling(asked, peers: dict) -> list[Result]:
    """Cost against samples x times, layers and sampled neurons."""

    def drawn(neurons: int):
        compiled, arguments = sampled_call(2, 17, neurons)
        return partial(compiled, *arguments)

    axes = {
        "times": ((25, 50, 100, 200), lambda n: ours(4, n, 2)),
        "layers": ((2, 4, 8), lambda n: ours(4, 50, n)),
        "sampled neurons": ((128, 256, 512), drawn),
    }
    return [growth("Mean fields: growth", "times, layers or neurons", axes, min(asked.rounds, 3))]


def main() -> None:
    option = {"name": "--published", "type": Path, "help": "file of the published solver"}
    parts = dict(linear=linear, residuals=residuals, sampled=sampled, scaling=scaling)
    run("mean_field", "Dynamical mean field", __doc__, parts, [option])


if __name__ == "__main__":
    main()
