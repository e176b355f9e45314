"""Cross-entropy and momentum: wide networks that start at zero follow one curve, whatever they are trained with."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax

from sims.engine import grid, simulate
from sims.networks.centred import centred
from sims.networks.mlp import mlp, squared_error
from sims.training import training
from theory.kernels.cross_entropy import cross_entropy, loss_descent
from theory.kernels.infinite import kernels
from theory.kernels.linearised_training import Blocks, descent_filter, trained_function
from theory.kernels.momentum import heavy_ball_filter, nesterov_filter
from validation import style
from validation.metrics import rate, z_score
from validation.study import Claim, Problem, Rival, Study

# How each ensemble is trained: the loss, the momentum (of the problem's size or none), and its form.
RULES = {
    "cross-entropy": ("cross_entropy", False, False),
    "cross-entropy, heavy ball": ("cross_entropy", True, False),
    "squared loss, heavy ball": ("squared", True, False),
    "squared loss, Nesterov": ("squared", True, True),
}


def problem(settings, seed):
    """Inputs on the sphere in random classes, and test points on a great circle through two of them."""
    rng = np.random.default_rng(seed)
    d, samples, classes = settings["dimension"], settings["samples"], settings["classes"]
    x = rng.normal(size=(samples, d))
    x *= np.sqrt(d) / np.linalg.norm(x, axis=1, keepdims=True)
    across = x[1] - x[0] * (x[0] @ x[1]) / d
    across *= np.sqrt(d) / np.linalg.norm(across)
    angle = 2 * np.pi * (np.arange(settings["tests"]) + 0.5) / settings["tests"]
    path = np.cos(angle)[:, None] * x[0] + np.sin(angle)[:, None] * across
    return Problem(**settings, seed=seed, x=x, y=np.eye(classes)[np.arange(samples) % classes], path=path)


def kernel(problem, of="ntk"):
    """The tangent kernel of the networks, infinitely wide (or their covariance)."""
    joint = kernels(np.concatenate([problem.x, problem.path]), **problem.network)
    return Blocks.split(getattr(joint, of), problem.samples)


def predict(problem):
    """Outputs on the path after numbers of steps, for each way of training."""
    return {name: predicted(problem, kernel(problem), *rule) for name, rule in RULES.items()} | {
        "order": -0.5,
        "per_width": problem.network["depth"],
    }


def predicted(problem, ntk, loss, inert, nesterov):
    """From zero, step for step: in closed form where there is one."""
    beta, lr = (problem.momentum if inert else 0.0), step_size(problem, inert)
    start, test = np.zeros_like(problem.y), np.zeros((problem.tests, problem.classes))
    if loss == "cross_entropy":
        rule = dict(momentum=beta, nesterov=nesterov)
        steps = np.asarray(problem.steps)
        return np.asarray(loss_descent(steps, lr, lambda f: cross_entropy(f, problem.y), ntk, start, test, **rule).test)
    steps, theory = np.asarray(problem.steps)[:, None], nesterov_filter if nesterov else heavy_ball_filter
    return np.asarray(
        trained_function(lambda lam: theory(steps, lam, problem.samples, lr, beta), ntk, problem.y, start, test)
    )


def step_size(problem, inert):
    """With momentum a smaller one: in effect it is larger by 1/(1 - beta)."""
    return problem.lr_with_momentum if inert else problem.lr


def trained(problem, width, seeds, loss, inert, nesterov):
    """Outputs on the path of networks from different starts, (runs, times, tests, classes)."""
    x, y, path = (jnp.asarray(a) for a in (problem.x, problem.y, problem.path))
    widths = (problem.dimension, *[width] * problem.network["depth"], problem.classes)
    w, b = problem.network["weight_variance"], problem.network["bias_variance"]
    momentum = problem.momentum if inert else None

    def deviation(network, _):
        if loss == "squared":
            return squared_error(network, x, y)
        return jnp.mean(optax.losses.softmax_cross_entropy(network(x), y))

    simulation = training(
        lambda key, _: centred(mlp(key, widths, w, b, jax.scipy.special.erf)),
        deviation,
        lambda _: optax.sgd(step_size(problem, inert), momentum, nesterov),
        lambda _, __: None,
        lambda network, _: network(path),
    )
    return simulate(simulation, grid(seeds=seeds), np.asarray(problem.steps)).records


def simulate_networks(problem):
    """Ensembles trained in each way; and networks of several widths on cross-entropy."""
    seeds = 100_000 * problem.seed + np.arange(problem.runs)
    observation = {name: trained(problem, problem.width, seeds, *rule) for name, rule in RULES.items()}
    narrow = [trained(problem, width, 50_000 + seeds, *RULES["cross-entropy"]) for width in problem.widths]
    return observation | {"width": problem.width, "widths": np.asarray(problem.widths), "narrow": narrow}


def score(name):
    """Largest deviation of the ensemble's mean, in standard errors with the leading term of finite width."""

    def measure(prediction, observation):
        moved = slice(1, None)
        expected, outputs = prediction[name][moved], observation[name][:, moved]
        floor = prediction["per_width"] * np.abs(expected).max() / observation["width"]
        return z_score(expected, outputs, floor=floor)

    return measure


def departures(prediction, observation):
    """Root mean square of single networks' deviations from the infinite one, at each width."""
    expected = prediction["cross-entropy"]
    return np.array([np.sqrt(np.mean((outputs - expected) ** 2)) for outputs in observation["narrow"]])


