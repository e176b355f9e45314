"""Learning curves on handwritten digits: a kernel's spectrum on the images predicts machines and wide networks."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax

from sims.engine import grid, simulate
from sims.networks.centred import centred
from sims.networks.kernel_machine import dual_weights, relu_tangent_kernel
from sims.networks.mlp import mlp
from sims.tasks.digits import digits
from sims.training import training
from theory.kernels.finite_domain import PointwiseCurve, domain_curve, pointwise_curve
from theory.kernels.infinite import kernels
from theory.kernels.learning_curves import KernelTask, learning_curve, sampled_task
from validation import style
from validation.metrics import z_score
from validation.study import Claim, Problem, Rival, Study

DEPTH, WEIGHTS, BIASES = 1, 2.0, 0.1


def problem(settings, seed):
    """The images, in rows of mean square length d, and their centred one-hot labels."""
    data = digits(train=1437, seed=seed)
    x, y = np.concatenate([data.x, data.test_x], axis=1).T, np.concatenate([data.y, data.test_y], axis=1).T
    x, y = x[: settings["images"]], y[: settings["images"]]
    return Problem(**settings, seed=seed, x=x / np.sqrt(np.mean(x**2)), y=y)


def predict(problem):
    """Errors for each ridge (columns) and number of images (rows): from the images' kernel matrix and labels alone."""
    matrix = kernels(problem.x, depth=DEPTH, weight_variance=WEIGHTS, bias_variance=BIASES).ntk
    task = sampled_task(matrix, problem.y)
    pointwise = jax.jit(pointwise_curve)

    def curves(sizes, ridges):
        found = [[pointwise(float(n), matrix, problem.y, float(r)) for r in ridges] for n in sizes]
        return [np.array([[getattr(c, name) for c in row] for row in found]) for name in PointwiseCurve._fields[1:]]

    test, training = curves(problem.n, problem.ridge)
    n = np.asarray(problem.n, float)[:, None]
    e0 = np.asarray(learning_curve(n, task, np.asarray(problem.ridge)).overfitting_coefficient)
    spectral = np.asarray(domain_curve(n, task, np.asarray(problem.ridge)).test_error)
    network_test, network_training = curves(problem.network_n, [problem.network_ridge])
    return {
        "task": jax.tree.map(np.asarray, task),
        "test": test,
        "training": training,
        "spectral": spectral,
        "network_test": network_test[:, 0],
        "network_training": network_training[:, 0],
        "correction": e0 * (1 / n + 1 / (len(problem.x) - n)),
        "network_correction": 1 / np.asarray(problem.network_n, float) + 1 / problem.width,
    }


def simulate_machines(problem):
    """Kernel machines and networks, each trained on its own random part of the images and tested on the others."""
    found = [machines(problem, n) for n in problem.n]
    trained = [networks(problem, n) for n in problem.network_n]
    return {name: np.stack([one[name] for one in found], axis=1) for name in found[0]} | {
        f"network_{name}": np.stack([one[name] for one in trained], axis=1) for name in trained[0]
    }


def machines(problem, n):
    """Test and training error of every draw (rows) and ridge (columns)."""
    x, y = jnp.asarray(problem.x), jnp.asarray(problem.y)
    kernel = relu_tangent_kernel(x, x, DEPTH, WEIGHTS, BIASES)

    def draw(key):
        order = jax.random.permutation(key, len(x))
        seen, unseen = order[:n], order[n:]

        def at(ridge):
            dual = dual_weights(kernel[seen][:, seen], y[seen], ridge)
            wrong = jnp.sum((kernel[:, seen] @ dual - y) ** 2, axis=1)
            return {"test": jnp.mean(wrong[unseen]), "training": jnp.mean(wrong[seen])}

        return jax.lax.map(at, jnp.asarray(problem.ridge))

    keys = jax.random.split(jax.random.fold_in(jax.random.key(problem.seed), n), problem.draws)
    return jax.tree.map(np.asarray, jax.jit(lambda keys: jax.lax.map(draw, keys))(keys))


def networks(problem, n):
    """Test and training error of networks with a ridge on how far their weights move from the start."""
    x, y = jnp.asarray(problem.x), jnp.asarray(problem.y)
    widths = (x.shape[1], problem.width, y.shape[1])

    def errors(model, hyper):
        wrong = jnp.sum((model(x) - y) ** 2, axis=1)
        seen = jnp.zeros(len(x)).at[hyper["seen"]].set(1.0)
        return {"test": wrong @ (1 - seen) / (len(x) - n), "training": wrong @ seen / n}

    def loss(model, seen):
        cost = jnp.sum((model(x[seen]) - y[seen]) ** 2) + problem.network_ridge * model.moved()
        return cost / (2 * n)

    def start(key, _):
        return centred(mlp(key, widths, WEIGHTS, BIASES))

    rng = np.random.default_rng([problem.seed, n])
    seen = np.stack([rng.permutation(len(x))[:n] for _ in range(problem.networks)])
    trained = training(
        start,
        loss,
        lambda _: optax.sgd(problem.lr, momentum=0.95, nesterov=True),
        lambda _, hyper: hyper["seen"],
        errors,
    )
    seeds = problem.seed * problem.networks + np.arange(problem.networks)
    runs = grid(seeds=seeds)._replace(hyper={"seen": seen})
    return jax.tree.map(lambda a: a[:, -1], simulate(trained, runs, [0, problem.steps]).records)


def in_errors(name, correction):
    """Mean over draws against theory, in standard errors and the leading correction."""
    return lambda p, o: z_score(p[name], o[name], floor=p[correction] * p[name] + 1e-12)


