"""Balls and urns: networks that remember a pool, networks that read any urn, and when one becomes the other."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from sims.engine import Runs, simulate
from sims.networks.transformer import transformer
from sims.probes.by_position import divergence, losses
from sims.tasks.urns import pooled_urns, random_urns, urn_strings
from sims.training import training
from theory.bayes_icl.dirichlet_ngrams import expected_loss, ngram_predictions, pool_loss, urn_predictions
from theory.bayes_icl.strategy_choice import (
    fitted_learner,
    memoriser_weight,
    relative_distance,
    symmetric_divergence,
)
from validation import style
from validation.metrics import gap, z_score
from validation.study import Claim, Problem, Rival, Study

# Bits of a number in a table.
BITS = 32


def problem(settings, seed):
    """A pool of urns for each run, strings to test on, and how far the networks of some pools have come when."""
    s = Problem(**settings, seed=seed)
    s.cases = np.array([m for m in (*s.pools, 0) for _ in range(s.runs)])
    keys = jax.random.split(jax.random.fold_in(jax.random.key(17), seed), (len(s.cases), 3))
    s.urns = np.stack([random_urns(key, max(s.pools), s.symbols) for key in keys[:, 0]])
    s.tests = np.stack([strings(s, *case) for case in zip(s.urns, s.cases, keys[:, 1:], strict=True)])
    s.at = np.unique(np.geomspace(s.first, s.steps, s.records).round().astype(int))
    s.laws = {"memorising": memorising(s), "generalising": generalising(s)}
    # The number of the fitted pools, and of the one that is left out.
    s.fitted, s.held = (0, 2), 1
    weights = measured_weights(s, s.laws, log_q(s))[list(s.fitted)]
    s.fit = fitted_learner(s.at[None], *strategies(s, s.fitted), weights.mean(axis=1))
    return s


def strings(s, urns, known, keys):
    """Test strings, of the first `known` urns in turn or, where that is zero, of fresh ones."""
    drawn = urns[np.arange(s.tests) % known] if known else random_urns(keys[0], s.tests, s.symbols)
    return np.asarray(urn_strings(keys[1], jnp.asarray(drawn), s.length))


def memorising(s, prior=None):
    """Log laws of the predictor that knows the pool, (pools, runs, strings, T, K)."""
    many = jax.jit(jax.vmap(urn_predictions, in_axes=(0, None, None)))
    # Urns that are not in the pool are left out by their prior: one program for all pools.
    left = np.where(np.arange(max(s.pools)) < s.cases[:, None], 0.0, -np.inf)
    finite = s.cases > 0
    found = [many(*case).log_law[:, :-1] for case in zip(s.tests[finite], s.urns[finite], left[finite], strict=True)]
    return np.reshape(found, (len(s.pools), s.runs, *np.shape(found)[1:]))


def generalising(s, prior=1.0):
    """Log laws of the Dirichlet predictor, (pools and one, runs, strings, T, K)."""
    found = jax.jit(jax.vmap(jax.vmap(lambda x: ngram_predictions(x, s.symbols, 0, prior).log_law[:-1])))(s.tests)
    return np.reshape(np.asarray(found), (len(s.pools) + 1, s.runs, *found.shape[1:]))


def bayes(s):
    """The Bayes predictor of each run's own training distribution."""
    return np.concatenate([s.laws["memorising"], s.laws["generalising"][-1:]])


def strategies(s, pools):
    """Losses and bits of both, one row for each pool; only the difference of losses, E KL(p_M || p_G), counts."""
    pools = list(pools)
    gain = divergence(s.laws["memorising"], s.laws["generalising"][:-1]).mean(axis=(1, 2, 3))[np.asarray(pools)]
    table = BITS * s.symbols * np.array(s.pools)[pools]
    return (np.zeros_like(gain)[:, None], table[:, None]), (gain[:, None], np.full((len(pools), 1), BITS * s.symbols))


def measured_weights(s, laws, q):
    """(r + 1) / 2 of networks on finite pools from their distances to both strategies, (pools, runs, times)."""
    m, g = (laws[name][: len(s.pools), :, None] for name in ("memorising", "generalising"))
    q = q[: len(s.pools)]
    mean = lambda a, b: np.asarray(symmetric_divergence(a, b)).mean(axis=(-1, -2))  # noqa: E731
    return (np.asarray(relative_distance(mean(m, q), mean(g, q), mean(m, g))) + 1) / 2


