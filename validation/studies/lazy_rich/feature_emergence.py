"""Features of a group emerge in two stages: random features wait for weight decay, then nodes ascend alone."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from sims.engine import Simulation, grid, simulate
from sims.networks.square import centred, ridge_loss, square_features
from sims.probes.group_features import irrep_shares
from sims.tasks.group_arithmetic import group_pairs
from sims.training import gradient_descent
from theory.lazy_rich.feature_emergence import (
    ascended,
    energy_maxima,
    group_energy_gradient,
    lazy_gradient,
    lazy_rate,
)
from theory.lazy_rich.groups import cyclic, dicyclic, dihedral, direct_product, irrep_power
from validation import style
from validation.metrics import gap
from validation.study import Claim, Problem, Rival, Study

GROUPS = {
    "Z₈": partial(cyclic, 8),
    "Z₂×Z₄": lambda: direct_product(cyclic(2), cyclic(4)),
    "S₃": partial(dihedral, 3),
    "Q₈": partial(dicyclic, 2),
    "Z₂₃": partial(cyclic, 23),
    "Z₃×Z₅": lambda: direct_product(cyclic(3), cyclic(5)),
    "D₉": partial(dihedral, 9),
    "Dic₅": partial(dicyclic, 5),
}
# Relative; the same sums in another order, after training that has converged.
ROUNDING = 1e-12


def problem(settings, seed):
    """Random hidden weights for the lazy stage, unit vectors for the independent one."""
    rng = np.random.default_rng(seed)
    groups = {name: GROUPS[name]() for name in settings["groups"]}
    m = settings["order"]
    lazy = [rng.uniform(-1, 1, size=(k, 2 * m)) * np.sqrt(3 * settings["variance"]) for k in settings["widths"]]
    alone = {name: units(rng, settings["nodes"], 2 * group.order) for name, group in groups.items()}
    return Problem(
        **(settings | {"groups": groups}),
        seed=seed,
        table=np.asarray(cyclic(m).table),
        lazy=lazy,
        alone=alone,
    )


def units(rng, count, size):
    w = rng.normal(size=(count, size))
    return w / np.linalg.norm(w, axis=1, keepdims=True)


def scaled_decays(problem, width):
    """Decays of the lazy stage, given as multiples of the one at which the rate is largest."""
    return np.array(problem.decays) * 4 * width * problem.variance**2


def predict(problem):
    """Gradients of the lazy stage, and the ends of nodes that ascend alone."""
    x, y = (np.asarray(part) for part in group_pairs(problem.table))
    exact, rates = [], []
    for w in problem.lazy:
        z, decays = x @ w.T, scaled_decays(problem, len(w))
        reaching = jax.jit(jax.vmap(lazy_gradient, (None, None, 0)))(z**2, y, decays)
        exact.append(2 * np.einsum("rnk,nk,ni->rki", reaching, z, x, optimize=True))
        rates.append(np.asarray(lazy_rate(len(w), decays, problem.variance)))
    found = dict(
        gradient=exact,
        rate=rates,
        energy_gradient=[np.asarray(group_energy_gradient(w, problem.table)) for w in problem.lazy],
        # Fluctuations of a covariance of M^2 samples over K nodes, which enters twice.
        widths=2 * problem.order / np.sqrt(problem.widths),
        # F F^T / eta of one network: its trace, spread over as many directions as there are nodes.
        interaction=problem.interaction,
        turn=problem.interaction**2 / problem.nodes,
        groups=tuple(problem.groups),
    )
    for name, group in problem.groups.items():
        end = np.asarray(ascended(problem.alone[name], group.table).weights)
        found[f"irrep {name}"] = strongest(end, group)
        found[f"energy {name}"] = np.asarray(energy_maxima(group))
    return found


def strongest(weights, group):
    """Irrep that holds most of each node's weights, from 0 on, the trivial one left out."""
    power = sum(np.asarray(irrep_power(part, group)) for part in np.split(weights, 2, axis=1))
    return power[:, 1:].argmax(axis=1)


def simulate_networks(problem):
    """Readouts trained on random features; hidden nodes trained with their readout at its minimum."""
    found = {"gradient": [lazy_stage(problem, w) for w in problem.lazy]}
    by_order = {}
    for name, group in problem.groups.items():
        by_order.setdefault(group.order, []).append(name)
    for names in by_order.values():
        for name, hidden in zip(names, independent_stage(problem, names), strict=True):
            found |= features_of(name, problem.groups[name], hidden)
    return found


def features_of(name, group, hidden):
    """Irreps of trained nodes, the share that each has of its node, and energies |Y^T sigma|^2 / 2 of the outputs."""
    x, y = group_pairs(np.asarray(group.table))
    halves, matrices = jnp.split(hidden, 2, axis=1), [irrep.matrices for irrep in group.irreps]
    shares = sum(irrep_shares(half, matrices) * jnp.sum(half**2, axis=1, keepdims=True) for half in halves)[:, 1:]
    forces = centred(y).T @ square_features(hidden, x)
    return {
        f"irrep {name}": np.argmax(shares, axis=1),
        f"share {name}": np.max(shares, axis=1),
        f"energy {name}": np.sum(np.asarray(forces) ** 2, axis=0) / 2,
    }


