"""Matching and copying by a factor that must be found, with all factors in sight or some: a small transformer."""

from __future__ import annotations

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

from sims.engine import Runs, simulate
from sims.networks.transformer import transformer
from sims.probes.by_position import divergence, hits, losses
from sims.tasks.in_context_maps import factor_sequences, item_numbers, query_tokens, token_features
from sims.training import training
from theory.induction.match_and_copy import factor_prediction, known_factor, one_example, single_factor_prediction
from validation import style
from validation.metrics import gap
from validation.study import Claim, Problem, Rival, Study

KINDS = ("all factors in sight", "one out of sight")


def problem(settings, seed):
    """Test sequences; the factors in sight of each representation: all of them, all but the last."""
    found = factor_sequences(jax.random.key(seed + 1000), *(settings[name] for name in ("tests", *SHAPE)))
    visible = (tuple(range(settings["factors"])), tuple(range(settings["factors"] - 1)))
    return Problem(**settings, seed=seed, tested=found, visible=visible)


SHAPE = ("context", "factors", "size", "labels")


def logs(p):
    """ln p, with a finite one for what is impossible."""
    return jnp.log(jnp.maximum(jnp.asarray(p), 1e-30))


def bayes(problem, visible, hidden):
    """ln p of exact Bayes that sees some of the factors and knows of so many hidden ones."""
    values = problem.tested.values[..., jnp.array(visible)]
    return logs(factor_prediction(values, problem.tested.labels, problem.size, problem.labels, float(hidden)).labels)


def matched(problem, factor):
    """ln p of match and copy by one factor: its number, or one for each sequence."""
    values, labels = problem.tested.values, problem.tested.labels
    which = jnp.broadcast_to(jnp.asarray(factor), (len(labels),))[:, None, None]
    return logs(
        single_factor_prediction(
            jnp.take_along_axis(values, which, axis=2)[..., 0], labels, problem.size, problem.labels
        )
    )


def predict(problem):
    """Exact Bayes for each representation, on the tests; what the closed forms say."""
    p, n = problem, np.arange(problem.context)
    each = [bayes(p, seen, p.factors - len(seen)) for seen in p.visible]
    first = one_example(p.factors, p.size, p.labels)
    return {
        "log_p": jnp.stack(each),
        # What there is to learn from the context, nats per label.
        "worth": np.array([float(jnp.mean(np.log(p.labels) - losses(q, p.tested.labels))) for q in each]),
        "first": np.array([first.accuracy, first.loss], float),
        "first_error": first_scatter(p, each[0]),
        "known": np.asarray(known_factor(n, p.size, p.labels).accuracy),
    }


def first_scatter(problem, log_p):
    """Standard errors of accuracy and loss after one example, over the tests."""
    answers = problem.tested.labels
    both = [np.asarray(measure(log_p, answers))[:, 1] for measure in (hits, losses)]
    return np.array([one.std(ddof=1) for one in both]) / len(answers) ** 0.5


@functools.cache
def network(factors, size, labels, context, width, heads, hidden, batch, lr, steps):
    """Adam on fresh sequences, with steps that shrink to nothing; recorded are log-probabilities on the tests.

    Embeddings are sums over features.
    """
    kinds, features = size**factors, factors * size + labels + 1

    def untrained(key, _):
        sizes = dict(width=width, heads=heads, hidden=hidden, outputs=labels)
        return jax.tree.map(lambda x: x.astype(jnp.float32), transformer(key, features, 2 * context - 1, **sizes))

    def log_p(model, shown, values, answers):
        seeing = eqx.tree_at(lambda m: m.embedding, model, shown.astype(jnp.float32) @ model.embedding)
        asked = query_tokens(item_numbers(values, size), answers, kinds, labels)
        return jax.nn.log_softmax(seeing(asked)[:, ::2])

    def draw_batch(key, hyper):
        found = factor_sequences(key, batch, context, factors, size, labels)
        return hyper["shown"], found.values, found.labels

    return training(
        untrained,
        lambda model, now: jnp.mean(losses(log_p(model, *now), now[2])),
        lambda _: optax.adam(optax.cosine_decay_schedule(lr, steps)),
        draw_batch,
        lambda model, hyper: log_p(model, hyper["shown"], hyper["values"], hyper["answers"]),
    )


