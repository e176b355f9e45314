"""Risk of stochastic gradient descent: its exact mean, the noise that it settles at, and the step that breaks it."""

from __future__ import annotations

import functools

import jax.numpy as jnp
import numpy as np
import optax

from sims.engine import Runs, simulate
from sims.tasks.streaming_regression import Linear, excess_risk, fresh_batch, half_squared_error, one_sample
from sims.training import training
from theory.deep_linear.sgd import multipass_loss, sgd_largest_stable_step, sgd_risk
from validation import style
from validation.metrics import z_score
from validation.study import Claim, Problem, Rival, Study


def problem(settings, seed):
    """Streams (spectrum, teacher, noise) at several batch sizes, white streams beside the edge, and one data set."""
    rng = np.random.default_rng(seed)
    d, n = settings["features"], settings["rows"]
    lam = np.arange(1, settings["inputs"] + 1.0) ** -settings["decay"]
    teacher = rng.normal(size=len(lam))
    white = np.ones(settings["white"])
    edge = float(sgd_largest_stable_step(white, 1))
    a = rng.normal(size=(n, d))
    a /= np.linalg.norm(a, axis=1, keepdims=True)
    b = a @ rng.normal(size=d) / np.sqrt(d) + settings["label_noise"] * rng.normal(size=n)
    return Problem(
        **settings,
        seed=seed,
        lam=lam,
        teacher=teacher,
        white_teacher=rng.normal(size=len(white)),
        edge_lr=edge * np.array(settings["beside"]),
        a=a,
        b=b,
    )


def least_squares(a, b):
    """Squared singular values of A, squared components of 0 - x*, |b_perp|^2 / 2 and the number of rows."""
    u, s, _ = np.linalg.svd(a, full_matrices=False)
    return s**2, ((u.T @ b) / s) ** 2, 0.5 * (b @ b - np.sum((u.T @ b) ** 2)), float(len(b))


def predict(problem):
    """Exact mean risks of the streams, and the homogenised loss on the data set."""
    streams = [
        sgd_risk(np.asarray(problem.steps), (problem.lam, problem.teacher**2, problem.noise), problem.lr, batch)
        for batch in problem.batch
    ]
    white = np.ones(problem.white)
    edge = [
        sgd_risk(np.asarray(problem.edge_steps), (white, problem.white_teacher**2, 0.0), lr, 1)
        for lr in problem.edge_lr
    ]
    return {
        "stream": np.array(streams),
        "edge": np.array(edge),
        "passes": np.asarray(
            multipass_loss(np.asarray(problem.passes), least_squares(problem.a, problem.b), problem.data_lr)
        ),
        "rows": len(problem.b),
    }


def stream(deviations, teacher, most):
    """One-pass training of a linear student on fresh batches; it starts at zero and its excess risk is recorded."""
    return training(
        lambda _, __: Linear(jnp.zeros(len(teacher))),
        half_squared_error,
        lambda hyper: optax.sgd(hyper["lr"]),
        lambda key, hyper: fresh_batch(key, deviations, teacher, hyper["noise"], hyper["batch"], most),
        lambda student, _: excess_risk(student, deviations, teacher),
    )


