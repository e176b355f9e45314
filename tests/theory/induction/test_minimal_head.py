"""The minimal head on sequences: orders, attention from vectors, its flow, where leaks vanish, the transition."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from theory.induction import nested_logits
from theory.induction.minimal_head import (
    formation,
    minimal_head_attention,
    minimal_head_flow,
    minimal_head_progress,
    orders,
    untrained_lead,
)

T = np.linspace(0, 200, 41)
RECURRING = orders(4, 2)
numbers = st.floats(-4, 8)
overlaps = st.floats(0, 1)


@pytest.mark.parametrize(("n", "b"), [(2, 1), (4, 1), (4, 2), (6, 2), (6, 3)])
def test_orders_are_all_there_once(n, b):
    """Every assignment of places to classes, named by first appearance."""
    found = {tuple(row) for row in orders(n, b).tolist()}
    wanted = set()
    for places in itertools.permutations([name for name in range(n // b) for _ in range(b)]):
        names = {0: 0}
        for name in places:
            names.setdefault(name, len(names))
        wanted.add(tuple(names[name] for name in places))
    assert found == wanted
    assert len(orders(n, b)) == len(wanted)


def by_vectors(beta2, beta1, order, rho):
    """Attention computed token by token."""
    e, scores = np.exp(beta1), []
    for n in range(len(order)):
        tokens = [token for m in range(n + 1) for token in ((order[m] == 0) * rho, 0.0)]
        weights = np.ones(2 * n + 2)
        weights[2 * n] = e
        scores.append(beta2 * float(weights @ np.array(tokens)) / weights.sum())
    q = np.exp(np.array(scores) - max(scores))
    return q / q.sum()


@given(numbers, numbers, overlaps)
def test_attention(beta2, beta1, rho):
    classes = orders(4, 2)
    found = minimal_head_attention(beta2, beta1, classes, rho)
    wanted = [by_vectors(beta2, beta1, order, rho) for order in classes]
    np.testing.assert_allclose(found, wanted, rtol=1e-12)
    # Names of the other classes say nothing, and a class that is not matched gets what its places get.
    renamed = np.where(classes > 0, classes.max() + 1 - classes, 0)
    np.testing.assert_array_equal(found, minimal_head_attention(beta2, beta1, renamed, rho))


@given(numbers, overlaps)
def test_limits_of_attention(beta1, rho):
    classes = orders(4, 2)
    np.testing.assert_allclose(minimal_head_attention(0.0, beta1, classes, rho), 0.25, rtol=1e-14)
    sure = minimal_head_attention(2.0, 60.0, classes, rho)
    wanted = np.where(classes == 0, np.exp(2 * rho), 1.0)
    np.testing.assert_allclose(sure, wanted / wanted.sum(axis=1, keepdims=True), rtol=1e-12)


@given(numbers, numbers, st.integers(0, 30))
def test_without_leak_it_is_nested_logits(xi, beta2, extra):
    """Once labels know their items, and classes do not recur."""
    n, logits = 4, (xi, beta2, 50.0)
    found = minimal_head_progress(logits, orders(n), n + extra)
    wanted = nested_logits.progress(logits, n, n + extra, 1.0)
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-10)


def path(t, labels, rho=1.0, **options):
    """The flow for a class that recurs, of one compiled shape: few times are followed by later ones."""
    t = np.concatenate([t, t[-1] * (2 + np.arange(len(T) - len(t)))])
    return minimal_head_flow(t, RECURRING, labels, rho, **options)


def test_flow_is_the_gradient_of_the_stated_loss():
    """By finite differences; the classifier's rate is that of its one direction."""
    labels, rho, small = 8, 0.8, 1e-4
    logits = path(np.array([30.0 - small, 30.0, 30.0 + small]), labels, rho)
    here = np.array([float(part[1]) for part in logits])
    for i, rate in enumerate((1 / (labels - 1), 1.0, 1.0)):
        both = here[:, None] + 1e-5 * np.eye(3)[i][:, None] * np.array([1.0, -1.0])
        loss = minimal_head_progress(tuple(both), RECURRING, labels, rho).loss
        speed = float(logits[i][2] - logits[i][0]) / (2 * small)
        np.testing.assert_allclose(speed, -rate * float(loss[0] - loss[1]) / 2e-5, rtol=1e-4, atol=1e-8)


