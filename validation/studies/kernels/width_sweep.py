"""What a wide network learns is decided by how its layers scale with the width: exponents of one training step."""

from __future__ import annotations

from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import optax

from sims.engine import grid, simulate
from sims.networks.abc import abc, layerwise
from sims.training import training
from theory.kernels.scalings import (
    gauge_changed,
    growth,
    layer_rates,
    maximal_update,
    mean_field,
    ntk,
    regime,
    standard,
)
from validation import style
from validation.metrics import gap
from validation.study import Claim, Rival, Study

QUANTITIES = ("f at the start", "change of f", "change of h^L", "change of h^1")


def draw_problem(settings, seed):
    """Data, and the scalings with their optimisers."""
    rng = np.random.default_rng(seed)
    depth = settings["depth"]
    x = rng.normal(size=(settings["samples"], settings["inputs"]))
    mup = maximal_update(depth)
    # Half-way between the kernel regime and feature learning: a readout that starts as n^{-3/4}.
    between = gauge_changed(ntk(depth), 0.0)._replace(b=ntk(depth).b.at[-1].set(0.25))
    scalings = {
        "standard, rate 1/n": (standard(depth, 1.0), "sgd"),
        "NTK": (ntk(depth), "sgd"),
        "readout $n^{-3/4}$": (between._replace(c=layer_rates(between)), "sgd"),
        "maximal update": (mup, "sgd"),
        "mean field": (mean_field(depth), "sgd"),
        "maximal update, Adam": (mup._replace(c=layer_rates(mup, "adam")), "adam"),
    }
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    y = np.sign(rng.normal(size=(settings["samples"], 1)))
    return SimpleNamespace(**settings, seed=seed, x=x, y=y, scalings=scalings)


def exponents(scaling, optimiser):
    """Of the four quantities, after one step."""
    g = growth(scaling, optimiser, first_step=True)
    return [float(e) for e in (g.output_start, g.output_change, g.feature_change, g.layer_change[0])]


def predict(problem):
    return {
        "names": list(problem.scalings),
        "regimes": [regime(*pair) for pair in problem.scalings.values()],
        "widths": np.asarray(problem.widths),
        "exponents": np.array([exponents(*pair) for pair in problem.scalings.values()]),
        "depth": problem.depth,
    }


def simulate_networks(problem):
    """Mean squares of the four quantities per network, and the outputs: (widths, seeds, scalings, ...)."""
    x, y = jnp.asarray(problem.x), jnp.asarray(problem.y)
    squares, outputs = [], []
    for width in problem.widths:
        trained = training(
            lambda key, hyper, width=width: abc(key, x.shape[1], width, hyper["run"][0], hyper["run"][1]),
            lambda network, _: 0.5 * jnp.mean((y - network(x)) ** 2),
            lambda hyper, width=width: optimiser(problem.lr, width, *hyper["run"][2:]),
            lambda _, __: None,
            lambda network, _: network.layers(x),
        )
        # A few networks at a time: all their weights are held together.
        parts = [trained_part(trained, runs) for runs in sweeps(problem)]
        squares.append(np.concatenate([part[0] for part in parts]))
        outputs.append(np.concatenate([part[1] for part in parts]))
    return {"squares": np.stack(squares), "outputs": np.stack(outputs)}


def trained_part(trained, runs):
    """Mean squares, (seeds, scalings, quantities), and outputs after one step, (seeds, scalings, samples, 1)."""
    layers = [np.asarray(h) for h in simulate(trained, runs, [0, 1]).on_grid()]
    first, last, f = ((h[:, :, 0], h[:, :, 1]) for h in (layers[0], layers[-2], layers[-1]))
    changes = [f[0], *(after - before for before, after in (f, last, first))]
    return np.stack([np.mean(c**2, axis=(2, 3)) for c in changes], axis=-1), f[1]


