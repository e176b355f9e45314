"""The engine by itself: the overhead of a step, the best way to batch runs, the share of the arithmetic peak reached.

    python -m benchmarks.engine [overhead | networks | donation] [--rounds N] [--keep]

Networks with tanh layers of equal width take steps of gradient descent on one batch of 16 samples, in float32 with the
highest precision of matrix products. Runs go side by side (vmap), one by one (map), so many at a time, or as the engine
chooses. On a CPU its time counts; on an accelerator it is wall-clock time. The peak is what one large matrix product
reaches, measured in the same process; the arithmetic of a step is what XLA counts.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.driver import console, run
from benchmarks.kept import Result, point
from benchmarks.timing import seconds_by_round, spread
from sims.engine import Simulation, grid, simulate

SAMPLES, LR = 16, 0.01
WIDTHS, DEPTHS, DEPTHS_AT, RUNS = (8, 32, 64, 128, 256), (2, 8), 32, (1, 16, 64)
# The size of the product of which the peak is taken.
PRODUCT = {"cpu": 1024}.get(jax.default_backend(), 8192)
# Arithmetic of one timed call, so that a call of the engine costs next to nothing beside it, and the most steps of one.
WORK, STEPS = 5e8, 20_000
SECOND = "CPU second" if jax.default_backend() == "cpu" else "second"


def network(width: int, depth: int) -> Simulation:
    """Full-batch gradient descent of `depth` tanh layers of one width, and a readout."""
    x = jnp.asarray(np.random.default_rng(0).normal(size=(SAMPLES, width)), jnp.float32)
    y = jnp.sin(x[:, :1])

    def start(key, _):
        # Any numbers will do, and these are compiled soon.
        layer = jnp.cos(jnp.arange(width**2, dtype=jnp.float32)).reshape(width, width) / width**0.5
        return [layer] * depth + [jnp.zeros((width, 1), jnp.float32)]

    def loss(weights):
        h = x
        for w in weights[:-1]:
            h = jnp.tanh(h @ w)
        return jnp.mean((h @ weights[-1] - y) ** 2)

    def step(weights):
        return jax.tree.map(lambda w, g: w - LR * g, weights, jax.grad(loss)(weights))

    return Simulation(start, step, loss)


def empty() -> Simulation:
    """Steps that do almost nothing."""
    return Simulation(lambda key, _: jax.random.normal(key, (), jnp.float32), lambda x: 0.5 * x + 1, lambda x: x)


def arithmetic(simulation: Simulation) -> float:
    """Floating-point operations of one step of one run, as XLA counts them before it optimises."""
    state = jax.eval_shape(simulation.init, jax.random.key(0), {})
    return float(jax.jit(simulation.step).lower(state).cost_analysis()["flops"])


def in_steps(simulation: Simulation, runs: int, ways: dict, rounds: int, steps: int) -> dict[str, list[float]]:
    """Seconds of one step of one run, by way of batching and round."""
    calls = {
        name: partial(lambda way: simulate(simulation, grid(runs), [steps], batching=way).records, way)
        for name, way in ways.items()
    }
    return {name: [s / (steps * runs) for s in each] for name, each in seconds_by_round(calls, rounds).items()}


def steps_of(work: float, runs: int) -> int:
    """How many steps of `work` operations a timed call takes."""
    return int(np.clip(WORK / (work * runs), 5, STEPS / runs))


def ways_of(runs: int) -> dict[str, str | int]:
    some = {f"{k} at a time": k for k in (8,) if k < runs}
    return {"vmap": "vmap", "map": "map", **some, "as chosen": "auto"}


def overhead(asked, peers: dict) -> list[Result]:
    """What a call costs, and a step of a run that computes next to nothing or is of the smallest network."""
    nothing = empty()
    measured = (
        ("A call of one step that does almost nothing", nothing, 1, 1e3, "milliseconds a call and run"),
        ("A step that does almost nothing", nothing, 4_000_000, 1e9, "nanoseconds a step of a run"),
        ("A step of two layers of width 2", network(2, 2), STEPS, 1e6, "microseconds a step of a run"),
    )
    found = []
    for title, simulation, steps, scale, unit in measured:
        series: dict = {}
        for runs in RUNS:
            spent = in_steps(simulation, runs, ways_of(runs), asked.rounds, max(1, steps // runs))
            for name, seconds in spent.items():
                series.setdefault(name, []).append(point(runs, spread([scale * s for s in seconds])))
        found.append(Result(title, "runs", unit, series, comment="Less is better here."))
    return found


def networks(asked, peers: dict) -> list[Result]:
    """Every way of batching the largest ensemble, by width and by depth, and the share of the peak by width."""
    best = peak(asked.rounds)
    sizes = [(width, 2) for width in WIDTHS] + [(DEPTHS_AT, depth) for depth in DEPTHS if depth > 2]
    by_width, by_depth, share, chosen = {}, {}, {}, []
    for width, depth in sizes:
        simulation = network(width, depth)
        work = arithmetic(simulation)
        for runs in RUNS:
            ways = ways_of(runs) if runs == max(RUNS) else {"as chosen": "auto"}
            spent = in_steps(simulation, runs, ways, asked.rounds, steps_of(work, runs))
            if depth == 2:
                reached = point(width, spread([100 * work / (s * best) for s in spent["as chosen"]]))
                share.setdefault("1 run" if runs == 1 else f"{runs} runs", []).append(reached)
        for name, seconds in spent.items():
            rate = spread([1 / s for s in seconds])
            if depth == 2:
                by_width.setdefault(name, []).append(point(width, rate))
            if width == DEPTHS_AT:
                by_depth.setdefault(name, []).append(point(depth, rate))
        took = simulate(simulation, grid(runs), [steps_of(work, runs)]).batching
        chosen.append(f"{depth} layers of {width}: {f'{took} at a time' if isinstance(took, int) else took}")
    unit = f"network-steps a {SECOND}"
    about = f"The peak is a product of {PRODUCT} x {PRODUCT} matrices: {best / 1e9:.0f} billion operations a {SECOND}."
    return [
        Result(f"{runs} runs of two layers", "width", unit, by_width, comment=f"Chosen: {', '.join(chosen)}."),
        Result(f"{runs} runs of width {DEPTHS_AT}", "depth", unit, by_depth),
        Result("Two layers: share of the arithmetic peak", "width", "% of the peak", share, comment=about),
    ]


def peak(rounds: int) -> float:
    """Operations a second of one large product of matrices."""
    a = jnp.ones((PRODUCT, PRODUCT), jnp.float32)
    product = jax.jit(jnp.matmul)
    return 2 * PRODUCT**3 / min(seconds_by_round({"product": lambda: product(a, a)}, max(3, rounds))["product"])


def donation(asked, peers: dict) -> list[Result]:
    """A chunk of steps whose state is given away, against one whose state is kept for a checkpoint."""

    def forward(state, steps):
        return jax.lax.fori_loop(0, steps, lambda _, x: 0.999 * x + 0.001, state)

    series: dict = {}
    state = jnp.zeros(2**22, jnp.float32)
    for steps in (1, 10, 100):

        def chunks(call, steps=steps):
            now = jnp.copy(state)
            for _ in range(5):
                now = call(now, steps)
            return now

        calls = {"kept": jax.jit(forward), "given": jax.jit(forward, donate_argnums=0)}
        spent = seconds_by_round({name: partial(chunks, call) for name, call in calls.items()}, asked.rounds)
        each = spread([a / b for a, b in zip(spent["kept"], spent["given"], strict=True)])
        series.setdefault("a state of 16 MiB", []).append(point(steps, each))
    comment = "A state that is kept is copied once a chunk, and is in memory twice."
    return [Result("States given away to the next chunk", "steps a chunk", "kept / given", series, comment=comment)]


def main() -> None:
    with jax.default_matmul_precision("highest"):
        console.print(f"{jax.default_backend()}, float32, highest precision of products")
        parts = dict(overhead=overhead, networks=networks, donation=donation)
        run("engine", "The engine", __doc__, parts)


if __name__ == "__main__":
    main()
