"""Labelled items of a small pool, and of none: known by heart and looked up, or looked up alone."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from sims.engine import Runs, every, simulate
from sims.networks.regression_transformer import regression_transformer
from sims.probes.by_position import divergence
from sims.tasks.labelled_items import Items, item_prompts, pooled_items, random_items
from sims.training import training
from theory.bayes_icl.labelled_items import copy_posterior, item_posterior, label_posterior, pool_copy_posterior
from validation import style
from validation.metrics import z_score
from validation.study import Claim, Problem, Rival, Study

SIGNS = np.array([1.0, -1.0])


def problem(settings, seed):
    """A pool of items, of which each run knows the first so many (none: all items are new), and test prompts."""
    given = Problem(**settings, seed=seed)
    given.cases = np.array([*given.pools, 0])
    of_pool, *keys = jax.random.split(jax.random.fold_in(jax.random.key(23), seed), len(given.cases) + 1)
    most = max(given.pools)
    # Labels in turn: a pool of one label would have nothing to tell.
    given.items = random_items(of_pool, (most,), given.dimension)._replace(labels=jnp.resize(jnp.asarray(SIGNS), most))
    shape = (given.tests, given.context)
    found = [prompts(key, given.items, known, shape, given.noise) for key, known in zip(keys, given.cases, strict=True)]
    given.views, given.labels = (np.stack(part) for part in zip(*found, strict=True))
    return given


def prompts(key, pool, known, shape, noise):
    """Prompts of the first `known` items of a pool or, where that is zero, of fresh ones for each prompt."""
    of_pool, of_law, of_views = jax.random.split(key, 3)
    fresh = random_items(of_law, shape, pool.means.shape[-1])
    held = pooled_items(of_pool, pool, shape, jnp.maximum(known, 1))
    shown = jax.tree.map(lambda a, b: jnp.where(known > 0, a, b), held, fresh)
    return item_prompts(of_views, Items(*shown), noise)


def predict(given):
    """Log laws of the label, (runs, prompts, 2): of who knows the pool and looks, who looks, who knows."""
    return {"best": best(given), "copied": copied(given), "known": by_heart(given)}


def on_prompts(given, rule):
    """Log laws of the two labels by a rule for one prompt, whose labels before the last it may see, and its run."""
    many = jax.jit(jax.vmap(rule, in_axes=(0, 0, None)))
    return np.stack(
        [many(*case) for case in zip(given.views, given.labels[..., :-1], np.arange(len(given.cases)), strict=True)]
    )


def copied(given, rule=copy_posterior):
    """Who looks alone."""
    return on_prompts(given, lambda x, labels, _: label_posterior(rule(x[-1], x[:-1], given.noise), labels, SIGNS))


def best(given, noise=None):
    """Who knows the pool and looks; without a pool, who looks."""
    noise, laws = given.noise if noise is None else noise, []
    for i, known in enumerate(given.cases):
        items = jax.tree.map(lambda part, m=known: part[:m], given.items)

        def one(x, labels, items=items, known=known):
            if known:
                found = pool_copy_posterior(x[-1], x[:-1], labels, items.means, items.labels, noise)
            else:
                found = copy_posterior(x[-1], x[:-1], noise)
            return label_posterior(found, labels, SIGNS)

        laws.append(jax.jit(jax.vmap(one))(given.views[i], given.labels[i, :, :-1]))
    return np.stack(laws)


def by_heart(given):
    """Who knows all pools and does not look."""
    laws = []
    for i, known in enumerate(given.cases):
        items = jax.tree.map(lambda part, m=known: part[: m or None], given.items)

        def one(x, items=items):
            return label_posterior(item_posterior(x, items.means, given.noise), items.labels, SIGNS)

        laws.append(jax.jit(jax.vmap(one))(given.views[i, :, -1]))
    return np.stack(laws)


@functools.cache
def network(dimension, context, batch, width, layers, steps, lr):
    """Fresh prompts at every step; the loss is that of the last label alone."""
    rate = optax.warmup_cosine_decay_schedule(0.0, lr, max(steps // 20, 1), steps)
    optimiser = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(rate))

    def untrained(key, _):
        shape = dict(width=width, layers=layers, tokens="interleaved", positions=False)
        return jax.tree.map(jnp.float32, regression_transformer(key, dimension, context, **shape))

    def logits(model, views, labels):
        """Tokens hold a view, its label and which of the two kinds it is: the last one has no label."""
        last = jnp.arange(context + 1) == context
        label = jnp.where(last, 0, labels)[..., None]
        kind = jnp.broadcast_to(jnp.where(last, -1.0, 1.0), labels.shape)[..., None]
        return model.read(jnp.concatenate([views, label, kind], axis=2).astype(jnp.float32))[:, -1]

    def loss(model, seen):
        return jnp.mean(jax.nn.softplus(-seen.labels[:, -1] * logits(model, *seen)))

    def drawn(key, hyper):
        pool = Items(hyper["means"], hyper["item_labels"])
        found = prompts(key, pool, hyper["known"], (batch, context), hyper["noise"])
        return jax.tree.map(jnp.float32, found)

    return training(
        untrained, loss, lambda _: optimiser, drawn, lambda model, hyper: logits(model, hyper["views"], hyper["labels"])
    )


def simulate_networks(given):
    """Log laws that the networks say at the end of training, (runs, prompts, 2)."""
    s, n = given, len(given.cases)
    program = network(s.dimension, s.context, s.batch, s.width, s.layers, s.steps, s.lr)
    shared = {"means": s.items.means, "item_labels": s.items.labels, "noise": s.noise}
    hyper = {name: np.broadcast_to(np.float32(part), (n, *np.shape(part))).copy() for name, part in shared.items()}
    hyper |= {"known": s.cases, "views": np.float32(s.views), "labels": np.float32(s.labels)}
    runs = Runs(np.full(n, s.seed), hyper, (n,))
    found = simulate(program, runs, every(s.steps, s.steps), batching="map", optimised=True).records
    logits = np.asarray(found, float)[:, -1]
    return {"laws": -np.logaddexp(0, -SIGNS * logits[..., None]), "labels": s.labels[..., -1]}


def information(laws):
    """What is known of a label on average, ln 2 less the entropy, in nats: (runs,)."""
    return np.log(2) + np.mean(np.sum(np.exp(laws) * np.where(np.isfinite(laws), laws, 0.0), axis=-1), axis=-1)


def far(laws, observation):
    """How far networks are from a rule, in nats: (runs,)."""
    return np.asarray(divergence(laws, observation["laws"])).mean(axis=-1)


def near(prediction, observation):
    """Distance to the rule over a tenth of what can be known of a label: the largest."""
    return float(np.max(far(prediction["best"], observation) / (0.1 * information(prediction["best"]))))


def nearest(prediction, observation):
    """Distance to the rule over that to the nearest of those which know or look alone: the largest."""
    own, looks, knows = (far(prediction[name], observation) for name in ("best", "copied", "known"))
    # Without a pool, to look is the rule itself.
    looks = np.where(np.arange(len(looks)) < len(looks) - 1, looks, np.inf)
    return float(np.max(own / np.minimum(looks, knows)))


def pythagoras(prediction, observation):
    """Loss of a network less the rule's and its distance to it, in standard errors over prompts: the largest."""
    answers = np.where(observation["labels"] > 0, 0, 1)[..., None]
    lost = [-np.take_along_axis(laws, answers, axis=-1)[..., 0] for laws in (observation["laws"], prediction["best"])]
    off = lost[0] - lost[1] - np.asarray(divergence(prediction["best"], observation["laws"]))
    return z_score(0.0, off, axis=1)


