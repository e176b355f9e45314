"""Output scale: the larger it is the less a network moves, with exponents known in advance and a crossover."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax

from sims.engine import grid, simulate
from sims.networks.centred import centred
from sims.networks.deep_linear import DeepLinear
from sims.networks.diagonal import constant
from sims.networks.linearised import linearised
from sims.networks.mlp import mlp
from sims.probes.ntk import empirical_ntk
from sims.training import gradient_descent, training
from theory.flow import descent_error
from theory.lazy_rich.laziness import misalignment
from theory.lazy_rich.output_scale import (
    KERNEL_ORDER,
    LINEARISATION_ORDER,
    MISALIGNMENT_ORDER,
    WEIGHT_ORDER,
    crossover_scale,
    diagonal_kernel,
    lazy_weight_change,
    two_layer_kernel,
    two_layer_output,
)
from validation import style
from validation.metrics import fitted_exponent, gap, log_mean
from validation.study import Claim, Problem, Rival, Study

ORDERS = {
    "weights": WEIGHT_ORDER,
    "kernel": KERNEL_ORDER,
    "linearisation": LINEARISATION_ORDER,
    "misalignment": MISALIGNMENT_ORDER,
}
KINDS = ("mode", "diagonal")
TITLES = {
    "weights": "weights",
    "kernel": "kernel",
    "linearisation": "outputs − linearised",
    "misalignment": "1 − kernel alignment",
}


def problem(settings, seed):
    """Inputs, targets and the starts of a few networks, with their tangent kernels there."""
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(settings["samples"], settings["inputs"])), rng.normal(size=settings["samples"])
    seeds = seed * settings["networks"] + np.arange(settings["networks"])
    at_start = jax.jit(lambda seed: tangent_kernel(start_of(settings, jax.random.key(seed)), jnp.asarray(x)))
    kernels = np.stack([np.asarray(at_start(s)) for s in seeds])
    return Problem(**settings, seed=seed, x=x, y=y, seeds=seeds, kernels=kernels)


def start_of(settings, key):
    widths = (settings["inputs"], settings["width"], 1)
    return mlp(key, widths, 1.5, 0.1, jnp.tanh)


def tangent_kernel(network, x):
    return empirical_ntk(network, x, strategy="jacobian")[:, 0, :, 0]


def predict(problem):
    """Distances and orders for the network; outputs, kernels and their crossover for one mode."""
    t = problem.lr * problem.steps
    scales = np.asarray(problem.scales)
    distance = [
        [lazy_weight_change(np.array([t]), kernel, problem.y, s)[0] for kernel in problem.kernels] for s in scales
    ]
    times = problem.mode_lr * np.asarray(problem.record)
    lam, y = problem.imbalance, problem.target
    mode_scales = np.asarray(problem.mode_scales)[:, None]
    mode = np.asarray(two_layer_output(times, y, lam, mode_scales))
    # A coordinate of a diagonal network with the same kernel at the start, twice that of a mode of lam / 2.
    coordinate = np.asarray(two_layer_output(2 * times, y, lam / 2, mode_scales))
    return {
        "scales": scales,
        "distance": np.asarray(distance),
        "orders": ORDERS,
        "times": times,
        "mode": mode,
        "mode_kernel": np.asarray(two_layer_kernel(mode, lam, mode_scales)) / lam,
        "diagonal": coordinate,
        "diagonal_kernel": np.asarray(diagonal_kernel(coordinate, lam / 8, mode_scales)) / lam,
        "crossover": float(crossover_scale(y, lam)),
        "mode_error": step_error(problem, times, *MODE),
        "diagonal_error": step_error(problem, times, *COORDINATE),
    }


# What two weights put out, and their start, of kernel lam in both cases.
MODE = (lambda a, w: a * w, lambda lam: (jnp.sqrt(lam), jnp.zeros(())))
COORDINATE = (lambda u, v: u**2 - v**2, lambda lam: (jnp.sqrt(lam / 8),) * 2)


def step_error(problem, times, output, start):
    """Largest leading error of gradient descent on the two weights, for each scale."""

    @jax.jit
    def largest(scale):
        def field(weights):
            loss = lambda w: (problem.target - scale * output(*w)) ** 2 / 2 / scale**2  # noqa: E731
            return jax.tree.map(jnp.negative, jax.grad(loss)(weights))

        weights, errors = descent_error(field, times[1:], start(jnp.asarray(float(problem.imbalance))))
        moved = jax.vmap(lambda w, e: jax.jvp(lambda w: output(*w), (w,), (e,))[1])(weights, errors)
        return problem.mode_lr * jnp.max(jnp.abs(scale * moved))

    return np.array([largest(s) for s in problem.mode_scales])


def simulate_networks(problem):
    """A network of tanh units beside its linearisation, and one mode in a linear network, at every output scale."""
    found = train(problem)
    modes = [linear_mode(problem, s) | coordinate(problem, s) for s in problem.mode_scales]
    return found | {name: np.stack([one[name] for one in modes]) for name in modes[0]}


def train(problem):
    """How far weights, kernel and outputs have gone from the start and from the linearised network: (scales, runs)."""
    x, y = jnp.asarray(problem.x), jnp.asarray(problem.y)

    def start(_, hyper):
        # Those networks whose kernels the theory was given.
        network = start_of(vars(problem), jax.random.key(hyper["network"]))
        return centred(network), centred(linearised(network))

    def loss(pair, hyper):
        scale = hyper["scale"]
        return sum(jnp.mean((scale * f(x)[:, 0] - y) ** 2) / 2 / scale**2 for f in pair)

    def record(pair, hyper):
        network, tangent = pair
        return {
            "kernel": tangent_kernel(network.network, x),
            "moved": jnp.sqrt(network.moved()),
            "network": hyper["scale"] * network(x)[:, 0],
            "tangent": hyper["scale"] * tangent(x)[:, 0],
        }

    descent = training(start, loss, lambda _: optax.sgd(problem.lr), lambda _, hyper: hyper, record)
    runs = grid(seeds=[0], scale=problem.scales, network=problem.seeds)
    now = simulate(descent, runs, [0, problem.steps]).on_grid()
    first, last = ({name: value[0, :, :, i] for name, value in now.items()} for i in (0, 1))

    def size(array, axes):
        return np.sqrt(np.sum(array**2, axis=axes))

    return {
        "weights": last["moved"],
        "kernel": size(last["kernel"] - first["kernel"], (-2, -1)) / size(first["kernel"], (-2, -1)),
        "linearisation": size(last["network"] - last["tangent"], -1) / size(last["tangent"], -1),
        "misalignment": np.asarray(misalignment(last["kernel"], first["kernel"])),
    }


def linear_mode(problem, scale):
    """Output and kernel of a two-layer linear network of one input and one output, its readout starting at zero."""
    first = jnp.full((1, 1), problem.imbalance**0.5)

    def start(_, __):
        return DeepLinear((first, jnp.zeros((1, 1))))

    def loss(model):
        return (scale * model.product()[0, 0] - problem.target) ** 2 / 2 / scale**2

    def record(model, _):
        size = sum(jnp.sum(w**2) for w in model.weights)
        return {"mode": scale * model.product()[0, 0], "mode_kernel": size / problem.imbalance}

    descent = gradient_descent(start, loss, problem.mode_lr, record)
    return {name: value[0] for name, value in simulate(descent, grid(seeds=[0]), problem.record).records.items()}


def coordinate(problem, scale):
    """The same of a diagonal network of one coordinate."""

    def loss(model):
        return (scale * model.coefficients()[0] - problem.target) ** 2 / 2 / scale**2

    def record(model, _):
        size = 4 * jnp.sum(model.u**2 + model.v**2)
        return {"diagonal": scale * model.coefficients()[0], "diagonal_kernel": size / problem.imbalance}

    start = constant((problem.imbalance / 8) ** 0.5, 1)
    descent = gradient_descent(lambda _, __: start, loss, problem.mode_lr, record)
    return {name: value[0] for name, value in simulate(descent, grid(seeds=[0]), problem.record).records.items()}


def distances(prediction, observation):
    """Weights of the laziest networks against the theory, in units of the next order, 1/scale of their outputs."""
    lazy = prediction["scales"] >= LAZY
    expected = prediction["distance"][lazy]
    return gap(expected, observation["weights"][lazy], expected / prediction["scales"][lazy][:, None])


# From here on a network of these sizes is lazy, and its exponents are fitted.
LAZY = 16.0


def orders(prediction, observation):
    """Largest deviation of a fitted exponent, in its standard error over networks and the order of the next term."""
    lazy = prediction["scales"] >= LAZY
    scales, worst = prediction["scales"][lazy], []
    for name, order in prediction["orders"].items():
        exponent, error = fitted_exponent(scales, observation[name][lazy], log_mean)
        worst.append(abs(exponent - order) / np.hypot(error, 1 / LAZY))
    return max(worst)


def mode_outputs(prediction, observation):
    """Outputs of a mode and of a coordinate at every scale and time, in units of the step's leading error."""
    return max(gap(prediction[one], observation[one], prediction[f"{one}_error"][:, None]) for one in KINDS)


