"""Sampled posteriors as references: are they right on average over the tasks of their own prior?"""

from __future__ import annotations

import jax
import numpy as np

from theory.bayes_icl.posterior_sampling import LARGEST_R_HAT, calibration_ranks, logistic_model, prediction_draws
from validation import style
from validation.study import Claim, Problem, Rival, Study

BINS = 10


def problem(settings, seed):
    """Tasks from the prior, their contexts, and a query each: labels are drawn by a program of its own."""
    given = Problem(**settings, seed=seed)
    rng = np.random.default_rng(seed)
    given.x = rng.normal(size=(given.tasks, given.context, given.dimension))
    given.w = rng.normal(size=(given.tasks, given.dimension))
    given.queries = rng.normal(size=(given.tasks, 1, given.dimension))
    given.uniform = rng.random((given.tasks, given.context + 1))
    return given


def chances(x, w):
    return 1 / (1 + np.exp(-np.einsum("pnd,pd->pn", x, w)))


def labels(given):
    return (given.uniform[:, :-1] < chances(given.x, given.w)).astype(float)


def sampled(given, x, y):
    """Thinned draws of P(y = 1) at the query, (tasks, draws), and how far chains disagree."""
    few = dict(chains=2, warmup=given.warmup, samples=given.thinning * given.draws // 2)
    drawn, diverged = prediction_draws(logistic_model, jax.random.key(given.seed), x, y, given.queries, **few)
    chains = np.asarray(drawn)[..., 0]
    within, between = chains.var(axis=2).mean(axis=1), chains.mean(axis=2).var(axis=1, ddof=1)
    apart = np.sqrt(1 + between / within)
    thinned = chains[:, :, :: given.thinning].reshape(given.tasks, -1)
    return {"draws": thinned, "apart": apart, "diverged": int(np.sum(diverged)), "evidence": evidence(given)}


def evidence(given):
    """What the labels of the context say of the query's, however roughly: mean of y (x . q), y as a sign."""
    signs = 2 * labels(given) - 1
    return np.einsum("pn,pnd,pd->p", signs, given.x, given.queries[:, 0]) / given.context


def predict(given):
    return sampled(given, given.x, labels(given))


def simulate(given):
    """The truth behind each task: its chance at the query, and a label."""
    chance = chances(given.queries, given.w)[:, 0]
    return {"chance": chance, "label": (given.uniform[:, -1] < chance).astype(float)}


def counts(prediction, observation):
    """Tasks in each tenth of the ranks of the truth."""
    ranks = np.asarray(calibration_ranks(prediction["draws"], observation["chance"]))
    return np.bincount(ranks * BINS // (prediction["draws"].shape[1] + 1), minlength=BINS)


def uniform_ranks(prediction, observation):
    """Chi squared of the histogram, from its mean, in standard deviations."""
    found = counts(prediction, observation)
    expected = found.sum() / BINS
    chi2 = np.sum((found - expected) ** 2) / expected
    return float((chi2 - (BINS - 1)) / (2 * (BINS - 1)) ** 0.5)


def nothing_left(prediction, observation):
    """Errors of the predicted chance against labels: none on average, and none along the evidence; standard errors."""
    error = observation["label"] - prediction["draws"].mean(axis=1)
    along = np.stack([error, error * prediction["evidence"]])
    return float(np.max(np.abs(along.mean(axis=1)) / (along.std(axis=1, ddof=1) / error.size**0.5)))


def passes(prediction, observation):
    """Divergences, and how far chains of the typical task disagree beyond what two independent ones would."""
    noise = 1 / prediction["draws"].shape[1]
    excess = np.median(prediction["apart"]) - 1
    return float(prediction["diverged"] + excess / (LARGEST_R_HAT - 1 + noise))


def draw(figure, given, prediction, observation):
    left, right = figure.subplots(1, 2)
    found = counts(prediction, observation)
    expected = given.tasks / BINS
    places = (np.arange(BINS) + 0.5) / BINS
    left.bar(places, found, 0.9 / BINS, color=style.colour(0), alpha=0.6, label="tasks")
    style.theory(left, [0, 1], [expected, expected], i=1, label="uniform")
    spread = 2 * (expected * (1 - 1 / BINS)) ** 0.5
    left.fill_between([0, 1], expected - spread, expected + spread, color=style.colour(1), alpha=0.2, linewidth=0)
    left.set(xlabel="rank of the truth", ylabel="tasks", xlim=(0, 1), ylim=(0, 2 * expected))
    left.legend(fontsize=7, loc="upper right", ncols=2)
    left.set_title("Simulation-based calibration")
    mean = prediction["draws"].mean(axis=1)
    order = np.array_split(np.argsort(mean), 8)
    error = [observation["label"][part].std() / len(part) ** 0.5 for part in order]
    style.theory(right, [0, 1], [0, 1], i=1)
    seen = [observation["label"][part].mean() for part in order]
    style.networks(right, [mean[part].mean() for part in order], seen, i=0, error=error)
    right.set(xlabel="predicted chance of y = 1", ylabel="frequency of y = 1", xlim=(0, 1), ylim=(0, 1))
    right.set_title("Labels at the query")


def twice(given, prediction):
    """Every pair counts twice."""
    y = labels(given)
    return sampled(given, np.concatenate([given.x] * 2, axis=1), np.concatenate([y] * 2, axis=1))


def prior(given, prediction):
    """The context is not looked at."""
    rng = np.random.default_rng(given.seed + 1)
    w = rng.normal(size=(*prediction["draws"].shape, given.dimension))
    chance = 1 / (1 + np.exp(-np.einsum("psd,pd->ps", w, given.queries[:, 0])))
    return prediction | {"draws": chance}


def turned(given, prediction):
    """The two labels are mistaken for each other."""
    return prediction | {"draws": 1 - prediction["draws"]}


STUDY = Study(
    title="Sampled posteriors as references",
    question="Where no closed form exists, can a sampled posterior serve as the Bayes predictor?",
    source="Talts et al. 2018 (arXiv:1804.06788), simulation-based calibration",
    regimes=("bayes",),
    asks="how well",
    sizes={
        "smoke": dict(tasks=400, context=10, dimension=2, warmup=150, draws=98, thinning=2),
        "paper": dict(tasks=4000, context=20, dimension=8, warmup=500, draws=398, thinning=5),
    },
    problem=problem,
    predict=predict,
    simulate=simulate,
    claims=(
        Claim(
            "The truth has any rank among the samples equally often.",
            uniform_ranks,
            5,
            "Standard deviations of chi squared.",
        ),
        Claim(
            "Labels do not tell anything about the errors of predictions that the context did not.",
            nothing_left,
            5,
            "Standard errors over tasks.",
        ),
        Claim(
            "Chains agree, and none diverges.",
            passes,
            1,
            "The gate on R-hat, with what two chains of so few samples differ by chance.",
        ),
    ),
    rivals=(
        Rival("Every pair counts twice.", twice),
        Rival("The context says nothing.", prior),
        Rival("The two labels are mistaken for each other.", turned),
    ),
    draw=draw,
    formulas=("bayes_icl.posterior_sampling.distance",),
)