def draw(figure, given, prediction, observation):
    left, right = figure.subplots(1, 2)
    places = np.arange(len(given.cases))
    named = {"best": "knows the pool and looks", "copied": "looks", "known": "knows the pool"}
    for i, (name, label) in enumerate(named.items()):
        # Without a pool there is nothing to know, and to look is all.
        shown = places if name == "copied" else places[:-1]
        style.networks(left, shown, far(prediction[name], observation)[shown], i=i, label=label, linestyle=":")
    left.set_xticks(places, [*map(str, given.pools), "endless"])
    left.set(
        xlabel="items of the pool", ylabel="nats from the network to a rule", yscale="log", title="Which rule it is"
    )
    largest = len(given.pools) - 1
    net = np.exp(observation["laws"][largest, :, 0])
    for i, name in ((1, "copied"), (0, "best")):
        style.networks(right, np.exp(prediction[name][largest, :, 0]), net, i=i, most=150)
    style.rival(right, [0, 1], [0, 1])
    title = f"{given.pools[largest]} items, prompt by prompt"
    right.set(xlabel="probability of the label +1, a rule", ylabel="network", title=title)
    figure.legend(fontsize=7, loc="outside lower center", ncols=3)


def instead(rule):
    """The rival who takes `rule(given, prediction)` for the best predictor."""
    return lambda given, prediction: prediction | {"best": np.asarray(rule(given, prediction))}


def one_noise(x, views, noise):
    """The views of the context taken for items."""
    return item_posterior(x, views, noise)


def votes(x, views, _):
    """All views of the context alike."""
    return jnp.full(len(views), -jnp.log(len(views)))


STUDY = Study(
    title="Known by heart, or looked up",
    question="Items of a pool come with their labels: does a network know them, look them up, or both?",
    source="Wurgaft et al. 2025 (arXiv:2506.17859), classification, here with a context that always holds the item",
    regimes=("bayes",),
    asks="how well",
    sizes={
        "smoke": dict(
            dimension=4,
            context=3,
            noise=0.3,
            pools=(4, 8),
            batch=64,
            width=32,
            layers=1,
            steps=800,
            lr=3e-3,
            tests=5000,
        ),
        "paper": dict(
            dimension=8,
            context=16,
            noise=0.25,
            pools=(4, 16, 64, 256, 1024, 4096),
            batch=128,
            width=64,
            layers=4,
            steps=100_000,
            lr=5e-4,
            tests=10_000,
        ),
    },
    problem=problem,
    predict=predict,
    simulate=simulate_networks,
    claims=(
        Claim(
            "A network is the Bayes predictor of its pool, or of endless items, to a tenth of what can be known.",
            near,
            1,
            "A tenth: what a small network has not learned after a short training.",
        ),
        Claim(
            "It is nearer to that predictor than to one that knows the pool or looks at the context alone.",
            nearest,
            1,
            "Of two rules the nearer one is what it is.",
        ),
        Claim(
            "Its loss is that of Bayes and its distance to Bayes.",
            pythagoras,
            5,
            "Standard errors over prompts.",
        ),
    ),
    rivals=(
        Rival("Whatever the pool, it looks.", instead(lambda _, found: found["copied"])),
        Rival("It knows the pool and does not look.", instead(lambda _, found: found["known"])),
        Rival("It takes the views of the context for items.", instead(lambda given, _: copied(given, one_noise))),
        Rival("The views of the context vote, all alike.", instead(lambda given, _: copied(given, votes))),
        Rival(
            "It takes the noise's standard deviation for its variance.",
            instead(lambda given, _: best(given, given.noise**0.5)),
        ),
    ),
    draw=draw,
    formulas=(
        "bayes_icl.labelled_items.known",
        "bayes_icl.labelled_items.copied",
        "bayes_icl.labelled_items.both",
    ),
)