def mode_kernels(prediction, observation):
    """Their kernels relative to the start's, in units of the step's leading error relative to the outputs'."""
    worst = []
    for one in KINDS:
        expected, found = (side[f"{one}_kernel"][:, 1:] for side in (prediction, observation))
        worst.append(gap(expected, found, prediction[f"{one}_error"][:, None] * expected))
    return max(worst)


def draw(figure, problem, prediction, observation):
    left, middle, right = figure.subplots(1, 3)
    scales = prediction["scales"]
    for i, (name, order) in enumerate(ORDERS.items()):
        measured = np.exp(np.mean(np.log(observation[name]), axis=1))
        line = measured[-1] * (scales / scales[-1]) ** order
        if name == "weights":
            line = np.exp(np.mean(np.log(prediction["distance"]), axis=1))
        style.theory(left, scales, line, i=i, label=f"{TITLES[name]}: $\\alpha^{{{order}}}$")
        style.networks(left, scales, measured, i=i)
    left.set(xscale="log", yscale="log", xlabel="output scale α", title="Left behind by training")
    left.set_ylim(bottom=observation["misalignment"].min() / 1e4)
    left.legend(loc="lower left", fontsize=6.5)
    t = prediction["times"]
    for i, scale in enumerate(problem.mode_scales):
        style.theory(middle, t, prediction["mode"][i], i=i, label=f"α = {scale:g}")
        style.networks(middle, t, observation["mode"][i], i=i)
        style.theory(right, t, prediction["mode_kernel"][i], i=i)
        style.networks(right, t, observation["mode_kernel"][i], i=i)
        style.theory(right, t, prediction["diagonal_kernel"][i], i=i, linestyle=":")
        style.networks(right, t, observation["diagonal_kernel"][i], i=i, marker="s")
    style.rival(middle, t, problem.target * -np.expm1(-problem.imbalance * t), label="lazy")
    middle.set(xlabel="time", ylabel="output", title="One linear mode")
    middle.legend(loc="lower right", fontsize=7)
    right.set(xlabel="time", ylabel="kernel / kernel at the start", yscale="log")
    right.text(0.97, 0.73, "dotted, squares: diagonal network", transform=right.transAxes, ha="right", fontsize=7)
    right.set_title(f"Crossover at α = {prediction['crossover']:.2g}")


