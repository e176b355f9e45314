"""Three regimes of pruning: a zoo of networks by density and by early stopping, and what lies between its twins."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax

from sims.engine import grid, simulate
from sims.networks.mlp import mlp
from sims.networks.pruned import pruned
from sims.probes.landscape import path_losses
from sims.probes.sharpness import sharpness
from sims.training import gradient_descent, training
from theory.lazy_rich.landscape import (
    mode_connectivity,
    output_similarity,
    quadratic_connectivity,
    regime,
    scalar_network_connectivity,
)
from validation import style
from validation.metrics import gap
from validation.study import Claim, Problem, Rival, Study


def problem(settings, seed):
    """Labels of a random teacher, a share of the training labels wrong."""
    p = Problem(**settings, seed=seed)
    rng = np.random.default_rng([seed, 48])
    teacher = mlp(jax.random.key(seed + 1000), (p.inputs, p.teacher, p.classes))
    x = rng.normal(size=(p.samples + p.tests, p.inputs))
    scores = np.asarray(teacher(jnp.asarray(x)))
    labels = np.argmax(scores - scores.mean(axis=0), axis=1)
    wrong = rng.random(p.samples) < p.wrong
    p.x, p.test_x, p.test_labels = x[: p.samples], x[p.samples :], labels[p.samples :]
    p.labels = np.where(wrong, rng.integers(0, p.classes, p.samples), labels[: p.samples])
    return p


def cross_entropy(model, x, labels):
    return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(model(x)), labels[:, None], 1))


def zoo(p):
    """Networks by seed, early stop, density and copy: paths between copies, outputs, errors, sharpness."""
    x, labels = jnp.asarray(p.x), jnp.asarray(p.labels)

    def batch(key, _):
        at = jax.random.randint(key, (p.batch,), 0, p.samples)
        return x[at], labels[at]

    def trained(network, optimiser, record):
        return training(network, lambda model, now: cross_entropy(model, *now), optimiser, batch, record)

    def dense_network(key, _):
        return mlp(key, (p.inputs, p.width, p.classes), parametrisation="standard", bias=True)

    dense = trained(dense_network, lambda _: optax.sgd(p.dense_lr), lambda model, _: model)
    seeds = p.seed * p.runs + np.arange(p.runs)
    stopped = simulate(dense, grid(seeds), np.asarray(p.stops)).records
    # Rates that fall to zero: the noise has left both copies, where it has put them is what stays.
    again = trained(
        lambda _, hyper: pruned(hyper["network"], hyper["density"], p.scope),
        lambda _: optax.sgd(optax.linear_schedule(p.lr, 0.0, p.steps)),
        lambda model, _: jnp.zeros(()),
    )
    shape = (p.runs, len(p.stops), len(p.densities), 2)
    index = np.indices(shape).reshape(4, -1)
    hyper = {
        "network": jax.tree.map(lambda w: np.asarray(w)[index[0], index[1]], stopped),
        "density": np.asarray(p.densities)[index[2]],
    }
    size = index.shape[1]
    # Seeds beyond those of the dense networks: every copy sees its own order of samples.
    runs = grid(10_000 + p.seed * size + np.arange(size))._replace(hyper=hyper)
    models = simulate(again, runs, [p.steps], batching="vmap").state.model
    twins = jax.tree.map(lambda w: w.reshape(-1, 2, *w.shape[1:]), models)
    seen = jax.jit(lambda twins: jax.lax.map(lambda pair: measured(p, pair, x, labels), twins))(twins)
    return jax.tree.map(lambda v: np.asarray(v).reshape(*shape[:3], *v.shape[1:]), seen)


def measured(p, pair, x, labels):
    """One pair of copies."""
    first, second = (jax.tree.map(lambda w, i=i: w[i], pair) for i in range(2))
    masks = first.masks

    def loss(network):
        return cross_entropy(type(first)(network, masks), x, labels)

    test_x = jnp.asarray(p.test_x)
    outputs = jnp.stack([first(test_x), second(test_x)])
    return {
        "path": path_losses(loss, first.network, second.network, p.points),
        "outputs": outputs[:, : p.compared],
        "sharpness": sharpness(loss, first.network, jax.random.key(0), p.lanczos),
        "train": jnp.mean(jnp.argmax(first(x), axis=1) != labels),
        "test": jnp.mean(jnp.argmax(outputs, axis=2) != p.test_labels),
    }


def predict(p):
    """Directions in the zoo, the regimes of three of its corners, and connectivity of scalar networks by their start.

    The difference of squares of the two weights is conserved: it names the minimum at which a start ends.
    """
    starts = np.asarray(p.starts)
    conserved = starts[:, 0] ** 2 - starts[:, 1] ** 2
    ends = np.sign(starts[:, 0]) * np.sqrt((conserved + np.sqrt(conserved**2 + 4)) / 2)
    first, second = pairs(ends)
    return {
        # What changes from the earliest to the latest stop, or from pruned networks to whole ones: up or down.
        "connectivity by training": 1,
        "connectivity by density": -1,
        "sharpness of pruned": -1,
        "error of pruned": 1,
        "regimes": np.array([0, 1, 2]),
        "ends": ends,
        "scalar": np.asarray(scalar_network_connectivity(first, second)),
        "step": p.scalar_lr,
    }


def pairs(values):
    """Two by two, each pair once."""
    i, j = np.triu_indices(len(values), 1)
    return values[i], values[j]


def scalar_paths(p):
    """Losses between the ends of scalar linear networks trained from each start."""

    def loss(w):
        return 0.5 * (1 - w[0] * w[1]) ** 2

    descent = gradient_descent(lambda _, hyper: hyper["start"], loss, p.scalar_lr, lambda w, _: w)
    runs = grid(1, start=np.asarray(p.starts))
    ends = simulate(descent, runs, [p.scalar_steps]).records[:, 0]
    first, second = pairs(np.asarray(ends))
    return np.asarray(jax.vmap(lambda a, b: path_losses(loss, a, b, p.points))(first, second))


def simulate_networks(p):
    return {**zoo(p), "scalar": scalar_paths(p)}


def connectivity(observation):
    return np.asarray(mode_connectivity(observation["path"]))


def similarity(observation):
    """(runs, stops, densities): of the copies' outputs on the test samples."""
    outputs = observation["outputs"]
    return np.asarray(_similarities(outputs.reshape(-1, *outputs.shape[-3:]))).reshape(outputs.shape[:3])