def simulate_networks(problem):
    """ln p of trained networks, (representations, runs, tests, N, C), with the labels."""
    p, many = problem, len(problem.visible) * problem.runs
    trained = network(p.factors, p.size, p.labels, p.context, p.width, p.heads, p.hidden, p.batch, p.lr, p.steps)
    shown = np.stack([token_features(p.size, p.factors, p.labels, seen) for seen in p.visible])
    alike = lambda x: np.broadcast_to(np.asarray(x), (many, *x.shape))  # noqa: E731
    hyper = dict(shown=np.repeat(shown, p.runs, 0), values=alike(p.tested.values), answers=alike(p.tested.labels))
    runs = Runs(p.seed * many + np.arange(many), hyper, (many,))
    end = simulate(trained, runs, [p.steps], batching="map", optimised=True).records[:, 0]
    return {"log_p": np.asarray(end, float).reshape(len(p.visible), p.runs, *end.shape[1:]), "labels": p.tested.labels}


def apart(kind):
    """Relative entropy of networks to the prediction, mean over positions, over what the context is worth."""

    def measure(prediction, observation):
        expected = prediction["log_p"][kind]
        runs = [float(jnp.mean(divergence(expected, jnp.asarray(run)))) for run in observation["log_p"][kind]]
        return max(runs) / prediction["worth"][kind]

    return measure


def better(prediction, observation):
    """By how much networks beat what nothing can beat, in standard errors over tests."""
    answers, worst = observation["labels"], []
    for expected, runs in zip(prediction["log_p"], observation["log_p"], strict=True):
        for run in runs:
            gain = np.asarray(losses(expected, answers) - losses(jnp.asarray(run), answers)).mean(axis=1)
            worst.append(gain.mean() / (gain.std(ddof=1) / len(gain) ** 0.5))
    return float(max(worst))


def accuracies(log_p, answers):
    """Accuracy by position, of any leading shape."""
    flat = jnp.reshape(log_p, (-1, *log_p.shape[-3:]))
    each = [np.asarray(hits(jnp.asarray(one), answers)).mean(axis=0) for one in flat]
    return np.reshape(each, (*log_p.shape[:-3], -1))


def right(prediction, observation):
    """Accuracies by position, over a twentieth."""
    expected = accuracies(prediction["log_p"], observation["labels"])
    return gap(expected[:, None], accuracies(observation["log_p"], observation["labels"]), 0.05)


def after_one(prediction, observation):
    """Accuracy and loss after one example, all factors in sight, in standard errors beside a hundredth."""
    answers = observation["labels"]
    runs = [
        [float(jnp.mean(measure(jnp.asarray(run), answers)[:, 1])) for measure in (hits, losses)]
        for run in observation["log_p"][0]
    ]
    return gap(prediction["first"], np.array(runs), np.hypot(prediction["first_error"], 0.01))


def draw(figure, problem, prediction, observation):
    left, right_panel = figure.subplots(1, 2)
    at, answers = np.arange(problem.context), observation["labels"]
    for i, name in enumerate(KINDS):
        style.theory(left, at, accuracies(prediction["log_p"], answers)[i], i=i, label=name)
        style.networks(left, at, accuracies(observation["log_p"], answers)[i].mean(axis=0), i=i)
        expected = np.asarray(losses(prediction["log_p"][i], answers)).mean(axis=0)
        runs = [np.asarray(losses(jnp.asarray(run), answers)).mean(axis=0) for run in observation["log_p"][i]]
        style.theory(right_panel, at, expected, i=i, label=name)
        style.networks(right_panel, at, np.mean(runs, axis=0), i=i)
    style.rival(left, at, prediction["known"], label="factor known")
    style.rival(left, at, accuracies(labels_alone(problem), answers), label="labels alone", linestyle=":")
    style.rival(right_panel, at, np.asarray(losses(unweighted(problem, problem.visible[0]), answers)).mean(axis=0))
    right_panel.plot([], [], label="factors not weighted", color=style.RIVAL, linestyle="--", linewidth=1.2)
    left.set(xlabel="examples shown", ylabel="accuracy", ylim=(0.25, 1.3), yticks=[0.25, 0.5, 0.75, 1])
    left.set_title("Find the factor, match, copy")
    right_panel.set(xlabel="examples shown", ylabel="loss (nats)", ylim=(0, None))
    right_panel.set_title("Loss")
    left.legend(loc="upper left", fontsize=7, ncols=2)
    right_panel.legend(loc="upper right", fontsize=7)


