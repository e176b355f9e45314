"""Interacting features: what a network has learned of modular addition changes what its new nodes find."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from sims.engine import Simulation, grid, simulate
from sims.networks.square import ridge_loss
from sims.probes.group_features import frequency_power
from sims.tasks.group_arithmetic import addition_table, group_pairs
from theory.lazy_rich.groups import cyclic, irrep_power
from theory.lazy_rich.interacting_features import (
    completed_ascent,
    completed_energy,
    lone_energy,
    twin_energy_ratio,
)
from validation import style
from validation.metrics import gap
from validation.study import Claim, Problem, Rival, Study

# Relative; the same sums in another order.
ROUNDING = 1e-11
# Nodes of these many phases in u and in v complete a frequency.
PHASES = 5


def node(m, frequency, first, second):
    """A node of norm one: cosines of one frequency, with a phase in each half."""
    angles = 2 * np.pi * frequency * np.arange(m) / m
    return np.concatenate([np.cos(angles + first), np.cos(angles + second)]) / np.sqrt(m)


def problem(settings, seed):
    """Completed frequencies, random new nodes; one learned node, its twins at shifted phases, and a stranger."""
    rng, m = np.random.default_rng(seed), settings["order"]
    phases = 2 * np.pi * np.arange(PHASES) / PHASES + rng.uniform(0, 1)
    completed = [[node(m, k, a, b) for a in phases for b in phases] for k in settings["frequencies"]]
    fresh = rng.normal(size=(settings["nodes"], 2 * m))
    own = rng.uniform(0, 2 * np.pi, size=2)
    return Problem(
        **settings,
        seed=seed,
        completed=np.array(completed),
        fresh=fresh / np.linalg.norm(fresh, axis=1, keepdims=True),
        learned=node(m, 1, *own),
        twins=np.array([[node(m, 1, *(own + shift)) for shift in pair] for pair in shifted(settings["shifts"])]),
        stranger=node(m, 2, *own),
    )


def shifted(count):
    """Phases by which twins differ in u and v: turned alike, and against each other; (2, count, 2)."""
    x = np.linspace(-np.pi, np.pi, count)
    return np.stack([np.stack([x, x], axis=1), np.stack([x, -x], axis=1)])


def strengths(problem, count):
    """S_k where the first `count` frequencies are completed by nodes of norm one."""
    found = np.zeros(problem.order // 2)
    found[np.array(problem.frequencies[:count], int) - 1] = PHASES**2
    return found


def predict(problem):
    """Energies in the field: of new nodes, of twins and a stranger; and the frequencies to which ascent leads."""
    cases = [strengths(problem, count) for count in range(len(problem.frequencies) + 1)]
    ends = [np.asarray(completed_ascent(problem.fresh, s, problem.decay).weights) for s in cases]
    decays = np.array(problem.decays)
    first, second = shifted(problem.shifts)[..., 0], shifted(problem.shifts)[..., 1]
    return {
        "start": np.stack([completed_energy(problem.fresh, s, problem.decay) for s in cases]),
        "frequency": np.stack([strongest(problem, end) for end in ends]),
        "alone": np.asarray(lone_energy(problem.order, decays)),
        "twins": np.asarray(twin_energy_ratio(first[..., None], second[..., None], decays)),
        "stranger": np.ones(len(decays)),
    }


def strongest(problem, weights):
    """Frequency that holds most of each node's weights."""
    power = sum(np.asarray(irrep_power(half, cyclic(problem.order))) for half in np.split(weights, 2, axis=1))
    return power[:, 1:].argmax(axis=1) + 1


