"""How many frequencies must be trained on: networks against the Bayes predictors of what they have seen, and of all."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np

from sims.engine import Runs, every, simulate
from sims.regression_training import regression_training
from sims.tasks.in_context_regression import waves
from theory.bayes_icl.function_families import fourier_features, gaussian_mixture_predictions
from theory.bayes_icl.prequential import linear_predictions
from validation import style
from validation.metrics import z_score
from validation.study import Claim, Problem, Rival, Study


def prompts(key, frequency, points, noise, dtype=None):
    """Labels and values without noise at all points of the circle in turn, (prompts, points)."""
    of_waves, of_noise = jax.random.split(key)
    values = waves(of_waves, frequency, points, dtype)
    return values + jnp.sqrt(noise).astype(values.dtype) * jax.random.normal(
        of_noise, values.shape, values.dtype
    ), values


def problem(settings, seed):
    """Frequencies in the order in which they are added to the training set; test prompts of each of them."""
    given = Problem(**settings, seed=seed)
    # The constant comes last.
    given.frequencies = np.roll(np.arange(given.points // 2 + 1), -1)
    given.trained = np.arange(1, len(given.frequencies) + 1)
    keys = jax.random.split(jax.random.fold_in(jax.random.key(seed), 2**31 - 1), len(given.frequencies))
    drawn = [
        prompts(key, jnp.full(given.prompts, k), given.points, given.noise)
        for key, k in zip(keys, given.frequencies, strict=True)
    ]
    given.y, given.truth = (np.stack(part) for part in zip(*drawn, strict=True))
    return given


def predict(given):
    """Bayes predictions knowing so many frequencies, (runs, frequencies, prompts, points), and all; linear ones."""
    found = [bayes(given, known) for known in given.trained]
    return {
        "values": np.stack([part.mean for part in found]),
        "all": np.asarray(found[-1].mean),
        "linear": np.asarray(linear(given)),
        "excess": np.stack([part.variance - given.noise for part in found]),
    }


def on_prompts(given, rule):
    """A rule for features and labels at all points, on all prompts."""
    features = fourier_features(np.arange(given.points), given.points // 2, given.points / 2)
    return jax.jit(jax.vmap(jax.vmap(lambda y: rule(features, y))))(given.y)


def variances(given):
    """Of the weights of all features, for each frequency: of its cosine and its sine one, (frequencies, features)."""
    frequency = (np.arange(2 * (given.points // 2) + 1) + 1) // 2
    return (frequency == given.frequencies[:, None]).astype(float)


def bayes(given, known, noise=None):
    """The Bayes predictor of the first frequencies."""
    of_each, noise = variances(given)[:known], given.noise if noise is None else noise
    spread = of_each[:, :, None] * np.eye(of_each.shape[1])
    return on_prompts(given, lambda x, y: gaussian_mixture_predictions(x, y, noise, 0 * of_each, spread))


def linear(given, variance=None):
    """The best rule that is linear in the labels: weights with the mixture's own moments, unless others are given."""
    variance = variances(given).mean(axis=0) if variance is None else variance
    return on_prompts(given, lambda x, y: linear_predictions(x, y, given.noise, 0.0, variance).mean)


@functools.cache
def network(points, batch, width, steps, lr):
    """Fresh functions at every step, of so many of the frequencies; inputs say which point is meant."""

    def drawn(key, settings):
        of_frequency, of_prompts = jax.random.split(key)
        which = jax.random.randint(of_frequency, (batch,), 0, settings["trained"])
        y, _ = prompts(of_prompts, settings["frequencies"][which], points, settings["noise"], jnp.float32)
        return jnp.broadcast_to(jnp.eye(points, dtype=jnp.float32), (batch, points, points)), y

    return regression_training(drawn, points, points, steps=steps, lr=lr, width=width)


def simulate_networks(given):
    """Outputs of the network of each number of frequencies, (runs, frequencies, prompts, points)."""
    program = network(given.points, given.batch, given.width, given.steps, given.lr)
    n, y = len(given.trained), given.y.reshape(-1, given.points)
    x = np.broadcast_to(np.eye(given.points), (len(y), given.points, given.points))
    shared = {
        "x": np.float32(x),
        "y": np.float32(y),
        "frequencies": given.frequencies,
        "noise": np.float32(given.noise),
    }
    hyper = {name: np.broadcast_to(part, (n, *np.shape(part))).copy() for name, part in shared.items()}
    runs = Runs(np.full(n, given.seed), hyper | {"trained": given.trained}, (n,))
    found = simulate(program, runs, every(given.steps, given.steps), batching="map", optimised=True).records
    return {"outputs": np.asarray(found, float)[:, -1].reshape(n, *given.y.shape), "truth": given.truth}


def squares(difference):
    """Mean over prompts and points, of (..., frequencies, prompts, points)."""
    return np.mean(difference**2, axis=(-2, -1))


def near(prediction, observation):
    """On own frequencies: distance to the predictor of these, over a twentieth of the signal: the largest."""
    signal = np.mean(observation["truth"] ** 2, axis=(1, 2))
    far = squares(observation["outputs"] - prediction["values"]) / (0.05 * signal)
    return float(max(np.max(far[i, : i + 1]) for i in range(len(far))))


def new(prediction, observation):
    """On new frequencies: distance to that predictor over that to the predictor of all: the largest."""
    own, every = (squares(observation["outputs"] - prediction[name]) for name in ("values", "all"))
    return float(max(np.max(own[i, i + 1 :] / every[i, i + 1 :]) for i in range(len(own) - 1)))