@functools.cache
def network(symbols, length, width, hidden, batch, lr):
    """Adam on fresh strings; what is recorded are log laws on the test strings."""

    def untrained(key, _):
        drawn = transformer(key, symbols + 1, length, width=width, heads=1, layers=1, hidden=hidden, outputs=symbols)
        return jax.tree.map(lambda x: x.astype(jnp.float32), drawn)

    def log_p(model, x):
        # One more symbol begins each string.
        begun = jnp.concatenate([jnp.full((len(x), 1), symbols, x.dtype), x[:, :-1]], axis=1)
        return jax.nn.log_softmax(model(begun))

    def fresh(key, hyper):
        of_pool, of_urns, of_strings = jax.random.split(key, 3)
        known = pooled_urns(of_pool, hyper["urns"], batch, jnp.maximum(hyper["known"], 1))
        urns = jnp.where(hyper["known"] > 0, known, random_urns(of_urns, batch, symbols))
        return urn_strings(of_strings, urns, length)

    return training(
        untrained,
        lambda model, x: jnp.mean(losses(log_p(model, x), x)),
        lambda _: optax.adam(lr),
        fresh,
        lambda model, hyper: log_p(model, hyper["tests"]),
    )


def log_q(s):
    """Log laws of trained networks, (pools and one, runs, times, strings, T, K)."""
    if not hasattr(s, "networks"):
        trained = network(s.symbols, s.length, s.width, s.hidden, s.batch, s.lr)
        many = len(s.cases)
        hyper = dict(urns=s.urns, known=s.cases, tests=s.tests)
        runs = Runs(s.seed * many + np.arange(many), hyper, (many,))
        found = simulate(trained, runs, s.at, batching="map", optimised=True).records
        s.networks = np.reshape(np.asarray(found, float), (len(s.pools) + 1, s.runs, *found.shape[1:]))
    return s.networks


def predict(s):
    """Both strategies on the tests, their losses by position, and who wins when on the pool that was not fitted."""
    both = strategies(s, range(len(s.pools)))
    learner = s.fit.learner
    exact = [np.asarray(pool_loss(urns[: s.pools[0]], s.exact)) for urns in s.urns[: s.runs]]
    fresh = np.asarray(expected_loss(np.ones(s.symbols), s.exact))
    return dict(
        s.laws,
        bayes=bayes(s),
        tests=s.tests.reshape(len(s.pools) + 1, s.runs, *s.tests.shape[1:]),
        # Of the smallest pools, one by one, and of fresh urns.
        loss=np.stack([*exact, *[fresh] * s.runs]),
        weights=np.asarray(memoriser_weight(s.at[None], *both, learner)),
        held=s.held,
        residual=float(s.fit.residual),
        at=s.at,
        measure=functools.partial(measured_weights, s),
    )


def simulate_networks(s):
    """What trained networks say, at all recorded steps."""
    return {"q": log_q(s), "at": s.at}


def context_gain(prediction, observation):
    """On fresh urns, KL(Bayes || network) at the end over KL(Bayes || no context), in tenths."""
    p, q = prediction["bayes"][-1], observation["q"][-1, :, -1]
    blind = np.full_like(p, -np.log(p.shape[-1]))
    return float(np.mean(divergence(p, q)) / np.mean(divergence(p, blind)) / 0.1)


def memory(prediction, observation):
    """On the smallest pool, the distance to the predictor that memorises over that to the Dirichlet predictor."""
    q = observation["q"][0, :, -1]
    near, far = (np.mean(divergence(prediction[name][0], q)) for name in ("memorising", "generalising"))
    return float(near / far / 0.5)


def excess(prediction, observation):
    """CE(q) - CE(p_B) - KL(p_B || q) of each string at each position at the end, (pools and one, runs, strings, T)."""
    p, q, x = prediction["bayes"], observation["q"][:, :, -1], prediction["tests"]
    return losses(q, x) - losses(p, x) - divergence(p, q)


def pythagoras(prediction, observation):
    """Its mean over strings and positions, in standard errors, run by run."""
    return z_score(0.0, excess(prediction, observation).mean(axis=3), axis=2)


