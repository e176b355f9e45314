"""A trained layer of linear attention and one step of gradient descent: the same rate, outputs and sensitivities."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from sims.engine import Runs, every, simulate
from sims.networks.linear_attention import effective_weights, label_layers, square_loss
from sims.tasks.in_context_regression import gaussian_tasks, prompts
from sims.training import training
from theory.bayes_icl.gradient_descent_layers import attention_steps, gradient_step_weights
from theory.bayes_icl.linear_attention import Prompts, optimal_layer, optimal_risk
from validation import style
from validation.study import Claim, Problem, Rival, Study


def uniform(key, shape, dtype):
    return jax.random.uniform(key, shape, dtype, -1.0, 1.0)


def problem(settings, seed):
    """Prompts to test on, the last pair of which is asked for."""
    given = Problem(**settings, seed=seed)
    of_tasks, of_pairs = jax.random.split(jax.random.fold_in(jax.random.key(2_000_003), seed))
    tasks = gaussian_tasks(of_tasks, given.tests, given.dimension)
    given.tested = prompts(of_pairs, tasks, given.context + 1, given.noise, given.half_width, uniform)
    return given


def law(given, cumulant=True):
    """Moments of U(-a, a): variance a^2 / 3, fourth cumulant -2 a^4 / 15."""
    a = given.half_width
    return Prompts(np.full(given.dimension, a**2 / 3), 1.0, given.noise, -2 * a**4 / 15 if cumulant else None)


def stepped(given, rate):
    """What one step says of every query, and how much it would change with the query: (P,) and (P, d)."""
    weights = gradient_step_weights(given.dimension, given.context, rate)
    x, y = given.tested.x, given.tested.y

    def one(x, y, query):
        tokens = jnp.concatenate([jnp.column_stack([x, y]), jnp.append(query, 0.0)[None]])
        return -attention_steps(tokens, weights)[-1, -1]

    of_query = jax.vmap(jax.value_and_grad(one, argnums=2))
    return tuple(np.asarray(part) for part in of_query(x[:, :-1], y[:, :-1], x[:, -1]))


def predicted(given, rate):
    outputs, slopes = stepped(given, rate)
    return {"rate": float(rate), "outputs": outputs, "slopes": slopes}


def predict(given):
    """The best rate, which a layer of the best weights takes in every direction, and what a step of it says."""
    best = optimal_layer(law(given), given.context)
    return predicted(given, best[0, 0]) | {"risk": float(optimal_risk(law(given), given.context))}


@functools.cache
def learner(dimension, half_width, noise, context, batch, start, steps, lr):
    def fresh(key, _):
        of_tasks, of_pairs = jax.random.split(key)
        tasks = gaussian_tasks(of_tasks, batch, dimension, dtype=jnp.float32)
        return prompts(of_pairs, tasks, context + 1, noise, half_width, uniform)

    def network(key, _):
        return jax.tree.map(lambda x: x.astype(jnp.float32), label_layers(key, dimension, start))

    optimiser = optax.adam(optax.cosine_decay_schedule(lr, steps))
    record = lambda model, _: effective_weights(model.layers[0])  # noqa: E731
    return training(network, square_loss, lambda _: optimiser, fresh, record)


def simulate_networks(given):
    """Trained layers: their weights on the way, and their outputs and sensitivities on the tests."""
    sizes = (given.dimension, given.half_width, given.noise, given.context, given.batch, given.start)
    program = learner(*sizes, given.steps, given.lr)
    runs = Runs(given.seed * given.runs + np.arange(given.runs), {}, (given.runs,))
    at = every(given.steps, given.every)
    found = simulate(program, runs, at, batching="map", optimised=True)
    x, y = (jnp.asarray(part, jnp.float32) for part in given.tested[:2])

    def one(model, x, y, query):
        return model(x[None], y[None], query[None])[0]

    answer = jax.vmap(jax.value_and_grad(one, argnums=3), in_axes=(None, 0, 0, 0))
    outputs, slopes = jax.vmap(answer, in_axes=(0, None, None, None))(found.state.model, x[:, :-1], y[:, :-1], x[:, -1])
    return {
        "t": at,
        "path": np.asarray(found.records, float),
        "outputs": np.asarray(outputs, float),
        "slopes": np.asarray(slopes, float),
        "labels": np.asarray(given.tested.y[:, -1]),
    }


def rates(observation):
    """Mean of the diagonal of every run at the end, and how weights scatter about a multiple of one."""
    last = observation["path"][:, -1]
    rate = np.trace(last, axis1=1, axis2=2) / last.shape[-1]
    return rate, last - rate[:, None, None] * np.eye(last.shape[-1])


def rate(prediction, observation):
    """Mean rate over runs and directions, in standard errors of weights that scatter as the others do."""
    found, rest = rates(observation)
    error = np.sqrt(np.mean(rest**2) / (len(found) * rest.shape[-1]))
    return float(np.abs(found.mean() - prediction["rate"]) / error)


def outputs(prediction, observation):
    """Mean squared difference of outputs, over what the scatter of trained weights makes of inputs."""
    far = np.mean((observation["outputs"] - prediction["outputs"]) ** 2)
    _, rest = rates(observation)
    # Weights off by a matrix E change outputs by x . E g, whose mean square is |E|^2 times those of its factors.
    share = np.mean(np.sum(rest**2, axis=(1, 2))) / rest.shape[-1] / prediction["rate"] ** 2
    return float(far / (2 * share * np.mean(prediction["outputs"] ** 2)))


def sensitivities(prediction, observation):
    """One less the mean cosine of both sensitivities to the query, over the same scatter."""
    ours, theirs = prediction["slopes"], observation["slopes"]
    sizes = np.linalg.norm(ours, axis=-1) * np.linalg.norm(theirs, axis=-1)
    cosine = np.mean(np.sum(ours * theirs, axis=-1) / sizes)
    _, rest = rates(observation)
    share = np.mean(np.sum(rest**2, axis=(1, 2))) / rest.shape[-1] / prediction["rate"] ** 2
    return float((1 - cosine) / share)


def risk(prediction, observation):
    """Mean squared error of the worst run, in standard errors over prompts."""
    errors = (observation["outputs"] - observation["labels"]) ** 2
    off = np.abs(errors.mean(axis=1) - prediction["risk"]) / (errors.std(axis=1, ddof=1) / errors.shape[1] ** 0.5)
    return float(np.max(off))


def draw(figure, given, prediction, observation):
    left, right = figure.subplots(1, 2)
    diagonal = np.diagonal(observation["path"], axis1=2, axis2=3)
    style.theory(left, observation["t"], np.full(len(observation["t"]), prediction["rate"]), label="best rate")
    gaussian = float(optimal_layer(law(given, cumulant=False), given.context)[0, 0])
    style.rival(left, observation["t"], np.full(len(observation["t"]), gaussian), label="for Gaussian inputs")
    style.networks(left, observation["t"], diagonal.mean(axis=(0, 2)), label="trained layer")
    off = observation["path"][:, :, 0, 1].mean(axis=0)
    style.networks(left, observation["t"], off, i=1, label="off its diagonal")
    left.set(xlabel="steps", ylabel="weights of the layer")
    left.legend(fontsize=7)
    left.set_title("Weights")
    some = slice(0, 400)
    most = 1.1 * np.abs(prediction["outputs"][some]).max()
    right.plot([-most, most], [-most, most], color=style.INK, linewidth=0.8, zorder=1)
    shown = prediction["outputs"][some], observation["outputs"][0, some]
    right.plot(*shown, "o", markersize=2.5, color=style.colour(0))
    right.set(xlabel="one step of gradient descent", ylabel="trained layer", xlim=(-most, most), ylim=(-most, most))
    right.set_title("Outputs")


def of_rate(change):
    """A step of another rate."""

    def rival(given, prediction):
        return prediction | predicted(given, change(given, prediction["rate"]))

    return rival


def two_steps(given, prediction):
    """Two steps in one layer."""
    weights = gradient_step_weights(given.dimension, given.context, prediction["rate"])
    x, y = given.tested.x, given.tested.y

    def one(x, y, query):
        tokens = jnp.concatenate([jnp.column_stack([x, y]), jnp.append(query, 0.0)[None]])
        return -attention_steps(tokens, weights, 2)[-1, -1]

    found = jax.vmap(jax.value_and_grad(one, argnums=2))(x[:, :-1], y[:, :-1], x[:, -1])
    return prediction | dict(zip(("outputs", "slopes"), (np.asarray(part) for part in found), strict=True))


STUDY = Study(
    title="One layer, one step of gradient descent",
    question="Is a trained layer of linear attention one step of gradient descent, and of which rate?",
    source="von Oswald et al. 2023 (arXiv:2212.07677)",
    regimes=("bayes", "attention"),
    asks="what",
    sizes={
        "smoke": dict(
            dimension=4,
            context=10,
            half_width=1.0,
            noise=0.0,
            batch=128,
            start=0.1,
            steps=2000,
            every=100,
            lr=0.01,
            runs=3,
            tests=4096,
        ),
        "paper": dict(
            dimension=10,
            context=10,
            half_width=1.0,
            noise=0.0,
            batch=2048,
            start=0.02,
            steps=20_000,
            every=500,
            lr=0.003,
            runs=8,
            tests=65_536,
        ),
    },
    problem=problem,
    predict=predict,
    simulate=simulate_networks,
    claims=(
        Claim(
            "In all directions it takes the best rate for inputs of this law.",
            rate,
            5,
            "Standard errors, from the scatter of weights that ought to be zero or alike.",
        ),
        Claim(
            "Its outputs are those of the step.",
            outputs,
            2,
            "The scatter of weights, twice for that of the rate itself.",
        ),
        Claim(
            "Its sensitivity to the query has the direction of the step's.",
            sensitivities,
            2,
            "The scatter of weights, which turns a vector by half its square; twice for inputs that are not white.",
        ),
        Claim("Every run costs what the best rate costs.", risk, 5, "Standard errors over prompts."),
    ),
    rivals=(
        Rival(
            "It takes the best rate for Gaussian inputs of that variance.",
            of_rate(lambda given, _: optimal_layer(law(given, cumulant=False), given.context)[0, 0]),
        ),
        Rival(
            "It inverts the covariance, as for endless contexts.",
            of_rate(lambda given, _: 3 / given.half_width**2),
        ),
        Rival(
            "The width of the inputs is half of that, and the rate four times as large.", of_rate(lambda _, r: 4 * r)
        ),
        Rival("One layer is two steps.", two_steps),
    ),
    draw=draw,
    formulas=(
        "bayes_icl.gradient_descent_layers.one_step",
        "bayes_icl.gradient_descent_layers.value_row",
        "bayes_icl.linear_attention.layer",
    ),
)
