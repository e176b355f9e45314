"""Stages of a minimal reader: its whole matrix trained by hand, symmetry, first motion, plateau, slow lags."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from theory.induction.markov_chains import bigram_prediction, unigram_prediction
from theory.induction.markov_stages import (
    Contexts,
    Reader,
    all_contexts,
    first_drive,
    plateau,
    reader_logits,
    slow_flow,
    stage,
    stage_flow,
)

T = 6
CONTEXTS = all_contexts(T)
TIMES = np.array([0.0, 2.0, 10.0, 40.0, 160.0])


def whole_logits(matrix, lags, x, k):
    """Logits of one sequence from the definition, a position at a time."""
    rows = []
    for s in range(len(x)):
        shares = np.exp(lags[: s + 1][::-1])
        rows.append(np.array([shares[x[: s + 1] == i].sum() for i in range(k)]) / shares.sum())
    found = []
    for t in range(len(x)):
        logits = np.zeros(k)
        for s in range(t + 1):
            logits[x[s]] += matrix[x[t]] @ rows[s]
        found.append(logits)
    return np.stack(found)


@pytest.mark.parametrize("seed", [0])
def test_logits_from_the_whole_matrix(seed):
    rng = np.random.default_rng(seed)
    w, m, lags, x = rng.normal(), rng.normal(), rng.normal(size=4), rng.integers(0, 3, size=4)
    expected = whole_logits(w * np.ones((3, 3)) + m * (np.eye(3) - 1 / 3), lags, x, 3)
    np.testing.assert_allclose(reader_logits((w, m, lags), x[None], 3)[0], expected, rtol=1e-9, atol=1e-12)


def test_looking_one_step_back_counts_pairs():
    x = np.asarray(CONTEXTS.symbols)
    found = np.asarray(reader_logits((0.5, 1.0, np.array([0, 80.0, 0, 0, 0, 0])), x, 2))
    bigram = np.asarray(bigram_prediction(x, 2))
    # (n_y + 1) / (n + 2) back to n_y, from the ratio of what is counted; the first symbol precedes itself.
    pairs = np.zeros_like(found)
    for n, t in itertools.product(range(len(x)), range(T)):
        for s in range(1, t + 1):
            pairs[n, t, x[n, s]] += x[n, s - 1] == x[n, t]
    np.testing.assert_allclose((pairs + 1) / (pairs.sum(axis=2, keepdims=True) + 2), bigram, rtol=1e-12)
    first = (x[:, :1] == x)[..., None] * np.eye(2)[x[:, :1]]
    np.testing.assert_allclose(found, pairs + first, atol=1e-10)


@pytest.fixture(scope="module")
def trained():
    return stage_flow(TIMES, CONTEXTS, 2.0)


def test_the_flow_is_that_of_the_whole_network():
    """Gradient descent on every entry of W and on v, by small steps: three symbols, treated alike."""
    x = np.array(list(itertools.product(range(3), repeat=4)))
    after, hot = np.asarray(bigram_prediction(x, 3)), np.eye(3)[x]
    back = np.arange(4)[:, None] - np.arange(4)

    def loss(state):
        matrix, lags = state
        attention = jax.nn.softmax(jnp.where(back >= 0, lags[np.abs(back)], -jnp.inf), axis=1)
        scores = jnp.einsum("nti,ij,sr,nrj->nts", hot, matrix, attention, hot) * (back >= 0)
        return -jnp.mean(jnp.sum(after * jax.nn.log_softmax(scores @ hot), axis=2))

    @jax.jit
    def descend(state, lr, steps):
        def step(_, state):
            down = jax.grad(loss)(state)
            return state[0] - lr * down[0], state[1] - 2 * lr * down[1]

        return jax.lax.fori_loop(0, steps, step, state)

    start = (jnp.zeros((3, 3)), jnp.zeros(4))
    ends = [descend(start, 10 / steps, steps) for steps in (100, 200)]
    # Richardson: the error of Euler's steps is linear in them.
    matrix, lags = (2 * fine - coarse for coarse, fine in zip(*ends, strict=True))
    found = stage_flow(np.array([10.0]), Contexts(x, after, np.full(len(x), 1 / len(x))), 2.0)
    expected = found.common[0] + found.match[0] * (np.eye(3) - 1 / 3)
    assert np.abs(lags).max() > 0.01
    np.testing.assert_allclose(matrix, expected, atol=2e-4)
    np.testing.assert_allclose(lags, found.lags[0], atol=2e-4)


def test_what_the_flow_keeps(trained):
    np.testing.assert_allclose(trained.lags.sum(axis=1), 0, atol=1e-10)
    seen = stage(trained, CONTEXTS)
    assert (np.diff(seen.loss) < 0).all()
    np.testing.assert_allclose(seen.loss[0], np.log(2), rtol=1e-12)
    # Single symbols first, pairs later.
    assert seen.unigram.argmin() < seen.bigram.argmin()
    np.testing.assert_allclose(seen.previous[0], np.mean(1 / np.arange(2, T + 1)), rtol=1e-12)
    # From the middle on, it is the flow from there.
    middle = Reader(*(part[2] for part in trained))
    again = stage_flow(np.array([0.0, 1.0, 2.0, 30.0, 150.0]), CONTEXTS, 2.0, middle)
    np.testing.assert_allclose(again.lags[3:], trained.lags[3:], atol=1e-5)


def test_without_lags_only_the_second_layer_learns():
    found = stage_flow(np.array([0.0, 1.0, 10.0, 100.0, 2000.0]), CONTEXTS, 0.0)
    assert not np.asarray(found.lags).any()
    best = plateau(CONTEXTS)
    np.testing.assert_allclose(found.common[-1], best.common, atol=1e-4)
    np.testing.assert_allclose(found.match[-1], best.match, atol=1e-4)
    worst = stage(best, CONTEXTS).loss
    counts = np.asarray(unigram_prediction(CONTEXTS.symbols, 2))
    single = -np.asarray(CONTEXTS.weight) @ np.mean(np.sum(CONTEXTS.following * np.log(counts), axis=2), axis=1)
    assert single < worst < np.log(2)
    # The minimum: nothing near it is lower.
    for step in ((0.01, 0.0), (-0.01, 0.0), (0.0, 0.01), (0.0, -0.01)):
        near = Reader(best.common + step[0], best.match + step[1], best.lags)
        assert stage(near, CONTEXTS).loss > worst


@pytest.mark.parametrize("prior", ["rows", "doubly_stochastic"])
def test_first_motion(prior):
    """Correlations of the chains against a short run of the flow; the chains are a grid, E a midpoint rule."""
    contexts, nodes = all_contexts(T, prior), (np.arange(400) + 0.5) / 400
    a, b = (nodes, nodes) if prior != "rows" else (z.ravel() for z in np.meshgrid(nodes, nodes))
    chains = np.stack([np.stack([1 - a, a], -1), np.stack([b, 1 - b], -1)], axis=1)
    drive = first_drive(chains, T)
    t, rate = 1e-3, 1e3
    found = stage_flow(t * np.arange(1, 6), contexts, rate)
    # What is left out is of relative order t and rate t^2.
    np.testing.assert_allclose(found.common[0] / t, drive.common, rtol=5e-3)
    np.testing.assert_allclose(found.match[0] / t, drive.match, rtol=5e-3)
    np.testing.assert_allclose(2 * found.lags[0] / (rate * t**2), drive.lags, atol=5e-3 * np.abs(drive.lags).max())
    # One step back is what grows, and looking at oneself what is given up.
    assert np.argmax(drive.lags) == 1
    np.testing.assert_allclose(np.sum(drive.lags), 0, atol=1e-12)


def test_slow_lags():
    """Slow lags have a second layer at its best behind them; what is left out is of the order of their rate."""
    s = np.array([0.0, 40.0, 100.0, 200.0, 300.0])
    limit = slow_flow(s, CONTEXTS)
    errors = [np.abs(np.asarray(stage_flow(s / rate, CONTEXTS, rate).lags - limit.lags)).max() for rate in (0.2, 0.1)]
    np.testing.assert_allclose(errors[0] / errors[1], 2, rtol=0.2)
    assert errors[1] < 0.05
    # The second layer's gradient vanishes on the way.
    for i in (1, 3):
        here = Reader(*(part[i] for part in limit))
        loss = stage(here, CONTEXTS).loss
        for step in ((0.01, 0.0), (-0.01, 0.0), (0.0, 0.01), (0.0, -0.01)):
            assert stage(Reader(here.common + step[0], here.match + step[1], here.lags), CONTEXTS).loss > loss


def test_divergences_are_divergences():
    x, _, weight = CONTEXTS
    reader = (0.3, 0.4, np.linspace(0, 1, T))
    p = np.asarray(jax.nn.softmax(reader_logits(reader, x, 2)))
    found = stage(reader, CONTEXTS)
    for q, value in ((unigram_prediction(x, 2), found.unigram), (bigram_prediction(x, 2), found.bigram)):
        q = np.asarray(q)
        np.testing.assert_allclose(np.asarray(weight) @ np.mean(np.sum(q * np.log(q / p), 2), 1), value, rtol=1e-9)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: reader_logits((0.0, 0.0, np.zeros(2)), np.zeros((1, 3), int), 2), "lags must be of shape"),
        (lambda: stage((0.0, np.zeros(2), np.zeros(T)), CONTEXTS), "common, match and lags must be of shapes"),
        (lambda: stage((0.0, 0.0, np.zeros(3)), CONTEXTS), "lags must have one entry for each of 6"),
        (lambda: stage_flow(TIMES, CONTEXTS, -1.0), "lag_rate must be non-negative"),
        (lambda: stage_flow(TIMES[::-1], CONTEXTS, 1.0), "t must increase"),
        (lambda: plateau(CONTEXTS._replace(weight=np.ones(32))), "weight must have sum 1"),
        (lambda: plateau(Contexts(np.zeros((2, 3), int), np.ones((2, 4, 2)), np.ones(2) / 2)), "symbols, following"),
        (lambda: all_contexts(0), "length must be a whole number"),
        (lambda: first_drive(np.full((1, 2, 3), 1 / 3), 3), "transition must be of shape"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call()
