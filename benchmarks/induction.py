"""Training an attention-only network on items and labels: against PyTorch, data included, and what it scales with.

    python -m benchmarks.induction [--torch]

The same network (two layers of one head, three ReLU layers) on the same sequences. PyTorch computes all tokens of both
layers and draws its sequences one by one in Python, as published scripts do, or in one array; we draw them within the
compiled step and never form what is not asked for. Then sequences alone, then cost against context, width and
number of runs in one program. CPU time of the process, on one core; ratios are from one run on one machine. `--torch`
needs PyTorch, which is not among the dependencies. On a GPU: the last table, wall-clock.
"""

from __future__ import annotations

import argparse
import os
import time

os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table

from sims.engine import Runs, every, simulate
from sims.item_label_training import training_of
from sims.tasks.item_label import ItemLabel, sequences, world

console = Console(width=110)
BATCH, VARIATION, LR = 128, 0.1, 0.01
# (dimension, longest context, context, labels, classes): as in the source, and as in our smoke studies.
SETTINGS = {"source": (63, 32, 8, 32, 512), "smoke": (24, 4, 4, 16, 256)}


def task_of(setting) -> ItemLabel:
    _, longest, context, labels, classes = setting
    return ItemLabel(labels=labels, context=context, classes=classes, longest=longest, variation=VARIATION)


def seconds(call, least: int = 1) -> float:
    """CPU seconds of a call, the least of some."""
    found = []
    for _ in range(least):
        begin = time.process_time()
        call()
        found.append(time.process_time() - begin)
    return min(found)


def ours(setting, steps: int, runs: int = 1) -> float:
    """CPU seconds for a step of a run: a long program less a short one, compiled beforehand."""
    simulation = training_of(task_of(setting), setting[0], classifier=3, batch=BATCH, tests=2)
    many = Runs(np.arange(runs), {"lr": np.full(runs, LR)}, (runs,))

    def call(steps):
        return lambda: jax.block_until_ready(simulate(simulation, many, [steps], optimised=True).state)

    call(1)()
    return (seconds(call(steps), 2) - seconds(call(1), 2)) / (steps - 1) / runs


def our_data(setting, repeats: int = 200) -> float:
    """CPU seconds for a batch of sequences."""
    task = task_of(setting)
    drawn = world(jax.random.key(0), task, setting[0], dtype=jnp.float32)

    @jax.jit
    def many(key):
        def one(total, key):
            return total + jnp.sum(sequences(key, task, drawn, BATCH).items), None

        return jax.lax.scan(one, jnp.float32(0), jax.random.split(key, repeats))[0]

    many(jax.random.key(1)).block_until_ready()
    return seconds(lambda: many(jax.random.key(2)).block_until_ready(), 3) / repeats


