"""Fourier series of unknown length: how soon a transformer, and the Bayes predictor, believe in high frequencies."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np

from sims.engine import Runs, every, simulate
from sims.regression_training import regression_training
from theory.bayes_icl.simplicity_bias import fourier_energy, mixture_spectrum
from validation import style
from validation.metrics import gap
from validation.study import Claim, Problem, Rival, Study


def series(key, batch, context, highest, last, noise):
    """Inputs on a circle (P, N, 2), labels, and values of the tasks on an even grid; frequencies up to `last` (P,)."""
    of_inputs, of_waves, of_noise = jax.random.split(key, 3)
    angle = jax.random.uniform(of_inputs, (batch, context), minval=-jnp.pi, maxval=jnp.pi)
    wave = jax.random.normal(of_waves, (batch, 2, highest))
    k = jnp.arange(1, highest + 1)
    wave = jnp.where(k <= last[:, None, None], wave, 0.0) / jnp.sqrt(last)[:, None, None]
    turned = angle[:, :, None] * k
    values = jnp.einsum("pnk,pk->pn", jnp.cos(turned), wave[:, 0]) + jnp.einsum(
        "pnk,pk->pn", jnp.sin(turned), wave[:, 1]
    )
    labels = values + jnp.sqrt(noise) * jax.random.normal(of_noise, (batch, context))
    return angle, labels


def circle(angle):
    return jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=-1)


def problem(settings, seed):
    """Tasks with all frequencies, and after each of some prefixes queries on a grid."""
    given = Problem(**settings, seed=seed)
    key = jax.random.fold_in(jax.random.key(seed), 2**31 - 1)
    last = jnp.full(given.tasks, given.highest)
    angle, y = (np.asarray(part) for part in series(key, given.tasks, given.context, given.highest, last, given.noise))
    given.angle, given.y = angle, y
    given.grid = np.linspace(-np.pi, np.pi, given.points, endpoint=False)
    return given


def prompted(given):
    """(prefixes, tasks, points, N): the context, with a query of the grid after each prefix."""
    angle = np.broadcast_to(
        given.angle[:, None], (len(given.prefixes), given.tasks, given.points, given.context)
    ).copy()
    for i, n in enumerate(given.prefixes):
        angle[i, :, :, n] = given.grid
    return angle, np.broadcast_to(given.y[:, None], angle.shape)


def predict(given):
    """Mean share of each frequency in the Bayes predictor after each prefix."""
    rows = jax.vmap(lambda x, y: mixture_spectrum(x, y, given.noise, given.highest, np.pi))(given.angle, given.y)
    taken = np.asarray(rows)[:, np.array(given.prefixes) - 1]
    return {"shares": taken.mean(axis=0)}


@functools.cache
def network(context, highest, batch, width, steps, lr):
    def drawn(key, settings):
        of_last, of_series = jax.random.split(key)
        last = jax.random.randint(of_last, (batch,), 1, highest + 1)
        angle, y = series(of_series, batch, context, highest, last, settings["noise"])
        return circle(angle), y

    return regression_training(drawn, 2, context, steps=steps, lr=lr, width=width)


def simulate_networks(given):
    """The same shares of a trained network, (prefixes, tasks, F)."""
    program = network(given.context, given.highest, given.batch, given.width, given.steps, given.lr)
    angle, y = prompted(given)
    x = circle(angle.reshape(-1, given.context))
    labels = y.reshape(-1, given.context)
    hyper = {"x": np.float32(x)[None], "y": np.float32(labels)[None], "noise": np.array([given.noise], np.float32)}
    runs = Runs(np.array([given.seed]), hyper, (1,))
    found = simulate(program, runs, every(given.steps, given.steps), batching="map", optimised=True).records
    outputs = np.asarray(found, float)[0, -1].reshape(angle.shape)
    after = np.stack([outputs[i, :, :, n] for i, n in enumerate(given.prefixes)])
    return {"shares": np.asarray(fourier_energy(after, given.highest))}


def shares(prediction, observation):
    """Mean shares of all frequencies after all prefixes, from the prediction, over a tenth."""
    return gap(prediction["shares"], observation["shares"].mean(axis=1), 0.1)


def draw(figure, given, prediction, observation):
    panels = figure.subplots(1, len(given.prefixes), sharey=True)
    k = np.arange(1, given.highest + 1)
    for i, (panel, n) in enumerate(zip(panels, given.prefixes, strict=True)):
        style.theory(panel, k, prediction["shares"][i], i=0, label="mixture of all lengths")
        style.rival(panel, k, np.full(given.highest, 1 / given.highest), label="length known")
        seen = observation["shares"][i]
        error = seen.std(axis=0) / len(seen) ** 0.5
        style.networks(panel, k, seen.mean(axis=0), i=0, error=error, label="transformer")
        panel.set(xlabel="frequency", xticks=k, ylim=(0, None))
        panel.set_title(f"after {n} example{'s' * (n > 1)}")
    panels[0].set(ylabel="share of the energy")
    panels[-1].legend(fontsize=7)


def known(given, prediction):
    """All frequencies are there, and this is known: on average over tasks each has its share from the start."""
    return {"shares": np.full(prediction["shares"].shape, 1 / given.highest)}


def frozen(given, prediction):
    """The number of frequencies stays as unknown as after the first example."""
    return {"shares": np.broadcast_to(prediction["shares"][0], prediction["shares"].shape)}


def simplest(given, prediction):
    """Only the first frequency is ever believed in."""
    return {"shares": np.broadcast_to(np.eye(given.highest)[0], prediction["shares"].shape)}


STUDY = Study(
    title="Simplicity bias of Fourier series",
    question="After how many examples does a transformer believe in high frequencies, and is that Bayes' rule?",
    source="Panwar, Ahuja & Goyal 2024 (arXiv:2306.04891)",
    regimes=("bayes",),
    asks="how well",
    sizes={
        "smoke": dict(
            highest=2,
            context=8,
            noise=0.25,
            prefixes=(1, 2, 6),
            points=16,
            tasks=60,
            batch=96,
            width=32,
            steps=2000,
            lr=3e-3,
        ),
        "paper": dict(
            highest=10,
            context=43,
            noise=1e-3,
            prefixes=(1, 3, 10, 20, 40),
            points=40,
            tasks=100,
            batch=256,
            width=256,
            steps=200_000,
            lr=3e-4,
        ),
    },
    problem=problem,
    predict=predict,
    simulate=simulate_networks,
    claims=(
        Claim(
            "The share of each frequency after each prefix is that of the Bayes predictor.",
            shares,
            1,
            "A tenth: shares scatter by 0.03 over tasks, and a small network has not learned all when training stops.",
        ),
    ),
    rivals=(
        Rival("All frequencies are there, and this is known.", known),
        Rival("What one example says of frequencies stays.", frozen),
        Rival("Only the first frequency is ever believed in.", simplest),
    ),
    draw=draw,
    formulas=("bayes_icl.simplicity_bias.first", "bayes_icl.function_families.fourier"),
)
