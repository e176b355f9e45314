"""English in context: what networks gain by counting, and what by knowing the text under names that they must find out.

Two ways to read the same text, drawn anew for each string. NAMES: vowels, other letters and spaces under any of the K!
names for them. CLASSES: every letter is thrown into one of K classes by itself, which nobody can know beforehand.
"""

from __future__ import annotations

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np

from sims.engine import Runs, simulate
from sims.probes.by_position import divergence, losses
from sims.tasks.english import ALPHABET, documentation
from sims.tasks.renamed_text import dealt, new_classes, new_names, renamed
from sims.text_training import text_training
from theory.bayes_icl.context_tree import context_tree_predictions
from theory.bayes_icl.dirichlet_ngrams import ngram_predictions
from theory.bayes_icl.unknown_names import (
    block_loss,
    block_predictions,
    class_blocks,
    class_prior,
    renamed_blocks,
    renamed_predictions,
)
from validation import style
from validation.metrics import gap
from validation.study import Claim, Problem, Rival, Study

NAMES, CLASSES = 0, 1
LETTERS = len(ALPHABET)
# Runs of so many words that have stood before are left out; what is left is dealt out in blocks of so many letters.
PASSAGE, BLOCK = 12, 1000
# Strings of the training part to which the strengths of those who count are fitted.
FITS = 100
# Those who count have the stop and the prior of these that fit the training part best; stop one looks at no past.
STOPS, PRIORS = np.array([1.0, 0.95, 0.8, 0.5, 0.2, 0.05]), np.array([0.25, 0.5, 1.0, 2.0, 4.0])


