"""Unlabelled data: least squares on the codes of a trained linear autoencoder, against least squares on all inputs."""

from __future__ import annotations

import functools

import jax
import numpy as np
import optax

from sims.engine import Runs, simulate
from sims.networks.deep_linear import correlation_loss, gaussian
from sims.tasks.factor_model import factor_samples, least_squares, linear_risk, random_factor_model
from sims.training import training
from theory.bayes_icl.unsupervised_pretraining import break_even_labels, factor_risk, regression_excess
from validation import style
from validation.metrics import fitted_exponent, gap, z_score
from validation.study import Claim, Problem, Rival, Study


def problem(settings, seed):
    """One factor model."""
    s = Problem(**settings, seed=seed)
    s.factors = len(s.strengths)
    s.model = random_factor_model(np.random.default_rng(seed), s.dimension, s.strengths, s.specific, s.noise)
    return s


def predict(s):
    """Excess risks over the least there is, labels that are worth as much, and what an encoder leaves to be known."""
    least = float(factor_risk(*s.model))
    few, many = np.array(s.few_labels), np.array(s.many_labels)
    return {
        "least": least,
        # Of a risk of one.
        "scores": np.asarray(regression_excess(1.0, s.factors, few)),
        "inputs": least * np.asarray(regression_excess(1.0, s.dimension, many)),
        "even": np.asarray(break_even_labels(s.dimension, s.factors, few)),
        "of_encoder": functools.partial(encoder_risk, s.model),
        "order": -1.0,
        **{name: np.array(getattr(s, name)) for name in ("dimension", "many_labels", "unlabelled")},
    }


def encoder_risk(model, encoders):
    """Least risk from the codes of each encoder (..., r, d): codes in an orthonormal frame are a factor model, too."""
    flat = encoders.reshape(-1, *encoders.shape[-2:])
    frames = np.linalg.qr(flat.swapaxes(-1, -2))[0].swapaxes(-1, -2)
    return np.asarray(many_risks(frames @ model.loadings, *model[1:])).reshape(encoders.shape[:-2])


many_risks = jax.jit(jax.vmap(factor_risk, in_axes=(0, None, None, None)))


@functools.cache
def autoencoder(dimension, factors, lr):
    """Descent on how well unlabelled inputs are reconstructed from a few codes; what is recorded is the encoder."""
    return training(
        lambda key, _: gaussian(key, (dimension, factors, dimension), dimension**-0.5),
        lambda network, covariance: correlation_loss(network, covariance, covariance),
        lambda _: optax.sgd(lr),
        lambda _, hyper: hyper["covariance"],
        lambda network, _: network.weights[0],
    )


def simulate_learners(s):
    """Encoders (unlabelled, runs, r, d), and risks after least squares on codes of the last, and on inputs."""
    rng = np.random.default_rng([s.seed, 1])
    x = [factor_samples(rng, s.model, (s.runs, m))[0] for m in s.unlabelled]
    covariance = np.concatenate([np.einsum("kmi,kmj->kij", part, part) / part.shape[1] for part in x])
    seeds = s.seed * len(covariance) + np.arange(len(covariance))
    program = autoencoder(s.dimension, s.factors, s.lr)
    runs = Runs(seeds, {"covariance": covariance}, (len(s.unlabelled), s.runs))
    encoders = np.asarray(simulate(program, runs, [s.steps]).on_grid()[:, :, 0], float)

    def after(encoder, labels, repeats):
        x, y = factor_samples(rng, s.model, (repeats, labels))
        return linear_risk(s.model, least_squares(x @ encoder.T, y) @ encoder)

    scores = [[after(encoder, n, s.repeats) for n in s.few_labels] for encoder in encoders[-1]]
    inputs = [after(np.eye(s.dimension), n, s.repeats) for n in s.many_labels]
    return {"encoders": encoders, "scores": np.array(scores), "inputs": np.array(inputs)}


def on_scores(prediction, observation):
    """Risk on codes of each encoder (runs, labels), in standard errors over label sets."""
    left = prediction["of_encoder"](observation["encoders"][-1])[:, None]
    return z_score(left * (1 + prediction["scores"]), observation["scores"], axis=2)


def on_inputs(prediction, observation):
    """Excess risk on all inputs, in standard errors over label sets."""
    return z_score(prediction["inputs"], observation["inputs"] - prediction["least"], axis=1)


def span_loss(prediction, observation):
    """What encoders (unlabelled, runs) lose of what inputs tell."""
    return prediction["of_encoder"](observation["encoders"]) - prediction["least"]


def power(prediction, observation):
    """Power of the number of unlabelled inputs with which that falls, in standard errors over runs."""
    found, error = fitted_exponent(prediction["unlabelled"], span_loss(prediction, observation))
    return gap(prediction["order"], found, error)


def worth(prediction, observation):
    """Labels at which inputs do as well as codes, interpolated (few labels,), and their standard errors."""
    few, many = (observation[name] - prediction["least"] for name in ("scores", "inputs"))
    few = few.swapaxes(0, 1).reshape(few.shape[1], -1)
    found, spread = few.mean(axis=1), few.std(axis=1) / few.mean(axis=1) / few.shape[1] ** 0.5
    # Labels over excess is what is nearly a straight line.
    labels, curve = prediction["many_labels"], 1 / many.mean(axis=1)
    even = np.interp(1 / found, curve, labels, left=-np.inf, right=np.inf)
    at = np.interp(even, labels, many.std(axis=1) / many.mean(axis=1)) / many.shape[1] ** 0.5
    return even, np.hypot(spread, at) * (even - prediction["dimension"])