def repeated(seed, runs, **axes):
    """`runs` runs at each value along the axes, which go together; every run has its own seed."""
    values = {name: np.repeat(np.asarray(value, float), runs) for name, value in axes.items()}
    total = len(next(iter(values.values())))
    return Runs(1_000_003 * (seed + 1) + np.arange(total), values, (total // runs, runs))


def simulate_networks(problem):
    """Many runs on fresh batches, many beside the edge, and many on single samples of one data set."""
    sizes = len(problem.batch)
    runs = repeated(
        problem.seed, problem.runs, lr=[problem.lr] * sizes, noise=[problem.noise] * sizes, batch=problem.batch
    )
    trained = stream(jnp.asarray(np.sqrt(problem.lam)), jnp.asarray(problem.teacher), int(max(problem.batch)))
    streams = simulate(trained, runs, problem.steps).on_grid()
    beside = repeated(problem.seed + 10, problem.edge_runs, lr=problem.edge_lr, noise=[0.0, 0.0], batch=[1, 1])
    trained = stream(jnp.ones(problem.white), jnp.asarray(problem.white_teacher), 1)
    edge = simulate(trained, beside, problem.edge_steps).on_grid()
    x, y = jnp.asarray(problem.a.T), jnp.asarray(problem.b)
    trained = training(
        lambda _, __: Linear(jnp.zeros(x.shape[0])),
        half_squared_error,
        lambda hyper: optax.sgd(hyper["lr"]),
        lambda key, _: one_sample(key, x, y),
        lambda student, _: 0.5 * jnp.sum((y - student(x)) ** 2),
    )
    single = repeated(problem.seed + 20, problem.data_runs, lr=[problem.data_lr])
    steps = np.rint(np.asarray(problem.passes) * len(problem.b)).astype(int)
    return {"stream": streams, "edge": edge, "passes": simulate(trained, single, steps).records}


def after_start(prediction, observation, name):
    """Largest deviation of a mean risk from its prediction in standard errors; the start itself has none."""
    return z_score(prediction[name][..., 1:], np.moveaxis(observation[name], -2, 0)[..., 1:])


def draw(figure, problem, prediction, observation):
    left, middle, right = figure.subplots(1, 3)
    for i, batch in enumerate(problem.batch):
        seen = observation["stream"][i]
        error = seen.std(axis=0) / np.sqrt(len(seen))
        style.theory(left, problem.steps, prediction["stream"][i], i=i)
        style.networks(left, problem.steps, seen.mean(axis=0), i=i, error=error, label=f"batch {batch}")
    descent = sgd_risk(np.asarray(problem.steps), (problem.lam, problem.teacher**2, problem.noise), problem.lr, 1e9)
    style.rival(left, problem.steps, descent, label="no noise")
    left.set(yscale="log", xlabel="steps", ylabel="excess risk", title="Fresh batches")
    left.legend()
    for i, factor in enumerate(problem.beside):
        seen = observation["edge"][i]
        error = seen.std(axis=0) / np.sqrt(len(seen))
        style.theory(middle, problem.edge_steps, prediction["edge"][i], i=i + 3)
        style.networks(middle, problem.edge_steps, seen.mean(axis=0), i=i + 3, error=error, label=f"{factor:g} × edge")
    middle.set(yscale="log", xlabel="steps", title="Beside the largest stable step")
    middle.legend()
    seen = observation["passes"]
    style.theory(right, problem.passes, prediction["passes"], i=5)
    style.networks(right, problem.passes, seen.mean(axis=0), i=5, label="mean of runs")
    style.band(right, problem.passes, seen, i=5, label="10-90 % of runs")
    right.set(xlabel="passes", ylabel="training loss", title="One data set")
    right.legend()


def instead(risk):
    """A rival with another one-pass recursion: `risk(steps, lam, m0, noise, lr, batch)`."""

    def believed(problem, prediction):
        streams = [
            risk(np.asarray(problem.steps), problem.lam, problem.teacher**2, problem.noise, problem.lr, batch)
            for batch in problem.batch
        ]
        white = np.ones(problem.white)
        edge = [
            risk(np.asarray(problem.edge_steps), white, problem.white_teacher**2, 0.0, lr, 1) for lr in problem.edge_lr
        ]
        return prediction | {"stream": np.array(streams), "edge": np.array(edge)}

    return believed


def noiseless(steps, lam, m0, noise, lr, batch):
    return 0.5 * (lam * m0 * (1 - lr * lam) ** (2 * steps[:, None])).sum(axis=1)


def label_noise_only(steps, lam, m0, noise, lr, batch):
    kept = (1 - lr * lam) ** 2
    settled = lr**2 / batch * lam * noise / (1 - kept)
    return 0.5 * (lam * (settled + (m0 - settled) * kept ** steps[:, None])).sum(axis=1)


def fourth_moment_forgotten(steps, lam, m0, noise, lr, batch):
    """The recursion without Wick's extra term: (1 - lr lam)^2 in place of (1 - lr lam)^2 + lr^2 lam^2 / B."""
    step = np.diag((1 - lr * lam) ** 2) + lr**2 / batch * np.outer(lam, lam)
    m, found = m0.copy(), []
    for _ in range(int(steps.max()) + 1):
        found.append(0.5 * lam @ m)
        m = step @ m + lr**2 / batch * lam * noise
    return np.array(found)[steps]


def flow_on_the_data(problem, prediction):
    """Gradient flow on the training loss, without the noise of single samples."""
    lam, z2, floor, _ = least_squares(problem.a, problem.b)
    decay = np.exp(-2 * problem.data_lr * lam * np.asarray(problem.passes)[:, None])
    return prediction | {"passes": floor + 0.5 * (lam * z2 * decay).sum(axis=1)}


def noise_in_another_time(problem, prediction):
    """The homogenised loss with one unit of time for two passes."""
    passes = 0.5 * np.asarray(problem.passes)
    return prediction | {
        "passes": np.asarray(multipass_loss(passes, least_squares(problem.a, problem.b), problem.data_lr))
    }


STUDY = Study(
    title="Risk of stochastic gradient descent",
    question="What does the noise of small batches do to the risk, and how large a step does it leave stable?",
    source="second moments of the update for Gaussian inputs; Paquette, Lee, Pedregosa & Paquette 2021 (2102.04396)",
    regimes=("linear", "lazy"),
    asks="how trained",
    sizes={
        "smoke": dict(
            inputs=10,
            decay=1.0,
            noise=0.5,
            lr=0.2,
            batch=(1, 4),
            steps=(0, 2, 5, 10, 20, 40, 80, 160),
            runs=1500,
            white=32,
            beside=(0.9, 1.1),
            edge_steps=(0, 10, 20, 40, 60),
            edge_runs=1500,
            rows=100,
            features=50,
            label_noise=0.3,
            data_lr=0.8,
            passes=(0.0, 0.25, 0.5, 1.0, 2.0, 3.0, 4.0),
            data_runs=200,
        ),
        "paper": dict(
            inputs=100,
            decay=1.0,
            noise=0.5,
            lr=0.1,
            batch=(1, 4, 16),
            steps=(0, 2, 5, 10, 20, 50, 100, 200, 500, 1000),
            runs=4000,
            white=64,
            beside=(0.9, 1.1),
            edge_steps=(0, 10, 20, 40, 80),
            edge_runs=4000,
            rows=1000,
            features=500,
            label_noise=0.3,
            data_lr=0.8,
            passes=(0.0, 0.25, 0.5, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0),
            data_runs=200,
        ),
    },
    problem=problem,
    predict=predict,
    simulate=simulate_networks,
    claims=(
        Claim(
            "On fresh batches the mean risk is that of the exact recursion, at every batch size and time.",
            functools.partial(after_start, name="stream"),
            5,
            "In standard errors over runs: five of them are below 1e-4.",
        ),
        Claim(
            "Beside the largest stable step the mean risk shrinks and grows as predicted.",
            functools.partial(after_start, name="edge"),
            5,
            "In standard errors over runs: five of them are below 1e-4.",
        ),
        Claim(
            "It shrinks below that step and grows above it.",
            lambda p, o: float(
                np.sum(
                    np.sign(p["edge"][:, -1] - p["edge"][:, 0])
                    != np.sign(o["edge"][..., -1].mean(axis=1) - p["edge"][:, 0])
                )
            ),
            0,
            "A sign has no error: the means move by tens of standard errors.",
        ),
        Claim(
            "On one data set the mean loss is the homogenised one.",
            lambda p, o: z_score(p["passes"][1:], o["passes"][:, 1:], floor=float(p["passes"][0] / p["rows"])),
            5,
            "In standard errors over runs, with 1/n of the initial loss for the finite number of rows.",
        ),
    ),
    rivals=(
        Rival("Noise does not matter: gradient descent.", instead(noiseless)),
        Rival("Only label noise matters: the noise of the inputs is dropped.", instead(label_noise_only)),
        Rival("Inputs have no fourth moments beyond the product of second ones.", instead(fourth_moment_forgotten)),
        Rival("The loss on one data set follows gradient flow.", flow_on_the_data),
        Rival("One unit of time is two passes.", noise_in_another_time),
    ),
    draw=draw,
    formulas=("deep_linear.sgd.risk", "deep_linear.sgd.largest_step", "deep_linear.sgd.multipass"),
)
