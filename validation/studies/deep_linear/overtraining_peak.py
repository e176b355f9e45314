"""The overtraining peak: double descent at P = N, and its disappearance with early stopping or a ridge."""

from __future__ import annotations

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np

from sims.engine import grid, simulate
from sims.networks.deep_linear import gaussian
from sims.tasks.linear_regression import lessons, planted, ridge_loss, teacher_error
from theory.deep_linear import generalization as advani
from theory.deep_linear.marchenko_pastur import sample_spectrum
from theory.deep_linear.ridge import optimal_ridge, optimal_ridge_error, ridge_generalization_error
from validation import style
from validation.metrics import disorder, rate, z_score
from validation.study import Claim, Rival, Study


def problem(settings, seed):
    """The inputs of every student: rows of variance 1/N, of which those with few samples use the first."""
    n, most = settings["inputs"], round(max(settings["alpha"]) * settings["inputs"])
    x = np.random.default_rng(seed).standard_normal((settings["runs"], most, n)) / np.sqrt(n)
    samples = [round(a * n) for a in settings["alpha"]]
    steps = np.unique(np.geomspace(1, settings["t_end"] / settings["lr"], settings["times"]).round().astype(int))
    return SimpleNamespace(**settings, seed=seed, x=x, samples=samples, steps=steps)


def regression(problem):
    return advani.Regression(np.array(problem.alpha), problem.signal, problem.noise, problem.start)


def spectra(problem, samples):
    """The spectrum of each student's inputs, students along a first axis, with a second one for the steps."""
    x = problem.x[:, :samples]
    each = [sample_spectrum(lam, samples) for lam in np.linalg.eigvalsh(np.swapaxes(x, 1, 2) @ x)]
    return jax.tree.map(lambda *leaves: np.stack(leaves)[:, None], *each)


def expected(problem, noise):
    """Test error of every student by sample size and step, averaged over teacher, noise and start given its inputs."""
    curves = []
    for samples in problem.samples:
        r = advani.Regression(samples / problem.inputs, problem.signal, noise, problem.start)
        curves.append(advani.descent_generalization_error(problem.steps, problem.lr, r, spectra(problem, samples)))
    return np.stack(curves, axis=1)


def expected_ridge(problem):
    """The same at the end of descent with the best ridge."""
    errors = []
    for samples in problem.samples:
        r = advani.Regression(samples / problem.inputs, problem.signal, problem.noise, problem.start)
        errors.append(ridge_generalization_error(optimal_ridge(r), r, spectra(problem, samples))[:, 0])
    return np.stack(errors, axis=1)


def predict(problem):
    """Averages given each student's inputs, and the curves of infinite dimension."""
    r = regression(problem)
    dense = advani.Regression(np.geomspace(*problem.alpha[:: len(problem.alpha) - 1], 61), r.signal, r.noise, r.start)
    return {
        "alpha": np.array(problem.alpha),
        "t": problem.steps * problem.lr,
        "test": expected(problem, problem.noise),
        "ridge": expected_ridge(problem),
        "stop": np.asarray(advani.optimal_stopping_time(r)),
        "peak": 1.0,
        "growth": 0.5,
        "floor": problem.noise / 2,
        "dense": np.asarray(dense.alpha),
        "final": np.asarray(advani.generalization_error(problem.t_end, dense)),
        "forever": np.asarray(advani.final_generalization_error(dense)),
        "stopped": np.asarray(advani.early_stopped_error(dense)),
        "best": np.asarray(optimal_ridge_error(dense)),
    }


def simulate_networks(problem):
    """Linear students of 1 to max(alpha) N samples, with and without a ridge, by gradient descent."""
    inputs = jnp.asarray(np.swapaxes(problem.x, 1, 2))
    taught = lessons(
        lambda key, hyper: planted(key, inputs[hyper["index"]], problem.signal, problem.noise, hyper["samples"]),
        lambda key, _: gaussian(key, (problem.inputs, 1), problem.start**0.5),
        problem.lr,
        lambda w, data, _: teacher_error(w, data, problem.noise),
        lambda w, data, hyper: ridge_loss(w, data, hyper["ridge"]),
    )
    first = problem.runs * problem.seed
    ridges = [0.0, problem.noise / problem.signal]
    runs = grid(np.arange(problem.runs) + first, samples=problem.samples, ridge=ridges)
    runs = runs._replace(hyper=runs.hyper | {"index": runs.seeds - first})
    errors = simulate(taught, runs, problem.steps).on_grid()
    return {"test": errors[:, :, 0], "ridge": errors[:, :, 1, -1]}


def stopped(prediction, observation):
    """Each student's error at the recorded step nearest to the predicted stopping time: (students, sample sizes)."""
    at = np.abs(prediction["t"] - prediction["stop"][:, None]).argmin(axis=1)
    return observation["test"][:, np.arange(len(at)), at]


def peak(prediction, observation):
    """The sample size, per dimension, at which training to the end costs most over stopping in time."""
    cost = (observation["test"][..., -1] - stopped(prediction, observation)).mean(axis=0)
    return prediction["alpha"][cost.argmax()]


