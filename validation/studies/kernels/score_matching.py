"""Score matching: a machine learns the score, and then, trained on, the noise of its own samples."""

from __future__ import annotations

from types import SimpleNamespace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from sims.engine import Simulation, grid, simulate
from sims.networks.centred import centred
from sims.networks.mlp import mlp
from sims.tasks.denoising import Denoising, denoising, denoising_loss, score_of
from sims.training import gradient_descent
from theory.kernels import score_matching as theory
from theory.kernels.infinite import kernels
from validation import style
from validation.metrics import regret, z_score
from validation.study import Claim, Rival, Study

TARGETS = ("score", "data")
NETWORK = dict(weight_variance=2.0, bias_variance=0.5)


def problem(settings, seed):
    """Two clusters in the plane, noised: samples and test points, shared by all networks. Gaussian data come later."""
    rng = np.random.default_rng(seed)
    centres = np.array([[1.0, 0.5], [-1.0, -0.5]])
    a, s, v = settings["a"], settings["s_plane"], settings["v"]

    def draw(n):
        x0 = centres[rng.integers(2, size=n)] + np.sqrt(v) * rng.standard_normal((n, 2))
        z = rng.standard_normal((n, 2))
        return a * x0 + s * z, -z / s

    x, y = draw(settings["samples"])
    tests, _ = draw(settings["tests"])
    return SimpleNamespace(**settings, seed=seed, centres=centres, x=x, y=y, test_points=tests)


def plane_score(problem, x):
    """The true score of the noised clusters: that of two points smoothed by their own spread and the noise."""
    spread = np.sqrt(problem.a**2 * problem.v + problem.s_plane**2)
    return np.asarray(theory.empirical_score(x, problem.centres, problem.a, spread))


def records(problem):
    """Steps at equal ratios."""
    steps = np.geomspace(1, problem.t_end / problem.lr, problem.times).round().astype(int)
    return np.unique(np.concatenate([[0], steps]))


def network_records(problem):
    steps = np.geomspace(1, problem.network_steps, problem.times).round().astype(int)
    return np.unique(np.concatenate([[0], steps]))


def level(problem):
    return theory.Noising(problem.a, problem.s, 1.0)


def linear_errors(problem, **changed):
    """Test and training errors of linear machines, each (targets, alphas, times), and when they are best stopped."""
    alphas = np.array(problem.alpha)[:, None]
    options = dict(lr=problem.lr, inputs=problem.inputs) | changed
    t = records(problem) * problem.lr
    test = [theory.score_error(t, level(problem), alphas, target=name, **options).total for name in TARGETS]
    train = [theory.training_error(t, level(problem), alphas, target=name, **options) for name in TARGETS]
    stop = [[theory.score_stopping_time(level(problem), a, target=name) for a in problem.alpha] for name in TARGETS]
    return {"test": np.array(test), "train": np.array(train), "stop": np.array(stop)}


def plane_error(problem, labels):
    """Test error of the kernel machine of infinite width on these labels, at the recorded steps."""
    options = dict(depth=1, activation="erf", **NETWORK)
    gram = kernels(problem.x, **options).ntk
    cross = kernels(problem.test_points, problem.x, **options).ntk
    t = network_records(problem) * problem.network_lr
    score = plane_score(problem, problem.test_points)
    return np.asarray(theory.kernel_score_error(t, gram, cross, labels, score, problem.network_lr))


def predict(problem):
    """All error curves before any training."""
    plane = plane_error(problem, problem.y)
    linear = linear_errors(problem)
    return linear | {
        "test_rest": linear["test"] / problem.inputs**2,
        "t": records(problem) * problem.lr,
        "plane": plane,
        "plane_rest": np.max(plane) / problem.width**0.5 / problem.nets**0.5 + 4 * plane / problem.width,
    }


def simulate_networks(problem):
    """Linear machines on Gaussian data, and wide networks on the two clusters, by gradient descent."""
    found = [linear_machines(problem, target) for target in TARGETS]
    return {
        "test": np.stack([x["test"] for x in found]),
        "train": np.stack([x["train"] for x in found]),
        "plane": wide_networks(problem),
    }


