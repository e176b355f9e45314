"""Deep classifiers: kernel machines of deep networks become one of four classifiers; one kind is Bayes-consistent."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from sims.engine import grid, simulate
from sims.networks.deep_random import SinceStart
from sims.networks.mlp import mlp
from sims.training import gradient_descent
from theory.kernels.deep_classifiers import (
    deep_classifier,
    interpolating_classifier,
    majority_vote,
    nearest_neighbour,
    singular_classifier,
)
from theory.kernels.deep_limits import deep_limit, mixture_share
from validation import style
from validation.metrics import gap, rate, z_score
from validation.study import Claim, Problem, Rival, Study

# Squared Hermite coefficients of three activations, one for each limit but the interpolating one, and of that one.
EVEN, STEEP, FLAT = (0.0, 0.0, 0.5, 0.5), (0.2, 0.3, 0.5), (0.5, 0.3, 0.2)
# From which predicted score on a machine has to agree: the singular kernel is a limit like 1/L.
CLEAR = {"even": 0.0, "steep": 0.0, "relu": 0.0, "singular": 0.1}
DEGREES = {"below": 7, "equal": 3, "above": 3}


def orthant(rng, samples):
    """Points drawn uniformly from the sphere S^2 where all coordinates are positive."""
    x = np.abs(rng.normal(size=(samples, 3)))
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def chance(x, problem):
    """P(y = 1 | x): one class prevails around a corner, the other one elsewhere."""
    return np.where(x[:, 0] > problem.corner, 1 - problem.bayes, problem.bayes)


def problem(settings, seed):
    """A small data set for the limits; activations of exponents below, at and above the dimension two."""
    given = Problem(**settings, seed=seed)
    rng = np.random.default_rng(seed)
    given.x, given.x_new = orthant(rng, given.few), orthant(rng, 80)
    given.y = np.where(np.arange(given.few) < given.few // 3, 1.0, -1.0)
    given.mixtures = {
        name: mixture(float(mixture_share(exponent, DEGREES[name])), DEGREES[name])
        for name, exponent in zip(DEGREES, given.exponents, strict=True)
    }
    return given


def mixture(share, degree):
    """Squared Hermite coefficients of sqrt(p) h_1 + sqrt(1 - p) h_k."""
    squares = np.zeros(degree + 1)
    squares[[1, degree]] = share, 1 - share
    return squares


def predict(problem):
    """The limiting classifiers on the new inputs, the exponent, the errors with many samples, the networks' outputs."""
    data = (problem.x_new, problem.x, problem.y)
    return {
        "even": np.asarray(nearest_neighbour(*data)),
        "steep": np.full(len(problem.x_new), majority_vote(problem.y)),
        "relu": np.full(len(problem.x_new), majority_vote(problem.y)),
        "singular": np.asarray(singular_classifier(*data, problem.mixtures["equal"])),
        "flat": np.asarray(interpolating_classifier(*data, np.array(FLAT))),
        "exponent": deep_limit(problem.mixtures["equal"]).exponent,
        "bayes": problem.bayes,
        "consistent": "equal",
        "local": local_error(problem, problem.exponents[2] / 2),
        # Inputs nearer to the corner's border than to their neighbours: a strip of that order.
        "strip": 0.3 / np.sqrt(problem.samples[-1]),
        "outputs": np.asarray(deep_classifier(*network_data(problem), "relu", problem.depth)),
        "width_error": problem.depth / problem.width,
    }


def local_error(problem, power):
    """Error of a vote with weights |x - x_i|^-alpha > d: the Poisson process of the nearest neighbours decides."""
    rng = np.random.default_rng(0)
    volumes = np.cumsum(rng.exponential(size=(20_000, 60)), axis=1)
    right = rng.random(volumes.shape) > problem.bayes
    wrong = np.sum(np.where(right, 1, -1) * volumes**-power, axis=1) < 0
    return problem.bayes + (1 - 2 * problem.bayes) * wrong.mean()


def network_data(problem):
    """New inputs, training inputs and labels for the trained networks: rows of norm one in six dimensions."""
    rng = np.random.default_rng(problem.seed + 1000)
    x = rng.normal(size=(16, 6))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    return x[8:], x[:8], np.resize([1.0, -1.0, 1.0], 8)


def polynomial_layers(squares, depth):
    """f and f' of a dual given by squared Hermite coefficients, and how often to apply them."""
    f = np.polynomial.Polynomial(squares)
    return f, f.deriv(), depth


def relu_layers(depth):
    """The same for ReLU (Cho & Saul 2009)."""

    def f(xi):
        angle = np.arccos(np.clip(xi, -1, 1))
        return (np.sin(angle) + (np.pi - angle) * np.cos(angle)) / np.pi

    return f, lambda xi: 1 - np.arccos(np.clip(xi, -1, 1)) / np.pi, depth