def lazy_stage(problem, w):
    """Minus the gradient of the squared error that reaches the hidden weights, for each decay of the readout."""
    x, y = group_pairs(problem.table)
    labels, hidden = centred(y), jnp.asarray(w)
    decays = scaled_decays(problem, len(w))
    features = centred(square_features(hidden, x))
    largest = float(jnp.linalg.norm(features, 2) ** 2)

    def error(hidden, readout):
        return 0.5 * jnp.sum((labels - centred(square_features(hidden, x)) @ readout.T) ** 2)

    def start(_, hyper):
        return {"readout": jnp.zeros((y.shape[1], len(w))), "decay": hyper["decay"]}

    def loss(model):
        decay = jax.lax.stop_gradient(model["decay"])
        # Steps of one over the largest curvature.
        total = (
            0.5 * jnp.sum((labels - features @ model["readout"].T) ** 2) + decay * jnp.sum(model["readout"] ** 2) / 2
        )
        return total / (largest + decay)

    run = gradient_descent(start, loss, 1.0, lambda model, _: -jax.grad(error)(hidden, model["readout"]))
    return simulate(run, grid(decay=decays), [problem.readout_steps]).records[:, 0]


def normalised_ascent(loss, hidden):
    """One step of size 1/2 of each node against its gradient, back to the unit sphere."""
    g = -jax.grad(loss)(hidden)
    hidden = hidden + g / (2 * jnp.linalg.norm(g, axis=1, keepdims=True))
    return hidden / jnp.linalg.norm(hidden, axis=1, keepdims=True)


def independent_stage(problem, names):
    """Hidden weights at the end, (groups, nodes, 2M): one network a group, whose readout decays strongly."""
    start = np.stack([problem.alone[name] for name in names])
    pairs = [group_pairs(np.asarray(problem.groups[name].table)) for name in names]
    decay = 1.25 * start.shape[1] / problem.interaction

    def step(state):
        loss = lambda hidden: ridge_loss(hidden, state["x"], state["y"], decay)  # noqa: E731
        return state | {"hidden": normalised_ascent(loss, state["hidden"])}

    run = Simulation(lambda _, hyper: hyper, step, lambda state: state["hidden"])
    hyper = {"hidden": start, "x": np.stack([x for x, _ in pairs]), "y": np.stack([y for _, y in pairs])}
    runs = grid(seeds=len(names))._replace(hyper=hyper)
    return jnp.asarray(simulate(run, runs, [problem.steps]).records[:, 0])


def lazily(prediction, observation):
    """Gradients behind a trained readout, against the identity, in units of rounding of the largest."""
    pairs = zip(prediction["gradient"], observation["gradient"], strict=True)
    return max(gap(exact, found, ROUNDING * np.abs(exact).max()) for exact, found in pairs)


def at_the_rate(prediction, observation):
    """Every node's gradient against the rate times that of its energy: relative norm, over that of fluctuations."""
    worst = 0.0
    pieces = (prediction["rate"], prediction["energy_gradient"], observation["gradient"], prediction["widths"])
    for rates, slope, found, unit in zip(*pieces, strict=True):
        for rate, gradient in zip(rates[1:], found[1:], strict=True):
            worst = max(worst, float(np.linalg.norm(gradient - rate * slope) / np.linalg.norm(rate * slope) / unit))
    return worst


def energies(prediction, observation):
    """Relative deviation of nodes' energies from the maximum of their irrep, in units of what other nodes may turn."""
    found = []
    for name in prediction["groups"]:
        expected = prediction[f"energy {name}"][observation[f"irrep {name}"]]
        found.append(gap(expected, observation[f"energy {name}"], prediction["turn"] * expected))
    return max(found)


def single_irreps(prediction, observation):
    """Squared norm of nodes outside of one irrep, in units of what other nodes may turn."""
    left = max(np.max(1 - observation[f"share {name}"]) for name in prediction["groups"])
    return float(left / prediction["turn"])


def node_by_node(prediction, observation):
    """Nodes that end in another irrep than when they ascend alone, over the fraction that may be moved."""
    names = prediction["groups"]
    moved = [prediction[f"irrep {name}"] != observation[f"irrep {name}"] for name in names]
    return float(np.mean(moved) / prediction["interaction"])


