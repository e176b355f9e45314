"""Early stopping: in high dimension test error falls, then rises, and the best moment to stop can be computed."""

from __future__ import annotations

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np

from sims.engine import grid, simulate
from sims.networks.deep_linear import gaussian
from sims.tasks.linear_regression import gaussian_inputs, lessons, planted, sample_error, teacher_error
from theory.deep_linear import generalization as advani
from theory.deep_linear.marchenko_pastur import bulk, sample_spectrum
from validation import style
from validation.metrics import regret, z_score
from validation.study import Claim, Rival, Study


def problem(settings, seed):
    """A few small sets of inputs, each to be shared by many students; all other data are drawn by the networks."""
    n, sets = settings["few_inputs"], settings["sets"]
    shared = np.random.default_rng(seed).standard_normal((sets, n, n)) / np.sqrt(n)
    return SimpleNamespace(**settings, seed=seed, shared=shared)


def records(problem):
    """The steps at which errors are recorded: each, then at equal ratios."""
    steps = np.geomspace(1, problem.t_end / problem.lr, problem.times).round().astype(int)
    return np.unique(np.concatenate([[0], steps]))


def regression(problem):
    """All sample sizes at once, along a first axis."""
    return advani.Regression(np.array(problem.alpha)[:, None], problem.signal, problem.noise, problem.start)


def predict(problem):
    """Mean errors of gradient descent on Gaussian inputs to order 1/N, and for the shared inputs exactly."""
    k, lr, r = records(problem), problem.lr, regression(problem)
    spectrum = bulk(r.alpha, inputs=problem.inputs)
    square = advani.Regression(1.0, problem.signal, problem.noise, problem.start)
    own = [sample_spectrum(np.linalg.eigvalsh(x @ x.T), problem.few_inputs) for x in problem.shared]
    return {
        "t": k * lr,
        "test": np.asarray(advani.descent_generalization_error(k, lr, r, spectrum)),
        "train": np.asarray(advani.descent_training_error(k, lr, r, spectrum)),
        "stop": np.asarray(advani.optimal_stopping_time(r))[:, 0],
        "shared": np.stack([advani.descent_generalization_error(k, lr, square, s) for s in own]),
        "limit": np.asarray(advani.descent_generalization_error(k, lr, square)),
    }


def simulate_networks(problem):
    """Linear students that descend on the samples of their own teacher: own inputs, then shared ones."""
    shared = jnp.asarray(problem.shared)
    most = round(max(problem.alpha) * problem.inputs)

    def errors(inputs, draw_inputs, runs):
        def data(key, hyper):
            inputs_key, labels_key = jax.random.split(key)
            return planted(labels_key, draw_inputs(inputs_key, hyper), problem.signal, problem.noise, hyper["samples"])

        taught = lessons(
            data,
            lambda key, _: gaussian(key, (inputs, 1), problem.start**0.5),
            problem.lr,
            lambda w, data, _: {"test": teacher_error(w, data, problem.noise), "train": sample_error(w, data)},
        )
        return simulate(taught, runs, records(problem)).on_grid()

    n, few = problem.inputs, problem.few_inputs
    own = grid(seeds(problem, problem.runs), samples=[round(a * n) for a in problem.alpha])
    own = errors(n, lambda key, _: gaussian_inputs(key, n, most), own)
    same = grid(seeds(problem, problem.few_runs), samples=[few], which=np.arange(len(shared)))
    same = errors(few, lambda _, hyper: shared[hyper["which"]], same)
    return own | {"shared": same["test"][:, 0]}


def seeds(problem, runs):
    return np.arange(runs) + runs * problem.seed


def worst_regret(prediction, observation):
    """Of all sample sizes."""
    stops = enumerate(prediction["stop"])
    return np.max([regret(prediction["t"], stop, observation["test"][:, i]) for i, stop in stops])


def draw(figure, problem, prediction, observation):
    axes, shared = figure.subplots(1, 2, width_ratios=(1.5, 1))
    t = prediction["t"]
    for i, a in enumerate(problem.alpha):
        runs = observation["test"][:, i]
        error = runs.std(axis=0, ddof=1) / np.sqrt(len(runs))
        style.theory(axes, t, prediction["test"][i], i=i, label=f"P = {a:g} N")
        style.networks(axes, t, runs.mean(axis=0), i=i, error=error)
        style.theory(axes, t, prediction["train"][i], i=i, linewidth=1.0, linestyle=":")
        style.networks(axes, t, observation["train"][:, i].mean(axis=0), i=i, alpha=0.5)
        axes.axvline(prediction["stop"][i], color=style.colour(i), linewidth=0.8, alpha=0.5)
    axes.set(xscale="log", xlabel="time  t = lr · steps", ylabel="error", title="Test error; dotted: training error")
    axes.set_ylim(0, 2.5 * prediction["test"][:, 0].max() / 1.8)
    axes.set_xlim(t[1], None)
    axes.legend(loc="upper left", ncols=3)
    for i, curve in enumerate(prediction["shared"]):
        style.theory(shared, t, curve, i=3 + i)
        style.networks(shared, t, observation["shared"][:, i].mean(axis=0), i=3 + i)
    style.rival(shared, t, prediction["limit"], label="N = ∞")
    n = problem.few_inputs
    shared.set(xscale="log", xlabel="time  t", title=f"Given inputs, P = N = {n}")
    shared.set_xlim(t[1], None)
    shared.legend()


