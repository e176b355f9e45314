"""Kernel regression on the sphere: the kernel's spectrum says how much of each harmonic n samples teach."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from sims.networks.kernel_machine import dual_weights, on_sphere, relu_tangent_kernel
from theory.kernels.infinite import kernels_of_cosine
from theory.kernels.learning_curves import KernelTask, learning_curve
from theory.kernels.sphere import zonal_spectrum
from validation import style
from validation.metrics import z_score
from validation.study import Claim, Rival, Study

DEPTH, WEIGHTS, BIASES = 2, 2.0, 0.2


def spectrum(problem):
    """Eigenvalues of the tangent kernel by degree, their multiplicities, and the trace of what is left out."""

    def tangent(t):
        return kernels_of_cosine(t, depth=DEPTH, weight_variance=WEIGHTS, bias_variance=BIASES).ntk

    return jax.tree.map(np.asarray, zonal_spectrum(tangent, problem.degrees, problem.d))


def predict(problem):
    """Errors and learned shares for every number of samples (rows) and every pair of ridge and noise (columns)."""
    lam, m, tail = spectrum(problem)
    ridge, noise = np.transpose(problem.ridge_and_noise)
    powers = np.zeros(len(lam))
    powers[1 : 1 + len(problem.powers)] = problem.powers
    n = np.asarray(problem.n, float)[:, None]
    curve = learning_curve(n, KernelTask(lam, powers, m, noise, tail), ridge)
    found = summary(problem, curve.learnability, curve.test_error, curve.training_error)
    return found | {"correction": np.asarray(curve.overfitting_coefficient) / n, "noise": noise}


def summary(problem, learned, test, training):
    return {
        "test": np.asarray(test),
        "training": np.asarray(training),
        "learned": np.asarray(learned)[..., 1 : 1 + len(problem.powers)],
    }


def simulate_machines(problem):
    """Kernel machines on uniform points, one draw after the other, each tested on points of its own."""
    found = [experiments(problem, n, problem.seed) for n in problem.n]
    return {name: np.stack([one[name] for one in found], axis=1) for name in found[0]}


def harmonics(t, d):
    """Unit-power harmonics of degree 1, 2 and 3 about a pole, of the cosine to it."""
    cubic = (d + 2) * t**3 - 3 * t
    square = d * t**2 - 1
    return jnp.stack(
        [
            jnp.sqrt(d) * t,
            square * jnp.sqrt((d + 2) / (2 * (d - 1))),
            cubic * jnp.sqrt(d * (d + 4) / (6 * (d - 1))),
        ],
        axis=-1,
    )


def experiments(problem, n, seed):
    """All draws with n samples: errors (draws, conditions) and learned shares (draws, conditions, degrees)."""
    d, amplitudes = problem.d, jnp.sqrt(jnp.asarray(problem.powers))
    conditions = jnp.asarray(problem.ridge_and_noise)

    def draw(key):
        for_inputs, for_tests, for_noise = jax.random.split(key, 3)
        # Points of length sqrt(d), as the network's kernel takes them.
        x, new = (
            jnp.sqrt(d) * on_sphere(jax.random.normal(k, (size, d)))
            for k, size in ((for_inputs, n), (for_tests, problem.tests))
        )
        own, cross = (relu_tangent_kernel(a, x, DEPTH, WEIGHTS, BIASES) for a in (x, new))
        h, basis = (harmonics(a[:, 0] / jnp.sqrt(d), d) for a in (x, new))
        standard = jax.random.normal(for_noise, (n,))

        def condition(pair):
            ridge, noise = pair
            y = h @ amplitudes + jnp.sqrt(noise) * standard
            dual = dual_weights(own, y, ridge)
            prediction = cross @ dual
            return {
                # New labels add their noise to the mean square.
                "test": jnp.mean((prediction - basis @ amplitudes) ** 2) + noise,
                "training": jnp.mean((own @ dual - y) ** 2),
                "learned": jnp.mean(prediction[:, None] * basis, axis=0) / amplitudes,
            }

        return jax.lax.map(condition, conditions)

    keys = jax.random.split(jax.random.fold_in(jax.random.key(seed), n), problem.draws)
    return jax.tree.map(np.asarray, jax.jit(lambda keys: jax.lax.map(draw, keys))(keys))


def in_errors(name):
    """Mean over draws against theory, in standard errors and the theory's own leading correction, E_0 / n."""

    def measure(prediction, observation):
        scale = prediction["correction"]
        floor = (
            scale[..., None] * np.ones(prediction[name].shape[-1]) if name == "learned" else scale * prediction[name]
        )
        return z_score(prediction[name], observation[name], floor=floor + 1e-12)

    return measure


def out_of_order(prediction, observation):
    """Pairs of neighbouring degrees of which the higher one was learned better, over all n and conditions."""
    return int(np.sum(np.diff(observation["learned"].mean(axis=0), axis=-1) >= 0))