def growth(prediction, observation):
    """Departure of the log-log slope in time, at P = N, from the predicted power."""
    late = prediction["t"] >= 10
    square = list(prediction["alpha"]).index(1.0)
    rise = observation["test"][:, square].mean(axis=0) - prediction["floor"]
    return rate(prediction["t"][late], rise[late], prediction["growth"])


def draw(figure, problem, prediction, observation):
    axes, grown = figure.subplots(1, 2, width_ratios=(1.5, 1))
    alpha, dense, runs = prediction["alpha"], prediction["dense"], problem.runs
    shown = (
        ("final", observation["test"][..., -1], f"trained to t = {problem.t_end:g}"),
        ("stopped", stopped(prediction, observation), "stopped in time"),
        ("best", observation["ridge"], "best ridge"),
    )
    for i, (name, errors, label) in enumerate(shown):
        style.theory(axes, dense, prediction[name], i=i, label=label)
        error = errors.std(axis=0, ddof=1) / np.sqrt(runs)
        style.networks(axes, alpha, errors.mean(axis=0), i=i, error=error)
    style.rival(axes, dense, prediction["forever"], label="t = ∞")
    top = 1.35 * observation["test"][..., -1].mean(axis=0).max()
    axes.set(xscale="log", ylim=(0, top), xlabel="samples per dimension  P / N", ylabel="test error")
    axes.set(title="Double descent, and its cures", xticks=alpha, xticklabels=[f"{a:g}" for a in alpha])
    axes.minorticks_off()
    axes.legend(loc="upper right", handlelength=1.2)
    t = prediction["t"]
    late = t >= 1
    square = list(alpha).index(1.0)
    rise = observation["test"][:, square].mean(axis=0) - prediction["floor"]
    law = np.asarray(advani.interpolation_growth(t, problem.noise))
    style.theory(grown, t[late], law[late], i=0, label="0.661 σ² √t")
    style.networks(grown, t[late], rise[late], i=0)
    style.rival(grown, t[late], rise[late][-1] * t[late] / t[-1], label="∝ t")
    grown.set(xscale="log", yscale="log", xlabel="time  t", ylabel="test error − σ²/2", title="Growth at P = N")
    grown.legend()


def nothing_frozen(problem, prediction):
    """The classical variance, without the directions that samples do not touch."""
    lost = (problem.signal + problem.start) * np.maximum(1 - prediction["alpha"], 0)
    return prediction | {"test": prediction["test"] - lost[:, None]}


def noiseless(problem, prediction):
    """Noise adds a floor and nothing else."""
    return prediction | {"test": expected(problem, 0.0) + problem.noise}


STUDY = Study(
    title="Overtraining peak",
    question="Why is test error worst where there are as many samples as dimensions, and what takes the peak away?",
    source="Advani & Saxe 2017 (arXiv:1710.03667)",
    problem=problem,
    regimes=("linear",),
    asks="how well",
    sizes={
        "smoke": dict(
            alpha=(0.25, 0.5, 1.0, 1.5, 3.0),
            signal=1.0,
            noise=1.0,
            start=0.25,
            inputs=32,
            runs=128,
            lr=0.2,
            t_end=60.0,
            times=40,
        ),
        "paper": dict(
            alpha=(0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 3.0),
            signal=1.0,
            noise=1.0,
            start=0.25,
            inputs=100,
            runs=200,
            lr=0.2,
            t_end=400.0,
            times=60,
        ),
    },
    predict=predict,
    simulate=simulate_networks,
    claims=(
        Claim(
            "At every sample size and moment, test error averages to the sum over the eigenvalues of the inputs.",
            lambda p, o: z_score(0, o["test"] - p["test"]),
            5,
            "Standard errors of the mean over students of the departure from what their inputs imply; it is exact.",
        ),
        Claim(
            "With weight decay σ_ε²/σ_w², descent ends at the error of the best ridge.",
            lambda p, o: z_score(0, o["ridge"] - p["ridge"]),
            5,
            "Standard errors as above; descent has converged to exp(-t g) of the ridge solution.",
        ),
        Claim(
            "Training too long costs most at P = N.",
            lambda p, o: abs(peak(p, o) - p["peak"]),
            0,
            "An order has no error.",
        ),
        Claim(
            "There it grows as the square root of time.",
            growth,
            0.1,
            "Next terms: A/√(2πt), a few percent over a decade; the gap of the spectrum, of order t/N²; sampling.",
        ),
        Claim(
            "Stopped in time, more samples are always better.",
            lambda p, o: disorder(-stopped(p, o).mean(axis=0)),
            0,
            "An order has no error.",
        ),
    ),
    rivals=(
        Rival("The classical variance is all: nothing is frozen when P < N.", nothing_frozen),
        Rival("Noise adds its floor and no more.", noiseless),
        Rival(
            "Fewer samples always overtrain more: the cost is highest at the fewest.",
            lambda problem, p: p | {"peak": min(problem.alpha)},
        ),
        Rival("Noise accumulates in proportion to time.", lambda _, p: p | {"growth": 1.0}),
    ),
    draw=draw,
    formulas=(
        "deep_linear.generalization.final_many",
        "deep_linear.generalization.final_few",
        "deep_linear.generalization.growth",
        "deep_linear.ridge.best_error",
    ),
)
