"""Hidden concepts: a network that has only read documents weighs them as Bayes does, on prompts of examples, too."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from sims.engine import Runs, simulate
from sims.networks.transformer import transformer
from sims.probes.by_position import divergence, hits, losses
from sims.tasks.hidden_markov import Concepts, documents, prompts, random_concepts, smoothed
from sims.training import training
from theory.bayes_icl.hidden_markov import concept_posterior, concept_predictions, filter_predictions, smoothed_rows
from validation import style
from validation.metrics import z_score
from validation.study import Claim, Problem, Rival, Study

# Strings to test on.
DOCUMENTS, PROMPTS = 0, 1


def problem(settings, seed):
    """Concepts, and documents and prompts of them that are equally long, (kinds, strings, T)."""
    s = Problem(**settings, seed=seed)
    s.length = s.examples * (s.example + 1) + s.example
    # The last token of every example: what comes before it is a prompt of its own.
    s.asked = np.arange(s.examples + 1) * (s.example + 1) + s.example - 1
    s.sharp = random_concepts(np.random.default_rng(seed), s.concepts, s.entities, s.properties, s.vocabulary)
    s.smooth = smoothed(s.sharp, s.smoothing)
    of_documents, of_prompts = jax.random.split(jax.random.fold_in(jax.random.key(31), seed))
    found = (
        jax.jit(documents, static_argnums=(2, 3))(of_documents, s.smooth, s.tests, s.length),
        jax.jit(prompts, static_argnums=(2, 3, 4))(of_prompts, s.smooth, s.tests, s.examples, s.example),
    )
    s.strings, s.own = (np.stack(parts) for parts in zip(*found, strict=True))
    return s


@jax.jit
def filtered(strings, start, transition, emission):
    """Bayes' log laws (kinds, strings, T, V), of each concept (..., C, T, V), and log beliefs (..., C, T + 1)."""

    def one(x):
        each = jax.vmap(filter_predictions, in_axes=(None, 0, 0, 0))(x, start, transition, emission).log_law
        known = concept_predictions(x, start, transition, emission).log_law
        return known[:-1], each[:, :-1], concept_posterior(x, start, transition, emission)

    return jax.vmap(jax.vmap(one))(strings)


def beliefs(s, smoothing):
    """The same of this problem, for another smoothing of its transitions."""
    start, moves = (np.asarray(part, float) for part in s.sharp[:2])
    shown = np.eye(s.vocabulary)[np.asarray(s.sharp.tokens).ravel()]
    emission = np.broadcast_to(shown, (*start.shape, s.vocabulary))
    return [np.asarray(part) for part in filtered(s.strings, start, smoothed_rows(moves, smoothing), emission)]


def mixed(laws, weights):
    """Log of averages of concepts' laws (..., C, T, V) with log weights (..., C, T) that broadcast."""
    with np.errstate(divide="ignore"):
        return np.log(np.sum(np.exp(laws + weights[..., None]), axis=-3))


def cut(s, laws):
    """Log laws or strings (..., kinds, strings, T, ...): documents whole, and prompts where they ask, on axis `-2`."""
    return laws[..., DOCUMENTS, :, :, :], laws[..., PROMPTS, :, :, :][..., s.asked, :]


def predict(s):
    """Bayes, and those who know nothing or everything of the concept, on documents and at what prompts ask."""
    bayes, laws, belief = beliefs(s, s.smoothing)
    equal = mixed(laws, np.full(laws.shape[:-1], -np.log(s.concepts)))
    own = np.take_along_axis(laws, s.own[..., None, None, None], axis=2)[:, :, 0]
    found = dict(bayes=bayes, equal=equal, own=own, after=mixed(laws, belief[..., 1:]), first=laws[:, :, 0])
    found = {name: cut(s, law) for name, law in found.items()}
    answers = tuple(x[..., 0] for x in cut(s, s.strings[..., None]))
    return found | {"answers": answers, "informed": found["own"], "worth": worth(found, answers)}