def price(prediction, observation):
    """Risk over all frequencies off the rule's, over half of what a network pays for knowing few: the largest."""
    seen, rule = (
        squares(part - observation["truth"]).mean(axis=1)[:-1]
        for part in (observation["outputs"], prediction["values"])
    )
    least = squares(prediction["all"] - observation["truth"]).mean()
    return float(np.max(np.abs(seen - rule) / (0.5 * np.abs(seen - least))))


def nonlinear(prediction, observation):
    """Trained on all frequencies: distance to what it should be over that to the best linear rule."""
    output = observation["outputs"][-1]
    far = [squares(output - rule).mean() for rule in (prediction["values"][-1], prediction["linear"])]
    return float(far[0] / far[1])


def pythagoras(prediction, observation):
    """On own frequencies: E (g - f)^2 - E (g - f_B)^2 - E Var f, in standard errors over prompts: the largest."""
    left = (observation["outputs"] - observation["truth"]) ** 2 - (observation["outputs"] - prediction["values"]) ** 2
    left = (left - prediction["excess"]).mean(axis=-1)
    return max(z_score(0.0, left[i, : i + 1].ravel()) for i in range(len(left)))


def draw(figure, given, prediction, observation):
    left, right = figure.subplots(1, 2)
    risks = {
        name: squares(part - observation["truth"])
        for name, part in (("rule", prediction["values"]), ("net", observation["outputs"]))
    }
    own = np.arange(len(given.trained)) < given.trained[:, None]
    for i, (name, which) in enumerate({"on frequencies trained on": own, "on new ones": ~own}.items()):
        some = which.any(axis=1)
        means = {
            key: np.array([r[w].mean() for r, w in zip(risk[some], which[some], strict=True)])
            for key, risk in risks.items()
        }
        style.theory(left, given.trained[some], means["rule"], i=i, label=name)
        style.networks(left, given.trained[some], means["net"], i=i)
    known_all = squares(prediction["all"] - observation["truth"]).mean()
    style.rival(left, given.trained, np.full(len(given.trained), known_all), label="all known")
    left.set(xlabel="frequencies trained on", ylabel="excess risk", ylim=(0, None), title="Risk by training set")
    left.set_xticks(given.trained)
    left.legend(fontsize=7)
    # Of some new functions, constants, the first whose value is well off zero.
    shown = int(np.argmax(given.truth[-1, :, 0] > 1))
    points = np.arange(given.points)
    right.plot(points, given.y[-1, shown], "_", color=style.INK, markersize=14, label="labels")
    for i, known in enumerate(given.trained):
        style.theory(right, points, prediction["values"][i, -1, shown], i=i, label=f"trained on {known}")
        style.networks(right, points, observation["outputs"][i, -1, shown], i=i)
    right.set(
        xlabel="point of the circle", ylabel="prediction before the label", title="A constant, new to all but the last"
    )
    right.set_xticks(points)
    right.legend(fontsize=7)


def with_values(rule):
    """The rival whose predictions are `rule(given, prediction)`, of the same shape."""
    return lambda given, prediction: (
        prediction | {"values": np.broadcast_to(rule(given, prediction), prediction["values"].shape)}
    )


def deviation_for_variance(given, prediction):
    return np.stack([bayes(given, known, given.noise**0.5).mean for known in given.trained])


def equal_weights(given, prediction):
    """All known frequencies count the same for ever."""
    alone = [linear(given, of_one) for of_one in variances(given)]
    return np.stack([np.mean(alone[:known], axis=0) for known in given.trained])


STUDY = Study(
    title="From how many frequencies",
    question="Trained on some frequencies, what does a network make of others, and what does it pay there?",
    source="Panwar, Ahuja & Goyal 2024 (arXiv:2306.04891), multi-task generalisation, here on a circle of few points",
    regimes=("bayes",),
    asks="how well",
    sizes={
        "smoke": dict(points=4, noise=0.05, batch=128, width=32, steps=600, lr=3e-3, prompts=400),
        "paper": dict(points=20, noise=0.01, batch=256, width=128, steps=100_000, lr=1e-3, prompts=2000),
    },
    problem=problem,
    predict=predict,
    simulate=simulate_networks,
    claims=(
        Claim(
            "On its own frequencies a network is the Bayes predictor of these to a twentieth of the signal.",
            near,
            1,
            "A twentieth: what a small network has not learned when training stops.",
        ),
        Claim(
            "On new ones it is nearer to that predictor, which takes them for its own, than to one that knows all.",
            new,
            1,
            "Of two rules the nearer one is what it says.",
        ),
        Claim(
            "On all frequencies together it pays what that predictor pays for knowing few.",
            price,
            1,
            "Half of that price: nothing told the network what to do on others.",
        ),
        Claim(
            "Trained on all, it is nearer to their Bayes predictor than to the best rule that is linear in the labels.",
            nonlinear,
            1,
            "Of two rules the nearer one is what it says.",
        ),
        Claim(
            "On its own frequencies its excess risk is that of Bayes and its distance to Bayes.",
            pythagoras,
            5,
            "Standard errors over prompts.",
        ),
    ),
    rivals=(
        Rival("Whatever it was trained on, it knows all frequencies.", with_values(lambda _, found: found["all"])),
        Rival("It is the best rule that is linear in the labels.", with_values(lambda _, found: found["linear"])),
        Rival("It learned one frequency alone.", with_values(lambda _, found: found["values"][:1])),
        Rival("All known frequencies weigh the same for ever.", with_values(equal_weights)),
        Rival("It takes the noise's standard deviation for its variance.", with_values(deviation_for_variance)),
    ),
    draw=draw,
    formulas=("bayes_icl.function_families.log_odds", "bayes_icl.prequential.mixture_mean"),
)