def simulate_networks(problem):
    """Losses of networks whose readout is at its minimum, without a node and with it; new nodes trained in the end."""
    x, y = group_pairs(addition_table(problem.order))

    @jax.jit
    def drop(others, nodes, decay):
        """By how much each of the nodes lowers the loss of a network of the others."""
        without = ridge_loss(others, x, y, decay)
        return without - jax.vmap(lambda w: ridge_loss(jnp.concatenate([others, w[None]]), x, y, decay))(nodes)

    learned, nothing = problem.learned[None], np.zeros((1, 2 * problem.order))
    decays = problem.decays
    alone = np.array([drop(nothing, learned, decay)[0] for decay in decays])
    twins = problem.twins.reshape(-1, 2 * problem.order)
    found = np.stack([drop(learned, twins, decay) for decay in decays], axis=-1) / alone
    stranger = np.array([drop(learned, problem.stranger[None], decay)[0] for decay in decays]) / alone
    start, frequency = trained(problem, x, y)
    return {
        "alone": alone,
        "twins": found.reshape(*problem.twins.shape[:2], -1),
        "stranger": stranger,
        "start": start,
        "frequency": frequency,
    }


def trained(problem, x, y):
    """One new node at a time, next to frozen ones: by how much it lowers the loss first, its frequency in the end."""
    frozen = jnp.asarray(problem.completed)

    def loss(state, fresh):
        # Nodes without weights are none.
        others = frozen * (jnp.arange(len(frozen)) < state["count"])[:, None, None]
        return ridge_loss(jnp.concatenate([others.reshape(-1, frozen.shape[-1]), fresh]), x, y, problem.decay)

    def step(state):
        """A step of size 1/2 against the gradient, back to the unit sphere."""
        g = jax.grad(partial(loss, state))(state["fresh"])
        fresh = state["fresh"] - g / (2 * jnp.linalg.norm(g))
        return state | {"fresh": fresh / jnp.linalg.norm(fresh)}

    def record(state):
        fresh = state["fresh"]
        power = sum(frequency_power(half)[0] for half in jnp.split(fresh, 2, axis=1))
        return loss(state, jnp.zeros_like(fresh)) - loss(state, fresh), jnp.argmax(power) + 1

    run = Simulation(lambda _, hyper: hyper, step, record)
    runs = grid(count=np.arange(len(frozen) + 1), fresh=problem.fresh[:, None])
    drop, frequency = (part[0] for part in simulate(run, runs, [0, problem.steps]).on_grid())
    return drop[..., 0], frequency[..., 1]


def twins_and_strangers(prediction, observation):
    """By how much a node lowers the loss next to a learned one and alone, over rounding."""
    names = ("twins", "stranger", "alone")
    return max(gap(prediction[n], observation[n], ROUNDING * np.abs(prediction[n]).max()) for n in names)


def in_the_field(prediction, observation):
    """By how much a new node lowers the loss next to completed frequencies, over rounding."""
    exact = prediction["start"]
    return gap(exact, observation["start"], ROUNDING * np.abs(exact).max())


def shared_out(prediction, observation):
    """New nodes that end at another frequency than in the field of the learned ones."""
    return int(np.sum(prediction["frequency"] != observation["frequency"]))


def draw(figure, problem, prediction, observation):
    left, right = figure.subplots(1, 2)
    x = shifted(problem.shifts)[0, :, 0]
    for i, decay in enumerate(problem.decays):
        style.theory(left, x, prediction["twins"][1, :, i], i=i, label=f"η = {decay:g}")
        style.networks(left, x, observation["twins"][1, :, i], i=i)
    style.theory(left, x[[0, -1]], [prediction["stranger"][0]] * 2, i=3, label="another frequency")
    style.networks(left, np.zeros(len(problem.decays)), observation["stranger"], i=3)
    left.set_xticks([-np.pi, 0, np.pi], ["−π", "0", "π"])
    left.set(xlabel="phases of the twin, one turned back", ylabel="energy / energy alone", ylim=(-0.03, 2.3))
    left.set_title("Next to one node of the frequency")
    left.legend(loc="upper left", fontsize=7.5, ncols=2)
    number = problem.order // 2
    frequencies = np.arange(1, number + 1)
    for case in range(len(problem.frequencies) + 1):
        predicted, found = (
            np.bincount(side["frequency"][case], minlength=number + 1)[1:] / len(problem.fresh)
            for side in (prediction, observation)
        )
        names = ", ".join(str(k) for k in problem.frequencies[:case]) or "nothing"
        style.theory(right, frequencies, predicted, i=case, label=names)
        style.networks(right, frequencies, found, i=case)
    right.set_xticks(frequencies)
    right.set(xlabel="frequency of a new node", ylabel="fraction of new nodes", ylim=(-0.04, 1.35))
    right.set_title("Next to completed frequencies")
    right.legend(loc="upper left", fontsize=7.5, title="completed", title_fontsize=7.5, ncols=3)