@jax.jit
def _similarities(outputs):
    return jax.vmap(lambda pair: output_similarity(pair[0], pair[1]))(outputs)


# Each (runs,): what one run of the zoo says on a direction. Pruned: the mean over all densities but the whole network.
CHANGES = {
    "connectivity by training": lambda o: connectivity(o)[:, -1, -1] - connectivity(o)[:, 0, -1],
    "connectivity by density": lambda o: connectivity(o)[:, 0, -1] - np.mean(connectivity(o)[:, 0, :-1], axis=-1),
    "sharpness of pruned": lambda o: np.mean(o["sharpness"][:, -1, :-1] - o["sharpness"][:, 1, :-1], axis=-1),
    "error of pruned": lambda o: np.mean(o["test"][:, -1, :-1] - o["test"][:, 1, :-1], axis=-1),
}


def direction(name):
    """Below one where a change is what it is said to be: five standard errors up or down, or none by five."""

    def measure(prediction, observation):
        change = CHANGES[name](observation)
        z = np.mean(change) / (np.std(change, ddof=1) / np.sqrt(len(change)))
        said = prediction[name]
        return abs(z) / 5 if said == 0 else 5 / max(said * z, 1e-3)

    return measure


def regimes_missed(prediction, observation):
    """Of three corners of the zoo (early and whole, late and sparse, late and whole), those in another regime."""
    c, s = connectivity(observation).mean(axis=0), similarity(observation).mean(axis=0)
    corners = (np.array([0, -1, -1]), np.array([-1, 0, -1]))
    found = regime(c[corners], s[corners], LEAST_CONNECTIVITY, LEAST_SIMILARITY)
    return int(np.sum(np.asarray(found) != prediction["regimes"]))


def scalar_gap(prediction, observation):
    """Relative gap of connectivity, in steps: conservation holds up to them."""
    found = np.asarray(mode_connectivity(observation["scalar"]))
    return gap(prediction["scalar"], found, prediction["step"] * np.abs(found))


def draw(figure, problem, prediction, observation):
    left, middle, right = figure.subplots(1, 3)
    c, s = connectivity(observation), similarity(observation)
    error = 1 / np.sqrt(len(c))
    for i, density in enumerate(problem.densities):
        label = f"density {density:g}"
        spread = c[:, :, i].std(axis=0, ddof=1) * error
        style.networks(left, problem.stops, c[:, :, i].mean(axis=0), i=i, error=spread, label=label, linestyle=":")
        style.networks(middle, c[:, :, i].mean(axis=0), s[:, :, i].mean(axis=0), i=i, label=label)
        sharp, test = (observation[name][:, :, i].mean(axis=0) for name in ("sharpness", "test"))
        style.networks(right, sharp, test, i=i, label=label, linestyle=":")
        right.annotate("longest", (sharp[-1], test[-1]), xytext=(4, 3), textcoords="offset points", fontsize=7)
    left.set(xscale="log", xlabel="steps of dense training", ylabel="connectivity (nats)")
    left.set_title("Barriers between twins")
    left.legend(loc="lower right", fontsize=7)
    low = min(1.1 * float(c.mean(axis=0).min()), -0.1)
    style.theory(middle, [LEAST_CONNECTIVITY] * 2, [0.7, 1.01], i=5, linewidth=1)
    style.theory(middle, [LEAST_CONNECTIVITY, 0.03], [LEAST_SIMILARITY] * 2, i=5, linewidth=1)
    middle.set(xlabel="connectivity (nats)", ylabel="similarity (CKA)", xlim=(low, 0.03), ylim=(0.7, 1.01))
    middle.set_title("Three regimes")
    right.set(xlabel="sharpness", ylabel="test error", ylim=(None, right.get_ylim()[1] + 0.02))
    right.set_title("Flatter, and worse")