def frozen_too(problem, prediction):
    """The noise term integrated over the zero modes as well."""
    alpha = np.array(problem.alpha)[:, None]
    return prediction | {"train": prediction["train"] + problem.noise * np.maximum(1 - alpha, 0) / alpha}


def mean_loss_time(problem, prediction):
    """Time t = lr k / alpha, as if the loss were the mean over samples."""
    r = regression(problem)
    t, spectrum = prediction["t"] / r.alpha, bulk(r.alpha, inputs=problem.inputs)
    return prediction | {
        "test": np.asarray(advani.generalization_error(t, r, spectrum)),
        "train": np.asarray(advani.training_error(t, r, spectrum)),
        "stop": prediction["stop"] * r.alpha[:, 0],
    }


def noiseless(problem, prediction):
    """Noise is only a floor: longer training never hurts."""
    r = regression(problem)
    clean = advani.generalization_error(prediction["t"], (r.alpha, r.signal, 0.0, r.start))
    end = np.full_like(prediction["stop"], prediction["t"][-1])
    return prediction | {"test": problem.noise + np.asarray(clean), "stop": end}


def nothing_frozen(problem, prediction):
    """The student forgets its start in every direction."""
    alpha = np.array(problem.alpha)[:, None]
    return prediction | {"test": prediction["test"] - (problem.signal + problem.start) * np.maximum(1 - alpha, 0)}


STUDY = Study(
    title="Early stopping",
    question="Why does longer training hurt a linear student, and when should it stop?",
    source="Advani & Saxe 2017 (arXiv:1710.03667)",
    problem=problem,
    regimes=("linear",),
    asks="how well",
    sizes={
        "smoke": dict(
            alpha=(0.5, 1.0, 2.0),
            signal=1.0,
            noise=0.5,
            start=0.3,
            inputs=64,
            runs=256,
            few_inputs=8,
            sets=3,
            few_runs=1500,
            lr=0.2,
            t_end=20.0,
            times=40,
        ),
        "paper": dict(
            alpha=(0.5, 1.0, 2.0),
            signal=1.0,
            noise=0.2,
            start=0.2,
            inputs=300,
            runs=600,
            few_inputs=8,
            sets=3,
            few_runs=10000,
            lr=0.05,
            t_end=100.0,
            times=80,
        ),
    },
    predict=predict,
    simulate=simulate_networks,
    claims=(
        Claim(
            "Test error follows the Marchenko-Pastur average, corrected to order 1/N, at every moment.",
            lambda p, o: z_score(p["test"], o["test"]),
            5,
            "Standard errors of the mean over students; the next order, 1/N², is far below them.",
        ),
        Claim(
            "So does training error.",
            lambda p, o: z_score(p["train"], o["train"]),
            5,
            "Standard errors of the mean over students.",
        ),
        Claim(
            "No moment beats the optimal stopping time.",
            worst_regret,
            5,
            "The largest of the paired differences, in their standard errors.",
        ),
        Claim(
            "Given the inputs, the average over their own eigenvalues is exact, however few they are.",
            lambda p, o: z_score(p["shared"], o["shared"]),
            5,
            "Standard errors of the mean over teachers, noise and starts; no other approximation is made.",
        ),
    ),
    rivals=(
        Rival("Frozen directions keep label noise in the training error.", frozen_too),
        Rival("Time is that of the mean loss, t = lr k / α.", mean_loss_time),
        Rival("Label noise is only a floor: training longer never hurts.", noiseless),
        Rival("Nothing is frozen when P < N.", nothing_frozen),
        Rival(
            "The curve of infinite dimension holds for every set of inputs.",
            lambda _, prediction: (
                prediction | {"shared": np.broadcast_to(prediction["limit"], prediction["shared"].shape)}
            ),
        ),
    ),
    draw=draw,
    formulas=(
        "deep_linear.generalization.generalization",
        "deep_linear.generalization.training",
        "deep_linear.generalization.stopping",
    ),
)
