"""Grokking without weight decay: a network fits its samples by its kernel, and finds the feature much later."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import optax

from sims.engine import grid, simulate
from sims.networks.polynomial import Polynomial
from sims.training import training
from theory.lazy_rich.grokking import (
    Quadratic,
    first_time_below,
    infinite_width,
    mean_squared_error,
    network_start,
    quadratic_descent,
    quadratic_output,
    quadratic_tangent_kernel,
)
from theory.lazy_rich.laziness import centred_alignment
from validation import style
from validation.metrics import disorder, gap, z_score
from validation.study import Claim, Problem, Rival, Study

# Relative; a sum in another order, after thousands of steps of a stable recursion.
ROUNDING = 1e-8


def problem(settings, seed):
    """Gaussian samples of one feature, and the first weights of the networks."""
    rng, d = np.random.default_rng(seed), settings["d"]
    most = max(samples for samples, *_ in settings["cases"])
    x = rng.normal(size=(most + settings["tests"], d)) / np.sqrt(d)
    beta = rng.normal(size=d)
    beta *= np.sqrt(d) / np.linalg.norm(beta)
    weights = rng.normal(size=(settings["networks"], settings["neurons"], d))
    y = (x @ beta) ** 2 / 2
    given = dict(x=x[:most], y=y[:most], new=x[most:], new_y=y[most:], beta=beta, weights=weights)
    return Problem(**settings, seed=seed, **given)


def curves(problem, start, samples, scale, curvature, factor=1.0):
    """Training and test error and the mean squared weight at the recorded steps."""
    x, y = problem.x[:samples], problem.y[:samples]
    richness = factor * curvature / scale
    found = quadratic_descent(problem.steps, x, y, start, richness, problem.lr, every=problem.every)
    size = np.trace(np.asarray(found.form), axis1=1, axis2=2) / (scale * curvature * problem.d)
    return {
        "training": np.mean((np.asarray(quadratic_output(found, x)) - y) ** 2, axis=1),
        "test": np.mean((np.asarray(quadratic_output(found, problem.new)) - problem.new_y) ** 2, axis=1),
        "everywhere": np.asarray(mean_squared_error(found, target(problem), 1 / problem.d)),
        "weights": size,
    }


def target(problem):
    return Quadratic(np.zeros(problem.d), np.outer(problem.beta, problem.beta))


def from_start(problem, start, factor=1.0):
    """Curves of every case (rows) from `start(scale, curvature)`."""
    found = [curves(problem, start(*case[1:]), *case, factor) for case in problem.cases]
    return {name: np.stack([one[name] for one in found]) for name in found[0]}


def predict(problem, factor=1.0):
    """Infinitely wide networks, and each trained network from its own first weights."""
    wide = from_start(problem, lambda *case: infinite_width(problem.d, *case), factor)
    own = [from_start(problem, lambda *case, w=w: network_start(w, *case), factor) for w in problem.weights]
    t = problem.lr * np.arange(0, problem.steps + 1, problem.every)
    exact = {f"own_{name}": np.stack([one[name] for one in own]) for name in own[0]}
    named = dict(t=t, threshold=problem.threshold, order=1 / problem.neurons, scales=problem.scales)
    return wide | exact | named | {"aligned": start_alignments(problem), "curved": problem.curved}


def start_alignments(problem):
    """Alignment of the tangent kernel of the start with the labels, of each case."""
    found = []
    for samples, scale, curvature in problem.cases:
        x, y = problem.x[:samples], problem.y[:samples]
        kernel = quadratic_tangent_kernel(infinite_width(problem.d, scale, curvature), x, x, curvature / scale)
        found.append(centred_alignment(kernel, np.outer(y, y)))
    return np.array(found)


def simulate_networks(problem):
    """Gradient descent on the weights themselves, all networks at once, case after case."""
    descents = {samples: descent(problem, samples) for samples, *_ in problem.cases}
    seeds, at = np.arange(problem.networks), range(0, problem.steps + 1, problem.every)
    found = []
    for samples, scale, curvature in problem.cases:
        numbers = {name: np.full(len(seeds), value) for name, value in (("scale", scale), ("curvature", curvature))}
        runs = grid(seeds=seeds)._replace(hyper={"weights": problem.weights} | numbers)
        found.append(simulate(descents[samples], runs, at, optimised=True).records)
    return {name: np.stack([one[name] for one in found], axis=1) for name in found[0]}


def descent(problem, samples):
    """Errors through training on that many samples, and the mean squared weight."""
    x, y = jnp.asarray(problem.x[:samples]), jnp.asarray(problem.y[:samples])

    def start(_, hyper):
        return Polynomial(hyper["weights"], hyper["scale"], hyper["curvature"])

    def errors(model, _):
        wrong = model(jnp.asarray(problem.new)) - jnp.asarray(problem.new_y)
        return {
            "training": jnp.mean((model(x) - y) ** 2),
            "test": jnp.mean(wrong**2),
            "weights": jnp.mean(model.weights**2),
        }

    return training(
        start,
        lambda model, _: jnp.mean((model(x) - y) ** 2) / 2,
        lambda hyper: optax.sgd(problem.lr * problem.neurons / hyper["scale"] ** 2),
        lambda _, __: None,
        errors,
    )


def exactly(prediction, observation):
    """Largest deviation of a network's curves from those of its own two averages, in units of `ROUNDING`."""
    return max(
        gap(prediction[f"own_{name}"], observation[name], ROUNDING * (prediction[f"own_{name}"] + 1e-6))
        for name in ("training", "test", "weights")
    )


