"""Representational geometry: hidden units of tanh take after the labels, those of ReLU keep some of the inputs."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from sims.engine import grid, simulate
from sims.networks.abc import Scaled
from sims.training import training
from theory.lazy_rich.laziness import centred_alignment
from theory.lazy_rich.representational_geometry import alike_task, geometry_path, time_on_path
from validation import style
from validation.metrics import z_score
from validation.study import Claim, Rival, Study

ACTIVATIONS = {"tanh": jnp.tanh, "relu": jax.nn.relu}
LOSSES = {"logistic": lambda m: jnp.mean(jnp.logaddexp(0.0, -m)), "squared": lambda m: jnp.mean((1 - m) ** 2) / 2}
SEEN = ("margin", "labels", "inputs")


def records(problem, loss):
    """Steps that are looked at."""
    return np.unique(np.r_[0, np.geomspace(20, problem.steps[loss], 16)].astype(int))


def alignments(features, task):
    """Alignment of hidden features with labels and inputs, by name."""
    return {
        "labels": np.asarray(centred_alignment(features, jnp.outer(task.labels, task.labels))),
        "inputs": np.asarray(centred_alignment(features, task.kernel)),
    }


def predict(problem):
    """Margins and alignments of each network at the recorded steps: {(activation, loss): name -> (tasks, times)}."""
    # Steps, and the sampling of a P x P kernel by N units; the path is sampled likewise.
    order = problem.lr / problem.samples + problem.samples / problem.width
    found = {"floor": np.hypot(order, 1 / np.sqrt(problem.neurons))}
    rng = np.random.default_rng(problem.seed)
    for name, activation in ACTIVATIONS.items():
        tau, rows = np.linspace(0, problem.reach[name], 400), {loss: [] for loss in LOSSES}
        for rho in problem.alignments:
            task = alike_task(problem.samples, rho)
            path = geometry_path(tau, *population(rng, problem.neurons, task), task, activation)
            known = {"margin": np.asarray(path.margin)} | alignments(path.features, task)
            for loss, found_rows in rows.items():
                t = np.asarray(time_on_path(tau, path.margin, loss))
                found_rows.append({key: on_clock(problem, loss, t, value) for key, value in known.items()})
        for loss, courses in rows.items():
            found[name, loss] = {key: np.stack([row[key] for row in courses]) for key in SEEN}
    return found


def population(rng, neurons, task):
    """Pre-activations and readouts of standard normal weights, in pairs of opposite readout."""
    root = np.linalg.cholesky(np.asarray(task.kernel) + 1e-12 * np.eye(len(task.labels)))
    h, a = rng.normal(size=(neurons // 2, len(root))) @ root.T, rng.normal(size=neurons // 2)
    return np.concatenate([h, h]), np.concatenate([a, -a])


def on_clock(problem, loss, t, values):
    """Values along the path at the recorded steps; a path that has come to its end stays there."""
    reached = np.isfinite(t)
    wanted = problem.lr * records(problem, loss)
    if reached.all() and t[-1] < wanted[-1]:
        raise ValueError(f"reach must lead beyond t = {wanted[-1]:g} with {loss} loss, got one that ends at {t[-1]:g}")
    return np.interp(wanted, t[reached], values[reached])


@functools.cache
def network(activation, loss, width, lr):
    """Gradient descent on (1/N) sum a phi(w . x) at the rate lr N, from pairs of opposite readout."""

    def start(key, hyper):
        first, second = jax.random.split(key)
        w = jax.random.normal(first, (width // 2, hyper["x"].shape[1]))
        a = jax.random.normal(second, (1, width // 2))
        weights = jnp.concatenate([w, w]), jnp.concatenate([a, -a], axis=1)
        return Scaled(weights, jnp.array([1.0, 1.0 / width]), ACTIVATIONS[activation])

    def margins(model, hyper):
        return hyper["y"] * model(hyper["x"])[:, 0]

    def record(model, hyper):
        phi = ACTIVATIONS[activation](model.layers(hyper["x"])[0])
        return {"margin": jnp.mean(margins(model, hyper)), "features": phi @ phi.T / width}

    return training(
        start,
        lambda model, hyper: LOSSES[loss](margins(model, hyper)),
        lambda _: optax.sgd(lr * width),
        lambda _, hyper: hyper,
        record,
    )


def simulate_networks(problem):
    """The same of trained networks: name -> (tasks, networks, times)."""
    seeds = problem.seed * problem.networks + np.arange(problem.networks)
    found = {}
    for name in ACTIVATIONS:
        for loss in LOSSES:
            simulation = network(name, loss, problem.width, problem.lr)
            rows = []
            for rho in problem.alignments:
                task = alike_task(problem.samples, rho)
                x = np.linalg.cholesky(np.asarray(task.kernel) + 1e-12 * np.eye(problem.samples))
                runs = grid(seeds, x=[x], y=[np.asarray(task.labels)])
                seen = simulate(simulation, runs, records(problem, loss), batching="vmap").records
                rows.append({"margin": np.asarray(seen["margin"])} | alignments(seen["features"], task))
            found[name, loss] = {key: np.stack([row[key] for row in rows]) for key in SEEN}
    return found


def course(key):
    """z-score of networks' courses against the path, beside the floor of the prediction."""

    def measure(prediction, observation):
        worst = []
        for name, found in observation.items():
            for row, expected in zip(found[key], prediction[name][key], strict=True):
                floor = prediction["floor"] * np.maximum(np.abs(expected), 0.1)
                worst.append(z_score(expected, row, floor=floor))
        return max(worst)

    return measure