def draw(figure, problem, prediction, observation):
    axes = figure.subplots(1, 4)
    steps = np.asarray(problem.steps)
    point = int(np.argmax(np.abs(prediction["cross-entropy"][-1]).max(axis=1)))
    shown = ("cross-entropy", "cross-entropy, heavy ball", "squared loss, heavy ball")
    for panel, name in zip(axes, shown, strict=False):
        for c in range(problem.classes):
            outputs = observation[name][:, :, point, c]
            style.theory(panel, steps, prediction[name][:, point, c], i=c, label=f"class {c + 1}")
            style.networks(panel, steps, outputs.mean(0), i=c, error=outputs.std(0))
        panel.set(xlabel="steps", title=name.replace(", ", ",\n"))
    axes[0].set_ylabel("output at one test point")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=problem.classes)
    n, found = observation["widths"], departures(prediction, observation)
    style.theory(axes[3], n, found[0] * np.sqrt(n[0] / n), i=4, label="∝ width$^{-1/2}$")
    style.networks(axes[3], n, found, i=4, label="networks")
    axes[3].set(xscale="log", yscale="log", xlabel="width", ylabel="rms deviation", title="cross-entropy,\none network")
    axes[3].set_xticks(n, [str(v) for v in n])
    axes[3].minorticks_off()
    axes[3].legend(loc="upper right", fontsize=7.5)


def other_kernel(problem, prediction):
    """All ways of training, with the kernel of the untrained outputs in place of the tangent kernel."""
    nngp = kernel(problem, "nngp")
    return prediction | {name: predicted(problem, nngp, *rule) for name, rule in RULES.items()}


def effective_rate(problem, prediction):
    """Momentum is nothing but a larger learning rate, lr / (1 - beta)."""
    lr = problem.lr_with_momentum / (1 - problem.momentum)
    steps, ntk = np.asarray(problem.steps)[:, None], kernel(problem)
    found = trained_function(
        lambda lam: descent_filter(steps, lam, problem.samples, lr),
        ntk,
        problem.y,
        np.zeros_like(problem.y),
        np.zeros((problem.tests, problem.classes)),
    )
    return prediction | {"squared loss, heavy ball": np.asarray(found)}


def swapped(name, belief):
    """Training as `name`, predicted by another rule."""
    return lambda problem, prediction: prediction | {name: predicted(problem, kernel(problem), *belief)}


def unsaturated(problem, prediction):
    """The gradient of the cross-entropy stays what it is at the start, y - 1/C."""
    ntk, lr = kernel(problem), problem.lr
    push = ntk.cross @ (problem.y - 1 / problem.classes) / problem.samples
    return prediction | {"cross-entropy": lr * np.asarray(problem.steps)[:, None, None] * np.asarray(push)}


_SETTINGS = dict(
    dimension=4,
    samples=9,
    classes=3,
    network=dict(depth=1, activation="erf", weight_variance=2.25, bias_variance=0.01),
    lr=1.0,
    lr_with_momentum=0.1,
    momentum=0.9,
)

STUDY = Study(
    title="Cross-entropy and momentum in wide networks",
    question="Does the tangent kernel of the start foretell training with other losses and optimisers, too?",
    source="Lee et al. 2019 (arXiv:1902.06720), sections 2.4 and 3; Goh 2017 for momentum",
    regimes=("lazy",),
    asks="how trained",
    sizes={
        "smoke": dict(
            **_SETTINGS, tests=6, steps=(0, 2, 5, 10, 20, 40, 80), width=512, runs=40, widths=(128, 362, 1024)
        ),
        "paper": dict(
            **_SETTINGS,
            tests=24,
            steps=(0, 2, 5, 10, 20, 40, 80, 160, 320),
            width=8192,
            runs=200,
            widths=(256, 1024, 4096, 16384),
        ),
    },
    problem=problem,
    predict=predict,
    simulate=simulate_networks,
    claims=(
        *(
            Claim(
                f"Trained with {name}, the mean network is the predicted one at every step.",
                score(name),
                5,
                "Five standard errors of the mean, with depth/width of the outputs' size as the term of finite width.",
            )
            for name in RULES
        ),
        Claim(
            "A single network deviates from the infinite one as its kernel does, in proportion to 1/sqrt(width).",
            lambda p, o: rate(o["widths"], departures(p, o), p["order"]),
            0.2,
            "The root mean square over forty networks is known to 12 %; at width 128 the order 1/width adds some.",
        ),
    ),
    rivals=(
        Rival("The outputs move along the NNGP kernel, as if the readout alone were trained.", other_kernel),
        Rival("Momentum is nothing but a learning rate of lr / (1 - beta).", effective_rate),
        Rival(
            "Nesterov momentum is a heavy ball.", swapped("squared loss, Nesterov", RULES["squared loss, heavy ball"])
        ),
        Rival("The softmax does not saturate: outputs grow in proportion to time.", unsaturated),
        Rival(
            "Single networks deviate as 1/width, as from their own tangent.",
            lambda problem, prediction: prediction | {"order": -1.0},
        ),
    ),
    draw=draw,
    formulas=(
        "kernels.momentum.heavy_ball_ringing",
        "kernels.momentum.heavy_ball_relaxing",
        "kernels.momentum.nesterov_ringing",
        "kernels.cross_entropy.cross_entropy",
    ),
)