def log_times(prediction, found):
    """ln of the times to fit and to generalise, (..., cases) each; of ten times the last record, where it never was."""
    t, threshold = prediction["t"], prediction["threshold"]
    at = [np.asarray(first_time_below(t, found[name], threshold)) for name in ("training", "test")]
    return [np.log(np.where(np.isfinite(times), times, 10 * t[-1])) for times in at]


def in_width(prediction, observation):
    """Times of networks against infinite width, in standard errors and the order 1/width."""
    both = zip(log_times(prediction, prediction), log_times(prediction, observation), strict=True)
    return max(z_score(wide, own, floor=prediction["order"]) for wide, own in both)


def out_of_order(prediction, observation):
    """Pairs of scales at which the larger one does not generalise later, by how much longer than it takes to fit."""
    fitted, generalised = log_times(prediction, {name: observation[name].mean(axis=0) for name in ("training", "test")})
    scales = prediction["scales"]
    return disorder(generalised[:scales]) + int(np.sum(~(generalised > fitted)[:scales]))


def misaligned_out_of_order(prediction, observation):
    """Pairs of cases of which the one with the better aligned tangent kernel does not generalise earlier."""
    mean = {name: observation[name].mean(axis=0) for name in ("training", "test")}
    generalised = log_times(prediction, mean)[1][list(prediction["curved"])]
    aligned = prediction["aligned"][list(prediction["curved"])]
    return disorder(-generalised[np.argsort(aligned)])


def growth(prediction, observation):
    """Factor by which mean squared weights are predicted and measured to grow, in case by case deviations of ln."""
    predicted, measured = (np.log(found["weights"][..., -1]) for found in (prediction, observation))
    return z_score(predicted, measured, floor=prediction["order"])


def draw(figure, problem, prediction, observation):
    left, middle, right = figure.subplots(1, 3)
    t, unit = prediction["t"], problem.unit
    for i, name in enumerate(("training", "test")):
        style.theory(left, t[1:], prediction[name][unit, 1:], i=i, label=f"{name} error")
        shown = np.unique(np.geomspace(1, len(t) - 1, 14).astype(int))
        style.networks(left, t[shown], observation[name][:, unit][:, shown].mean(axis=0), i=i)
    frozen_ = frozen(problem, prediction)
    style.rival(left, t[1:], frozen_["test"][unit, 1:], label="nothing after the fit")
    left.set(xscale="log", yscale="log", xlabel="time  t = lr · steps", ylabel="squared error")
    left.set_title(f"P = {problem.cases[unit][0]}, α = {problem.cases[unit][1]:g}")
    left.set_ylim(1e-3, None)
    left.legend(loc="upper right", fontsize=7.5)

    scales = [scale for _, scale, _ in problem.cases[: problem.scales]]
    for i, (name, wide, own) in enumerate(
        zip(
            ("to fit", "to generalise"),
            log_times(prediction, prediction),
            log_times(prediction, observation),
            strict=True,
        )
    ):
        style.theory(middle, scales, np.exp(wide[: problem.scales]), i=i, label=name)
        style.networks(middle, scales, np.exp(own[:, : problem.scales].mean(axis=0)), i=i)
    middle.set(xscale="log", yscale="log", xlabel="output scale α", ylabel="time")
    middle.set_xticks(scales, [f"{scale:g}" for scale in scales])
    middle.set_xticks([], minor=True)
    middle.set_title("The lazier, the later")
    middle.legend(loc="upper left", fontsize=7.5)

    for i, case in enumerate(problem.window):
        samples = problem.cases[case][0]
        style.theory(right, t[1:], prediction["test"][case, 1:], i=2 + i, label=f"P = {samples}")
        style.networks(right, t[shown], observation["test"][:, case][:, shown].mean(axis=0), i=2 + i)
    right.set(xscale="log", yscale="log", xlabel="time", ylim=(1e-3, None))
    right.set_title("Test error")
    right.legend(loc="lower left", fontsize=7.5)