def labels_alone(problem):
    """ln p of labels as frequent as they have been, with one more of each."""
    one = jax.nn.one_hot(problem.tested.labels, problem.labels)
    counts = jnp.cumsum(one, axis=1) - one + 1
    return jnp.log(counts / jnp.sum(counts, axis=-1, keepdims=True))


def unweighted(problem, visible):
    """ln p of the mean of match and copy over factors, contradicted or not."""
    return logs(sum(jnp.exp(matched(problem, f)) for f in visible) / len(visible))


def rival(one):
    """The prediction with ln p of `one(problem, visible factors)` for each representation."""
    return lambda problem, prediction: prediction | {"log_p": jnp.stack([one(problem, v) for v in problem.visible])}


def matching_right_away(problem, prediction):
    """One example says which factor counts."""
    known = known_factor(1.0, problem.size, problem.labels)
    return prediction | {"first": np.array([known.accuracy, known.loss], float)}


STUDY = Study(
    title="Matching and copying with a representation",
    question="How does a network find what of an item its label depends on, and what if its representation hides that?",
    source="Fu et al. 2023 (arXiv:2309.06054), the setting; the predictions are derived here",
    regimes=("attention",),
    asks="when",
    sizes={
        "smoke": dict(
            factors=2,
            size=3,
            labels=3,
            context=8,
            runs=1,
            width=32,
            heads=4,
            hidden=64,
            batch=64,
            lr=0.006,
            steps=550,
            tests=2000,
        ),
        "paper": dict(
            factors=3,
            size=4,
            labels=4,
            context=16,
            runs=4,
            width=128,
            heads=8,
            hidden=512,
            batch=256,
            lr=0.001,
            steps=20_000,
            tests=4000,
        ),
    },
    problem=problem,
    predict=predict,
    simulate=simulate_networks,
    claims=(
        Claim(
            "With all factors in sight a network says what exact Bayes says: factors are weighed by what they explain.",
            apart(0),
            0.15,
            "A share of what the context is worth, left to learn when training stops.",
        ),
        Claim(
            "With a factor out of sight it is exact Bayes of those in sight, and of a hidden one that labels tell of.",
            apart(1),
            0.15,
            "As before.",
        ),
        Claim("No network does better than that.", better, 5, "Standard errors over tests."),
        Claim(
            "Position by position it is as often right.",
            right,
            1,
            "A twentieth: left to learn when training stops.",
        ),
        Claim(
            "After one example it does what the closed form says.",
            after_one,
            5,
            "Standard errors over tests, beside a hundredth left to learn.",
        ),
    ),
    rivals=(
        Rival("The factor that counts is known.", rival(lambda problem, _: matched(problem, problem.tested.factor))),
        Rival("One factor is matched, whether or not it counts.", rival(lambda problem, _: matched(problem, 0))),
        Rival("Factors count alike, contradicted or not.", rival(unweighted)),
        Rival("Labels are as frequent as they have been.", rival(lambda problem, _: labels_alone(problem))),
        Rival("What is out of sight does no harm.", rival(lambda problem, _: bayes(problem, problem.visible[0], 0))),
        Rival("What is out of sight is not there.", rival(lambda problem, visible: bayes(problem, visible, 0))),
        Rival("One example says which factor counts.", matching_right_away),
    ),
    draw=draw,
    formulas=(
        "induction.match_and_copy.posterior",
        "induction.match_and_copy.accuracy",
        "induction.match_and_copy.one_example_loss",
    ),
)