def one_regime(p, prediction):
    """Noise chooses nothing: neither training nor density moves the connectivity."""
    same = {"connectivity by training": 0, "connectivity by density": 0, "regimes": np.full(3, 2)}
    return {**prediction, **same}


def flat_is_better(p, prediction):
    return {**prediction, "error of pruned": prediction["sharpness of pruned"]}


def density_connects(p, prediction):
    return {**prediction, "connectivity by density": 1}


def valleys(p, prediction):
    """Connectivity by the parabola of one end."""
    first, second = pairs(np.stack([prediction["ends"], 1 / prediction["ends"]], axis=1))
    # At a minimum the Hessian of (1 - w_1 w_2)^2 / 2 is that of half the square of the linear part.
    found = [
        quadratic_connectivity(np.outer(w[::-1], w[::-1]), np.zeros(2), v - w)
        for w, v in zip(first, second, strict=True)
    ]
    return {**prediction, "scalar": np.asarray(found)}


# Conventions for where regimes begin: a twentieth of a nat, and outputs alike to a percent.
LEAST_CONNECTIVITY, LEAST_SIMILARITY = -0.05, 0.99
STARTS = ((1.6, 0.1), (0.2, 1.4), (-0.9, -0.3), (-0.2, -1.1))
TASK = dict(inputs=12, teacher=16, classes=4, tests=1000, wrong=0.2, scope="layer", points=11, lanczos=12, compared=200)
SCALAR = dict(starts=STARTS, scalar_lr=0.01, scalar_steps=2000)
NOISE = "Five standard errors over networks that share one data set."

STUDY = Study(
    title="Three regimes of pruning",
    question="Two copies of a pruned network are retrained on other orders of samples. When do they end in one valley, "
    "when in one function, and is the flattest network the best one to have pruned?",
    source="Zhou, Yang, Chang & Mahoney 2023 (arXiv:2305.18383); Yang et al. 2021 (arXiv:2107.11228)",
    regimes=("rich",),
    asks="what",
    sizes={
        "smoke": dict(
            **TASK,
            **SCALAR,
            samples=300,
            width=32,
            batch=16,
            dense_lr=1.0,
            stops=(2, 20, 2000),
            lr=1.0,
            steps=600,
            densities=(0.15, 0.3, 1.0),
            runs=10,
        ),
        "paper": dict(
            **TASK,
            **SCALAR,
            samples=300,
            width=32,
            batch=16,
            dense_lr=1.0,
            stops=(2, 20, 60, 200, 600, 2000),
            lr=1.0,
            steps=600,
            densities=(0.15, 0.2, 0.3, 0.5, 1.0),
            runs=32,
        ),
    },
    problem=problem,
    predict=predict,
    simulate=simulate_networks,
    claims=(
        Claim(
            "Of whole networks, copies of longer training are better connected.",
            direction("connectivity by training"),
            1,
            NOISE,
        ),
        Claim(
            "After the shortest training whole networks have higher barriers than pruned ones.",
            direction("connectivity by density"),
            1,
            NOISE,
        ),
        Claim(
            "Three corners of the zoo are in the three regimes.",
            regimes_missed,
            0,
            "A count of corners in another regime.",
        ),
        Claim(
            "The longest dense training leaves pruned networks flatter than a short one...",
            direction("sharpness of pruned"),
            1,
            NOISE,
        ),
        Claim(
            "... and worse on the test samples.",
            direction("error of pruned"),
            1,
            NOISE,
        ),
        Claim(
            "Connectivity of scalar linear networks follows from their starts.",
            scalar_gap,
            4,
            "Steps break the conservation law by a share of order lr; connectivity is a fourth power of the weights.",
        ),
    ),
    rivals=(
        Rival("There is one regime: neither training nor density moves the connectivity.", one_regime),
        Rival("Flat is better: the order of sharpness is that of test errors.", flat_is_better),
        Rival("More weights always mean better connected copies.", density_connects),
        Rival("The loss between minima is the parabola of one of them.", valleys),
    ),
    draw=draw,
    formulas=("lazy_rich.landscape.scalar_network", "lazy_rich.landscape.level_set"),
)