def draw(figure, problem, prediction, observation):
    errors, shares = figure.subplots(1, 2)
    n = np.asarray(problem.n)
    for i, (ridge, noise) in enumerate(problem.ridge_and_noise):
        runs = observation["test"][..., i]
        bars = runs.std(axis=0, ddof=1) / np.sqrt(len(runs))
        style.theory(errors, n, prediction["test"][:, i], i=i, label=f"ridge {ridge:g}, noise {noise:g}")
        style.networks(errors, n, runs.mean(axis=0), i=i, error=bars)
    bare = unconsistent(problem, prediction)["test"][:, -1]
    style.rival(errors, n, bare, label="without self-consistency")
    errors.set(xscale="log", yscale="log", xlabel="samples n", ylabel="mean squared error", title="Test error")
    errors.set_ylim(errors.get_ylim()[0] / 6, None)
    errors.legend(loc="lower left")
    for k in range(len(problem.powers)):
        style.theory(shares, n, prediction["learned"][:, 0, k], i=k + 3, label=f"degree {k + 1}")
        style.networks(shares, n, observation["learned"][:, :, 0, k].mean(axis=0), i=k + 3)
    shares.set(
        xscale="log", xlabel="samples n", ylabel="share learned", title="Harmonics, no ridge", ylim=(-0.03, 1.35)
    )
    shares.legend(loc="upper left", ncols=3)
    for axes in (errors, shares):
        axes.set_xticks(n, [str(count) for count in n])
        axes.set_xticks([], minor=True)


def unconsistent(problem, prediction):
    """Each mode shrunk by the ridge alone, kappa = ridge / n."""
    lam, _, _ = spectrum(problem)
    ridge, noise = np.transpose(problem.ridge_and_noise)
    kappa = (ridge / np.asarray(problem.n, float)[:, None])[..., None]
    learned = lam / (lam + kappa)
    missed = np.sum((1 - learned[..., 1 : 1 + len(problem.powers)]) ** 2 * np.asarray(problem.powers), axis=-1)
    return prediction | summary(problem, learned, missed + noise, prediction["training"])


def unamplified(problem, prediction):
    """The target's own error, with the noise only added."""
    missed = np.sum((1 - prediction["learned"]) ** 2 * np.asarray(problem.powers), axis=-1)
    return prediction | {"test": missed + prediction["noise"]}


def without_tail(problem, prediction):
    """The spectrum cut at the target's highest degree."""
    lam, m, _ = spectrum(problem)
    kept = 1 + len(problem.powers)
    ridge, noise = np.transpose(problem.ridge_and_noise)
    task = KernelTask(lam[:kept], np.r_[0.0, problem.powers], m[:kept], noise)
    curve = learning_curve(np.asarray(problem.n, float)[:, None], task, ridge)
    return prediction | summary(problem, curve.learnability, curve.test_error, curve.training_error)


STUDY = Study(
    title="Learning curves on the sphere",
    question="How many samples does a wide ReLU network in the kernel regime need for each harmonic of its target, and "
    "what does it pay for noise?",
    source="Bordelon, Canatar & Pehlevan 2020 (arXiv:2002.02561); Simon et al. 2023 (arXiv:2110.03922)",
    regimes=("lazy",),
    asks="how well",
    sizes={
        "smoke": dict(
            d=8,
            degrees=24,
            powers=(1.0, 1.0, 0.5),
            n=(25, 50, 100, 200),
            ridge_and_noise=((0.0, 0.0), (0.0, 0.25), (2.0, 0.25)),
            draws=48,
            tests=512,
        ),
        "paper": dict(
            d=8,
            degrees=24,
            powers=(1.0, 1.0, 0.5),
            n=(25, 50, 100, 200, 400, 800, 1600, 3200),
            ridge_and_noise=((0.0, 0.0), (0.0, 0.25), (2.0, 0.25)),
            draws=200,
            tests=4096,
        ),
    },
    predict=predict,
    simulate=simulate_machines,
    claims=(
        Claim(
            "The test error is the theory's, with and without ridge and noise.",
            in_errors("test"),
            5,
            "In standard errors over training sets, with the theory's leading correction E_0/n in quadrature.",
        ),
        Claim(
            "The training error is the theory's: (ridge / n kappa)^2 of the test error.",
            in_errors("training"),
            5,
            "As for the test error.",
        ),
        Claim(
            "Of each harmonic the machines learn the share lam / (lam + kappa).",
            in_errors("learned"),
            5,
            "As for the test error; a share is off by E_0/n of 1.",
        ),
        Claim("Lower degrees are learned before higher ones.", out_of_order, 0, "An order has no error."),
    ),
    rivals=(
        Rival("Modes do not compete for samples: kappa = ridge / n.", unconsistent),
        Rival("Noise only adds itself to the test error.", unamplified),
        Rival("Degrees above the target's do not matter.", without_tail),
    ),
    draw=draw,
    formulas=("kernels.learning_curves.test_error", "kernels.learning_curves.training_error"),
)
