"""Words in context: every word is thrown into a class, anew for each string, so that only words that come back tell.

Words come in bursts: they come back within some ten words far more often than their frequency says. Whoever knows the
text knows how often, by the distance, and a layer of attention can weigh by that. Some come back in company: that is
left to whoever looks at pairs of symbols, as context trees do.
"""

from __future__ import annotations

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np

from sims.engine import Runs, simulate
from sims.probes.by_position import divergence, losses
from sims.tasks.english import documentation
from sims.tasks.renamed_text import dealt, thrown
from sims.text_training import text_training
from theory.bayes_icl import unknown_names as theory
from validation import style
from validation.metrics import gap
from validation.studies.bayes_icl import english_in_context as english
from validation.study import Claim, Problem, Rival, Study

# Words of a block, of which all are to test on or all to train on.
BLOCK = 250
# All classes are as large in every string: nothing can be learned but which words are the same.
FAIR = 1e9
# Training strings to which those who count are fitted, and what they choose from. Trees have a depth of one: stop one
# counts single words, stop zero pairs.
FITS, STOPS, PRIORS = 200, np.array([1.0, 0.9, 0.7, 0.5, 0.0]), np.array([2.0, 4.0, 6.0, 12.0])


def problem(settings, seed):
    """The text without its commonest words, in blocks to test and to train on, and strings of both, thrown."""
    s = Problem(**settings, seed=seed)
    s.test, s.train = dealt(documentation().unrepeated(english.PASSAGE).without(s.common).words, BLOCK, seed)
    s.tested, s.past = len(s.test), 1
    # Pieces overlap: one word is then seen at many places. Before each stands a word that networks are not told.
    cut = functools.partial(np.lib.stride_tricks.sliding_window_view, window_shape=s.past + s.length, axis=1)
    test, train = (cut(blocks)[:, :: s.stride].reshape(-1, s.past + s.length) for blocks in (s.test, s.train))
    test = np.repeat(test, s.throws, axis=0)
    pieces = jnp.concatenate([test, train[:: len(train) // FITS]])
    s.strings = np.asarray(thrown(jax.random.fold_in(jax.random.key(37), seed), pieces, s.symbols))[None]
    s.strings, s.fitted = np.split(s.strings, [len(test)], axis=1)
    s.answers = s.strings[:, :, s.past :]
    return s


@functools.cache
def network(symbols, length, **sizes):
    """Adam on fresh classes; tokens hold one symbol."""
    return text_training(lambda key, pieces, _: thrown(key, pieces, symbols), symbols, length, **sizes)


def simulate_networks(s):
    """Log laws of a trained network, (1, strings, T, K)."""
    trained = network(s.symbols, s.length, **english.sizes_of(s))
    runs = Runs(np.array([s.seed]), dict(text=s.train[None], tests=s.answers), (1,))
    found = simulate(trained, runs, [s.steps], batching="map", optimised=True)
    return {"q": np.asarray(found.records[:, 0], float)}


@functools.cache
def by_distance(symbols):
    """From strings and rates to log laws; rates that are the same at all distances are those of Dirichlet counts."""
    one = lambda x, rates: theory.distance_predictions(x, symbols, rates, FAIR).log_law[:-1]  # noqa: E731
    return jax.jit(jax.vmap(one, in_axes=(0, None)))


def laws(s, rates):
    """Log laws of who weighs classes by distance with these rates, (1, strings, T, K)."""
    return np.asarray(by_distance(s.symbols)(s.answers[0], np.broadcast_to(rates, s.length)))[None]


@jax.jit
def _of_blocks(strings, blocks):
    return jax.vmap(lambda x: theory.block_predictions(x, blocks).log_law[:-1])(strings)


def of_first(s, text):
    """Bayes for the first N symbols from which words of windows are the same: mean loss, and log laws on strings."""
    blocks = theory.class_blocks(english.windows(text, s.exact), s.symbols, FAIR)
    return {
        "loss": np.asarray(theory.block_loss(blocks))[None],
        "exact": np.asarray(_of_blocks(s.answers[0, :, : s.exact], blocks))[None],
    }


def counting(s):
    """Log laws, (1, strings, T, K), of those who know nothing but the string: single words, trees, pairs."""
    grid, alone = np.array(list(itertools.product(STOPS, PRIORS))), len(PRIORS)
    found = english.fitted(s, english.tree, grid, np.split(np.arange(len(grid)), [alone, -alone]))
    return dict(zip(("single", "trees", "pairs"), found, strict=True))


def over_pairs(rates):
    """Mean of (T - 1,) numbers by distance over all pairs of places of a string."""
    return np.average(rates, weights=np.arange(len(rates), 0, -1))


def predict(s):
    """Bayes exactly for the first N symbols, then the best law that weighs classes by distance; those who count."""
    # How often places of the training part hold the same word, by their distance.
    rates = np.array([np.mean(s.train[:, d:] == s.train[:, :-d]) for d in range(1, s.length + 1)])
    # Dirichlet counts that know the frequencies of words.
    corpus = 1 / (1 + np.sum(theory.class_prior(np.bincount(s.train.ravel()), np.full(s.symbols, FAIR))))
    bayes = laws(s, rates)
    late, mean = s.length // 4, over_pairs(rates[:-1])
    return (
        counting(s)
        | of_first(s, s.train)
        | {
            "bayes": bayes,
            "gain": np.log(s.symbols) - losses(bayes, s.answers)[:, :, -late:].mean(),
            "corpus": laws(s, corpus),
            "rates": rates,
            "mean rate": mean,
            "spread": np.sqrt(over_pairs((rates[:-1] - mean) ** 2)),
            "corpus rate": corpus,
            "answers": s.answers,
            "blocks": (s.tested, len(s.train)),
        }
    )


def all_along(prediction, observation):
    """Loss beyond that of Bayes, mean size over positions, in tenths of what Bayes gains by the last quarter."""
    x = prediction["answers"]
    more = losses(observation["q"], x) - losses(prediction["bayes"], x)
    return gap(0.0, np.abs(more.mean(axis=1)).mean(), prediction["gain"] / 10)


def nearest(prediction, observation):
    """KL(Bayes || network) over that of the nearest of those who count."""
    far = lambda name: np.mean(divergence(prediction[name], observation["q"]))  # noqa: E731
    return float(far("bayes") / min(far("single"), far("pairs"), far("trees")))


def bursts(prediction, observation):
    """Five standard errors over what networks lose less than Dirichlet counts that know the words' frequencies."""
    x = prediction["answers"]
    less = losses(prediction["corpus"], x) - losses(observation["q"], x)
    mean, error = english.over_blocks(prediction, less.mean(axis=-1))
    return float(5 * error[0] / mean[0]) if mean[0] > 0 else np.inf


def told(q, x):
    """How often the next word is that of so many places before, from what is said of its class, (T - 1,)."""
    chance, symbols = np.exp(q[0]), q.shape[-1]
    given = [np.take_along_axis(chance[:, d:], x[0, :, :-d, None], axis=-1).mean() for d in range(1, x.shape[-1])]
    return (np.array(given) - 1 / symbols) / (1 - 1 / symbols)


def coming_back(prediction, observation):
    """What networks say of words by their distance, against the training part, in halves of the spread of rates there.

    Root mean squares over all pairs of places of a string.
    """
    error = told(observation["q"], prediction["answers"]) - prediction["rates"][:-1]
    return gap(0.0, np.sqrt(over_pairs(error**2)), prediction["spread"] / 2)


def draw(figure, s, prediction, observation):
    left, middle, right = figure.subplots(1, 3, width_ratios=(1.25, 1.25, 0.8))
    x, q, t = prediction["answers"], observation["q"], 1 + np.arange(s.length)
    gain = lambda loss: np.cumsum(np.log(s.symbols) - loss) / np.log(2)  # noqa: E731
    seen = lambda law: gain(losses(law, x).mean(axis=(0, 1)))  # noqa: E731
    style.theory(left, t, seen(prediction["trees"]), i=2, label="context trees", linewidth=1.2)
    style.theory(left, t, seen(prediction["bayes"]), label="weighed by distance")
    style.networks(left, t, seen(q), i=1, label="network")
    style.rival(left, t, seen(prediction["pairs"]), label="counts of pairs")
    style.rival(left, t, seen(prediction["corpus"]), label="frequencies known", linestyle=":")
    exact = dict(color=style.INK, marker="D", markersize=3, linewidth=1, zorder=4)
    style.theory(left, t[: s.exact], gain(prediction["loss"][0]), label="patterns alone", **exact)
    left.set(xlabel="words", ylabel="gain in all (bits)", title="What the context tells")
    left.legend(fontsize=7)
    d = np.arange(1, s.length)
    style.theory(middle, d, 100 * prediction["rates"][:-1], label="training part")
    style.networks(middle, d, 100 * told(q, x), i=1, label="network")
    style.rival(middle, d, np.full(len(d), 100 * prediction["corpus rate"]), label="by frequencies")
    middle.set(xlabel="words apart", ylabel="same word (%)", title="Words come back", ylim=(0, None))
    middle.legend(fontsize=7, loc="upper right")
    names = {"bayes": "by distance", "single": "counts", "trees": "trees", "corpus": "frequencies", "pairs": "pairs"}
    far = [1000 * np.mean(divergence(prediction[name], q)) / np.log(2) for name in names]
    colours = {"bayes": style.colour(0), "trees": style.colour(2)}
    right.barh(list(names.values()), far, color=[colours.get(name, style.RIVAL) for name in names])
    right.tick_params(axis="y", labelsize=8)
    right.invert_yaxis()
    right.set(xlabel="KL to network (mbit)", title="Who is nearest?")


def as_if(rate):
    """Words come back at one rate, which the text and our prediction give, whatever the distance."""

    def believed(s, prediction):
        one = rate(s, prediction)
        return prediction | {"bayes": laws(s, one), "rates": np.full(s.length, one)}

    return believed


def independent(s, prediction):
    """Words come back as often as their frequency says."""
    mixed = np.random.default_rng(s.seed).permutation(s.train.ravel()).reshape(s.train.shape)
    return as_if(lambda *_: prediction["corpus rate"])(s, prediction) | of_first(s, mixed)


def one_ahead(s, prediction):
    """Networks have seen the word that they predict."""
    laws, loss = prediction["bayes"], prediction["loss"]
    return prediction | {
        "bayes": np.concatenate([laws[:, :, 1:], laws[:, :, -1:]], axis=2),
        "loss": np.column_stack([loss[:, 1:], loss[:, -1]]),
    }


STUDY = Study(
    title="Words in context",
    question="What does a network learn from a text of which it can know no word, but which words are the same?",
    source="Church & Gale 1995 (Natural Language Engineering 1, 163) on words that come back; derived here",
    regimes=("bayes",),
    asks="what",
    sizes={
        "smoke": dict(common=20, symbols=8, length=40, exact=6, stride=15, throws=2)
        | dict(width=32, batch=24, lr=1e-2, steps=1200),
        "paper": dict(common=20, symbols=8, length=80, exact=7, stride=10, throws=4)
        | dict(width=64, batch=64, lr=3e-3, steps=3000),
    },
    problem=problem,
    predict=predict,
    simulate=simulate_networks,
    claims=(
        Claim(
            "But for its relative entropy to Bayes a network loses what the same words in the training part say.",
            english.of_patterns,
            5,
            "Standard errors over blocks of the text, of both parts.",
        ),
        Claim(
            "All along the string it loses what is lost by weighing classes by distance.",
            all_along,
            1,
            "A tenth of what Bayes gains: training ends before it converges.",
        ),
        Claim(
            "It is nearer to that than to Dirichlet counts of words, pairs or trees, fitted to the training part.",
            nearest,
            1,
            "Of two the nearer one is what it does.",
        ),
        Claim(
            "It says of every word how often it comes back after so many others.",
            coming_back,
            1,
            "At most half as far off as whoever takes all distances alike.",
        ),
        Claim(
            "It loses less than counts that know how often each word occurs: words come in bursts.",
            bursts,
            1,
            "Five standard errors over blocks of the text.",
        ),
    ),
    rivals=(
        Rival("Words come back as often as their frequency says.", independent),
        Rival("It does not matter how far away a word stands.", as_if(lambda _, prediction: prediction["mean rate"])),
        Rival("Counts start from one for each class, as for letters.", as_if(lambda s, _: 1 / (1 + s.symbols))),
        Rival("Networks count pairs.", lambda _, prediction: prediction | {"bayes": prediction["pairs"]}),
        Rival("Networks mix trees of pasts.", lambda _, prediction: prediction | {"bayes": prediction["trees"]}),
        Rival("Networks have seen the word that they predict.", one_ahead),
        Rival(
            "Networks say what is frequent in the corpus, whatever the string.",
            lambda s, prediction: prediction | {"bayes": np.full_like(prediction["bayes"], -np.log(s.symbols))},
        ),
    ),
    draw=draw,
    formulas=(
        "bayes_icl.unknown_names.classes",
        "bayes_icl.unknown_names.by_distance",
        "bayes_icl.unknown_names.strength",
        "bayes_icl.context_tree.string",
        "bayes_icl.dirichlet_ngrams.prediction",
    ),
)