def from_spectrum(prediction, observation):
    """The same for the theory of spectrum and coefficients, where there is most ridge."""
    expected, floor = prediction["spectral"][:, -1], (prediction["correction"] * prediction["spectral"])[:, -1]
    return z_score(expected, observation["test"][..., -1], floor=floor)


def draw(figure, problem, prediction, observation):
    panels = figure.subplots(1, 2)
    n, rival = np.asarray(problem.n), alike(problem, prediction)
    for axes, name in zip(panels, ("test", "training"), strict=True):
        for i, ridge in enumerate(problem.ridge):
            if name == "training" and not ridge:
                continue
            runs = observation[name][..., i]
            bars = runs.std(axis=0, ddof=1) / np.sqrt(len(runs))
            style.theory(axes, n, prediction[name][:, i], i=i, label=f"ridge {ridge:g}")
            style.networks(axes, n, runs.mean(axis=0), i=i, error=bars)
            style.rival(axes, n, rival[name][:, i], label="from the spectrum alone" if i == 1 else None)
        style.networks(
            axes,
            np.asarray(problem.network_n),
            observation[f"network_{name}"].mean(axis=0),
            i=6,
            label=f"wide networks, ridge {problem.network_ridge:g}",
        )
        axes.set(xscale="log", yscale="log", xlabel="images learned from, n", ylabel="squared error")
        axes.set_xticks(n, [str(count) for count in n])
        axes.set_xticks([], minor=True)
    panels[0].set_title("Unseen images")
    panels[1].set_title("Seen images")
    panels[0].legend()


def from_curve(prediction, curve):
    """The prediction with the errors of another curve."""
    test, training = np.asarray(curve.test_error), np.asarray(curve.training_error)
    return prediction | {"test": test, "training": training, "spectral": test}


def with_replacement(problem, prediction):
    """Independent draws from the same images, as if n were far below their number."""
    n = np.asarray(problem.n, float)[:, None]
    curve = learning_curve(n, KernelTask(*jax.tree.leaves(prediction["task"])), np.asarray(problem.ridge))
    return from_curve(prediction, curve)


def alike(problem, prediction):
    """The same theory with eigenvectors at random to the images: it sees the spectrum, but not the outliers."""
    task = KernelTask(*jax.tree.leaves(prediction["task"]))
    curve = domain_curve(np.asarray(problem.n, float)[:, None], task, np.asarray(problem.ridge))
    return from_curve(prediction, curve)


def cut(problem, prediction):
    """The spectrum cut after its hundred largest, the rest dropped."""
    task = prediction["task"]
    keep = np.arange(len(task.eigenvalues)) < 100
    short = KernelTask(task.eigenvalues * keep, task.powers, task.multiplicities)
    curve = domain_curve(np.asarray(problem.n, float)[:, None], short, np.asarray(problem.ridge))
    return from_curve(prediction, curve)


def unconsistent(problem, prediction):
    """Each mode shrunk by the ridge alone."""
    task = prediction["task"]
    kappa = np.asarray(problem.ridge) / np.asarray(problem.n, float)[:, None]
    missed = kappa[..., None] / (task.eigenvalues + kappa[..., None] + 1e-300)
    test = missed**2 @ task.powers
    return prediction | {"test": test, "spectral": test}


STUDY = Study(
    title="Learning curves on digits",
    question="Can the error on unseen images be told before any training, from the kernel of all images and their "
    "labels, and is the kernel's spectrum enough?",
    source="Canatar, Bordelon & Pehlevan 2021 (arXiv:2006.13198); Simon et al. 2023 (arXiv:2110.03922)",
    regimes=("lazy",),
    asks="how well",
    sizes={
        "smoke": dict(
            images=400,
            n=(50, 100, 200),
            ridge=(0.0, 10.0),
            draws=96,
            network_n=(100,),
            network_ridge=10.0,
            width=256,
            networks=12,
            lr=0.05,
            steps=150,
        ),
        "paper": dict(
            images=1797,
            n=(25, 50, 100, 200, 400, 800, 1600),
            ridge=(0.0, 1.0, 10.0),
            draws=200,
            network_n=(50, 200, 800),
            network_ridge=10.0,
            width=4096,
            networks=16,
            lr=0.05,
            steps=2000,
        ),
    },
    problem=problem,
    predict=predict,
    simulate=simulate_machines,
    claims=(
        Claim(
            "On unseen images kernel machines err as the theory says.",
            in_errors("test", "correction"),
            5,
            "In standard errors over training sets, with the theory's leading corrections E_0/n and E_0/(images - n) "
            "in quadrature.",
        ),
        Claim(
            "With a ridge, the kernel's spectrum and the labels' coefficients alone say as much.",
            from_spectrum,
            5,
            "As above. Without one, single outliers matter: then the first rival is this theory.",
        ),
        Claim(
            "On the images learned from they err as the theory says.",
            in_errors("training", "correction"),
            5,
            "As on unseen images.",
        ),
        Claim(
            "Wide networks with a ridge on the movement of their weights err alike on unseen images.",
            in_errors("network_test", "network_correction"),
            5,
            "In standard errors over networks, with 1/n and the leading 1/width correction in quadrature.",
        ),
    ),
    rivals=(
        Rival("One image is as good as another: the spectrum and the labels' coefficients are all there is.", alike),
        Rival("Images are as good as drawn with replacement: n << their number.", with_replacement),
        Rival("The spectrum beyond the hundred largest eigenvalues does not matter.", cut),
        Rival("Modes do not compete for samples: kappa = ridge / n.", unconsistent),
    ),
    draw=draw,
    formulas=("kernels.finite_domain.test_error", "kernels.finite_domain.training_error"),
)