def machine(x_new, x, y, layers, tangent=True):
    """k^T K^{-1} y of the kernel of that many layers, in plain NumPy."""
    f, slope, depth = layers
    sigma = [x @ x.T, x_new @ x.T]
    np.fill_diagonal(sigma[0], 1.0)
    theta = sigma
    for _ in range(depth):
        after = [f(s) for s in sigma]
        theta = [a + t * slope(s) for a, t, s in zip(after, theta, sigma, strict=True)] if tangent else after
        sigma = after
    return theta[1] @ np.linalg.solve(theta[0], y)


def simulate_machines(problem):
    """Kernel machines of deep networks on few samples, errors on many, and trained networks."""
    data = (problem.x_new, problem.x, problem.y)
    equal = problem.mixtures["equal"]
    tiny = np.logspace(-6, -2, 9)
    deep = 1 - tiny
    for _ in range(40):
        deep = np.polynomial.Polynomial(equal)(deep)
    errors = {name: errors_of(problem, squares) for name, squares in problem.mixtures.items()}
    return {
        "even": machine(*data, polynomial_layers(EVEN, 8)),
        "steep": machine(*data, polynomial_layers(STEEP, 60)),
        "relu": machine(*data, relu_layers(2000)),
        "singular": machine(*data, polynomial_layers(equal, 60)),
        "flat_depths": np.asarray(problem.flat_depths),
        "flat": np.stack([machine(*data, polynomial_layers(FLAT, depth)) for depth in problem.flat_depths]),
        "distance": np.sqrt(2 * tiny),
        "kernel": deep,
        "errors": errors,
        "outputs": train(problem),
    }


def errors_of(problem, squares):
    """Probability of a wrong class on new inputs, (data sets, numbers of samples)."""
    found = np.empty((problem.repeats, len(problem.samples)))
    for i in range(problem.repeats):
        rng = np.random.default_rng([problem.seed, i])
        x, x_new = orthant(rng, problem.samples[-1]), orthant(rng, problem.new)
        y = np.where(rng.random(len(x)) < chance(x, problem), 1.0, -1.0)
        for j, n in enumerate(problem.samples):
            score = machine(x_new, x[:n], y[:n], polynomial_layers(squares, problem.layers), tangent=False)
            found[i, j] = np.where(score > 0, 1 - chance(x_new, problem), chance(x_new, problem)).mean()
    return found


def train(problem):
    """Outputs on new inputs of trained ReLU networks, since their start, (networks, inputs)."""
    x_new, x, y = network_data(problem)
    everything = jnp.sqrt(x.shape[1]) * jnp.concatenate([x, x_new])

    def network(key, _):
        drawn = mlp(key, [x.shape[1], *[problem.width] * problem.depth, 1])
        return SinceStart(drawn, drawn(everything))

    def loss(model):
        return 0.5 * jnp.mean((model(everything)[: len(y), 0] - y) ** 2)

    simulation = gradient_descent(network, loss, problem.lr, lambda model, _: model(everything)[len(y) :, 0])
    seeds = np.arange(problem.networks) + 1000 * problem.seed
    return simulate(simulation, grid(seeds=seeds), np.array([problem.steps])).records[:, 0]


def disagreement(prediction, observation, case, clear):
    """Share of the new inputs with a clear predicted score that the machine classifies otherwise."""
    decided = np.abs(prediction[case]) > clear
    return np.mean(np.sign(prediction[case][decided]) != np.sign(observation[case][decided]))


def excess_share(prediction, observation):
    """Excess over the Bayes error of the consistent activation, over the least excess of the others."""
    excess = {name: errors[:, -1].mean() - prediction["bayes"] for name, errors in observation["errors"].items()}
    own = excess.pop(prediction["consistent"])
    return own / min(excess.values())


def exponent_of(observation):
    return -np.polyfit(np.log(observation["distance"]), np.log(observation["kernel"]), 1)[0]