class Lesson(eqx.Module):
    """The state of a run: a linear map and the samples that it descends on."""

    weights: jax.Array
    data: Denoising


def linear_machines(problem, target):
    """Errors of W from W = 0, each run on samples of its own: test (exactly, over all inputs) and training."""
    d, most = problem.inputs, round(max(problem.alpha) * problem.inputs)
    a, s = problem.a, problem.s
    total = a**2 + s**2

    def init(key, hyper):
        data_key, noise_key = jax.random.split(key)
        x0 = jax.random.normal(data_key, (most, d))
        return Lesson(jnp.zeros((d, d)), denoising(noise_key, x0, a, s, target, hyper["samples"]))

    def loss(weights, data):
        return denoising_loss(lambda x: x @ weights.T, data)

    def step(state):
        gradient = jax.grad(loss)(state.weights, state.data)
        return Lesson(state.weights - problem.lr * gradient, state.data)

    def record(state):
        score = score_of(state.weights.T, jnp.eye(d), a, s, target)
        return {
            "test": total * jnp.sum((score + jnp.eye(d) / total) ** 2) / d,
            "train": 2 * loss(state.weights, state.data) / d,
        }

    runs = grid(seeds(problem, problem.runs), samples=[round(k * d) for k in problem.alpha])
    found = simulate(Simulation(init, step, record), runs, records(problem)).on_grid()
    return jax.tree.map(lambda x: np.swapaxes(x, 0, 1), found)


def wide_networks(problem):
    """Test error of networks that start at zero, (nets, times)."""
    data = Denoising(jnp.asarray(problem.x), jnp.asarray(problem.y), jnp.asarray(float(problem.samples)))
    tests, score = jnp.asarray(problem.test_points), jnp.asarray(plane_score(problem, problem.test_points))
    trained = gradient_descent(
        lambda key, _: centred(mlp(key, (2, problem.width, 2), activation=jax.scipy.special.erf, **NETWORK)),
        lambda model: denoising_loss(model, data),
        problem.network_lr,
        lambda model, _: jnp.mean(jnp.sum((model(tests) - score) ** 2, axis=1)),
    )
    return simulate(trained, grid(seeds(problem, problem.nets)), network_records(problem), batching="vmap").records


def seeds(problem, runs):
    return np.arange(runs) + runs * problem.seed


def runs_first(found):
    """(targets, alphas, runs, times) with the runs in front."""
    return np.moveaxis(found, 2, 0)


def worst_regret(prediction, observation):
    """Of all targets and sample sizes."""
    found = [
        regret(prediction["t"], stop, errors)
        for stops, targets in zip(prediction["stop"], observation["test"], strict=True)
        for stop, errors in zip(stops, targets, strict=True)
    ]
    return np.max(found)


def draw(figure, problem, prediction, observation):
    *linear, plane = figure.subplots(1, 3)
    t = prediction["t"]
    for axes, name, test, found, stop in zip(
        linear, TARGETS, prediction["test"], observation["test"], prediction["stop"], strict=True
    ):
        for i, alpha in enumerate(problem.alpha):
            error = found[i].std(axis=0, ddof=1) / np.sqrt(len(found[i]))
            style.theory(axes, t, test[i], i=i, label=f"P = {alpha:g} d")
            style.networks(axes, t, found[i].mean(axis=0), i=i, error=error, most=16)
            axes.axvline(stop[i], color=style.colour(i), linewidth=0.8, alpha=0.5)
        axes.set(xscale="log", xlabel="time  t = lr · steps", title=f"Linear, target: {name}")
        axes.set_ylim(0, 1.4 * test.max())
        axes.set_xlim(t[1], None)
    linear[0].set_ylabel("distance to the true score")
    linear[0].legend(loc="upper left")
    t = network_records(problem) * problem.network_lr
    style.theory(plane, t, prediction["plane"], i=2, label="kernel")
    style.networks(plane, t, observation["plane"].mean(axis=0), i=2, label="networks", most=16)
    style.rival(plane, t, plane_error(problem, plane_score(problem, problem.x)), label="clean labels")
    plane.set(xscale="log", xlabel="time", title="Two clusters", ylim=(0, None))
    plane.set_xlim(t[1], None)
    plane.legend()