def contrast(prediction, observation):
    """Tasks in which tanh does not end nearer to the labels and farther from the inputs than ReLU, logistic loss."""
    tanh, relu = (observation[name, "logistic"] for name in ACTIVATIONS)
    ends = [(tanh[key][..., -1].mean(axis=1), relu[key][..., -1].mean(axis=1)) for key in ("labels", "inputs")]
    expected = np.sign(
        prediction["tanh", "logistic"]["labels"][:, -1] - prediction["relu", "logistic"]["labels"][:, -1]
    )
    (labels, relu_labels), (inputs, relu_inputs) = ends
    return int(np.sum(np.sign(labels - relu_labels) != expected) + np.sum(np.sign(relu_inputs - inputs) != expected))


def draw(figure, problem, prediction, observation):
    left, middle, right = figure.subplots(1, 3)
    for i, name in enumerate(ACTIVATIONS):
        path, found = prediction[name, "logistic"], observation[name, "logistic"]
        for key, axes in (("labels", left), ("inputs", middle)):
            style.theory(axes, path["margin"][0], path[key][0], i=i, label=name)
            style.networks(axes, found["margin"][0].mean(axis=0), found[key][0].mean(axis=0), i=i)
            short = prediction[name, "squared"]
            axes.plot(short["margin"][0, -1], short[key][0, -1], "s", color=style.colour(i), ms=5)
        ends = [path[key][:, -1] for key in ("labels", "inputs")]
        style.theory(right, problem.alignments, ends[0], i=i, label=f"{name}, labels")
        style.theory(right, problem.alignments, ends[1], i=i, linestyle=":", label=f"{name}, inputs")
        for key in ("labels", "inputs"):
            style.networks(right, problem.alignments, found[key][..., -1].mean(axis=1), i=i)
    for axes, title in ((left, "Hidden units and labels"), (middle, "Hidden units and inputs")):
        axes.set(xlabel="margin  y f", ylabel="centred alignment", ylim=(0, 1.05))
        axes.set_title(title)
        axes.legend(loc="lower right" if axes is left else "lower left", fontsize=7.5)
    left.text(0.97, 0.3, "squares: end of\nsquared loss", transform=left.transAxes, ha="right", fontsize=7.5)
    right.set(xlabel="ρ, inputs with labels", ylim=(0, 1.05))
    right.set_title("End of logistic training")
    right.legend(loc="lower right", fontsize=7.5)


def swapped(problem, prediction):
    """Tanh keeps the inputs, ReLU learns the labels."""
    other = {"tanh": "relu", "relu": "tanh"}
    return prediction | {(other[name], loss): prediction[name, loss] for name in ACTIVATIONS for loss in LOSSES}


def lazy(problem, prediction):
    """Hidden units stay what they were."""
    found = dict(prediction)
    for name in ACTIVATIONS:
        for loss in LOSSES:
            course = dict(prediction[name, loss])
            course |= {key: np.repeat(course[key][:, :1], course[key].shape[1], axis=1) for key in ("labels", "inputs")}
            found[name, loss] = course
    return found


def any_loss(problem, prediction):
    """The loss does not matter: squared error aligns units as far as logistic loss does."""
    found = dict(prediction)
    for name in ACTIVATIONS:
        end = {key: prediction[name, "logistic"][key][:, -1:] for key in ("labels", "inputs")}
        course = prediction[name, "squared"]
        found[name, "squared"] = course | {key: np.broadcast_to(end[key], course[key].shape) for key in end}
    return found


STUDY = Study(
    title="Representational geometry of tanh and ReLU",
    question="Do hidden units take after the inputs or after the labels, and what decides it?",
    source="Alleman, Lindsey & Fusi 2024 (arXiv:2401.13558)",
    regimes=("rich",),
    asks="what",
    sizes={
        "smoke": dict(
            samples=8,
            alignments=(0.0, 0.05, 0.2),
            lr=0.2,
            steps={"logistic": 800, "squared": 200},
            reach={"tanh": 16.0, "relu": 10.0},
            width=256,
            networks=8,
            neurons=1000,
        ),
        "paper": dict(
            samples=16,
            alignments=(0.0, 0.02, 0.05, 0.1, 0.3),
            lr=0.1,
            steps={"logistic": 20_000, "squared": 2000},
            reach={"tanh": 30.0, "relu": 20.0},
            width=2048,
            networks=16,
            neurons=20_000,
        ),
    },
    predict=predict,
    simulate=simulate_networks,
    claims=(
        Claim(
            "Margins grow as the path and its loss say.",
            course("margin"),
            5,
            "Standard errors over networks, beside lr/P, P/N and the sampling of the path, relative.",
        ),
        Claim("Hidden units align with the labels as far as the path says.", course("labels"), 5, "As for margins."),
        Claim("They keep as much of the inputs.", course("inputs"), 5, "As for margins."),
        Claim(
            "With logistic loss tanh ends nearer to the labels than ReLU, and farther from the inputs.",
            contrast,
            0,
            "An order of means.",
        ),
    ),
    rivals=(
        Rival("Tanh keeps the inputs, ReLU learns the labels.", swapped),
        Rival("Hidden units stay what they were.", lazy),
        Rival("The loss does not matter.", any_loss),
    ),
    draw=draw,
    formulas=("lazy_rich.representational_geometry.rectified", "lazy_rich.representational_geometry.saturated"),
)