def loss_by_position(prediction, observation):
    """Loss of networks less KL(Bayes || network), against the loss from counts alone, over strings of all runs."""
    x, q, p = prediction["tests"][[0, -1]], observation["q"][[0, -1], :, -1], prediction["bayes"][[0, -1]]
    exact = prediction["loss"].shape[1]
    left = (losses(q, x) - divergence(p, q))[..., :exact] - prediction["loss"].reshape(2, -1, 1, exact)
    return z_score(0.0, left.reshape(2, -1, exact), axis=1)


def held_out(prediction, observation):
    """Weights on the pool that was left out: root mean square over steps, in residuals of the fit and errors."""
    seen = prediction["measure"](prediction, observation["q"])[prediction["held"]]
    expected = prediction["weights"][prediction["held"]]
    error = seen.std(axis=0, ddof=1) / np.sqrt(len(seen))
    scale = np.sqrt(np.mean(error**2) + prediction["residual"] ** 2)
    return gap(0.0, np.sqrt(np.mean((seen.mean(axis=0) - expected) ** 2)), scale)


def differences(prediction, observation):
    """What weights lose from the smallest to the largest pool, and gain from the first to the last third of steps."""
    seen = prediction["measure"](prediction, observation["q"]).mean(axis=1)
    third = seen.shape[1] // 3

    def both(w):
        return np.array([np.mean(w[0] - w[-1]), np.mean(w[:, -third:]) - np.mean(w[:, :third])])

    return gap(both(prediction["weights"]), both(seen), np.abs(both(seen)) / 2)