def clean(problem, prediction):
    """Labels as good as the score itself: longer training always helps."""
    alphas = np.array(problem.alpha)[:, None]
    t, options = prediction["t"], dict(lr=problem.lr, inputs=problem.inputs)
    test = [theory.score_error(t, level(problem), alphas, target=name, **options).bias for name in TARGETS]
    return prediction | {
        "test": np.array(test),
        "stop": np.full_like(prediction["stop"], t[-1]),
        "plane": plane_error(problem, plane_score(problem, problem.x)),
    }


def same_stop(problem, prediction):
    """What the network predicts, score or data, makes no difference."""
    return prediction | {name: np.stack([prediction[name][0]] * 2) for name in ("test", "stop")}


def infinite_dimension(problem, prediction):
    """Each mode is learned at the population's rate sigma^2, whatever the number of samples."""
    total = problem.a**2 + problem.s**2
    left = np.exp(-2 * total * prediction["t"])
    start = prediction["test"][..., :1]
    return prediction | {"test": start * left}


STUDY = Study(
    title="Early stopping of score matching",
    question="Why does a diffusion model that is trained too long copy its data, and when should training stop?",
    source="Han, Razaviyayn & Xu 2024 (arXiv:2401.15604); Bonnaire, Urfin, Biroli & Mézard 2025 (arXiv:2505.17638)",
    problem=problem,
    regimes=("lazy",),
    asks="when",
    sizes={
        "smoke": dict(
            a=0.8,
            s=0.6,
            alpha=(0.5, 2.0, 4.0),
            inputs=24,
            runs=32,
            lr=0.1,
            t_end=30.0,
            times=24,
            s_plane=0.5,
            v=0.05,
            samples=24,
            tests=64,
            width=512,
            nets=8,
            network_lr=0.2,
            network_steps=1500,
        ),
        "paper": dict(
            a=0.8,
            s=0.6,
            alpha=(0.5, 2.0, 4.0, 8.0),
            inputs=128,
            runs=128,
            lr=0.05,
            t_end=100.0,
            times=48,
            s_plane=0.5,
            v=0.05,
            samples=64,
            tests=1024,
            width=4096,
            nets=32,
            network_lr=0.2,
            network_steps=10_000,
        ),
    },
    predict=predict,
    simulate=simulate_networks,
    claims=(
        Claim(
            "The distance to the true score follows the Marchenko-Pastur average, corrected to order 1/d.",
            lambda p, o: z_score(p["test"], runs_first(o["test"]), floor=p["test_rest"]),
            5,
            "Standard errors of the mean over runs; the next order, 1/d².",
        ),
        Claim(
            "So does the error on the training samples, which keeps falling.",
            lambda p, o: z_score(p["train"], runs_first(o["train"])),
            5,
            "Standard errors of the mean over runs.",
        ),
        Claim(
            "No moment beats the optimal stopping time.",
            worst_regret,
            5,
            "The largest of the paired differences, in their standard errors.",
        ),
        Claim(
            "Wide networks on noised clusters follow their kernel, away from what clean labels would teach.",
            lambda p, o: z_score(p["plane"][1:], o["plane"][:, 1:], floor=p["plane_rest"][1:]),
            5,
            "Standard errors over networks; the kernel's fluctuation 1/√(width · networks) and its motion, 1/width.",
        ),
    ),
    rivals=(
        Rival("The labels are as good as the score: training longer always helps.", clean),
        Rival("Whether the score or the data are predicted makes no difference.", same_stop),
        Rival("Every direction is learned at the population's rate, however few the samples.", infinite_dimension),
    ),
    draw=draw,
    formulas=(
        "kernels.score_matching.noise_of_score",
        "kernels.score_matching.signal_of_data",
        "kernels.score_matching.bias_in_time",
        "kernels.score_matching.bias",
    ),
)
