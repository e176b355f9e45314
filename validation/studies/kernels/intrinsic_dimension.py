"""Intrinsic dimension: how low the loss can get in a random subspace of the parameters, and how fast."""

from __future__ import annotations

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax

from sims.engine import every, grid, simulate
from sims.networks.mlp import mlp
from sims.networks.subspace import Quadratic, subspace
from sims.training import gradient_descent, training
from theory.kernels import intrinsic_dimension as theory
from theory.kernels.infinite import kernels
from validation import style
from validation.metrics import z_score
from validation.study import Claim, Rival, Study


def problem(settings, seed):
    """Two spectra of curvature with their targets, and the samples of a network; energies fall with curvature."""
    rng = np.random.default_rng(seed)
    s, samples = settings["rank"], settings["samples"]
    broad = np.exp(np.linspace(-2, 2, s))
    x = rng.standard_normal((samples, settings["inputs"]))
    return SimpleNamespace(
        **settings,
        seed=seed,
        curvatures={"equal": np.ones(s), "broad": broad},
        target=rng.choice([-1.0, 1.0], size=s),
        x=x,
        # A linear target, which the strong modes of a kernel hold: 1 - d/P would be far off.
        residual=settings["residual_size"] * x[:, 0],
    )


def predict(problem):
    """Means of the lowest loss over random subspaces, with the next order and the size of the one after it."""
    d = np.array(problem.dimensions, float)
    energies = problem.curvatures["broad"] * problem.target**2
    ntk = kernels(problem.x, depth=1, activation="erf", weight_variance=1.0).ntk
    modes = theory.kernel_modes(ntk, problem.residual)
    some = np.array(problem.network_dimensions, float)
    t, width = np.asarray(times(problem)), problem.rank / problem.parameters
    return {
        "equal": np.asarray(theory.mean_residual(d, problem.rank)),
        "law": [lambda x, k=k: np.asarray(theory.residual_probability(x, k, problem.rank)) for k in d],
        "broad": mean(d, problem.curvatures["broad"], energies),
        "broad_rest": rest(d, problem.curvatures["broad"], energies),
        "networks": mean(some, *modes),
        "networks_rest": rest(some, *modes) + 1 / problem.width,
        "flow": np.asarray(theory.subspace_flow_residual(t[:, None], d, problem.rank, width, problem.rank)),
        "flow_end": np.asarray(theory.mean_residual(d, problem.rank)),
        "flow_rest": 1 / problem.rank**2 + 0.15 * problem.flow_lr,
        "threshold": float(problem.rank),
    }


def mean(d, curvatures, energies):
    return np.asarray(
        theory.expected_residual(d, curvatures, energies) + theory.residual_correction(d, curvatures, energies)
    )


def rest(d, curvatures, energies):
    """The order after the correction: its square over the residual."""
    leading = theory.expected_residual(d, curvatures, energies)
    return np.asarray(theory.residual_correction(d, curvatures, energies) ** 2 / leading)


def times(problem):
    """Times of gradient flow, in units of which the mean curvature of a subspace is one."""
    return np.array(problem.times) * problem.parameters / problem.rank


def simulate_networks(problem):
    """Quadratics and wide networks, trained by momentum until nothing moves; quadratics also step by step."""
    ends = [*problem.dimensions, problem.rank + problem.beyond]
    found = {name: quadratic(problem, name, ends) for name in ("equal", "broad")}
    return {
        "equal": found["equal"][:, :-1],
        "broad": found["broad"][:, :-1],
        "beyond": np.stack([x[:, -1] for x in found.values()]),
        "dimension_beyond": float(ends[-1]),
        "networks": wide_networks(problem),
        "flow": quadratic_flow(problem),
    }


def seeds(problem, runs):
    return np.arange(runs) + runs * problem.seed


def start(problem, most):
    flat = Quadratic(jnp.zeros(problem.parameters))
    return lambda key, hyper: subspace(key, flat, most, hyper["d"])


def quadratic(problem, name, dimensions):
    """Final loss over initial loss, (runs, dimensions)."""
    curvatures, target = jnp.asarray(problem.curvatures[name]), jnp.asarray(problem.target)
    # Directions of unit length: the curvature along them is that of the loss times rank / parameters.
    lr = problem.lr * problem.parameters / problem.rank / float(curvatures.max())
    trained = training(
        start(problem, max(dimensions)),
        lambda model, _: model.network().loss(curvatures, target),
        lambda _: optax.sgd(lr, momentum=problem.momentum),
        lambda _, __: None,
        lambda model, _: model.network().loss(curvatures, target),
    )
    runs = grid(seeds(problem, problem.runs), d=dimensions)
    losses = simulate(trained, runs, every(problem.steps, problem.steps)).on_grid()
    return losses[..., -1] / losses[..., 0]


