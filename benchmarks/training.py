"""Training networks against loops in PyTorch: many seeds of a small network, and attention on items and labels.

    python -m benchmarks.training [seeds | attention | scaling] [--peers FOLDER] [--keep]

PyTorch takes part where `python -m benchmarks` has installed it; it trains the same networks in its own process, as
tutorials and published scripts do: a Python loop over steps, and sequences drawn one by one in NumPy. We draw them
within the compiled step. All are ratios of CPU time from one run, taking turns, in float32.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.driver import run
from benchmarks.kept import Result, growth, point
from benchmarks.peer import peer
from benchmarks.timing import ratios_in_turns, timed
from sims.engine import Runs, Simulation, grid, simulate
from sims.item_label_training import training_of
from sims.networks.mlp import mlp, squared_error
from sims.tasks.item_label import ItemLabel, sequences, world
from sims.training import gradient_descent

INPUTS, SAMPLES, LR = 16, 64, 0.01
SEEDS, STEPS = 16, 2000
# A network of this width, and what is aimed at there.
WIDTH, AIM = 64, 25.0
# PyTorch's loops cost as much in each step and for each seed: it does some of them.
THEIR_STEPS, THEIR_ATTENTION_STEPS = 500, 10
BATCH, VARIATION, ATTENTION_LR, ATTENTION_STEPS = 128, 0.1, 0.01, 50
# (dimension, longest context, context, labels, classes): as in the source, and as in our smoke studies.
SETTINGS = {"source": (63, 32, 8, 32, 512), "smoke": (24, 4, 4, 16, 256)}


def small(width: int) -> Simulation:
    """Full-batch gradient descent of a two-layer tanh network."""
    x = jnp.asarray(np.random.default_rng(0).normal(size=(SAMPLES, INPUTS)), jnp.float32)
    y = jnp.sin(x[:, :1])

    def loss(network):
        return squared_error(network, x, y)

    def network(key, _):
        return mlp(key, (INPUTS, width, 1), 1.0, activation=jnp.tanh, parametrisation="standard", bias=True)

    return gradient_descent(network, loss, LR, lambda network, _: loss(network))


def per(seconds, count: int):
    """Of one step of one run."""
    return lambda: seconds() / count


def seeds(asked, peers: dict) -> list[Result]:
    """An ensemble in one program, against a loop of steps for each seed, and against torch.func's vmap over seeds."""
    series: dict = {}
    with peer(asked.peers, "torch", "torch_peer") as torch:
        if not torch:
            return []
        peers |= torch.versions
        for width in (16, WIDTH, 256):
            ours = partial(simulate, small(width), grid(SEEDS), [STEPS])
            about = dict(inputs=INPUTS, width=width, samples=SAMPLES, lr=LR, steps=THEIR_STEPS)
            loop, (first, last) = torch.call("training", **about)
            losses = np.asarray(ours().records)
            # The same task: both learn it, from starts of their own.
            assert np.isfinite([first, last]).all() and last < first and losses.max() < 1, (first, last, losses)
            together, _ = torch.call("ensemble", **about | {"steps": THEIR_STEPS // 5, "seeds": SEEDS})
            seconds = {
                "ours": per(timed(lambda ours=ours: ours().records), SEEDS * STEPS),
                "PyTorch, seed by seed": per(loop, THEIR_STEPS),
                "PyTorch, torch.func.vmap": per(together, SEEDS * (THEIR_STEPS // 5)),
            }
            for name, each in ratios_in_turns(seconds, "ours", asked.rounds).items():
                held = AIM if width == WIDTH and name.endswith("seed by seed") else None
                series.setdefault(name, []).append(point(width, each, held))
    title = f"{SEEDS} seeds x {STEPS} steps of a small network, in one program"
    comment = (
        f"Two tanh layers, {INPUTS} inputs, {SAMPLES} samples, full batch, in float32; PyTorch does {THEIR_STEPS} "
        "steps of a seed, each of which costs as much. The wider a network, the less of a step is overhead."
    )
    return [Result(title, "width", "PyTorch / ours, CPU time of a step", series, comment=comment)]


def task_of(setting) -> ItemLabel:
    _, longest, context, labels, classes = setting
    return ItemLabel(labels=labels, context=context, classes=classes, longest=longest, variation=VARIATION)


def trained(setting, batch: int = BATCH, steps: int = ATTENTION_STEPS):
    """Steps of the attention-only network with its classifier, data included."""
    simulation = training_of(task_of(setting), setting[0], classifier=3, batch=batch, tests=2)
    runs = Runs(np.arange(1), {"lr": np.full(1, ATTENTION_LR)}, (1,))
    return lambda: simulate(simulation, runs, [steps], optimised=True).state


def drawn(setting, repeats: int):
    """Batches of sequences alone."""
    task = task_of(setting)
    means = world(jax.random.key(0), task, setting[0], dtype=jnp.float32)

    @jax.jit
    def many(key):
        def one(total, key):
            return total + jnp.sum(sequences(key, task, means, BATCH).items), None

        return jax.lax.scan(one, jnp.float32(0), jax.random.split(key, repeats))[0]

    return partial(many, jax.random.key(1))


def attention(asked, peers: dict) -> list[Result]:
    """Two layers of one head and three ReLU layers on items and labels, data included."""
    series: dict = {}
    with peer(asked.peers, "torch", "torch_peer") as torch:
        if not torch:
            return []
        peers |= torch.versions
        for name, setting in SETTINGS.items():
            about = dict(setting=setting, batch=BATCH, variation=VARIATION)
            steps = about | dict(lr=ATTENTION_LR, steps=THEIR_ATTENTION_STEPS)
            rivals = {
                "data included": torch.call("attention", fresh=True, **steps)[0],
                "its step without data": torch.call("attention", fresh=False, **steps)[0],
            }
            seconds = {rival: per(call, THEIR_ATTENTION_STEPS) for rival, call in rivals.items()}
            seconds["ours"] = per(timed(trained(setting)), ATTENTION_STEPS)
            found = ratios_in_turns(seconds, "ours", asked.rounds)
            data = {"ours": per(timed(drawn(setting, 50)), 50), "data": torch.call("item_label_data", **about)[0]}
            found["data alone"] = ratios_in_turns(data, "ours", asked.rounds)["data"]
            for rival, each in found.items():
                held = 2.5 if rival == "data included" else None
                series.setdefault(rival, []).append(point(name, each, held))
    title = "Attention on items and labels, batches of 128"
    comment = (
        "All tokens of both layers in PyTorch; we compute what the last token asks for and learn the same numbers. "
        "Source: 63 dimensions, 17 tokens, places for 65; smoke: 24 dimensions, 9 tokens."
    )
    return [Result(title, "setting", "PyTorch / ours, CPU time of a step", series, comment=comment)]


def scaling(asked, peers: dict) -> list[Result]:
    """Cost of training against seeds, width and batch."""

    def ensemble(width: int, count: int):
        return partial(records, small(width), grid(count))

    axes = {
        "seeds of width 64": ((1, 4, 16, 64), lambda n: ensemble(WIDTH, n)),
        "width": ((64, 128, 256, 512), lambda n: ensemble(n, 1)),
        "batch of sequences": ((16, 32, 64, 128), lambda n: trained(SETTINGS["smoke"], n, 20)),
    }
    return [growth("Training: growth", "seeds, width or batch", axes, asked.rounds)]


def records(simulation: Simulation, runs: Runs):
    return simulate(simulation, runs, [200]).records


def main() -> None:
    run("training", "Training networks", __doc__, dict(seeds=seeds, attention=attention, scaling=scaling))


if __name__ == "__main__":
    main()