def no_scale(problem, prediction):
    """Laziness is the norm of the weights, which is the same at every output scale."""
    flat = np.full_like(prediction["distance"], prediction["distance"].mean())
    return prediction | {"distance": flat, "orders": dict.fromkeys(ORDERS, 0)}


def first_order_turn(problem, prediction):
    """The kernel turns in proportion to the weights' change."""
    return prediction | {"orders": ORDERS | {"misalignment": KERNEL_ORDER}}


def always_lazy(problem, prediction):
    """The kernel of the start, at every scale."""
    t = prediction["times"]
    lazy = np.broadcast_to(problem.target * -np.expm1(-problem.imbalance * t), prediction["mode"].shape)
    kernels = {f"{one}_kernel": np.ones_like(prediction["mode_kernel"]) for one in KINDS}
    return prediction | dict.fromkeys(KINDS, lazy) | kernels


def balanced(problem, prediction):
    """Always rich: K = 2 F / alpha, what balanced layers have."""
    scales = np.asarray(problem.mode_scales)[:, None]
    kernel = 2 * np.abs(prediction["mode"]) / scales / problem.imbalance
    return prediction | {"mode_kernel": kernel}


STUDY = Study(
    title="Output scale, from features to kernel",
    question="By how much does a factor on the output make a network lazy?",
    source="Chizat, Oyallon & Bach 2019 (arXiv:1812.07956)",
    regimes=("lazy", "rich"),
    asks="what",
    sizes={
        "smoke": dict(
            samples=10,
            inputs=4,
            width=64,
            networks=4,
            scales=(1.0, 4.0, 16.0, 32.0, 64.0, 128.0),
            lr=0.2,
            steps=150,
            imbalance=1.0,
            target=2.0,
            mode_scales=(0.25, 1.0, 4.0, 16.0),
            mode_lr=0.005,
            record=tuple(range(0, 1001, 50)),
        ),
        "paper": dict(
            samples=40,
            inputs=10,
            width=1000,
            networks=8,
            scales=(1.0, 4.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0),
            lr=0.2,
            steps=1500,
            imbalance=1.0,
            target=2.0,
            mode_scales=(0.05, 0.25, 1.0, 4.0, 16.0),
            mode_lr=0.0005,
            record=tuple(range(0, 10_001, 500)),
        ),
    },
    problem=problem,
    predict=predict,
    simulate=simulate_networks,
    claims=(
        Claim(
            "The weights of lazy networks travel sqrt(r Theta^{-1} r) / alpha, as far as training has come.",
            distances,
            1,
            "In units of 1/alpha of the distance, the order of the next term.",
        ),
        Claim(
            "Weights, kernel and linearisation error fall as 1/alpha, the kernel's turn as 1/alpha^2.",
            orders,
            2,
            "Standard error of the fitted exponent over networks, beside 1/16, the next order at the smallest scale.",
        ),
        Claim(
            "A mode of a linear network, and a coordinate of a diagonal one, follow their flow from rich to lazy.",
            mode_outputs,
            3,
            "In units of the leading error of a finite step.",
        ),
        Claim(
            "Kernels grow as sqrt(imbalance^2 + 4 (F / alpha)^2); a coordinate's imbalance is 4 u v.",
            mode_kernels,
            3,
            "The same, relative to the kernel.",
        ),
    ),
    rivals=(
        Rival("Laziness is the norm of the weights, whatever the output scale.", no_scale),
        Rival("The kernel turns in proportion to the weights' change.", first_order_turn),
        Rival("The kernel of the start holds at every scale.", always_lazy),
        Rival("The layers are as good as balanced.", balanced),
    ),
    draw=draw,
    formulas=(
        "lazy_rich.output_scale.two_layer_kernel",
        "lazy_rich.output_scale.two_layer_output",
        "lazy_rich.output_scale.diagonal_kernel",
        "lazy_rich.output_scale.crossover",
        "lazy_rich.output_scale.weight_change",
    ),
)