def quadratic_flow(problem):
    """Loss over initial loss through plain gradient descent, (runs, dimensions, times)."""
    curvatures, target = jnp.asarray(problem.curvatures["equal"]), jnp.asarray(problem.target)
    lr = problem.flow_lr * problem.parameters / problem.rank
    trained = gradient_descent(
        start(problem, problem.rank + problem.beyond),
        lambda model: model.network().loss(curvatures, target),
        lr,
        lambda model, _: model.network().loss(curvatures, target),
    )
    losses = simulate(
        trained,
        grid(seeds(problem, problem.runs), d=problem.dimensions),
        np.rint(times(problem) / lr).astype(int),
    ).on_grid()
    return losses / losses[..., :1]


def wide_networks(problem):
    """Final loss over initial loss of networks, each with a small residual of its own start, (runs, dimensions)."""
    x, residual = jnp.asarray(problem.x), jnp.asarray(problem.residual)
    widths = (problem.inputs, problem.width, 1)

    def network(key, hyper):
        weights, directions = jax.random.split(key)
        fresh = mlp(weights, widths, weight_variance=1.0, activation=jax.scipy.special.erf)
        return subspace(directions, fresh, max(problem.network_dimensions), hyper["d"])

    def loss(model, _=None):
        labels = jax.lax.stop_gradient(model.start(x)[:, 0]) + residual
        return 0.5 * jnp.mean((labels - model(x)[:, 0]) ** 2)

    parameters = problem.width * (problem.inputs + 1)
    trained = training(
        network,
        loss,
        lambda _: optax.sgd(problem.network_lr * parameters, momentum=problem.momentum),
        lambda _, __: None,
        loss,
    )
    runs = grid(seeds(problem, problem.runs), d=problem.network_dimensions)
    losses = simulate(trained, runs, every(problem.steps, problem.steps)).on_grid()
    return losses[..., -1] / losses[..., 0]


def kolmogorov(prediction, observation):
    """Largest distance of the distribution function of the final losses from the law, times sqrt(runs)."""
    worst = 0.0
    for law, runs in zip(prediction["law"], observation["equal"].T, strict=True):
        x, n = np.sort(runs), len(runs)
        below = law(x)
        steps = np.arange(n + 1) / n
        worst = max(worst, np.sqrt(n) * np.max(np.maximum(steps[1:] - below, below - steps[:-1])))
    return worst


def excess(prediction, observation):
    """What training has still to remove, predicted and in each run: loss less the lowest loss of that subspace."""
    ahead = prediction["flow"].T - prediction["flow_end"][:, None]
    return ahead[:, 1:], (observation["flow"] - observation["equal"][..., None])[..., 1:]


def unsolved(prediction, observation):
    """Fraction of the loss left in the runs beyond the threshold, where the prediction leaves none."""
    left = 0.0 if observation["dimension_beyond"] >= prediction["threshold"] else 1.0
    return np.max(np.abs(observation["beyond"] - left))


def draw(figure, problem, prediction, observation):
    ends, flow = figure.subplots(1, 2, width_ratios=(1.3, 1))
    s = problem.rank
    d, fine = np.array(problem.dimensions), np.linspace(0.2, 1.5 * s, 120)
    spectra = {"equal": "equal curvatures", "broad": "broad spectrum"}
    for i, (name, label) in enumerate(spectra.items()):
        curvatures = problem.curvatures[name]
        curve = theory.expected_residual(fine, curvatures, curvatures * problem.target**2)
        style.theory(ends, fine / s, curve, i=i, label=label)
        runs = observation[name]
        where = np.append(d, observation["dimension_beyond"]) / s
        values = np.append(runs.mean(axis=0), observation["beyond"][i].mean())
        style.networks(ends, where, values, i=i)
    samples = problem.samples
    ntk = kernels(problem.x, depth=1, activation="erf", weight_variance=1.0).ntk
    fine = np.linspace(0.2, 1.5 * samples, 120)
    curve = theory.expected_residual(fine, *theory.kernel_modes(ntk, problem.residual))
    style.theory(ends, fine / samples, curve, i=2, label="lazy network, s = P")
    runs = observation["networks"]
    style.networks(ends, np.array(problem.network_dimensions) / samples, runs.mean(axis=0), i=2)
    ends.set(xlabel="dimension of the subspace  d / s", ylabel="lowest loss / initial loss", title="What is left")
    ends.legend()
    fine = np.linspace(0, problem.times[-1], 200)
    for i, k in enumerate(d):
        curve = theory.subspace_flow_residual(fine, k, s, 1.0, s)
        style.theory(flow, fine, curve, i=3 + i, label=f"d = {k / s:g} s")
        style.networks(flow, problem.times, observation["flow"][:, i].mean(axis=0), i=3 + i)
    flow.set(xlabel="time  t · curvature · s / D", title="Loss through training", ylim=(0, 1.35))
    flow.legend(ncols=2, loc="upper right")


