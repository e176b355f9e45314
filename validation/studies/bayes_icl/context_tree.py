"""Pasts of unknown length: networks trained on random tree sources come to context-tree weighting, on English, too."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from sims.engine import Runs, simulate
from sims.networks.transformer import transformer
from sims.probes.by_position import divergence, losses
from sims.tasks.english import documentation
from sims.tasks.tree_sources import random_tree_sources, tree_strings
from sims.training import training
from theory.bayes_icl.context_tree import context_tree_predictions
from validation import style
from validation.metrics import z_score
from validation.study import Claim, Problem, Rival, Study

SYMBOLS = 2
VOWELS = frozenset("aeiouy")
# Strings to test on: of random sources, and of English letters, vowels 1 and all others 0.
SOURCES, ENGLISH = 0, 1


def problem(settings, seed):
    """Test strings with their pasts: (kinds, strings, D + 1 + T)."""
    s = Problem(**settings, seed=seed)
    keys = jax.random.split(jax.random.fold_in(jax.random.key(29), seed), 2)
    s.whole = s.length + s.depth + 1
    letters = np.array([c in VOWELS for word in words(seed, s.tests * s.whole) for c in word], int)
    english = letters[: s.tests * s.whole].reshape(s.tests, s.whole)
    s.strings = np.stack([np.asarray(drawn(keys[0], s.tests, s.length, s.depth)), english])
    return s


def words(seed, letters):
    """Words of the documentation from some place on, enough of them for so many letters."""
    text = documentation()
    start = np.random.default_rng(seed).integers(0, len(text.words) - letters)
    return [text.vocabulary[i] for i in text.words[start : start + letters]]


def drawn(key, count, length, depth):
    """Strings of random tree sources after a past that tells nothing, (count, D + 1 + T)."""
    of_sources, of_past, of_strings = jax.random.split(key, 3)
    past = jax.random.randint(of_past, (count, depth + 1), 0, SYMBOLS)
    sources = random_tree_sources(of_sources, count, SYMBOLS, depth)
    return jnp.concatenate([past, tree_strings(of_strings, sources, past[:, 1:], length)], axis=1)


@functools.cache
def network(length, depth, width, hidden, batch, lr):
    """Adam on fresh strings of fresh sources; tokens hold a symbol and the D before it: one layer can count."""

    def untrained(key, _):
        tokens = SYMBOLS ** (depth + 1)
        new = transformer(key, tokens, length, width=width, heads=2, layers=1, hidden=hidden, outputs=SYMBOLS)
        return jax.tree.map(lambda x: x.astype(jnp.float32), new)

    def log_p(model, strings):
        code = sum(strings[:, i : i + length] * SYMBOLS**i for i in range(depth + 1))
        return jax.nn.log_softmax(model(code))

    return training(
        untrained,
        lambda model, x: jnp.mean(losses(log_p(model, x), x[:, depth + 1 :])),
        lambda hyper: optax.adam(lr),
        lambda key, hyper: drawn(key, batch, length, depth),
        lambda model, hyper: jnp.stack([log_p(model, x) for x in hyper["strings"]]),
    )


def weighted(s, stop=0.5, prior=0.5, depth=None):
    """Log laws of context-tree weighting on both kinds of strings, (kinds, strings, T, m)."""
    depth, first = s.depth if depth is None else depth, s.depth + 1
    one = lambda x: context_tree_predictions(x[first:], x[first - depth : first], SYMBOLS, stop, prior).log_law[:-1]  # noqa: E731
    return np.asarray(jax.jit(jax.vmap(jax.vmap(one)))(s.strings))


def predict(s):
    """The Bayes predictor of the sources, and those who look at no past, or always at D symbols of it."""
    return {
        "bayes": weighted(s),
        "no past": weighted(s, 1.0),
        "whole past": weighted(s, 0.0),
        "answers": s.strings[:, :, s.depth + 1 :],
    }


def simulate_networks(s):
    """Log laws of trained networks, (runs, kinds, strings, T, m)."""
    trained = network(s.length, s.depth, s.width, s.hidden, s.batch, s.lr)
    hyper = dict(strings=np.broadcast_to(s.strings, (s.runs, *s.strings.shape)).copy())
    runs = Runs(s.seed * s.runs + np.arange(s.runs), hyper, (s.runs,))
    found = simulate(trained, runs, [s.steps], batching="map", optimised=True).records[:, 0]
    return {"q": np.asarray(found, float)}


def nearest(prediction, observation):
    """KL(Bayes || network) on sources over half of the smaller distance to both other ways to look at pasts."""
    q = observation["q"][:, SOURCES]
    found = {name: np.mean(divergence(prediction[name][SOURCES], q)) for name in ("bayes", "no past", "whole past")}
    return float(found["bayes"] / min(found["no past"], found["whole past"]) / 0.5)


def pythagoras(prediction, observation):
    """CE(q) - CE(p_B) - KL(p_B || q) of each string of sources, in standard errors, run by run."""
    p, q, x = prediction["bayes"][SOURCES], observation["q"][:, SOURCES], prediction["answers"][SOURCES]
    return z_score(0.0, (losses(q, x) - losses(p, x) - divergence(p, q)).mean(axis=-1), axis=1)


def english(prediction, observation):
    """Loss of networks less that of context trees on English, over half of what the trees gain by looking at pasts."""
    x, q = prediction["answers"][ENGLISH], observation["q"][:, ENGLISH]
    trees, blind = (losses(prediction[name][ENGLISH], x).mean() for name in ("bayes", "no past"))
    return float(abs(losses(q, x).mean() - trees) / (blind - trees) / 0.5)


def draw(figure, s, prediction, observation):
    for kind, axes, title in zip((SOURCES, ENGLISH), figure.subplots(1, 2), ("Tree sources", "English"), strict=True):
        x, t = prediction["answers"][kind], np.arange(s.length)
        runs = losses(observation["q"][:, kind], x).mean(axis=1)
        axes.axhline(np.log(SYMBOLS), color=style.INK, linewidth=0.6)
        style.theory(axes, t, losses(prediction["bayes"][kind], x).mean(axis=0), label="context-tree weighting")
        style.rival(axes, t, losses(prediction["no past"][kind], x).mean(axis=0), label="no past")
        whole = losses(prediction["whole past"][kind], x).mean(axis=0)
        style.rival(axes, t, whole, label=f"always {s.depth} symbols", linestyle=":")
        style.networks(axes, t, runs.mean(axis=0), label="networks", i=1)
        axes.set(xlabel="symbols seen", title=title)
    figure.axes[0].set(ylabel="loss (nats)")
    figure.axes[1].legend(fontsize=7)


def instead(name):
    """Networks do as the predictor of that name."""
    return lambda s, prediction: prediction | {"bayes": prediction[name], name: prediction["bayes"]}


def fair_urns(s, prediction):
    """Urns are nearly fair: counts start from four and not from one half."""
    return prediction | {"bayes": weighted(s, 0.5, 4.0)}


STUDY = Study(
    title="Context trees",
    question="How does a network predict when it does not know how much of the past matters?",
    source="Willems, Shtarkov & Tjalkens 1995 (IEEE Trans. Inf. Theory 41); Akyürek et al. 2024 (arXiv:2401.12973)",
    regimes=("bayes",),
    asks="what",
    sizes={
        "smoke": dict(depth=2, length=24, width=32, hidden=64, batch=32, lr=3e-3, steps=1200, tests=256, runs=3),
        "paper": dict(depth=4, length=512, width=128, hidden=512, batch=64, lr=1e-3, steps=50_000, tests=64, runs=3),
    },
    problem=problem,
    predict=predict,
    simulate=simulate_networks,
    claims=(
        Claim(
            "Networks come to context-tree weighting on strings of tree sources.",
            nearest,
            1,
            "At most half as far from it as from whoever looks at no past, or always at all of it.",
        ),
        Claim(
            "What they lose more than it is their relative entropy to it.",
            pythagoras,
            5,
            "Standard errors over strings.",
        ),
        Claim(
            "On English, which they have never seen, they lose as much as context-tree weighting.",
            english,
            1,
            "Half of what looking at the past gains there.",
        ),
    ),
    rivals=(
        Rival("Networks count single symbols.", instead("no past")),
        Rival("Networks always look at all symbols of the past.", instead("whole past")),
        Rival("Urns are nearly fair: counts start from four.", fair_urns),
    ),
    draw=draw,
    formulas=("bayes_icl.context_tree.string", "bayes_icl.context_tree.tree"),
)