def frozen(problem, prediction):
    """Once the samples are fitted nothing more is learned."""
    fitted = prediction["training"] < problem.threshold
    at = np.where(fitted.any(axis=1), fitted.argmax(axis=1), -1)
    found = dict(prediction)
    for name in ("test", "weights"):
        curves = prediction[name].copy()
        for case, k in enumerate(at):
            curves[case, k:] = curves[case, k]
        found[name] = curves
    return found


def decaying(problem, prediction):
    """It takes weights that decay: at the end they are no larger than at the start."""
    return prediction | {"weights": np.minimum(prediction["weights"], prediction["weights"][:, :1])}


def kernel_machine(problem, prediction):
    """The kernel of the start, for ever."""
    found = dict(prediction, test=[], training=[])
    steps = np.round(prediction["t"] / problem.lr)[:, None]
    for samples, scale, curvature in problem.cases:
        start, x = infinite_width(problem.d, scale, curvature), problem.x[:samples]
        gram, cross = (np.asarray(quadratic_tangent_kernel(start, z, x, curvature / scale)) for z in (x, problem.new))
        rates, modes = np.linalg.eigh(gram / samples)
        wrong, new_wrong = (
            np.asarray(quadratic_output(start, z)) - labels
            for z, labels in ((x, problem.y[:samples]), (problem.new, problem.new_y))
        )
        kept = (1 - problem.lr * rates) ** steps
        learned = (1 - kept) / np.where(rates > 1e-12, rates, np.inf)
        found["training"].append(np.mean((kept * (modes.T @ wrong)) ** 2, axis=1))
        change = (learned * (modes.T @ wrong)) @ (cross @ modes / samples).T
        found["test"].append(np.mean((new_wrong - change) ** 2, axis=1))
    return {name: np.asarray(value) for name, value in found.items()}


def twice_as_rich(problem, prediction):
    """The richness with a factor of two."""
    return predict(problem, factor=2.0)


STUDY = Study(
    title="Grokking without weight decay",
    question="Why can a network generalise long after it has fitted its samples, and what sets the delay?",
    source="Kumar, Bordelon, Gershman & Pehlevan 2024 (arXiv:2310.06110)",
    regimes=("lazy", "rich"),
    asks="when",
    sizes={
        "smoke": dict(
            d=16,
            # (samples, output scale, curvature): scales, then other numbers of samples, then other curvatures.
            cases=(
                (76, 0.5, 0.3),
                (76, 1.0, 0.3),
                (76, 2.0, 0.3),
                (12, 1.0, 0.3),
                (240, 1.0, 0.3),
                (76, 1.0, 0.2),
                (76, 1.0, 0.6),
            ),
            curved=(5, 1, 6),
            scales=3,
            unit=1,
            window=(3, 1, 4),
            tests=1000,
            neurons=48,
            networks=6,
            lr=4.0,
            steps=2500,
            every=10,
            threshold=0.05,
        ),
        "paper": dict(
            d=100,
            cases=(
                (550, 0.5, 0.25),
                (550, 1.0, 0.25),
                (550, 2.0, 0.25),
                (90, 1.0, 0.25),
                (2400, 1.0, 0.25),
                (550, 1.0, 0.1),
                (550, 1.0, 0.5),
            ),
            curved=(5, 1, 6),
            scales=3,
            unit=1,
            window=(3, 1, 4),
            tests=4000,
            neurons=500,
            networks=8,
            lr=20.0,
            steps=5000,
            every=10,
            threshold=0.05,
        ),
    },
    problem=problem,
    predict=predict,
    simulate=simulate_networks,
    claims=(
        Claim(
            "A network's errors and weights are those of its own two averages, at any width and step.",
            exactly,
            1,
            "Both are the same sum in another order: rounding, carried along thousands of steps.",
        ),
        Claim(
            "Wide networks fit and generalise when the infinitely wide one does.",
            in_width,
            5,
            "Standard errors of the mean of ln t over networks, with 1/width for the shift of the mean.",
        ),
        Claim(
            "They generalise after they fit, and the larger the output scale, the later.",
            out_of_order,
            0,
            "An order of times.",
        ),
        Claim(
            "The worse the tangent kernel of the start is aligned with the labels, the later they generalise.",
            misaligned_out_of_order,
            0,
            "An order of times.",
        ),
        Claim(
            "Weights grow as predicted, without any decay.",
            growth,
            5,
            "As for the times.",
        ),
    ),
    rivals=(
        Rival("Once the samples are fitted nothing more is learned.", frozen),
        Rival("It takes weights that decay.", decaying),
        Rival("The network is the kernel machine of its start.", kernel_machine),
        Rival("The richness is 2 epsilon / alpha.", twice_as_rich),
    ),
    draw=draw,
    formulas=(
        "lazy_rich.grokking.descended_form",
        "lazy_rich.grokking.tangent_kernel",
        "lazy_rich.grokking.generalisation_error",
    ),
)