def draw(figure, s, prediction, observation):
    left, middle, right = figure.subplots(1, 3)
    far = lambda name, i: divergence(prediction[name][i], observation["q"][i, :, -1]).mean()  # noqa: E731
    n = np.arange(s.length)
    for i, label, colour in ((-1, "fresh urns", 0), (0, f"pool of {s.pools[0]}", 1)):
        x, q = prediction["tests"][i], observation["q"][i, :, -1]
        # Network and Bayes on the same strings: what is common to both is no noise.
        p = prediction["bayes"][i]
        more = (losses(q, x) - losses(p, x)).mean(axis=(0, 1))
        rows = prediction["loss"][: s.runs] if i == 0 else prediction["loss"][s.runs :]
        style.theory(left, n[: s.exact], rows.mean(axis=0), i=colour, label=f"{label}, Bayes")
        style.networks(left, n[: s.exact], rows.mean(axis=0) + more[: s.exact], i=colour, label="networks")
    left.set(xlabel="symbols seen", ylabel="loss (nats)", title="Loss by position")
    left.legend(fontsize=7)
    names = [*(str(m) for m in s.pools), "∞"]
    for name, colour in (("memorising", 1), ("generalising", 0)):
        ends = [far(name, i) for i in range(len(prediction[name]))]
        style.networks(middle, np.arange(len(ends)), ends, i=colour, label=name, linestyle="-")
    middle.set_xticks(np.arange(len(names)), names)
    middle.set(xlabel="urns in the pool", ylabel="KL to network (nats)", title="At the end", yscale="log")
    middle.set_yticks([0.01, 0.03, 0.1], ["0.01", "0.03", "0.1"])
    middle.minorticks_off()
    middle.legend(fontsize=7)
    seen = measured_weights(s, prediction, observation["q"])
    for i, m in enumerate(s.pools):
        label = f"pool of {m}" + ", left out" * (i == s.held)
        style.theory(right, s.at, prediction["weights"][i], i=i + 1, label=label)
        error = seen[i].std(axis=0, ddof=1) / np.sqrt(s.runs)
        style.networks(right, s.at, seen[i].mean(axis=0), i=i + 1, error=error)
    right.set(xscale="log", xlabel="steps", ylabel="weight of memorising", title="Memorising takes over")
    right.set_ylim(0, 1.5)
    right.set_yticks([0, 0.5, 1])
    few = s.at[:: len(s.at) // 3]
    right.set_xticks(few, [str(step) for step in few])
    right.minorticks_off()
    right.legend(fontsize=7, loc="upper left")


def counts_everywhere(s, prediction):
    """Bayes on a pool is the Dirichlet predictor all the same."""
    return prediction | {"bayes": prediction["generalising"]}


def equal_urns(s, prediction):
    """All urns of a pool count alike, whatever has been drawn."""
    known = np.arange(max(s.pools)) < s.cases[: -s.runs, None]
    mean = np.log((s.urns[: -s.runs] * known[..., None]).sum(axis=1) / known.sum(axis=1)[:, None])
    flat = np.broadcast_to(mean.reshape(len(s.pools), s.runs, 1, 1, -1), prediction["memorising"].shape)
    return prediction | {"bayes": np.concatenate([flat, prediction["bayes"][-1:]])}


def half_counts(s, prediction):
    """Counts start from one half, as for Krichevsky and Trofimov."""
    return prediction | {"bayes": np.concatenate([prediction["bayes"][:-1], generalising(s, 0.5)[-1:]])}


def one_ahead(s, prediction):
    """Networks have seen one symbol more than they have."""
    return prediction | {"loss": np.column_stack([prediction["loss"][:, 1:], prediction["loss"][:, -1]])}


def any_pool(s, prediction):
    """All pools are memorised as soon as the smallest."""
    return prediction | {"weights": np.broadcast_to(prediction["weights"][:1], prediction["weights"].shape)}


def no_evidence(s, prediction):
    """Training does not change what a network believes: its prior, at zero steps."""
    both = strategies(s, range(len(s.pools)))
    prior = np.asarray(memoriser_weight(0.0, *both, s.fit.learner))
    return prediction | {"weights": np.broadcast_to(prior, prediction["weights"].shape)}


STUDY = Study(
    title="Balls and urns",
    question="When does a network remember the urns that it was trained on, and when does it learn to read any urn?",
    source="Wurgaft et al. 2025 (arXiv:2506.17859), balls and urns",
    regimes=("bayes",),
    asks="when",
    sizes={
        "smoke": dict(
            pools=(8, 32, 128),
            symbols=6,
            length=16,
            exact=16,
            width=32,
            hidden=64,
            batch=32,
            lr=3e-3,
            # Before that they lie between no two strategies.
            first=40,
            steps=450,
            records=12,
            tests=128,
            runs=3,
        ),
        "paper": dict(
            pools=(32, 128, 512),
            symbols=8,
            length=128,
            exact=12,
            width=64,
            hidden=256,
            batch=64,
            lr=5e-4,
            first=2000,
            steps=100_000,
            records=24,
            tests=128,
            runs=3,
        ),
    },
    problem=problem,
    predict=predict,
    simulate=simulate_networks,
    claims=(
        Claim(
            "On fresh urns networks come to the Dirichlet predictor.",
            context_gain,
            1,
            "A tenth of what the context tells: training ends before it converges.",
        ),
        Claim(
            "On a small pool they come to the predictor that memorises it.",
            memory,
            1,
            "At most half as far from it as from the Dirichlet predictor.",
        ),
        Claim(
            "What networks lose more than Bayes is their relative entropy to Bayes.",
            pythagoras,
            5,
            "Standard errors over strings.",
        ),
        Claim(
            "Without that entropy their loss at each position is what counts alone predict.",
            loss_by_position,
            5,
            "Standard errors over strings.",
        ),
        Claim(
            "A learner fitted to two pools predicts when the one between them is memorised, at all steps.",
            held_out,
            2,
            "Twice what the fit leaves on its own pools, beside standard errors over runs.",
        ),
        Claim(
            "Of a larger pool less is memorised, after more steps more, by as much as the learner says.",
            differences,
            1,
            "Half of these differences: three parameters stand for a whole network.",
        ),
    ),
    rivals=(
        Rival("Bayes on a pool counts, as on fresh urns.", counts_everywhere),
        Rival("All urns of a pool count alike, whatever has been drawn.", equal_urns),
        Rival("Counts of fresh urns start from one half.", half_counts),
        Rival("Networks have seen the symbol that they predict.", one_ahead),
        Rival("All pools are memorised as soon as the smallest.", any_pool),
        Rival("Training does not change what a network believes.", no_evidence),
    ),
    draw=draw,
    formulas=(
        "bayes_icl.dirichlet_ngrams.prediction",
        "bayes_icl.dirichlet_ngrams.fresh_loss",
        "bayes_icl.dirichlet_ngrams.remembered_loss",
        "bayes_icl.strategy_choice.odds",
        "bayes_icl.strategy_choice.distance",
    ),
)
