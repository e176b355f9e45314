"""Double descent in random features: test error peaks where features can just fit the samples, and falls again."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from sims.networks.kernel_machine import on_sphere
from sims.networks.random_features import fitted
from theory.kernels.infinite import kernels_of_cosine
from theory.kernels.learning_curves import KernelTask, learning_curve
from theory.kernels.random_features import random_feature_curve
from theory.kernels.sphere import zonal_spectrum
from validation import style
from validation.metrics import z_score
from validation.study import Claim, Rival, Study


def task(problem):
    """Spectrum of E relu(w x) relu(w x') for points of length sqrt(d) and a target of degrees 1 and 2."""

    def kernel(t):
        # Weights of unit variance on inputs of length sqrt(d): d times the kernel of weights of variance 1/d.
        return problem.d / 2 * kernels_of_cosine(t, depth=1, weight_variance=2.0, bias_variance=0.0).nngp / 2

    lam, m, tail = zonal_spectrum(kernel, problem.degrees, problem.d)
    powers = jnp.zeros(len(lam)).at[jnp.array([1, 2])].set(jnp.asarray(problem.powers))
    return KernelTask(lam, powers, m, problem.noise, tail)


def predict(problem):
    """Errors for every number of features (rows) and ridge (columns)."""
    k = np.asarray(problem.features, float)[:, None]
    curve = random_feature_curve(float(problem.n), k, task(problem), np.asarray(problem.ridge))
    correction = np.asarray(curve.overfitting_coefficient) / problem.n + 1 / k
    return {
        "test": np.asarray(curve.test_error),
        "training": np.asarray(curve.training_error),
        "correction": correction,
    }


def simulate_networks(problem):
    """Networks of frozen random ReLU features with trained readouts, on training sets and features of their own."""
    d, n = problem.d, problem.n

    def draw(key, features, ridge):
        for_x, for_new, for_noise, for_weights = jax.random.split(key, 4)
        x, new = (
            jnp.sqrt(d) * on_sphere(jax.random.normal(k, (size, d)))
            for k, size in ((for_x, n), (for_new, problem.tests))
        )
        clean, truth = target(x, problem), target(new, problem)
        y = clean + jnp.sqrt(problem.noise) * jax.random.normal(for_noise, (n,))
        # The features' readout is scaled as the kernel's, sum over features / k.
        network = fitted(for_weights, features, x, y, ridge)
        return jnp.mean((network(new) - truth) ** 2) + problem.noise, jnp.mean((network(x) - y) ** 2)

    found = []
    for k in problem.features:
        keys = jax.random.split(jax.random.fold_in(jax.random.key(problem.seed), k), problem.draws)
        run = jax.jit(lambda keys, ridge, k=k: jax.lax.map(lambda key: draw(key, k, ridge), keys))
        found.append([run(keys, ridge) for ridge in problem.ridge])
    test, training = (np.array([[np.asarray(cell[i]) for cell in row] for row in found]) for i in (0, 1))
    return {"test": np.moveaxis(test, -1, 0), "training": np.moveaxis(training, -1, 0)}


def target(x, problem):
    """Unit-power harmonics of degrees 1 and 2 about the first axis, with the task's powers."""
    d, t = x.shape[1], x[:, 0] / jnp.sqrt(x.shape[1])
    first, second = problem.powers
    harmonic = (d * t**2 - 1) * jnp.sqrt((d + 2) / (2 * (d - 1)))
    return jnp.sqrt(first) * jnp.sqrt(d) * t + jnp.sqrt(second) * harmonic


def in_errors(name):
    """Mean over draws against theory, in standard errors and the leading corrections."""
    return lambda p, o: z_score(p[name], o[name], floor=p["correction"] * p[name] + 1e-12)


def peak_is_elsewhere(prediction, observation):
    """Steps of the grid between theory's and networks' worst number of features, at the smallest ridge."""
    measured = observation["test"].mean(axis=0)[:, 0]
    return abs(int(np.argmax(measured)) - int(np.argmax(prediction["test"][:, 0])))


def draw(figure, problem, prediction, observation):
    panels = figure.subplots(1, 2)
    k = np.asarray(problem.features)
    for axes, name in zip(panels, ("test", "training"), strict=True):
        for i, ridge in enumerate(problem.ridge):
            runs = observation[name][..., i]
            bars = runs.std(axis=0, ddof=1) / np.sqrt(len(runs))
            style.theory(axes, k, prediction[name][:, i], i=i, label=f"ridge {ridge:g}")
            style.networks(axes, k, runs.mean(axis=0), i=i, error=bars)
            style.rival(axes, k, kernel_limit(problem, prediction)[name][:, i], label=None if i else "kernel limit")
        axes.axvline(problem.n, color=style.INK, linewidth=0.6)
        axes.set(xscale="log", yscale="log", xlabel="random features k")
        axes.set_xticks(k[::2], [str(count) for count in k[::2]])
        axes.set_xticks([], minor=True)
    panels[0].set(title=f"Test error, n = {problem.n}", ylabel="squared error")
    panels[1].set_title("Training error")
    panels[0].legend()


def kernel_limit(problem, prediction):
    """As if there were infinitely many features."""
    curve = learning_curve(float(problem.n), task(problem), np.asarray(problem.ridge))
    return prediction | {
        name: np.broadcast_to(getattr(curve, f"{name}_error"), prediction[name].shape) for name in ("test", "training")
    }


def no_peak(problem, prediction):
    """Test error falls with every feature: the best of all smaller networks."""
    return prediction | {"test": np.minimum.accumulate(prediction["test"], axis=0)}


STUDY = Study(
    title="Double descent of random features",
    question="Why does a network with as many features as samples do worst, and does adding features cure it?",
    source="Simon et al. 2024 (arXiv:2311.14646); Mei & Montanari 2022 (arXiv:1908.05355)",
    regimes=("lazy",),
    asks="how well",
    sizes={
        "smoke": dict(
            d=30,
            degrees=30,
            powers=(1.0, 1.0),
            noise=1.0,
            n=100,
            ridge=(0.01, 1.0),
            features=(20, 40, 60, 80, 100, 125, 160, 250, 500),
            draws=64,
            tests=400,
        ),
        "paper": dict(
            d=240,
            degrees=30,
            powers=(1.0, 1.0),
            noise=1.0,
            n=800,
            ridge=(0.01, 1.0),
            features=(160, 320, 480, 640, 800, 1000, 1280, 2000, 4000),
            draws=100,
            tests=4000,
        ),
    },
    predict=predict,
    simulate=simulate_networks,
    claims=(
        Claim(
            "The test error is the theory's for any number of features.",
            in_errors("test"),
            5,
            "In standard errors over networks, with the leading corrections E/n and 1/k in quadrature.",
        ),
        Claim(
            "So is the training error.",
            in_errors("training"),
            5,
            "As for the test error; beyond the peak, where it is the square of the little that a ridge leaves, the "
            "correction has a factor of about three.",
        ),
        Claim(
            "The test error is worst where the theory says, at k = n.",
            peak_is_elsewhere,
            0,
            "The grid is coarser than the peak.",
        ),
    ),
    rivals=(
        Rival("Features do not matter: any number is as good as infinitely many.", kernel_limit),
        Rival("More features never hurt: there is no peak.", no_peak),
    ),
    draw=draw,
    formulas=("kernels.random_features.test_error", "kernels.random_features.effective_ridge"),
)