def draw(figure, problem, prediction, observation):
    kernel, errors = figure.subplots(1, 2)
    r, k = observation["distance"], observation["kernel"] / observation["kernel"][-1]
    style.theory(kernel, r, (r / r[-1]) ** -prediction["exponent"], i=0, label=r"$|x-x'|^{-\alpha}$")
    style.networks(kernel, r, k, i=0, label="40 layers")
    kernel.set(xscale="log", yscale="log", xlabel="distance |x - x'|", ylabel="kernel", title="Singular kernel")
    kernel.legend()
    for i, found in enumerate(observation["errors"].values()):
        label = f"α = {problem.exponents[i]:g}"
        mean, error = found.mean(0), found.std(0) / np.sqrt(len(found))
        style.networks(errors, problem.samples, mean, i=i, error=error, label=label, linestyle="-")
    style.theory(errors, problem.samples, [problem.bayes] * len(problem.samples), i=3, label="Bayes")
    local = [prediction["local"]] * len(problem.samples)
    style.theory(errors, problem.samples, local, i=2, linewidth=1, label="α above d, n → ∞")
    errors.set(xscale="log", xlabel="samples n", ylabel="error", title="Deep classifiers on S²", ylim=(0.08, 0.42))
    errors.set_xticks(problem.samples, [str(n) for n in problem.samples])
    errors.minorticks_off()
    errors.legend(ncols=2, loc="upper right")


def changed(**new):
    """A rival that believes this instead; values are functions of our own prediction."""
    return lambda problem, prediction: prediction | {name: value(prediction) for name, value in new.items()}


STUDY = Study(
    title="Infinitely deep classifiers",
    question="What does a classifier become when it is made deeper and deeper, and can that be optimal?",
    source="Radhakrishnan, Belkin & Uhler 2023 (PNAS 120)",
    regimes=("lazy",),
    asks="how well",
    sizes={
        "smoke": dict(
            few=12,
            flat_depths=(12, 20, 34, 56),
            exponents=(0.7, 2.0, 5.0),
            bayes=0.1,
            corner=0.75,
            samples=(50, 200, 600),
            new=300,
            layers=24,
            repeats=4,
            depth=2,
            width=160,
            networks=16,
            steps=500,
            lr=0.25,
        ),
        "paper": dict(
            few=12,
            flat_depths=(12, 20, 34, 56),
            exponents=(0.7, 2.0, 5.0),
            bayes=0.1,
            corner=0.75,
            samples=(50, 200, 800, 3200),
            new=1000,
            layers=30,
            repeats=10,
            depth=2,
            width=2048,
            networks=20,
            steps=500,
            lr=0.25,
        ),
    },
    problem=problem,
    predict=predict,
    simulate=simulate_machines,
    claims=(
        Claim(
            "Deep kernel machines become nearest neighbour, majority vote (ReLU too), or a vote by a singular kernel.",
            lambda p, o: max(disagreement(p, o, case, clear) for case, clear in CLEAR.items()) / 0.1,
            1,
            "Scores near zero, and nearest neighbours at nearly equal distances, are undecided: one input in ten.",
        ),
        Claim(
            "The singular kernel falls with the distance to the power alpha = -2 ln f'(0) / ln f'(1).",
            lambda p, o: gap(p["exponent"], exponent_of(o), 0.01),
            1,
            "Corrections of the order of 1 - xi, up to one percent.",
        ),
        Claim(
            "Where f(0) > 0 and f'(1) < 1 the machine interpolates with a free constant, to order 1/L.",
            lambda p, o: rate(o["flat_depths"], np.abs(o["flat"] - p["flat"]).max(axis=1), -1.0),
            0.4,
            "The error is like 1/(L + 10): at the middle of depths 12 to 56, 26, the slope misses 10/36.",
        ),
        Claim(
            "With many samples the exponent that equals the dimension comes closest to the Bayes error.",
            excess_share,
            0.8,
            "The excess falls as a power of 1/ln(n); that of other exponents stays.",
        ),
        Claim(
            "An exponent above the dimension leaves the decision to the nearest few.",
            lambda p, o: z_score(p["local"], o["errors"]["above"][:, -1], floor=p["strip"]),
            5,
            "Standard error over data sets, and the strip along the border of the classes.",
        ),
        Claim(
            "Trained ReLU networks give the outputs of the kernel machine of their depth.",
            lambda p, o: z_score(p["outputs"], o["outputs"], floor=p["width_error"]),
            5,
            "Standard error over networks, and the change of tangent kernels of finite width, depth/width.",
        ),
    ),
    rivals=(
        Rival("Deep ReLU networks become nearest-neighbour classifiers.", changed(relu=lambda p: p["even"])),
        Rival("The exponent is -ln f'(0) / ln f'(1).", changed(exponent=lambda p: p["exponent"] / 2)),
        Rival(
            "Any constant kernel is a majority vote, also where f'(1) < 1.",
            changed(flat=lambda p: np.full_like(p["flat"], np.mean(p["steep"]))),
        ),
        Rival("Any exponent below the dimension is as good.", changed(consistent=lambda p: "below")),
        Rival("The more singular the kernel the better.", changed(consistent=lambda p: "above")),
    ),
    draw=draw,
    formulas=("kernels.deep_limits.exponent", "kernels.deep_limits.mixture_share"),
)