def break_even(prediction, observation):
    """Labels that codes save, in standard errors, with what the learned span loses for the theory's known one."""
    even, error = worth(prediction, observation)
    lost = span_loss(prediction, observation)[-1].mean() / (prediction["least"] * prediction["scores"])
    return gap(prediction["even"], even, np.hypot(error, lost * (even - prediction["dimension"])))


def draw(figure, s, prediction, observation):
    left, middle, right = figure.subplots(1, 3)
    r, d, least = s.factors, s.dimension, prediction["least"]
    for i, (name, p, labels) in enumerate((("scores", r, s.few_labels), ("inputs", d, s.many_labels))):
        n = np.geomspace(labels[0], max(s.many_labels), 60)
        label = f"{p} codes" if name == "scores" else f"{p} inputs"
        style.theory(left, n, regression_excess(least, p, n), i=i, label=label)
        seen = (observation[name] - least).swapaxes(0, -2).reshape(len(labels), -1).mean(axis=1)
        style.networks(left, labels, seen, i=i, linestyle="none")
    left.set(xscale="log", yscale="log", xlabel="labels", ylabel="excess risk", title="Least squares")
    left.legend(fontsize=7)
    m, lost = np.array(s.unlabelled), span_loss(prediction, observation)
    style.theory(middle, m, np.exp(np.mean(np.log(lost.mean(axis=1) * m))) / m, i=2, label="in proportion to 1/m")
    error = lost.std(axis=1, ddof=1) / s.runs**0.5
    style.networks(middle, m, lost.mean(axis=1), i=2, error=error, linestyle="none", label="autoencoders")
    middle.set(xscale="log", yscale="log", xlabel="unlabelled inputs m", ylabel="risk that codes add")
    middle.set(title="What the encoder costs")
    middle.set_xticks(m, [f"{x:g}" for x in m])
    middle.minorticks_off()
    middle.legend(fontsize=7)
    n = np.linspace(s.few_labels[0], s.few_labels[-1], 30)
    style.theory(right, n, break_even_labels(d, r, n), i=3, label="as good")
    style.rival(right, n, d / r * n, label="ratio of numbers")
    style.networks(right, s.few_labels, worth(prediction, observation)[0], i=3, linestyle="none")
    right.set(xlabel="labels, with codes", ylabel="labels, without", title="What it is worth")
    right.legend(fontsize=7)


def of_excess(believed):
    """Another excess of least squares, of a risk of one, for so many weights and labels."""

    def predicted(s, prediction):
        few, many = np.array(s.few_labels), np.array(s.many_labels)
        inputs = prediction["least"] * believed(s.dimension, many)
        return prediction | {"scores": believed(s.factors, few), "inputs": inputs}

    return predicted


def all_known(s, prediction):
    """Inputs tell the factors exactly: what is left is the noise of labels."""
    return prediction | {"least": s.noise, "inputs": prediction["inputs"] * s.noise / prediction["least"]}


def ratio(s, prediction):
    """Labels are worth as many more as there are more inputs than factors."""
    return prediction | {"even": s.dimension / s.factors * np.array(s.few_labels)}


def random_codes(s, prediction):
    """Learned codes tell as much as random ones."""
    rng = np.random.default_rng(s.seed)
    return prediction | {"of_encoder": lambda e: encoder_risk(s.model, rng.standard_normal(e.shape))}


STUDY = Study(
    title="What unlabelled data are worth",
    question="How many labels does it save to learn from unlabelled inputs first what they have in common?",
    source="Ge, Tang, Fan & Jin 2024 (arXiv:2303.01566), for a factor model and a linear autoencoder",
    regimes=("bayes",),
    asks="how well",
    sizes={
        "smoke": dict(
            dimension=24,
            strengths=(2.0, 1.6, 1.2),
            specific=0.5,
            noise=0.1,
            few_labels=(8, 10, 14, 20),
            many_labels=(33, 41, 57, 81, 121, 161),
            unlabelled=(200, 800, 3200),
            runs=16,
            repeats=2500,
            lr=0.05,
            steps=3000,
        ),
        "paper": dict(
            dimension=40,
            strengths=(2.0, 1.6, 1.2),
            specific=0.5,
            noise=0.1,
            few_labels=(8, 10, 14, 20, 40),
            many_labels=(51, 61, 81, 121, 181, 281, 541),
            unlabelled=(400, 1600, 6400, 25_600),
            runs=16,
            repeats=10_000,
            lr=0.05,
            steps=20_000,
        ),
    },
    problem=problem,
    predict=predict,
    simulate=simulate_learners,
    claims=(
        Claim("Least squares on learned codes pays for the codes alone.", on_scores, 5, "Standard errors."),
        Claim("Least squares on inputs pays for all of them.", on_inputs, 5, "Standard errors over label sets."),
        Claim("The encoder costs in proportion to 1/m of unlabelled inputs.", power, 5, "Standard errors over runs."),
        Claim(
            "Codes are worth as many labels as predicted.",
            break_even,
            5,
            "Standard errors over label sets, and what encoders lose, which the theory has no part of.",
        ),
    ),
    rivals=(
        Rival("Least squares costs the number of weights over that of labels.", of_excess(lambda p, n: p / n)),
        Rival("It costs that over the labels that are left.", of_excess(lambda p, n: p / (n - p))),
        Rival("Inputs tell the factors exactly.", all_known),
        Rival("Learned codes tell as much as random ones.", random_codes),
        Rival("The encoder costs in proportion to 1/√m.", lambda s, prediction: prediction | {"order": -0.5}),
        Rival("Labels are worth as many as there are more inputs than factors.", ratio),
    ),
    draw=draw,
    formulas=tuple(f"bayes_icl.unsupervised_pretraining.{name}" for name in ("least", "excess", "even")),
)
