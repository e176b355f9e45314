"""Forgetting class vectors on purpose: for ever, or for a while, in a minimal head and in attention-only networks.

What the race does not say: networks lose the head again after forgetting has stopped, since both ways share weights.
How long both are there is measured and drawn; claimed is that they are, before the head goes.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from sims.engine import Runs, every, simulate
from sims.item_label_training import training_of
from sims.networks.minimal_head import encounters, race_loss, untrained_race
from sims.tasks.item_label import ItemLabel
from sims.training import training
from theory.induction.forgetting import race_with_resets
from theory.induction.nested_logits import Logits
from theory.induction.race import Statistics, outcome, race
from validation import style
from validation.metrics import z_score
from validation.study import Claim, Rival, Study

CONDITIONS = ("none", "active", "temporary")
SIDES = ("in_context", "in_weights")


def statistics(problem):
    one = np.full(1, 1 / problem.classes)
    return Statistics(problem.context, float(problem.labels), one, np.full(1, float(problem.classes)), problem.bursty)


def predict(problem):
    """Probabilities of the right label, {condition: (2, times)}: before each reset, and after the last."""
    data, rates = statistics(problem), dict(copy_rate=problem.copy_rate, memory_rate=problem.memory_rate)
    interval, stop = problem.interval, problem.resets // 2
    # Times of records, a step before each reset is due, are those of the resets themselves but for that step.
    t = interval * np.arange(1, problem.resets + 1)
    none = race(np.concatenate([[0.0], t]), data, **rates)
    # Active forgetting is as many resets again, from where the first ones leave the head: one program for both.
    half = functools.partial(race_with_resets, interval, stop, t[: problem.resets - stop], data, **rates)
    _, temporary = half(start=(jnp.zeros(()),) * 3)
    _, again = half(start=tuple(part[stop - 1] for part in temporary.logits))
    early = slice(0, stop)
    runs = dict(
        none=[(none, slice(1, None))], active=[(temporary, early), (again, early)], temporary=[(temporary, slice(None))]
    )
    found = {
        name: np.stack(
            [np.concatenate([np.asarray(getattr(run, side))[which] for run, which in parts]) for side in SIDES]
        )
        for name, parts in runs.items()
    }
    phases = {name: phase(curves[:, [stop - 1, late(problem)]]) for name, curves in found.items()}
    return found | {"t": t, "step": problem.lr, "phases": phases}


def late(problem):
    """The reset nearest to `late` steps of the networks after half of the training."""
    return problem.resets // 2 + round(problem.late / problem.steps * problem.resets)


def phase(accuracies):
    """0 neither, 1 in context, 2 in weights, 3 both; from (2, ...)."""
    learned = np.asarray(accuracies) > 0.5
    return learned[0] + 2 * learned[1]


@functools.cache
def minimal(context, labels, classes, bursty, batch, lr, copy_rate, memory_rate):
    """A minimal head beside a table of class logits, which is set to zero when told to."""

    def update(updates, count, params):
        count = count + 1
        pace = updates.__class__(
            copy_rate * updates.copy, updates.match, updates.previous, memory_rate * updates.memory
        )
        return pace, count

    def resetting(hyper):
        def update_and_reset(updates, count, params):
            moved, count = update(updates, count, params)
            due = (hyper["forget"] > 0) & (count % jnp.maximum(hyper["forget"], 1) == 0) & (count <= hyper["until"])
            memory = jnp.where(due, -params.memory, moved.memory)
            return moved.__class__(moved.copy, moved.match, moved.previous, memory), count

        return optax.GradientTransformation(lambda _: jnp.zeros((), jnp.int32), update_and_reset)

    def record(model, _):
        own = model.memory[jnp.arange(classes), jnp.arange(classes) % labels]
        phi = jnp.mean(own - (jnp.sum(model.memory, axis=1) - own) / (labels - 1))
        return Logits(model.copy, model.match, model.previous), phi[None]

    cumulative = jnp.arange(1, classes + 1) / classes
    return training(
        lambda _, __: untrained_race(classes, labels),
        race_loss,
        lambda hyper: optax.chain(optax.sgd(lr), resetting(hyper)),
        lambda key, _: encounters(key, batch, context, labels, cumulative, bursty),
        record,
    )


def schedule(problem, interval, steps, runs):
    """Runs of the three conditions, with resets every `interval` steps."""
    many = len(CONDITIONS) * runs
    forget = np.repeat([0, interval, interval], runs)
    until = np.repeat([0, steps, steps // 2], runs)
    return Runs(
        problem.seed * 32 + np.tile(np.arange(runs), len(CONDITIONS)), {"forget": forget, "until": until}, (many,)
    )


def simulate_networks(problem):
    return {"minimal": minimal_heads(problem), "networks": attention_networks(problem)}


def minimal_heads(problem):
    """{condition: (runs, 2, times)} of minimal heads, a step before each reset."""
    per = round(problem.interval / problem.lr)
    names = ("context", "labels", "classes", "bursty", "batch", "lr", "copy_rate", "memory_rate")
    simulation = minimal(*(getattr(problem, name) for name in names))
    at = per * np.arange(1, problem.resets + 1) - 1
    runs = schedule(problem, per, per * problem.resets, problem.heads)
    logits, memory = simulate(simulation, runs, at, batching="vmap", optimised=True).records
    seen = jax.jit(jax.vmap(lambda head, phi: outcome(head, phi, statistics(problem))))(logits, memory)
    found = np.stack([np.asarray(getattr(seen, side)) for side in SIDES], axis=1)
    return dict(zip(CONDITIONS, np.split(found, len(CONDITIONS)), strict=True))


@functools.cache
def network(context, labels, classes, bursty, dimension, batch):
    task = ItemLabel(labels=labels, context=context, classes=classes, bursty=bursty)
    tested = dict(tests=400, tested=("novel", "weights"), measured=False)
    return training_of(task, dimension, trained_table=True, batch=batch, **tested)


def attention_networks(problem):
    """{condition: (runs, 2, times)} of attention-only networks, whose class vectors are trained, and redrawn."""
    runs = schedule(problem, problem.forget, problem.steps, problem.runs)
    many = len(runs.seeds)
    hyper = {"forget": runs.hyper["forget"], "forget_until": runs.hyper["until"]}
    hyper |= {"lr": np.full(many, problem.rate)}
    names = ("context", "labels", "classes", "bursty", "dimension", "sequences")
    simulation = network(*(getattr(problem, name) for name in names))
    at = every(problem.steps, problem.every)
    seen = simulate(simulation, runs._replace(hyper=hyper), at, batching="map", optimised=True).records
    found = np.stack([np.asarray(seen[name], float) for name in ("novel", "weights")], axis=1)
    return dict(zip(CONDITIONS, np.split(found, len(CONDITIONS)), strict=True)) | {"steps": at}


def following(prediction, observation):
    """Both probabilities of minimal heads against the race with resets, at all times of all conditions."""
    worst = []
    for name in CONDITIONS:
        expected, runs = prediction[name], observation["minimal"][name]
        moved = np.abs(np.gradient(expected, prediction["t"], axis=1)) * np.hypot(
            2 * prediction["step"], 0.02 * prediction["t"]
        )
        worst.append(z_score(expected, runs, floor=np.maximum(moved, 0.01)))
    return max(worst)


def phases(prediction, observation):
    """Networks whose first two phases, from half of the training on, are not the predicted ones.

    The time of the second one is that of each run; where the prediction has one phase, no other must ever come.
    """
    seen, wrong = observation["networks"], 0
    for name in CONDITIONS:
        runs = phase(np.moveaxis(seen[name][..., len(seen["steps"]) // 2 :], 1, 0))
        wrong += sum(passed(run)[:2] != passed(prediction["phases"][name]) for run in runs)
    return wrong


def passed(phases):
    """Phases in the order in which they are entered."""
    return [int(here) for i, here in enumerate(phases) if i == 0 or here != phases[i - 1]]


def draw(figure, problem, prediction, observation):
    axes = figure.subplots(1, 3, sharey=True)
    titles = dict(none="No forgetting", active="Active forgetting", temporary="Temporary forgetting")
    seen = observation["networks"]
    scale = problem.steps / prediction["t"][-1]
    for panel, name in zip(axes, CONDITIONS, strict=True):
        for i, label in enumerate(("in context", "in weights")):
            style.theory(panel, scale * prediction["t"], prediction[name][i], i=i, label=label)
            heads = observation["minimal"][name][:, i].mean(axis=0)
            style.networks(panel, scale * prediction["t"], heads, i=i, most=12)
            for run in seen[name][:, i]:
                style.networks(panel, seen["steps"], run, i=i, most=200, marker="", linestyle=":")
        panel.set(xlabel="steps", ylim=(0, 1.3), yticks=[0, 0.5, 1])
        panel.set_title(titles[name])
    axes[2].axvline(problem.steps / 2, color=style.INK, linewidth=0.8)
    axes[0].set(ylabel="right answers")
    axes[0].legend(loc="upper left", fontsize=7, ncols=2)
    axes[1].text(
        0.02, 0.99, "points: minimal heads\ndotted: networks", va="top", transform=axes[1].transAxes, fontsize=7
    )


def no_difference(problem, prediction):
    """Forgetting only slows the memory down and does nothing for the head."""
    return prediction | {
        "active": np.stack([prediction["none"][0], prediction["active"][1]]),
        "phases": prediction["phases"] | {"active": prediction["phases"]["none"]},
    }


def forgotten_for_ever(problem, prediction):
    """What was forgotten stays forgotten: temporary is as good as active."""
    return prediction | {
        "temporary": prediction["active"],
        "phases": prediction["phases"] | {"temporary": prediction["phases"]["active"]},
    }


def back_at_once(problem, prediction):
    """A head that was held up by forgetting goes when that ends."""
    half, end = prediction["temporary"].copy(), prediction["none"]
    half[:, problem.resets // 2 :] = end[:, problem.resets // 2 :]
    found = prediction["phases"]["temporary"].copy()
    found[1] = prediction["phases"]["none"][1]
    return prediction | {"temporary": half, "phases": prediction["phases"] | {"temporary": found}}


STUDY = Study(
    title="Active and temporary forgetting",
    question="Does a network look labels up where it keeps forgetting what it knows, and still when it no longer does?",
    source="Anand et al. 2024 (arXiv:2406.00053); the race with resets is derived here",
    regimes=("attention",),
    asks="how trained",
    sizes={
        "smoke": dict(
            context=4,
            labels=16,
            classes=128,
            bursty=0.9,
            # Minimal heads: time and copying as in the study of data dependence; trained class vectors, each for
            # itself, are learned faster than fixed ones, at a pace that is set to that of the networks.
            interval=0.3,
            resets=100,
            lr=0.03,
            copy_rate=3.0,
            memory_rate=600.0,
            batch=128,
            heads=4,
            # Attention-only networks.
            dimension=24,
            rate=0.3,
            forget=10,
            sequences=64,
            steps=2000,
            # Phases are predicted for half of the training, and for so many steps later.
            late=400,
            every=50,
            runs=1,
        ),
        "paper": dict(
            context=4,
            labels=16,
            classes=128,
            bursty=0.9,
            interval=0.3,
            resets=100,
            lr=0.01,
            copy_rate=3.0,
            memory_rate=600.0,
            batch=1024,
            heads=8,
            dimension=63,
            rate=0.3,
            forget=10,
            sequences=128,
            steps=4000,
            late=800,
            every=50,
            runs=8,
        ),
    },
    predict=predict,
    simulate=simulate_networks,
    claims=(
        Claim(
            "Minimal heads follow the race with resets at all times.",
            following,
            5,
            "Standard errors over runs, beside two steps, two hundredths of the time gone by and one per cent.",
        ),
        Claim(
            "Networks learn in weights without forgetting, in context with it, and next both when it has ended.",
            phases,
            0,
            "A count of runs, over all records from half of the training on.",
        ),
    ),
    rivals=(
        Rival("Forgetting does nothing for the head.", no_difference),
        Rival("What was forgotten stays forgotten.", forgotten_for_ever),
        Rival("The head goes as soon as forgetting ends.", back_at_once),
    ),
    draw=draw,
    formulas=("induction.forgetting.error_with_resets", "induction.race.matched"),
)