def draw(figure, problem, prediction, observation):
    left, right = figure.subplots(1, 2)
    dense = np.geomspace(0.02, 50, 100)
    style.theory(left, dense, 4 * dense / (1 + dense) ** 2, label="infinite width")
    for i, width in enumerate(problem.widths):
        slope, best = prediction["energy_gradient"][i], 1 / (16 * width * problem.variance**2)
        rates = [np.sum(g * slope) / np.sum(slope**2) / best for g in observation["gradient"][i]]
        style.networks(left, problem.decays[1:], rates[1:], i=i + 1, label=f"{width} nodes")
    style.rival(left, dense[dense > 3], 4 / dense[dense > 3], label="1 / η")
    left.set(xscale="log", xlabel="decay η / 4Kv²", ylabel="rate / largest rate", ylim=(0, 1.75))
    left.set_title("Lazy: speed of features")
    left.legend(loc="upper left", fontsize=7.5)

    for i, (name, group) in enumerate(problem.groups.items()):
        levels = np.unique(prediction[f"energy {name}"]) / group.order
        for level in levels:
            style.theory(right, [i - 0.4, i + 0.4], [level, level], i=0)
        found = observation[f"energy {name}"] / group.order
        style.networks(right, i + np.linspace(-0.25, 0.25, len(found)), found, i=1, most=12)
    right.set_xticks(range(len(problem.groups)), list(problem.groups))
    right.set(ylabel="energy of a node / M", ylim=(0, 0.56))
    right.set_title("Independent: irreps")


def needless(problem, prediction):
    """Features learn without decay as they do with it."""
    gradient = [[exact[problem.decays.index(1.0)], *exact[1:]] for exact in prediction["gradient"]]
    return prediction | {"gradient": gradient}


def always_large(problem, prediction):
    """The gradient is that of a strongly decaying readout at any decay: Y Y^T F / eta."""
    rates = [np.concatenate([[0.0], 1 / scaled_decays(problem, k)[1:]]) for k in problem.widths]
    return prediction | {"rate": rates}


def always_small(problem, prediction):
    """The more decay the faster: the rate is eta / (4 K v^2)^2."""
    return prediction | {
        "rate": [scaled_decays(problem, k) / (4 * k * problem.variance**2) ** 2 for k in problem.widths]
    }


def quarter(problem, prediction):
    """Maxima are M/(8d) and M/(16d)."""
    return prediction | {f"energy {name}": prediction[f"energy {name}"] / 4 for name in problem.groups}


def one_type(problem, prediction):
    """All types reach M/(2d)."""
    found = dict(prediction)
    for name, group in problem.groups.items():
        found[f"energy {name}"] = np.array([group.order / (2 * rho.dimension) for rho in group.irreps[1:]])
    return found


def no_dimension(problem, prediction):
    """The dimension does not matter: M/2 or M/4."""
    found = dict(prediction)
    for name, group in problem.groups.items():
        dimensions = np.array([rho.dimension for rho in group.irreps[1:]])
        found[f"energy {name}"] = prediction[f"energy {name}"] * dimensions
    return found


STUDY = Study(
    title="Emergence of features on groups",
    question="What do hidden nodes learn of a group, and why do they need weight decay to begin?",
    source="Tian 2025 (arXiv:2509.21519)",
    regimes=("rich",),
    asks="when",
    sizes={
        "smoke": dict(
            order=7,
            variance=0.1,
            widths=(512, 2048),
            # The first is none; 1 is among them.
            decays=(0.0, 0.1, 1.0, 10.0),
            readout_steps=300,
            groups=("Z₈", "Z₂×Z₄", "S₃", "Q₈"),
            nodes=32,
            interaction=0.1,
            steps=300,
        ),
        "paper": dict(
            order=23,
            variance=0.1,
            widths=(4096, 16384),
            decays=(0.0, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0),
            readout_steps=4000,
            groups=("Z₂₃", "Z₃×Z₅", "D₉", "Dic₅"),
            nodes=256,
            interaction=0.1,
            steps=2000,
        ),
    },
    problem=problem,
    predict=predict,
    simulate=simulate_networks,
    claims=(
        Claim(
            "Behind a trained readout features see a gradient of η Q Y Yᵀ Q F, and none without weight decay.",
            lazily,
            1,
            "The same sums in another order: rounding, the readout having converged.",
        ),
        Claim(
            "Every node of a wide network starts along its own energy, at the rate η/(η + 4Kv²)².",
            at_the_rate,
            2,
            "Fluctuations of the features' covariance, of relative size 2M/√K; the next order is as large squared.",
        ),
        Claim(
            "Nodes that are independent end at energies M/(2d), or M/(4d) for complex and quaternionic irreps.",
            energies,
            1,
            "Other nodes turn a node by the order of |F Fᵀ|/η; about a maximum its energy falls by the square.",
        ),
        Claim(
            "Each node ends in a single irrep.",
            single_irreps,
            1,
            "As for the energies.",
        ),
        Claim(
            "It is the irrep that the node would find alone.",
            node_by_node,
            1,
            "Only starts that are nearer to the edge of a basin than F Fᵀ/η are moved to another.",
        ),
    ),
    rivals=(
        Rival("Features learn without weight decay.", needless),
        Rival("The rate is 1/η at any decay.", always_large),
        Rival("The more decay the faster.", always_small),
        Rival("The maxima are M/(8d) and M/(16d).", quarter),
        Rival("Every type reaches M/(2d).", one_type),
        Rival("The dimension of the irrep does not matter.", no_dimension),
    ),
    draw=draw,
    formulas=(
        "lazy_rich.feature_emergence.lone_feature",
        "lazy_rich.feature_emergence.rate",
        "lazy_rich.feature_emergence.s3_node",
        "lazy_rich.feature_emergence.quaternion_node",
    ),
)