def test_flow_falls_and_contextual_labels_lead():
    along = minimal_head_progress(path(T, 8, 0.8), RECURRING, 8, 0.8)
    assert (np.diff(along.loss) < 1e-12).all()
    assert (np.asarray(along.contextual) >= np.asarray(along.accuracy)).all()
    np.testing.assert_allclose(along.accuracy + along.other, along.contextual, rtol=1e-12)


def test_copying_learns_at_the_rate_of_a_classifier():
    """One step of gradient descent on a whole classifier, from its derivative on every sequence of labels."""
    labels, start = 4, (0.0, 2.0, 1.0)
    q = jnp.asarray(minimal_head_attention(*start[1:], RECURRING))
    chosen = np.array(list(itertools.permutations(range(labels), 2)))
    seen = jnp.einsum("an,sanl->sal", q, jnp.eye(labels)[chosen[:, RECURRING]])

    def loss(w):
        return -jnp.mean(jax.nn.log_softmax(seen @ w.T)[np.arange(len(chosen)), :, chosen[:, 0]])

    down = jax.grad(loss)(jnp.zeros((labels, labels)))
    of_copying = -(jnp.trace(down) / labels - (down.sum() - jnp.trace(down)) / (labels * (labels - 1)))
    step = 1e-6
    found = path(np.array([step]), labels, start=start).copy[0] / step
    np.testing.assert_allclose(found, of_copying, rtol=1e-5)


def test_formation_is_read_off_the_flow():
    for labels, rho in ((8, 1.0), (16, 0.8)):
        found = formation(RECURRING, labels, rho)
        p = minimal_head_progress(path(np.array(found), labels, rho), RECURRING, labels, rho).accuracy
        np.testing.assert_allclose(p[:3], 0.5 + 0.5 * np.array([0.1, 0.5, 0.9]), rtol=1e-6)
        np.testing.assert_allclose(found.sharpness, found.half / (found.end - found.onset), rtol=1e-12)
    # Blurred exemplars delay, and so do more labels than twice the context; where all are in it there is no head.
    assert formation(RECURRING, 8, 0.8).half > formation(RECURRING, 8).half
    times = [float(formation(RECURRING, labels).half) for labels in (8, 16, 64)]
    assert times[0] < times[1] < times[2]
    assert np.isinf(formation(RECURRING, 2)).all()


def test_saddle_is_that_of_a_linear_mode():
    """Where all labels are in the context: of second derivatives at the origin only that of xi and beta_2 is there."""
    second = jax.hessian(lambda state: minimal_head_progress(tuple(state), orders(4), 4).loss)(jnp.zeros(3))
    wanted = np.zeros((3, 3))
    wanted[0, 1] = wanted[1, 0] = -untrained_lead(4) / 4
    np.testing.assert_allclose(second, wanted, atol=1e-14)


@given(st.integers(2, 40), overlaps)
def test_untrained_lead(n, rho):
    """Summed over where the target's item stands."""
    holds = np.array([[(i == m) + (i < m) for m in range(n)] for i in range(n)]) / (2 * np.arange(1, n + 1))
    wanted = rho * (np.trace(holds) / n - holds.mean())
    np.testing.assert_allclose(untrained_lead(n, rho), wanted, rtol=1e-10, atol=1e-14)


def test_saturation_stays_finite():
    for state in ((900.0, 900.0, 700.0), (-900.0, 900.0, -700.0), (1e4, -1e4, 1e3)):
        found = minimal_head_progress(state, orders(4), 16)
        assert np.isfinite([float(part) for part in found]).all()
    assert 0 < minimal_head_progress((60.0, 90.0, 60.0), orders(4), 16).loss < 1e-20


def test_refusals():
    with pytest.raises(ValueError, match="burst must divide the context of 8 and be below it, got 3"):
        orders(8, 3)
    with pytest.raises(ValueError, match="context of 16 in bursts of 2 has"):
        orders(16, 2)
    with pytest.raises(ValueError, match="classes must number those of every order from 0"):
        formation(np.array([[1, 2]]), 4)
    with pytest.raises(ValueError, match="labels must be at least the 4 in the context, got 3"):
        formation(orders(4), 3)
    with pytest.raises(ValueError, match=r"overlap must lie between 0 and 1, got 1\.2"):
        minimal_head_attention(1.0, 1.0, orders(4), 1.2)
    with pytest.raises(ValueError, match="context must be above 1, got 1"):
        untrained_lead(1)