def sweeps(problem):
    """All scalings in one program: a run is the rows a, b, c and whether the step is Adam's."""
    rows = [
        np.stack([*np.asarray(scaling), np.full(problem.depth + 1, float(kind == "adam"))])
        for scaling, kind in problem.scalings.values()
    ]
    seeds = problem.seed * problem.networks + np.arange(problem.networks)
    for part in np.split(seeds, problem.networks // problem.together):
        yield grid(part, run=np.stack(rows))


def optimiser(lr, width, c, adam):
    """SGD, or Adam's first step: every weight moves by the learning rate, here a third of SGD's."""

    def direction(updates, _):
        return updates.__class__(
            tuple(jnp.where(adam[0] > 0, jnp.sign(g) / 3, g) for g in updates.weights),
            updates.multipliers,
            updates.activation,
        )

    return layerwise(lr * float(width) ** -c, optax.stateless(direction))


def measured(prediction, observation):
    """Log-log slopes of root mean squares against width, and what they may be off by: (scalings, quantities)."""
    squares, n = observation["squares"], prediction["widths"]
    logs = 0.5 * np.log(squares.mean(axis=1))
    relative = squares.std(axis=1, ddof=1) / squares.mean(axis=1)
    noise = 0.5 * relative / np.sqrt(squares.shape[1])
    centred = np.log(n) - np.log(n).mean()
    weights = centred / np.sum(centred**2)
    # Mean squares are powers up to a relative 1/n of order one for each layer, roots of them up to half of it.
    curvature = np.abs(weights @ (0.5 / n)) * (prediction["depth"] + 1)
    slopes = np.tensordot(weights, logs, 1)
    return slopes, np.hypot(np.sqrt(np.tensordot(weights**2, noise**2, 1)), curvature)


def of(*rows):
    """The claim's measure on some of the scalings, by name."""

    def measure(prediction, observation):
        slopes, error = measured(prediction, observation)
        keep = [prediction["names"].index(row) for row in rows] if rows else slice(None)
        return gap(prediction["exponents"][keep], slopes[keep], error[keep])

    return measure


def gauge_gap(prediction, observation):
    """Largest difference between maximal update and mean field, same seeds, over the rounding of a sum over n."""
    one, other = (prediction["names"].index(name) for name in ("maximal update", "mean field"))
    f = observation["outputs"]
    rounding = np.finfo(float).eps * prediction["widths"][:, None, None, None]
    return float(np.max(np.abs(f[:, :, one] - f[:, :, other])[..., 0] / rounding[..., 0]))


def replaced(name, quantity, value):
    """A rival that believes in another exponent."""

    def predict(_, prediction):
        exponents = prediction["exponents"].copy()
        exponents[prediction["names"].index(name), QUANTITIES.index(quantity)] = value
        return prediction | {"exponents": exponents}

    return predict


def unaligned(problem, prediction):
    """Updates taken as independent of what they act on: sums over the width gain n^{1/2} and not n."""
    exponents = prediction["exponents"].copy()
    exponents[:, 2] -= 0.5
    return prediction | {"exponents": exponents}


def draw(figure, problem, prediction, observation):
    axes, slopes_axes = figure.subplots(1, 2, width_ratios=(1.5, 1))
    n = prediction["widths"]
    sizes = np.sqrt(observation["squares"].mean(axis=1))
    slopes, error = measured(prediction, observation)
    for i, name in enumerate(prediction["names"]):
        if name == "mean field":
            continue
        e = prediction["exponents"][i, 2]
        level = np.exp(np.mean(np.log(sizes[:, i, 2]) - e * np.log(n)))
        style.theory(axes, n, level * n.astype(float) ** e, i=i, label=f"{name}: $n^{{{e:g}}}$")
        style.networks(axes, n, sizes[:, i, 2], i=i)
    axes.set(xscale="log", yscale="log", xlabel="width n", ylabel="change of $h^L$", title="Features after one step")
    axes.set_xticks(n, [str(k) for k in n])
    axes.minorticks_off()
    axes.set_ylim(sizes[..., 2].min() / 30, None)
    axes.legend(ncols=2, fontsize=7.5, loc="lower left")
    line = np.array([-1.6, 0.1])
    style.theory(slopes_axes, line, line, i=7)
    for q, name in enumerate(QUANTITIES):
        shift = 0.02 * (q - 1.5)
        style.networks(
            slopes_axes, prediction["exponents"][:, q] + shift, slopes[:, q], i=q, error=error[:, q],
            label=name.replace("^L", "$^L$").replace("^1", "$^1$"),
        )  # fmt: skip
    slopes_axes.set(xlabel="predicted exponent", ylabel="measured", title="Exponents")
    slopes_axes.legend(fontsize=7.5)


STUDY = Study(
    title="Width scalings",
    question="Which networks still learn features as they grow wide, and which become kernel machines?",
    source="Yang & Hu 2021 (arXiv:2011.14522), section 3 and table 1",
    regimes=("lazy", "rich"),
    asks="what",
    sizes={
        "smoke": dict(widths=(32, 64, 128, 256), depth=2, networks=32, together=32, inputs=4, samples=3, lr=0.5),
        "paper": dict(
            widths=(256, 512, 1024, 2048, 4096), depth=3, networks=40, together=1, inputs=16, samples=8, lr=0.5
        ),
    },
    problem=draw_problem,
    predict=predict,
    simulate=simulate_networks,
    claims=(
        Claim(
            "Start, output and features scale with the predicted powers of the width, in every scaling.",
            of(),
            5,
            "Standard errors over seeds; root mean squares bend by a relative 1/n per layer.",
        ),
        Claim(
            "In the NTK scaling features freeze, as n^{-1/2}; in maximal update they move as much at any width.",
            of("NTK", "maximal update"),
            5,
            "The same error, on the two famous scalings alone.",
        ),
        Claim(
            "Mean field and maximal update are one scaling in two gauges: the same outputs, seed by seed.",
            gauge_gap,
            1,
            "Rounding of sums over the width, if every term is rounded the same way.",
        ),
    ),
    rivals=(
        Rival("Standard networks at rate 1/n learn features.", replaced("standard, rate 1/n", "change of h^L", 0.0)),
        Rival("NTK networks learn features: r = 0.", replaced("NTK", "change of h^L", 0.0)),
        Rival("Maximal update is a kernel regime, r = 1/2.", replaced("maximal update", "change of h^L", -0.5)),
        Rival("Updates are independent of what they act on, so that sums over the width gain sqrt(n).", unaligned),
        Rival(
            "The first layer of a standard network moves like the others.",
            replaced("standard, rate 1/n", "change of h^1", -0.5),
        ),
    ),
    draw=draw,
    formulas=("kernels.scalings.feature_exponent", "kernels.scalings.output_change", "kernels.scalings.layer_rates"),
)
