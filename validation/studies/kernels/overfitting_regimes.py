"""Benign, tempered, catastrophic: what interpolating pure noise costs is the decay of the kernel's spectrum."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from sims.networks.kernel_machine import dual_weights
from theory.kernels.learning_curves import overfitting_coefficient
from theory.kernels.overfitting import exponential_overfitting, power_law_overfitting
from validation import style
from validation.metrics import disorder, z_score
from validation.study import Claim, Rival, Study

NAMES = ("1 / (i ln²(i+1))", "i^-1.5", "i^-3", "e^(-i/8)")
RATE = 0.125


def spectra(problem):
    """Benign, two tempered and a catastrophic spectrum, by rows."""
    i = np.arange(1.0, problem.modes + 1)
    return np.stack([1 / (i * np.log(i + 1) ** 2), i**-1.5, i**-3, np.exp(-RATE * i)])


def tails(problem):
    """Trace of each spectrum beyond the modes that are drawn, by its integral: those modes are far below kappa.

    Without them slow spectra would end, and what looks like their overfitting would be the end's.
    """
    end = problem.modes + 0.5
    return np.array([1 / np.log(end + 1), 2 * end**-0.5, end**-2 / 2, 0.0])


def predict(problem):
    """E_0 for every spectrum (rows), number of samples, and ridge (none, and a fixed one); closed forms for three."""
    n = np.asarray(problem.n, float)
    coefficient = jax.jit(overfitting_coefficient)
    ridges = tails(problem)[:, None] + np.array([0.0, problem.ridge])
    e0 = np.stack([coefficient(n[:, None], lam, r) for lam, r in zip(spectra(problem), ridges, strict=True)])
    closed = np.stack([power_law_overfitting(n, 1.5), power_law_overfitting(n, 3.0), exponential_overfitting(n, RATE)])
    return {"e0": e0, "closed": closed, "correction": e0 / n[:, None]}


def simulate_machines(problem):
    """Kernel machines on independent Gaussian features, taught labels that are noise of variance 1."""
    lam, tail = jnp.asarray(spectra(problem)), jnp.asarray(tails(problem))

    def draw(key, n):
        for_x, for_y = jax.random.split(key)
        features, y = jax.random.normal(for_x, (n, problem.modes)), jax.random.normal(for_y, (n,))

        def test(lam, ridge):
            # The modes that are not drawn add their trace to the diagonal.
            dual = dual_weights((features * lam) @ features.T, y, ridge)
            # The mean square of the prediction over all new inputs, and that of the new label.
            return 1 + jnp.sum((lam * (features.T @ dual)) ** 2)

        return jax.lax.map(lambda one: jnp.stack([test(*one), test(one[0], one[1] + problem.ridge)]), (lam, tail))

    found = []
    for n in problem.n:
        keys = jax.random.split(jax.random.fold_in(jax.random.key(problem.seed), n), problem.draws)
        found.append(np.asarray(jax.jit(lambda keys, n=n: jax.lax.map(lambda k: draw(k, n), keys))(keys)))
    return {"e0": np.stack(found, axis=2)}


def in_errors(prediction, observation):
    """Mean over draws against theory, in standard errors and the leading correction, E_0 / n."""
    return z_score(prediction["e0"], observation["e0"], floor=prediction["correction"] * prediction["e0"])


def closed_in_errors(prediction, observation):
    """The same for the closed forms, of the last three spectra without a ridge."""
    floor = (prediction["correction"] * prediction["e0"])[1:, :, 0]
    return z_score(prediction["closed"], observation["e0"][:, 1:, :, 0], floor=floor)


def out_of_order(prediction, observation):
    """Spectra whose noise, at the most samples and without a ridge, is not amplified more than the one before."""
    return disorder(observation["e0"].mean(axis=0)[:, -1, 0])


def draw(figure, problem, prediction, observation):
    panels = figure.subplots(1, 2, sharey=True)
    n = np.asarray(problem.n)
    titles = ("Interpolation", f"Ridge {problem.ridge:g}")
    for column, (axes, title) in enumerate(zip(panels, titles, strict=True)):
        for i, name in enumerate(NAMES):
            runs = observation["e0"][:, i, :, column]
            bars = runs.std(axis=0, ddof=1) / np.sqrt(len(runs))
            style.theory(axes, n, prediction["e0"][i, :, column], i=i, label=name)
            style.networks(axes, n, runs.mean(axis=0), i=i, error=bars)
        axes.set(xscale="log", yscale="log", xlabel="samples n", title=title)
        axes.set_xticks(n, [str(count) for count in n])
        axes.set_xticks([], minor=True)
    panels[0].set_ylabel("test error / noise, E_0")
    panels[0].legend()


def everywhere(value):
    """A rival that believes in another E_0 for interpolation; with a ridge it believes what we do."""

    def predict(problem, prediction):
        e0 = prediction["e0"].copy()
        e0[..., 0] = value(np.asarray(problem.n, float), e0[..., 0])
        return prediction | {"e0": e0, "closed": e0[1:, :, 0]}

    return predict


STUDY = Study(
    title="Benign, tempered and catastrophic overfitting",
    question="A kernel machine interpolates pure noise. Is that harmless, a constant factor, or a disaster?",
    source="Mallinar et al. 2022 (arXiv:2207.06569), theorem 3.1",
    regimes=("lazy",),
    asks="how well",
    sizes={
        "smoke": dict(n=(20, 40, 80, 160), modes=1000, ridge=0.1, draws=48),
        "paper": dict(n=(20, 40, 80, 160, 320), modes=20000, ridge=0.1, draws=400),
    },
    predict=predict,
    simulate=simulate_machines,
    claims=(
        Claim(
            "Noise is amplified by E_0, for every spectrum, with and without a ridge.",
            in_errors,
            5,
            "In standard errors over draws, with the theory's leading correction E_0/n in quadrature.",
        ),
        Claim(
            "Power laws amplify it by their exponent and exponentials in proportion to n: the closed forms hold.",
            closed_in_errors,
            5,
            "As above.",
        ),
        Claim(
            "The slow logarithm is on its way to benign: its amplification falls with every doubling of n.",
            lambda p, o: disorder(-p["e0"][0, :, 0]) + disorder(-o["e0"].mean(axis=0)[0, [0, -1], 0]),
            0,
            "An order has no error; it falls as 1 / ln n, so that machines are compared over the whole range.",
        ),
        Claim("The faster a spectrum decays, the worse.", out_of_order, 0, "An order has no error."),
    ),
    rivals=(
        Rival("Interpolation is always benign: E_0 = 1.", everywhere(lambda n, e0: np.ones_like(e0))),
        Rival(
            "It is always catastrophic: E_0 grows as n for every spectrum.", everywhere(lambda n, e0: e0[3:] + 0 * e0)
        ),
        Rival(
            "It is always tempered, by the factor that the fewest samples show.",
            everywhere(lambda n, e0: e0[:, :1] + 0 * e0),
        ),
    ),
    draw=draw,
    formulas=("kernels.overfitting.power_law_overfitting", "kernels.overfitting.exponential_overfitting"),
)