def squared(problem, prediction):
    """The residual vector shrinks by 1 - d/s, rather than its square."""
    return prediction | {"equal": prediction["equal"] ** 2, "broad": prediction["broad"] ** 2}


def all_parameters(problem, prediction):
    """What counts is the number of parameters, not the rank of the loss."""
    d = np.array(problem.dimensions, float)
    left = np.asarray(theory.mean_residual(d, problem.parameters))
    return prediction | {"equal": left, "broad": left, "threshold": float(problem.parameters)}


def any_spectrum(problem, prediction):
    """Curvatures do not matter: 1 - d/s for all."""
    d = np.array(problem.network_dimensions) / problem.samples
    return prediction | {"broad": prediction["equal"], "networks": np.maximum(1 - d, 0)}


def mean_rate(problem, prediction):
    """All directions of a subspace are learned at the mean rate."""
    share = np.array(problem.dimensions) / problem.rank
    t = np.array(problem.times)[:, None]
    # int rho lam = alpha over a mass of alpha: the mean non-zero eigenvalue is max(1, d/s).
    return prediction | {"flow": 1 - share + share * np.exp(-2 * t)}


STUDY = Study(
    title="Intrinsic dimension",
    question="How many random directions does a network need, and what is left of the loss with fewer?",
    source="Li, Farkhoor, Liu & Yosinski 2018 (arXiv:1804.08838), section 2",
    problem=problem,
    regimes=("lazy",),
    asks="how trained",
    sizes={
        "smoke": dict(
            rank=24,
            parameters=96,
            dimensions=(6, 12, 18),
            beyond=12,
            runs=32,
            momentum=0.95,
            lr=0.3,
            steps=600,
            flow_lr=0.02,
            times=(0.0, 0.1, 0.3, 0.6, 1.0, 1.6, 2.4, 4.0, 6.0),
            samples=12,
            inputs=8,
            width=48,
            network_dimensions=(3, 6, 8),
            network_lr=0.2,
            residual_size=0.02,
        ),
        "paper": dict(
            rank=100,
            parameters=10_000,
            dimensions=(25, 50, 75),
            beyond=50,
            runs=200,
            momentum=0.95,
            lr=0.3,
            steps=4000,
            flow_lr=0.01,
            times=(0.0, 0.1, 0.3, 0.6, 1.0, 1.6, 2.4, 4.0, 6.0, 10.0),
            samples=40,
            inputs=20,
            width=512,
            network_dimensions=(10, 20, 30),
            network_lr=0.2,
            residual_size=0.02,
        ),
    },
    predict=predict,
    simulate=simulate_networks,
    claims=(
        Claim(
            "With equal curvatures the mean of the lowest loss falls linearly, 1 - d/s, whatever the number D.",
            lambda p, o: z_score(p["equal"], o["equal"]),
            5,
            "Standard errors of the mean over subspaces; the law is exact.",
        ),
        Claim(
            "It is distributed as Beta((s - d)/2, d/2).",
            kolmogorov,
            2.2,
            "Kolmogorov's statistic exceeds 2.2 with a probability of 1e-4.",
        ),
        Claim(
            "With a broad spectrum the mean follows the effective curvature, corrected to the next order.",
            lambda p, o: z_score(p["broad"], o["broad"], floor=p["broad_rest"]),
            5,
            "Standard errors of the mean over subspaces, and the square of the correction.",
        ),
        Claim(
            "From d = s on nothing is left.",
            unsolved,
            1e-3,
            "What momentum leaves after its steps along the slowest direction, (1 - sqrt(s/d))^2 of the mean.",
        ),
        Claim(
            "A wide network with a small residual is such a quadratic: its curvatures are those of its tangent kernel.",
            lambda p, o: z_score(p["networks"], o["networks"], floor=p["networks_rest"]),
            5,
            "Standard errors over networks and subspaces, 1/width, and the square of the correction.",
        ),
        Claim(
            "Training follows the Marchenko-Pastur average, slowest where d approaches s.",
            lambda p, o: z_score(*excess(p, o), floor=p["flow_rest"]),
            5,
            "Standard errors of the mean over subspaces; 1/s², and lr x e^{-2x} <= 0.15 lr for the step of each mode.",
        ),
    ),
    rivals=(
        Rival("The residual itself shrinks by 1 - d/s: the loss is (1 - d/s)².", squared),
        Rival("What counts is the number D of parameters, and the threshold is D.", all_parameters),
        Rival("The spectrum of the curvature does not matter.", any_spectrum),
        Rival("Every direction of a subspace is learned at the mean rate.", mean_rate),
    ),
    draw=draw,
    formulas=(
        "kernels.intrinsic_dimension.mean",
        "kernels.intrinsic_dimension.law",
        "kernels.intrinsic_dimension.residual",
        "kernels.intrinsic_dimension.correction",
        "kernels.intrinsic_dimension.flow",
    ),
)