def worth(found, answers):
    """What a reader gains who weighs concepts by the past: nats on documents and on prompts, and in hits on prompts."""
    documents, prompts = (np.mean(divergence(p, q)) for p, q in zip(found["bayes"], found["equal"], strict=True))
    right = [np.mean(hits(found[name][PROMPTS], answers[PROMPTS])) for name in ("bayes", "equal")]
    return {"documents": documents, "prompts": prompts, "hits": right[0] - right[1]}


@functools.cache
def network(vocabulary, length, layers, heads, width, hidden, batch, steps, lr):
    """Adam on fresh documents; tokens are read in pairs, the one before with each."""

    def untrained(key, _):
        sizes = dict(width=width, heads=heads, layers=layers, hidden=hidden, outputs=vocabulary)
        drawn = transformer(key, (vocabulary + 1) ** 2, length, **sizes)
        return jax.tree.map(lambda x: x.astype(jnp.float32), drawn)

    def log_p(model, x):
        # One more token begins each string.
        begun = jnp.pad(x, ((0, 0), (2, 0)), constant_values=vocabulary)
        return jax.nn.log_softmax(model(begun[:, :-2] * (vocabulary + 1) + begun[:, 1:-1]))

    rate = optax.warmup_cosine_decay_schedule(0.0, lr, max(steps // 20, 1), steps)
    return training(
        untrained,
        lambda model, x: jnp.mean(losses(log_p(model, x), x)),
        lambda _: optax.chain(optax.clip_by_global_norm(1.0), optax.adam(rate)),
        lambda key, hyper: documents(key, Concepts(*hyper["concepts"]), batch, length).tokens,
        lambda model, hyper: jnp.stack([log_p(model, x) for x in hyper["strings"]]),
    )


def simulate_networks(s):
    """Log laws of trained networks, (runs, kinds, strings, T, V)."""
    trained = network(s.vocabulary, s.length, s.layers, s.heads, s.width, s.hidden, s.batch, s.steps, s.lr)
    concepts = [np.asarray(x, np.float32) for x in s.smooth[:2]] + [np.asarray(s.smooth.tokens)]
    repeat = lambda x: np.broadcast_to(x, (s.runs, *x.shape)).copy()  # noqa: E731
    hyper = dict(concepts=tuple(repeat(x) for x in concepts), strings=repeat(s.strings))
    runs = Runs(s.seed * s.runs + np.arange(s.runs), hyper, (s.runs,))
    found = simulate(trained, runs, [s.steps], batching="map", optimised=True).records[:, 0]
    return {"q": cut(s, np.asarray(found, float))}


def near(prediction, observation):
    """KL(Bayes || network) over a quarter of what weighing concepts gains, on documents and where prompts ask."""
    found = [np.mean(divergence(p, q)) for p, q in zip(prediction["bayes"], observation["q"], strict=True)]
    gains = prediction["worth"]
    return float(max(found[DOCUMENTS] / gains["documents"], found[PROMPTS] / gains["prompts"]) / 0.25)


def pythagoras(prediction, observation):
    """CE(q) - CE(p_B) - KL(p_B || q) at each position of documents, in standard errors, run by run."""
    p, q, x = (given[DOCUMENTS] for given in (prediction["bayes"], observation["q"], prediction["answers"]))
    return z_score(0.0, losses(q, x) - losses(p, x) - divergence(p, q), axis=1)


def on_prompts(prediction, observation):
    """Losses and hits of networks against Bayes for each number of examples, over a quarter of the same gains."""
    p, q, x = (given[PROMPTS] for given in (prediction["bayes"], observation["q"], prediction["answers"]))
    more, less = (score(q, x).mean(axis=(0, 1)) - score(p, x).mean(axis=0) for score in (losses, hits))
    gains = prediction["worth"]
    return float(max(np.max(np.abs(more)) / gains["prompts"], np.max(np.abs(less)) / gains["hits"]) / 0.25)


def learned(law, informed, x):
    """What examples gain: loss beyond those who know the concept, without examples less with half of them or more."""
    beyond = (losses(law, x) - losses(informed, x)).reshape(-1, x.shape[-1]).mean(axis=0)
    return beyond[0] - np.mean(beyond[len(beyond) // 2 :])


def in_context(prediction, observation):
    """What networks gain from examples against what Bayes does, over half of it."""
    p, informed, x = (prediction[name][PROMPTS] for name in ("bayes", "informed", "answers"))
    gained = learned(observation["q"][PROMPTS], informed, x)
    return float(abs(gained - learned(p, informed, x)) / abs(gained) / 0.5)


def draw(figure, s, prediction, observation):
    left, middle, right = figure.subplots(1, 3)
    for axes, kind, score in ((left, DOCUMENTS, losses), (middle, PROMPTS, losses), (right, PROMPTS, hits)):
        x, informed = prediction["answers"][kind], prediction["informed"][kind]
        # What is common to all readers of the same strings is no news.
        sign = -1 if score is hits else 1
        beyond = lambda law: sign * (score(law, x) - score(informed, x)).mean(axis=-2)  # noqa: B023, E731
        at = np.arange(x.shape[-1])
        style.rival(axes, at, beyond(prediction["equal"][kind]), label="all concepts weigh the same")
        style.theory(axes, at, beyond(prediction["bayes"][kind]), label="Bayes")
        style.networks(axes, at, beyond(observation["q"][kind]).mean(axis=0), i=1, label="network")
        axes.set_ylim(0)
    left.set(xlabel="tokens seen", ylabel="loss beyond knowing the concept, nats", title="Documents")
    middle.set(xlabel="examples seen", ylabel="loss beyond knowing the concept, nats", title="Prompts")
    right.set(xlabel="examples seen", ylabel="fewer right answers", title="Prompts")
    middle.legend(fontsize=7, loc="center", bbox_to_anchor=(0.6, 0.6))


def instead(name):
    """Networks do as the predictor of that name."""
    return lambda s, prediction: prediction | {"bayes": prediction[name]}


def hardly_smoothed(s, prediction):
    """Hidden states move as the chains have it but for one move in a million."""
    return prediction | {"bayes": cut(s, beliefs(s, 1e-6)[0])}


STUDY = Study(
    title="Hidden concepts",
    question="Does a network that has only read documents infer what a prompt of examples is about, as Bayes does?",
    source="Xie et al. 2022 (arXiv:2111.02080), their data set GINC, in small and with smoothed transitions",
    regimes=("bayes",),
    asks="what",
    sizes={
        "smoke": dict(
            concepts=5,
            entities=3,
            properties=6,
            vocabulary=14,
            # Prompts break off their examples every few tokens: documents must do so now and then.
            smoothing=0.15,
            example=5,
            examples=6,
            layers=1,
            heads=2,
            width=32,
            hidden=128,
            batch=32,
            lr=5e-3,
            steps=2400,
            tests=512,
            runs=1,
        ),
        "paper": dict(
            concepts=5,
            entities=10,
            properties=10,
            vocabulary=50,
            smoothing=1e-3,
            example=5,
            examples=64,
            layers=12,
            heads=12,
            width=768,
            hidden=3072,
            batch=8,
            lr=8e-4,
            steps=16_000,
            tests=256,
            runs=1,
        ),
    },
    problem=problem,
    predict=predict,
    simulate=simulate_networks,
    claims=(
        Claim(
            "The network comes to Bayes on documents, and on prompts, which it has never seen.",
            near,
            1,
            "A quarter of what a reader gains who weighs concepts by the past, of each.",
        ),
        Claim(
            "On documents it loses more than Bayes by its relative entropy to it, at every position.",
            pythagoras,
            5,
            "Standard errors over documents.",
        ),
        Claim(
            "On prompts it loses as much as Bayes and is right as often, for any number of examples.",
            on_prompts,
            1,
            "A quarter of what a reader gains who weighs concepts by the past.",
        ),
        Claim("Examples help it as they help Bayes.", in_context, 1, "Half of what they do for it."),
    ),
    rivals=(
        Rival("All concepts weigh the same, whatever has been read.", instead("equal")),
        Rival("The concept is known from the start.", instead("own")),
        Rival("All documents are about the first concept.", instead("first")),
        Rival("Concepts are weighed with the token that is asked for.", instead("after")),
        Rival("Documents hardly ever jump.", hardly_smoothed),
    ),
    draw=draw,
    formulas=tuple(f"bayes_icl.hidden_markov.{name}" for name in ("second", "mixed", "posterior")),
)
