"""Undoing a permutation in context: what causal attention cannot learn, and what scratch rows change."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from sims.engine import grid, simulate
from sims.networks.inverse_permutation import constructed, row_errors, sequences, tasks, untrained
from sims.training import training
from theory.induction.inverse_permutation import causal_row_error, scratch_attention, scratch_miss
from validation import style
from validation.metrics import gap
from validation.study import Claim, Problem, Rival, Study

# Kind of network: (answers in scratch rows, causal).
KINDS = {"causal": (0.0, 1.0), "scratch": (1.0, 1.0), "all seen": (0.0, 0.0)}
NAMES = {"causal": "causal", "scratch": "causal, scratch rows", "all seen": "sees all rows"}
# What training of this length leaves of the error of a row that can be answered.
LEFT = 0.02


def problem(settings, seed):
    """Permutations for the hand-set network."""
    rng = np.random.default_rng(seed)
    return Problem(**settings, seed=seed, permutations=[rng.permutation(settings["built"]) for _ in range(4)])


def predict(problem):
    """Error of every row (and of rows that cannot be answered), and the attention of the construction."""
    none = np.zeros(problem.n)
    rows = {"causal": np.asarray(causal_row_error(problem.n)), "scratch": none, "all seen": none}
    built = [
        [scratch_attention(pi, beta, beta, 2 * beta).numbers for pi in problem.permutations] for beta in problem.betas
    ]
    miss = scratch_miss(problem.built, np.array(problem.betas, float), *scaled(problem))
    return {
        "rows": rows,
        "beyond": 1.0,
        "built": np.asarray(built),
        "miss": np.asarray(miss),
        "tests": problem.tests,
    }


@functools.cache
def trained(n, layers, lr, batch, tests, seed):
    """Adam on fresh permutations and numbers; errors on new ones."""
    pi, y = tasks(jax.random.key(seed), tests, n)
    # What is asked for comes later.
    beyond = jnp.argsort(pi, axis=1) > jnp.arange(n)
    rows = sequences(pi[0], y[0])

    def record(model, hyper):
        error = row_errors(model, pi, y, hyper["scratch"])
        # An answer, of one sequence, with all rows behind it replaced.
        last = n + jnp.arange(2 * n)
        later = jnp.arange(3 * n) > last[:, None]
        answers = [
            model(jnp.where(later[:, :, None], filling, rows))[jnp.arange(2 * n), last] for filling in (0.0, 1.0)
        ]
        found = {"rows": error.mean(axis=0), "beyond": jnp.sum(error * beyond) / beyond.sum()}
        return found | {"changed": jnp.max(jnp.abs(answers[1] - answers[0]))}

    def batch_of(key, hyper):
        return *tasks(key, batch, n), hyper["scratch"]

    return training(
        lambda key, hyper: untrained(key, n, layers, hyper["causal"]),
        lambda model, task: jnp.mean(row_errors(model, *task)),
        lambda _: optax.adam(lr),
        batch_of,
        record,
    )


def simulate_networks(problem):
    """Errors of each kind of trained network, (runs, times, ...), and attention of the hand-set one."""
    network = trained(problem.n, problem.layers, problem.lr, problem.batch, problem.tests, problem.seed)
    runs = problem.runs * len(KINDS)
    scratch, causal = np.repeat(np.array(list(KINDS.values())), problem.runs, axis=0).T
    settings = grid(problem.seed * runs + np.arange(runs))._replace(hyper={"scratch": scratch, "causal": causal})
    at = np.linspace(0, problem.steps, problem.records).astype(int)
    records = simulate(network, settings, at, batching="vmap").records
    each = {name: np.split(value, len(KINDS)) for name, value in records.items()}
    found = {kind: {name: value[i] for name, value in each.items()} for i, kind in enumerate(KINDS)}
    n, permutations = problem.built, jnp.asarray(problem.permutations)
    rows = sequences(permutations, jnp.ones(permutations.shape))
    second_layer = jax.jit(lambda beta: constructed(n, beta, beta, 2 * beta).attention(rows)[1])
    built = [second_layer(float(beta))[:, 2 * n :, n : 2 * n] for beta in problem.betas]
    return found | {"at": at, "built": np.asarray(built), "order": np.argsort(permutations, axis=1)}


def noise(prediction):
    """Standard error over tests of a mean square of at most one, of normal numbers."""
    return np.sqrt(3 / prediction["tests"])


def by_row(prediction, observation):
    """Error of every row of each kind of network, in noise of the tests beside what training leaves."""
    unit = np.hypot(noise(prediction), LEFT)
    return max(gap(prediction["rows"][kind], observation[kind]["rows"][:, -1], unit) for kind in KINDS)


def never_better(prediction, observation):
    """How far any causal network, at any time, is below the predicted error of rows beyond reach, in noise."""
    return float(np.max(prediction["beyond"] - observation["causal"]["beyond"]) / noise(prediction))


def blind(prediction, observation):
    """Largest change of an answer of a causal network when all later rows are replaced."""
    return float(max(np.max(observation[kind]["changed"]) for kind in ("causal", "scratch")))


def by_construction(prediction, observation):
    """Attention of the hand-set network against the closed form, in units of 1e-10."""
    return gap(prediction["built"], observation["built"], 1e-10)


def within_bound(prediction, observation):
    """How far attention elsewhere than on the right number is above the bound, relative."""
    right = np.take_along_axis(observation["built"], observation["order"][None, :, :, None], axis=3)[..., 0]
    return float(np.max((1 - right).max(axis=(1, 2)) / prediction["miss"] - 1))


def draw(figure, problem, prediction, observation):
    left, middle, right = figure.subplots(1, 3)
    row, at = np.arange(1, problem.n + 1), observation["at"]
    for i, kind in enumerate(KINDS):
        style.theory(left, row, prediction["rows"][kind], i=i, linestyle=("-", "-", "--")[i])
        ends = observation[kind]["rows"][:, -1]
        style.networks(left, row, ends.mean(axis=0), i=i, marker="os^"[i], label=NAMES[kind])
    left.set(xlabel="row", ylabel="mean squared error", ylim=(-0.05, 1.35))
    left.set_xticks(row)
    left.set_title("After training")
    left.legend(loc="upper right", fontsize=7.5)

    style.theory(middle, at, np.full(len(at), prediction["beyond"]), i=0)
    for i, kind in enumerate(KINDS):
        mean = observation[kind]["beyond"].mean(axis=0)
        style.networks(middle, at, mean, i=i, marker="os^"[i], label=NAMES[kind])
    middle.set(xlabel="step", ylim=(-0.05, 1.7))
    middle.set_title("Rows with σ(i) > i")
    middle.legend(loc="upper right", fontsize=7.5)

    beta = np.array(problem.betas)
    right_one = np.take_along_axis(observation["built"], observation["order"][None, :, :, None], axis=3)[..., 0]
    style.theory(right, beta, prediction["miss"], i=3, label="bound")
    style.networks(right, beta, (1 - right_one).max(axis=(1, 2)), i=3, label="hand-set network")
    right.set(yscale="log", xlabel="score β", ylabel="attention elsewhere")
    right.set_title("Two layers that do it")
    right.legend(loc="lower left", fontsize=7.5)


def trainable(problem, prediction):
    """Training finds a way round the order of rows."""
    return prediction | {"rows": prediction["rows"] | {"causal": np.zeros(problem.n)}, "beyond": 0.0}


def hopeless(problem, prediction):
    """As only the identity can be undone in full, causal networks learn nothing."""
    return prediction | {"rows": prediction["rows"] | {"causal": np.ones(problem.n)}}


def useless(problem, prediction):
    """Rows that hold nothing add nothing."""
    return prediction | {"rows": prediction["rows"] | {"scratch": prediction["rows"]["causal"]}}


def too_hard(problem, prediction):
    """The task is beyond two layers of attention, whatever they see."""
    return prediction | {"rows": dict.fromkeys(KINDS, prediction["rows"]["causal"])}


def copied_exactly(problem, prediction):
    """The first layer copies the permutation exactly."""
    built = [[scratch_attention(pi, 700.0, b, 2 * b).numbers for pi in problem.permutations] for b in problem.betas]
    return prediction | {"built": np.asarray(built), "miss": scratch_miss(problem.built, 700.0, *scaled(problem))}


def scaled(problem):
    """Score and penalty of the second layer."""
    beta = np.array(problem.betas, float)
    return beta, 2 * beta


STUDY = Study(
    title="Undoing a permutation with causal attention",
    question="Which rows can causal attention answer, and what do rows that hold nothing change?",
    source="Alur, Hays, Raghavan & Shah 2025 (arXiv:2509.24125), row by row",
    regimes=("attention",),
    asks="what",
    sizes={
        "smoke": dict(
            n=3, layers=2, lr=0.04, batch=32, steps=150, records=4, tests=1500, runs=2, built=5, betas=(2, 4, 6, 9, 12)
        ),
        "paper": dict(
            n=6,
            layers=2,
            lr=0.003,
            batch=512,
            steps=20_000,
            records=21,
            tests=20_000,
            runs=8,
            built=16,
            betas=(2, 4, 6, 9, 12),
        ),
    },
    problem=problem,
    predict=predict,
    simulate=simulate_networks,
    claims=(
        Claim(
            "Trained networks answer every row that they can, and no other.",
            by_row,
            5,
            "Standard errors over tests beside two hundredths that training of this length leaves.",
        ),
        Claim(
            "No causal network is at any time better than chance in rows whose answer comes later.",
            never_better,
            5,
            "Standard errors over tests.",
        ),
        Claim(
            "No answer of theirs depends on a later row, to the last digit.",
            blind,
            0,
            "Sums over the same numbers: exactly equal.",
        ),
        Claim(
            "Attention of the hand-set network is the closed form.",
            by_construction,
            1,
            "Rounding, in units of 1e-10.",
        ),
        Claim(
            "It misses by less than the bound.",
            within_bound,
            1e-6,
            "A bound, which some permutations reach, and rounding.",
        ),
    ),
    rivals=(
        Rival("Training finds a way round the order of rows.", trainable),
        Rival("As only the identity can be undone in full, causal networks learn nothing.", hopeless),
        Rival("Rows that hold nothing add nothing.", useless),
        Rival("The task is beyond two layers of attention, whatever they see.", too_hard),
        Rival("The first layer copies the permutation exactly.", copied_exactly),
    ),
    draw=draw,
    formulas=(
        "induction.inverse_permutation.row_error",
        "induction.inverse_permutation.attention",
        "induction.inverse_permutation.miss",
    ),
)