def deaf(problem, prediction):
    """Nodes do not notice what others have learned."""
    frequency = np.repeat(prediction["frequency"][:1], len(prediction["frequency"]), axis=0)
    return prediction | {"frequency": frequency, "twins": np.ones_like(prediction["twins"])}


def only_repelled(problem, prediction):
    """Nodes of a learned frequency are only ever repelled."""
    return prediction | {"twins": np.minimum(prediction["twins"], 1.0)}


def explained(problem, prediction):
    """What is learned loses the share s of its energy, and nothing else changes."""
    s = [problem.decay / (problem.decay + strengths(problem, count) / 4) for count in range(len(prediction["start"]))]
    u, v = (np.abs(np.fft.rfft(half, axis=1)[:, 1:]) ** 2 for half in np.split(problem.fresh, 2, axis=1))
    signal = np.stack([np.sum(share**2 * u * v, axis=1) for share in s])
    return prediction | {"start": prediction["start"][:1] * signal / signal[:1]}


def unsquared(problem, prediction):
    """A completed frequency loses the factor s, not its square."""
    s = [problem.decay / (problem.decay + strengths(problem, count) / 4) for count in range(len(prediction["start"]))]
    u, v = (np.abs(np.fft.rfft(half, axis=1)[:, 1:]) ** 2 for half in np.split(problem.fresh, 2, axis=1))
    ratio = np.stack([np.sum(share * u * v, axis=1) / np.sum(share**2 * u * v, axis=1) for share in s])
    return prediction | {"start": prediction["start"] * ratio}


STUDY = Study(
    title="Interacting features",
    question="What does a network that has learned some frequencies of modular addition leave for its new nodes?",
    source="Derived for the interactive stage of Tian 2025 (arXiv:2509.21519)",
    regimes=("rich",),
    asks="what",
    sizes={
        "smoke": dict(
            order=7,
            decay=1.0,
            # In the order in which they are completed.
            frequencies=(1, 2),
            nodes=24,
            steps=200,
            decays=(0.01, 0.1, 1.0),
            shifts=49,
        ),
        "paper": dict(
            order=23,
            decay=1.0,
            frequencies=(1, 2, 3, 4, 5),
            nodes=256,
            steps=2000,
            decays=(0.01, 0.1, 1.0, 10.0),
            shifts=97,
        ),
    },
    problem=problem,
    predict=predict,
    simulate=simulate_networks,
    claims=(
        Claim(
            "Next to one learned node a twin lowers the loss by the stated factor; one of another frequency as alone.",
            twins_and_strangers,
            1,
            "An identity: rounding.",
        ),
        Claim(
            "Next to completed frequencies a new node lowers the loss by its energy in their field.",
            in_the_field,
            1,
            "An identity: rounding.",
        ),
        Claim(
            "Trained there, it ends at the frequency to which the ascent of this energy leads.",
            shared_out,
            0,
            "The same ascent: no node differs.",
        ),
    ),
    rivals=(
        Rival("Nodes do not notice what others have learned.", deaf),
        Rival("Nodes of a learned frequency are only ever repelled.", only_repelled),
        Rival("What is learned loses energy, and nothing is gained by the rest.", explained),
        Rival("A completed frequency loses s, not its square.", unsquared),
    ),
    draw=draw,
    formulas=(
        "lazy_rich.interacting_features.node_in_field",
        "lazy_rich.interacting_features.twin",
        "lazy_rich.interacting_features.completed",
    ),
)
