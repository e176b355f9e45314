"""Spiked teacher: a deep network learns signal before noise, and noise strengthens and tilts what it learns."""

from __future__ import annotations

from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import optax

from sims.engine import grid, simulate
from sims.networks.deep_linear import aligned, correlation_loss
from sims.training import training
from theory.deep_linear import spiked_teacher as lampinen
from theory.deep_linear.modes import mode_strength
from validation import style
from validation.metrics import z_score
from validation.study import Claim, Rival, Study


def problem(settings, seed):
    """A teacher of low rank for each network, and the noisy correlations that it is to learn."""
    runs, n, m = settings["runs"], settings["inputs"], settings["outputs"]
    rng, rank = np.random.default_rng(seed), len(settings["strengths"])
    left = np.linalg.qr(rng.standard_normal((runs, m, rank)))[0]
    right = np.linalg.qr(rng.standard_normal((runs, n, rank)))[0]
    noise = rng.standard_normal((runs, m, n)) / np.sqrt(n)
    syx = (left * np.array(settings["strengths"])) @ np.swapaxes(right, 1, 2) + noise
    steps = np.arange(0, round(settings["t_end"] / settings["lr"]) + 1, settings["every"])
    return SimpleNamespace(**settings, seed=seed, left=left, right=right, syx=syx, steps=steps)


def predict(problem):
    """The law of large dimension with its correction, for steps of size lr."""
    s, aspect = np.array(problem.strengths), problem.outputs / problem.inputs
    teacher = (s, float(problem.inputs), float(problem.outputs))
    t = problem.steps * problem.lr
    values = np.asarray(lampinen.empirical_singular_value(s, aspect))
    # While a mode grows, a step falls short of the flow by (lr s)^2 / 2 of it: a delay of lr ln(s / u0) / 4 in all.
    delay = problem.lr * np.log(np.sqrt(aspect) / problem.u0 + 1) / 4

    def curve(t, corrected=True):
        error = lampinen.generalization_error(t, teacher, problem.u0)
        return error + lampinen.generalization_error_correction(t, teacher, problem.u0) if corrected else error

    error = np.asarray(curve(np.maximum(t - delay, 0)))
    return {
        "t": t,
        "error": error,
        "leading": np.asarray(curve(t, corrected=False)),
        # The delay is a logarithm; what it leaves open is a quarter of it.
        "floor": np.abs(np.gradient(error, t)) * delay / 4 + problem.lr**2,
        "stop": float(lampinen.optimal_stopping_time(teacher, problem.u0)),
        "values": values,
        "left": np.asarray(lampinen.left_overlap(s, aspect)),
        "right": np.asarray(lampinen.right_overlap(s, aspect)),
        "detected": s > float(lampinen.detection_threshold(aspect)),
        "size": 1 / problem.inputs,
    }


def simulate_networks(problem):
    """Two-layer networks that descend on noisy correlations, from a small start along their modes."""
    syx, strengths = jnp.asarray(problem.syx), np.array(problem.strengths)
    clean = jnp.asarray((problem.left * strengths) @ np.swapaxes(problem.right, 1, 2))
    modes, white = min(problem.inputs, problem.outputs), jnp.eye(problem.inputs)

    def start(key, hyper):
        left, _, right = jnp.linalg.svd(syx[hyper["which"]], full_matrices=False)
        return aligned(key, left, right.T, jnp.full((2, modes), jnp.sqrt(problem.u0)), modes)

    def error(network, hyper):
        wanted = clean[hyper["which"]]
        return jnp.sum((network.product() - wanted) ** 2) / jnp.sum(wanted**2)

    trained = training(
        start,
        lambda network, syx: correlation_loss(network, white, syx),
        lambda _: optax.sgd(problem.lr),
        lambda _, hyper: syx[hyper["which"]],
        error,
    )
    trajectory = simulate(trained, grid([problem.seed], which=np.arange(problem.runs)), problem.steps)
    lower, upper = trajectory.state.model.weights
    left, values, right = np.linalg.svd(np.asarray(upper) @ np.asarray(lower), full_matrices=False)
    rank = len(strengths)

    def overlap(found, true):
        return np.abs(np.sum(found[..., :rank] * true, axis=1))

    return {
        "error": trajectory.records,
        "values": values[:, :rank],
        "left": overlap(left, problem.left),
        "right": overlap(np.swapaxes(right, 1, 2), problem.right),
    }


def of_spikes(name, scale):
    """z-score of what the networks hold of the detected spikes, with the finite-size shift of order scale / N1."""

    def measure(prediction, observation):
        seen = prediction["detected"]
        return z_score(prediction[name][seen], observation[name][:, seen], floor=scale * prediction["size"])

    return measure


def regret(prediction, observation):
    """How much better another moment is than the predicted one, relative to the error that remains there."""
    mean = observation["error"].mean(axis=0)
    at = np.abs(prediction["t"] - prediction["stop"]).argmin()
    return mean[at] / mean.min() - 1