def problem(settings, seed):
    """The text dealt out in blocks of letters to test and training, and strings of both, read in both ways."""
    s = Problem(**settings, seed=seed)
    s.symbols, s.past = len(s.kinds) + 1, s.memory - 1
    s.kind = np.array([next((i for i, kind in enumerate(s.kinds) if c in kind), len(s.kinds)) for c in ALPHABET])
    s.test, s.train = dealt(documentation().unrepeated(PASSAGE).letters(), BLOCK, seed)
    s.tested = len(s.test)
    # Before each string stand symbols that those who count are told and networks are not.
    whole = s.past + s.length
    test, train = (x[:, : BLOCK // whole * whole].reshape(-1, whole) for x in (s.test, s.train))
    key, pieces = jax.random.fold_in(jax.random.key(31), seed), jnp.concatenate([test, train[:: len(train) // FITS]])
    read = jax.jit(jax.vmap(lambda way: renamed(pieces, names(key, len(pieces), way, s))))
    s.strings, s.fitted = np.split(np.asarray(read(np.arange(2))), [len(test)], axis=1)
    s.known = s.kind[test[:, s.past :]]
    s.answers = s.strings[:, :, s.past :]
    return s


def names(key, count, way, s):
    """Of all letters, for each piece, (count, L)."""
    few, many = new_names(key, count, jnp.asarray(s.kind), s.symbols), new_classes(key, count, LETTERS, s.symbols)
    return jnp.where(way == NAMES, few, many)


def simulate_networks(s):
    """Log laws of trained networks, (ways, strings, T, K)."""
    trained = network(tuple(s.kind), s.symbols, s.length, memory=s.memory, **sizes_of(s))
    runs = Runs(2 * s.seed + np.arange(2), dict(way=np.arange(2), text=np.stack([s.train] * 2), tests=s.answers), (2,))
    found = simulate(trained, runs, [s.steps], batching="map", optimised=True).records[:, 0]
    return {"q": np.asarray(found, float)}


@functools.cache
def network(kind, symbols, length, **sizes):
    """Adam on fresh names."""
    s = Problem(kind=kind, symbols=symbols)
    read = lambda key, pieces, hyper: renamed(pieces, names(key, len(pieces), hyper["way"], s))  # noqa: E731
    return text_training(read, symbols, length, **sizes)


def sizes_of(s):
    """Of a network and its training."""
    return dict(width=s.width, batch=s.batch, lr=s.lr, steps=s.steps)


def windows(blocks, length):
    """All blocks of so many symbols, (B, N)."""
    return np.lib.stride_tricks.sliding_window_view(blocks, length, axis=1).reshape(-1, length)


def counted(s, length):
    """How often blocks of kinds occur in the training part, (K,) * N."""
    blocks = np.zeros((s.symbols,) * length)
    np.add.at(blocks, tuple(windows(s.kind[s.train], length).T), 1)
    return blocks


def each(predictor, strings):
    """Log laws before each symbol, (strings, T, K)."""
    return np.asarray(jax.jit(jax.vmap(lambda x: predictor(x).log_law[:-1]))(strings))


def fitted(s, predictor, grid, choices):
    """Log laws, (ways, strings, T, K), of a predictor with those of its numbers that fit the training part best.

    Rows of the grid are what follows the string in its arguments; each of the choices says which of them to fit by.
    """
    many = jax.vmap(functools.partial(predictor, s), in_axes=(0, None, None))
    cost = jax.jit(lambda x: jax.lax.map(lambda at: jnp.mean(losses(many(x, *at), x[:, s.past :])), grid))
    costs, laws = [np.asarray(cost(x)) for x in s.fitted], jax.jit(many)
    best = [[choice[np.argmin(c[choice])] for c in costs] for choice in choices]
    return [np.stack([laws(x, *grid[i]) for x, i in zip(s.strings, one, strict=True)]) for one in best]


def tree(s, x, stop, prior):
    return context_tree_predictions(x[s.past :], x[: s.past], s.symbols, stop, prior).log_law[:-1]


def pair(s, x, _, prior):
    return ngram_predictions(x[s.past - 1 :], s.symbols, 1, prior).log_law[1:-1]


def counting(s):
    """Those who know nothing but the string: single symbols, pairs, trees."""
    grid, alone = np.array(list(itertools.product(STOPS, PRIORS))), np.arange(len(PRIORS))
    single, trees = fitted(s, tree, grid, (alone, np.arange(len(alone), len(grid))))
    (pairs,) = fitted(s, pair, grid[alone], (alone,))
    return {"single": single, "pairs": pairs, "trees": trees}


def predict(s):
    """Bayes for both ways, exact for the first N symbols, and those who only count.

    For longer strings it is Bayes for a text in which the past matters as far as a token reaches, and for urns of the
    first two moments of the classes.
    """
    exact = [renamed_blocks(counted(s, s.exact)), class_blocks(windows(s.train, s.exact), s.symbols)]
    frequencies = np.bincount(s.train.ravel(), minlength=LETTERS)
    strength = np.asarray(class_prior(frequencies, np.ones(s.symbols)))
    # Half a block more than was counted: what did not occur in training may occur.
    s.blocks = counted(s, s.memory + 1) + 0.5
    first = [functools.partial(block_predictions, blocks=p) for p in exact]
    found = counting(s)
    text = np.stack([each(lambda x: renamed_predictions(x, s.blocks), x) for x in s.answers])
    urns = each(lambda x: ngram_predictions(x, s.symbols, 0, strength), s.answers[CLASSES])
    return found | {
        "text": text,
        "bayes": np.stack([text[NAMES], urns]),
        "loss": np.stack([block_loss(p) for p in exact]),
        "exact": np.stack([each(one, x[:, : s.exact]) for one, x in zip(first, s.answers, strict=True)]),
        "known": losses(each(lambda x: block_predictions(x, s.blocks), s.known), s.known),
        "strength": float(strength[0]),
        "answers": s.answers,
        "blocks": (s.tested, len(s.train)),
    }


def over_blocks(prediction, found):
    """Means of (ways, strings, ...) and their standard errors over blocks of the test part."""
    blocks = found.reshape(len(found), prediction["blocks"][0], -1, *found.shape[2:]).mean(axis=2)
    return blocks.mean(axis=1), blocks.std(axis=1, ddof=1) / np.sqrt(blocks.shape[1])


def of_patterns(prediction, observation):
    """Loss less KL(Bayes || network) against the loss from the training part alone, at each of the first N symbols."""
    n, (tested, trained) = prediction["loss"].shape[1], prediction["blocks"]
    q, x = observation["q"][:, :, :n], prediction["answers"][:, :, :n]
    left = losses(q, x) - divergence(prediction["exact"], q) - prediction["loss"][:, None]
    mean, error = over_blocks(prediction, left)
    # The training part is a sample, too.
    return gap(0.0, mean, error * np.sqrt(1 + tested / trained))


def all_along(prediction, observation):
    """Loss beyond that of Bayes, mean size over positions, in tenths of what Bayes gains by the last quarter."""
    x, p, q = prediction["answers"], prediction["bayes"], observation["q"]
    more = np.abs((losses(q, x) - losses(p, x)).mean(axis=1)).mean(axis=1)
    late = losses(p, x)[..., -(x.shape[-1] // 4) :].mean(axis=(1, 2))
    return gap(0.0, more, (np.log(q.shape[-1]) - late) / 10)


def nearest(way, *others):
    """KL(Bayes || network) over half of the smallest distance to the others."""

    def measure(prediction, observation):
        q = observation["q"][way]
        far = min(np.mean(divergence(prediction[name][way], q)) for name in others)
        return float(np.mean(divergence(prediction["bayes"][way], q)) / far / 0.5)

    return measure


def counting_loses(prediction, observation):
    """Five standard errors over what context trees lose more than networks, in the second half of strings."""
    x = prediction["answers"][:1]
    more = losses(prediction["trees"][:1], x) - losses(observation["q"][:1], x)
    mean, error = over_blocks(prediction, more[..., x.shape[-1] // 2 :].mean(axis=-1))
    return float(5 * error[0] / mean[0]) if mean[0] > 0 else np.inf


def price(prediction, law):
    """What strings cost so far beyond those whose names are known."""
    return np.cumsum((losses(law[NAMES], prediction["answers"][NAMES]) - prediction["known"]).mean(axis=0))


def price_of_names(prediction, observation):
    """Of networks, against that of Bayes, in halves of ln K!."""
    most = np.sum(np.log(np.arange(1, observation["q"].shape[-1] + 1)))
    return gap(price(prediction, prediction["bayes"])[-1], price(prediction, observation["q"])[-1], most / 2)


@jax.jit
def dirichlet_distances(x, q, priors):
    """KL(Dirichlet counts || network) for each strength of the prior; counted once for all of them."""

    def one(prior):
        p = jax.vmap(lambda x: ngram_predictions(x, q.shape[-1], 0, prior).log_law[:-1])(x)
        return jnp.mean(divergence(p, q))

    return jax.vmap(one)(priors)


def nearest_strength(x, q, priors):
    """That of the Dirichlet predictor nearest to networks, of 81 in order: of every tenth first, then of those near."""
    rough = 10 * int(np.argmin(dirichlet_distances(x, q, priors[::10])))
    near = np.clip(rough + np.arange(-8, 10), 0, 80)
    far = [dirichlet_distances(x, q, priors[at]) for at in np.split(near, 2)]
    return priors[near[np.argmin(far)]]


def strength(prediction, observation):
    """Strength of the Dirichlet predictor nearest to networks, over a fifth of the predicted one."""
    near = nearest_strength(prediction["answers"][CLASSES], observation["q"][CLASSES], np.geomspace(0.3, 3, 81))
    return gap(prediction["strength"], near, prediction["strength"] / 5)


def draw(figure, s, prediction, observation):
    bits, t, x, q = np.log(2), np.arange(s.length), prediction["answers"], observation["q"]
    *axes, right = figure.subplots(1, 3)
    bayes = "the text, names found out", "Dirichlet counts"
    for way, place in enumerate(axes):
        loss = lambda p, way=way: losses(p[way], x[way]).mean(axis=0) / bits  # noqa: E731
        style.rival(place, t, loss(prediction["single"]), label="single symbols", linestyle=":")
        style.rival(place, t, loss(prediction["pairs"]), label="pairs")
        style.theory(place, t, loss(prediction["trees"]), i=2, label="context trees", linewidth=1.4)
        style.theory(place, t, loss(prediction["bayes"]), i=way, label=bayes[way])
        exact = dict(color=style.INK, marker="D", markersize=3, linewidth=1, zorder=4)
        style.theory(place, t[: s.exact], prediction["loss"][way] / bits, label="patterns alone", **exact)
        style.networks(place, t, loss(q), i=way, label="network")
        place.set(xlabel="symbols seen")
    axes[0].margins(y=0.12)
    axes[0].set(ylabel="loss (bits)", title="Kinds of letters, new names")
    axes[1].set(title="Random classes of letters")
    handles, labels = axes[0].get_legend_handles_labels()
    axes[0].legend(handles[3:4], labels[3:4], fontsize=7, loc="upper right")
    axes[1].legend(fontsize=7)
    most = np.log(np.arange(1, s.symbols + 1)).sum() / bits
    right.axhline(most, color=style.INK, linewidth=0.8, linestyle="--")
    right.annotate(f"{s.symbols}! names", (s.length, most), xytext=(0, -14), textcoords="offset points", ha="right")
    for name, i in (("trees", 2), ("bayes", 0)):
        style.theory(right, t + 1, price(prediction, prediction[name]) / bits, i=i)
    style.networks(right, t + 1, price(prediction, q) / bits, i=0)
    right.set(xlabel="symbols seen", ylabel="bits in all", title="Cost of unknown names")


def instead(way, name):
    """Another predictor in the place of Bayes."""

    def believed(s, prediction):
        laws = [prediction[name][way] if i == way else law for i, law in enumerate(prediction["bayes"])]
        return prediction | {"bayes": np.stack(laws)}

    return believed


def no_posterior(s, prediction):
    """All names stay as likely as they were."""
    ways = [np.ix_(*[list(kind)] * s.blocks.ndim) for kind in itertools.permutations(range(s.symbols))]
    given = np.stack([s.blocks[way] for way in ways])
    laws = jax.jit(jax.vmap(lambda x: jax.vmap(lambda p: block_predictions(x, p).log_law[:-1])(given)))
    mean = np.log(np.exp(np.asarray(laws(prediction["answers"][NAMES]))).mean(axis=1))
    return prediction | {"bayes": np.stack([mean, prediction["bayes"][CLASSES]])}


def names_known(s, prediction):
    """Networks know the names from the start."""
    return prediction | {"loss": np.stack([block_loss(counted(s, s.exact)), prediction["loss"][CLASSES]])}


def one_ahead(s, prediction):
    """Networks have seen the symbol that they predict."""
    return prediction | {"loss": np.column_stack([prediction["loss"][:, 1:], prediction["loss"][:, -1]])}


STUDY = Study(
    title="English in context",
    question="How much of a text does a network learn by counting in it, and how much did it know but for the names?",
    source="Shannon 1951 (Bell System Technical Journal 30, 50); Willems, Shtarkov & Tjalkens 1995; derived here",
    regimes=("bayes",),
    asks="what",
    sizes={
        "smoke": dict(kinds=("aeiou", " "), length=40, memory=3, exact=7)
        | dict(width=32, batch=32, lr=1e-2, steps=600),
        "paper": dict(kinds=("aeiou", " "), length=80, memory=4, exact=8)
        | dict(width=64, batch=64, lr=2e-3, steps=10_000),
    },
    problem=problem,
    predict=predict,
    simulate=simulate_networks,
    claims=(
        Claim(
            "But for their relative entropy to Bayes networks lose what patterns of the training part alone say.",
            of_patterns,
            5,
            "Standard errors over blocks of the text, of both parts.",
        ),
        Claim(
            "All along the string they lose what Bayes loses.",
            all_along,
            1,
            "A tenth of what Bayes gains: training ends before it converges.",
        ),
        Claim(
            "Under unknown names networks are nearer to the text than to anybody who counts.",
            nearest(NAMES, "single", "pairs", "trees"),
            1,
            "At most half as far.",
        ),
        Claim(
            "With random classes they are nearer to Dirichlet counts than to counts of pairs, or to the text.",
            nearest(CLASSES, "pairs", "text"),
            1,
            "At most half as far.",
        ),
        Claim(
            "Under unknown names context trees, which do not know English, lose more than networks.",
            counting_loses,
            1,
            "Five standard errors over blocks of the text.",
        ),
        Claim(
            "Not to know the names costs networks what it costs Bayes.",
            price_of_names,
            1,
            "Half of ln K!, the most that names can cost: what training leaves adds up along the string.",
        ),
        Claim(
            "The prior of their counts is that of the repeat rate of letters.",
            strength,
            1,
            "A fifth: two moments stand for the law of the classes, and networks have not converged.",
        ),
    ),
    rivals=(
        Rival("Networks count, with trees of pasts, also where only names are unknown.", instead(NAMES, "trees")),
        Rival("All names stay as likely as they were.", no_posterior),
        Rival("Networks know the names from the start.", names_known),
        Rival("Networks have seen the symbol that they predict.", one_ahead),
        # Under new names what is frequent in the corpus is nothing.
        Rival(
            "Networks say what is frequent in the corpus, whatever the string.",
            lambda s, prediction: prediction | {"bayes": np.full_like(prediction["bayes"], -np.log(s.symbols))},
        ),
        Rival("Networks count pairs in random classes.", instead(CLASSES, "pairs")),
        Rival("Vowels and spaces are found in random classes, too.", instead(CLASSES, "text")),
        Rival(
            "Classes are as unequal as the shares that they are thrown with.",
            lambda _, prediction: prediction | {"strength": 1.0},
        ),
    ),
    draw=draw,
    formulas=(
        "bayes_icl.unknown_names.second_unnamed",
        "bayes_icl.unknown_names.price",
        "bayes_icl.unknown_names.renamed",
        "bayes_icl.unknown_names.classes",
        "bayes_icl.unknown_names.strength",
        "bayes_icl.context_tree.string",
        "bayes_icl.dirichlet_ngrams.prediction",
    ),
)