class PythonLoop:
    """The peer's data: one sequence after the other in NumPy, labels and positions one-hot or as vectors in rows."""

    def __init__(self, setting, seed=0):
        self.dimension, self.longest, self.context, self.labels, self.classes = setting
        self.rng = np.random.default_rng(seed)
        scale = self.dimension**-0.5
        self.means = self.rng.normal(size=(self.classes, self.dimension)) * scale
        self.vectors = self.rng.normal(size=(self.labels, self.dimension)) * scale

    def exemplar(self, k):
        noise = self.rng.normal(size=self.dimension) / self.dimension**0.5
        return (self.means[k] + VARIATION * noise) / np.sqrt(1 + VARIATION**2)

    def batch(self):
        n, places = self.context, 2 * self.longest + 1
        inputs = np.zeros((BATCH, 2 * n + 1, places + self.dimension), np.float32)
        answers = np.zeros(BATCH, int)
        for row in range(BATCH):
            labels = self.rng.choice(self.labels, n, replace=False)
            classes = labels + self.labels * self.rng.integers(0, self.classes // self.labels, n)
            target = self.rng.integers(n)
            shift = self.rng.integers(places - 2 * n)
            inputs[row, np.arange(2 * n + 1), shift + np.arange(2 * n + 1)] = 1
            for i, k in enumerate(classes):
                inputs[row, 2 * i, places:] = self.exemplar(k)
                inputs[row, 2 * i + 1, places:] = self.vectors[labels[i]]
            inputs[row, -1, places:] = self.exemplar(classes[target])
            answers[row] = labels[target]
        return inputs, answers


def torch_network(setting):
    """The network as one writes it in PyTorch: all tokens in both layers."""
    import torch

    torch.set_num_threads(1)
    dimension, longest, _, labels, _ = setting
    width = dimension + 2 * longest + 1

    class Peer(torch.nn.Module):
        def __init__(self):
            super().__init__()
            scale = width**-0.5
            self.weights = torch.nn.ParameterList(
                [torch.nn.Parameter(torch.randn(width, width) * scale) for _ in range(6)]
            )
            hidden = [part for _ in range(3) for part in (torch.nn.Linear(width, width), torch.nn.ReLU())]
            self.classifier = torch.nn.Sequential(*hidden, torch.nn.Linear(width, labels, bias=False))

        def forward(self, u):
            length = u.shape[1]
            past = torch.tril(torch.ones(length, length, dtype=torch.bool))
            for q, k, v in (self.weights[:3], self.weights[3:]):
                scores = (u @ q.T) @ (u @ k.T).transpose(1, 2)
                pattern = torch.softmax(scores.masked_fill(~past, -torch.inf), dim=-1)
                u = u + pattern @ (u @ v.T)
            return self.classifier(u[:, -1])

    return Peer()


def theirs(setting, steps: int) -> tuple[float, float]:
    """CPU seconds of a step in PyTorch, without its data, and of a batch of these."""
    import torch

    data, model = PythonLoop(setting), torch_network(setting)
    descent = torch.optim.SGD(model.parameters(), lr=LR)
    inputs, answers = data.batch()
    u, y = torch.from_numpy(inputs), torch.from_numpy(answers)

    def step():
        descent.zero_grad()
        torch.nn.functional.cross_entropy(model(u), y).backward()
        descent.step()

    def many():
        for _ in range(steps):
            step()

    many()
    return seconds(many, 2) / steps, seconds(lambda: [data.batch() for _ in range(20)], 2) / 20


def against_torch(steps: int) -> None:
    table = Table(title="CPU time of PyTorch over ours, one core, float32")
    for name in ("setting", "its step / our step with data", "with its data", "its data / ours", "our step (ms)"):
        table.add_column(name, justify="right")
    for name, setting in SETTINGS.items():
        mine, drawn = ours(setting, steps), our_data(setting)
        step, batch = theirs(setting, steps)
        row = step / mine, (step + batch) / mine, batch / drawn
        table.add_row(name, *(f"{x:.1f}" for x in row), f"{1000 * mine:.2f}")
    console.print(table)


def scaling(steps: int) -> None:
    """Cost of a step against context and width, over that of the smallest."""
    table = Table(title="CPU time of a step over that of the first row")
    for name in ("dimension", "context", "width", "ratio"):
        table.add_column(name, justify="right")
    first = None
    for dimension, context in ((24, 4), (24, 8), (24, 16), (48, 4), (96, 4)):
        cost = ours((dimension, context, context, 32, 256), steps)
        first = first or cost
        table.add_row(str(dimension), str(context), str(dimension + 2 * context + 1), f"{cost / first:.1f}")
    console.print(table)


def ensembles(steps: int, sizes) -> None:
    """Runs of a sweep in one program: wall-clock time of a run over that of a run alone."""
    table = Table(title=f"Runs in one program on {jax.devices()[0].device_kind}")
    for name in ("runs", "batching", "wall time of a run / alone", "runs of 2000 steps per minute"):
        table.add_column(name, justify="right")
    setting = SETTINGS["smoke"]
    simulation = training_of(task_of(setting), setting[0], batch=BATCH, tests=2)
    alone = None
    for runs in sizes:
        for batching in ("map", "vmap") if runs > 1 else ("vmap",):
            many = Runs(np.arange(runs), {"lr": np.full(runs, LR)}, (runs,))

            def call(many=many, batching=batching):
                at = every(steps, steps)
                jax.block_until_ready(simulate(simulation, many, at, batching=batching, optimised=True).state)

            call()
            begin = time.perf_counter()
            call()
            each = (time.perf_counter() - begin) / runs
            alone = alone or each
            table.add_row(str(runs), batching, f"{each / alone:.2f}", f"{60 / (each * 2000 / steps):.0f}")
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--torch", action="store_true", help="compare with PyTorch, which must be installed")
    parser.add_argument("--steps", type=int, default=200)
    options = parser.parse_args()
    if options.torch:
        against_torch(options.steps)
    if jax.default_backend() == "cpu":
        scaling(options.steps)
    ensembles(options.steps, (1, 4, 16) if jax.default_backend() == "cpu" else (1, 16, 64, 256))


if __name__ == "__main__":
    main()