def draw(figure, problem, prediction, observation):
    axes, spikes = figure.subplots(1, 2, width_ratios=(1.4, 1))
    t, errors = prediction["t"], observation["error"]
    style.theory(axes, t, prediction["error"], i=0, label="theory")
    style.networks(axes, t, errors.mean(axis=0), i=0, label="networks", error=errors.std(axis=0, ddof=1))
    style.rival(axes, t, spikes_only(problem, prediction)["error"], label="spikes without noise modes")
    axes.axvline(prediction["stop"], color=style.colour(1), linewidth=0.9, label="best time to stop")
    axes.set(xlabel="time  t = lr · steps", ylabel="test error / signal", title="Signal first, then noise")
    axes.legend(loc="upper left")
    s = np.linspace(0.05, 1.15 * max(problem.strengths), 300)
    aspect = problem.outputs / problem.inputs
    style.theory(spikes, s, lampinen.empirical_singular_value(s, aspect), i=2, label="singular value")
    style.networks(spikes, problem.strengths, observation["values"].mean(axis=0), i=2)
    both = observation["left"] * observation["right"]
    overlap = np.asarray(lampinen.left_overlap(s, aspect) * lampinen.right_overlap(s, aspect))
    style.theory(spikes, s, overlap, i=3, label="overlap")
    style.networks(spikes, problem.strengths, both.mean(axis=0), i=3)
    style.rival(spikes, s, s, label="without noise")
    spikes.set(xlabel="strength in the teacher  s", title="Spikes after training")
    spikes.legend(loc="upper left")


def spikes_only(problem, prediction):
    """Noise shifts and tilts the spikes, and that is all: no modes of pure noise are learned."""
    s, t = np.array(problem.strengths), prediction["t"][:, None]
    u = np.asarray(mode_strength(t, prediction["values"], problem.u0))
    kept = prediction["left"] * prediction["right"]
    error = np.sum(u**2 + s**2 - 2 * u * s * kept, axis=1) / np.sum(s**2)
    return prediction | {"error": error, "stop": prediction["t"][error.argmin()]}


def clean_spikes(problem, prediction):
    """The network finds the teacher's own singular values."""
    return prediction | {"values": np.array(problem.strengths)}


def straight_vectors(_, prediction):
    """Noise changes how strong modes are, not where they point."""
    return prediction | {name: np.ones_like(prediction[name]) for name in ("left", "right")}


def shallow(problem, prediction):
    """One layer: every mode has the same time constant, so that noise comes with the signal."""
    teacher = (np.array(problem.strengths), float(problem.inputs), float(problem.outputs))
    error = lampinen.generalization_error(prediction["t"], teacher, problem.u0, 1)
    stop = lampinen.optimal_stopping_time(teacher, problem.u0, 1)
    return prediction | {"error": np.asarray(error), "stop": float(stop)}


STUDY = Study(
    title="Spiked teacher",
    question="How can a network that has enough parameters to fit all noise still find the signal?",
    source="Lampinen & Ganguli 2019 (arXiv:1809.10374)",
    problem=problem,
    regimes=("linear",),
    asks="how well",
    sizes={
        "smoke": dict(
            strengths=(4.0, 2.0, 0.5),
            inputs=64,
            outputs=32,
            runs=24,
            u0=1e-3,
            lr=0.02,
            t_end=6.0,
            every=6,
        ),
        "paper": dict(
            strengths=(5.0, 3.0, 1.5, 0.5),
            inputs=100,
            outputs=50,
            runs=400,
            u0=1e-3,
            lr=0.005,
            t_end=10.0,
            every=20,
        ),
    },
    predict=predict,
    simulate=simulate_networks,
    claims=(
        Claim(
            "Test error follows spikes, bulk and their interplay at every moment.",
            lambda p, o: z_score(p["error"], o["error"], floor=np.hypot(p["floor"], p["size"] / 4)),
            5,
            "Standard errors over networks, what the delay of finite steps leaves open, and the next order in 1/N1.",
        ),
        Claim(
            "Noise strengthens the learned modes as it should.",
            of_spikes("values", 2.0),
            5,
            "Standard errors over networks, with a shift of order 1/N1 at finite size.",
        ),
        Claim(
            "It tilts their output vectors as it should.",
            of_spikes("left", 0.5),
            5,
            "As above.",
        ),
        Claim(
            "And their input vectors.",
            of_spikes("right", 0.5),
            5,
            "As above.",
        ),
        Claim(
            "Stopped at the optimal time, networks are as good as at any.",
            regret,
            0.1,
            "The minimum is quadratic: a displacement by the delay of finite steps and by order 1/N1 costs percents.",
        ),
    ),
    rivals=(
        Rival("Only the spikes are learned: there are no noise modes to overfit.", spikes_only),
        Rival("The network finds the teacher's own singular values.", clean_spikes),
        Rival("Noise leaves the singular vectors where they were.", straight_vectors),
        Rival(
            "Spikes leave the bulk as it was, and the bulk holds nothing of the teacher.",
            lambda _, prediction: prediction | {"error": prediction["leading"]},
        ),
        Rival("A shallow network: noise comes at the same time as signal.", shallow),
    ),
    draw=draw,
    formulas=(
        "deep_linear.spiked_teacher.empirical",
        "deep_linear.spiked_teacher.left",
        "deep_linear.spiked_teacher.right",
        "deep_linear.spiked_teacher.generalization",
    ),
)
