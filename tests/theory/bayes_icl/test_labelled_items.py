"""Labelled items: enumeration, conditioning, a large pool, attention, calibration, limits, refusals."""

import itertools

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from sims.tasks.labelled_items import item_prompts, pooled_items, random_items
from theory.bayes_icl.labelled_items import (
    copy_posterior,
    copying_head,
    item_posterior,
    label_posterior,
    pool_copy_posterior,
)
from validation.strategies import seeds

noises = st.floats(0.05, 3)
known = jax.jit(item_posterior)
copied = jax.jit(copy_posterior)
both = jax.jit(pool_copy_posterior)


def drawn(seed, n=3, d=2, pool=4):
    rng = np.random.default_rng(seed)
    return (rng.normal(size=shape) / d**0.5 for shape in ((d,), (n, d), (pool, d)))


def normalised(weights):
    return np.asarray(weights) / np.sum(weights)


def law_of_view(item, noise):
    """The density of a view of an item, written anew."""
    variance = noise / (1 + noise) / len(item)
    return lambda x: stats.multivariate_normal.pdf(x, item / (1 + noise) ** 0.5, variance)


@given(seeds, noises)
def test_an_item_by_bayes_rule(seed, noise):
    x, _, items = drawn(seed)
    right = normalised([law_of_view(item, noise)(x) for item in items])
    np.testing.assert_allclose(np.exp(known(x, items, noise)), right, rtol=1e-9)


@given(seeds, noises)
def test_copying_by_dense_conditioning(seed, noise):
    """All views at once are Gaussian; whose item the new one shows is one correlation. Brute force, no formula."""
    x, views, _ = drawn(seed)
    n, d = views.shape
    values = np.append(views.ravel(), x)

    def density(i):
        same = np.eye(n + 1)
        same[n, i] = same[i, n] = 1 / (1 + noise)
        return stats.multivariate_normal.pdf(values, cov=np.kron(same, np.eye(d)) / d)

    np.testing.assert_allclose(np.exp(copied(x, views, noise)), normalised([density(i) for i in range(n)]), rtol=1e-8)


@given(seeds, noises)
def test_both_by_enumeration(seed, noise):
    """All ways to draw the context's items from the pool, those whose labels are not the context's left out."""
    x, views, items = drawn(seed)
    item_labels, labels = np.array([1.0, -1.0, 1.0, -1.0]), np.array([1.0, 1.0, -1.0])
    laws = [law_of_view(item, noise) for item in items]
    seen = np.array([[law(view) for law in laws] for view in views])
    new = np.array([law(x) for law in laws])
    weight = np.zeros(3)
    for shown in itertools.product(range(4), repeat=3):
        if np.all(item_labels[list(shown)] == labels):
            weight += np.prod(seen[range(3), shown]) * new[list(shown)]
    found = both(x, views, labels, items, item_labels, noise)
    np.testing.assert_allclose(np.exp(found), normalised(weight), rtol=1e-8)


@pytest.mark.parametrize("noise", [0.3, 2.0])
def test_a_large_pool_is_no_help(noise):
    """Who knows 40 000 items of the line copies: the law's sums have a relative error of some 1/sqrt(40 000 x)."""
    rng = np.random.default_rng(1)
    items = rng.normal(size=(40_000, 1))
    x, views = np.array([0.4]), np.array([[0.9], [-0.2], [-1.0]])
    found = both(x, views, np.ones(3), items, np.ones(40_000), noise)
    np.testing.assert_allclose(np.exp(found), np.exp(copied(x, views, noise)), atol=5 / 40_000**0.5)


@given(seeds, noises)
def test_a_head_of_attention_copies(seed, noise):
    x, views, _ = drawn(seed, d=3)
    head = copying_head(3, noise)
    scores = head.scale * views @ x - head.penalty * np.sum(views**2, axis=1)
    np.testing.assert_allclose(copied(x, views, noise), jax.nn.log_softmax(scores), rtol=1e-8, atol=1e-8)


@given(seeds, noises)
def test_symmetries(seed, noise):
    """Order and axes are conventions; where each item has a label of its own, to know all is to know the item."""
    x, views, items = drawn(seed)
    turn, order = stats.ortho_group.rvs(2, random_state=seed), [2, 0, 1]
    labels, item_labels = np.array([0.0, 2.0, 3.0]), np.arange(4.0)
    plain = both(x, views, labels, items, item_labels, noise)
    turned = both(turn @ x, views @ turn.T, labels, items @ turn.T, item_labels, noise)
    np.testing.assert_allclose(turned, plain, rtol=1e-7, atol=1e-7)
    np.testing.assert_allclose(copied(x, views[order], noise), np.asarray(copied(x, views, noise))[order], rtol=1e-9)
    ordered = both(x, views[order], labels[order], items, item_labels, noise)
    np.testing.assert_allclose(ordered, np.asarray(plain)[order], rtol=1e-9, atol=1e-9)
    only = np.asarray(known(x, items, noise))[[0, 2, 3]]
    np.testing.assert_allclose(np.exp(plain), normalised(np.exp(only)), rtol=1e-8)


def test_limits_of_noise():
    """Without noise a view is its item; with noise alone every view may be it, and an item is as likely as any."""
    x, views, items = drawn(5)
    views[1], items[2] = x, x
    tiny = 1e-9
    assert np.argmax(copied(x, views, tiny)) == 1 and np.exp(copied(x, views, tiny)).max() == 1
    assert np.exp(known(x * (1 + tiny) ** -0.5, items, tiny))[2] == 1
    np.testing.assert_allclose(np.exp(copied(x, views, 1e9)), 1 / 3, rtol=1e-6)


def test_probabilities_are_calibrated():
    """On prompts of their own law: the mean probability of what is so equals the mean of sum p^2, and no other."""
    of_pool, of_choice, of_views = jax.random.split(jax.random.key(3), 3)
    pool = random_items(of_pool, (6,), 3)
    prompts = item_prompts(of_views, pooled_items(of_choice, pool, (4000, 4)), 0.5)

    def chance(noise):
        def one(views, labels):
            found = pool_copy_posterior(views[-1], views[:-1], labels[:-1], pool.means, pool.labels, noise)
            return label_posterior(found, labels[:-1], np.array([1.0, -1.0]))

        return np.exp(jax.jit(jax.vmap(one))(prompts.views, prompts.labels))

    right = chance(0.5)
    np.testing.assert_allclose(right.sum(axis=1), 1, rtol=1e-9)
    true = np.where(prompts.labels[:, -1] > 0, right[:, 0], right[:, 1])
    off = true - np.sum(right**2, axis=1)
    assert abs(off.mean()) < 5 * off.std() / 4000**0.5
    # Log loss is least at the truth: a wrong variance pays.
    for wrong in (0.25, 1.0):
        other = chance(wrong)
        worse = np.log(true) - np.log(np.where(prompts.labels[:, -1] > 0, other[:, 0], other[:, 1]))
        assert worse.mean() > 3 * worse.std() / 4000**0.5


def test_labels_add_up():
    logs = np.log([0.2, 0.5, 0.3])
    found = label_posterior(logs, np.array([1.0, -1.0, 1.0]), np.array([1.0, -1.0, 7.0]))
    np.testing.assert_allclose(np.exp(found), [0.5, 0.5, 0], rtol=1e-12)


def test_refusals():
    x, views, items = drawn(0)
    for call, name, rows in ((item_posterior, "items", items), (copy_posterior, "views", views)):
        with pytest.raises(ValueError, match=rf"x \(d,\) and {name} \(n, d\) must fit together, got shapes \(1,\)"):
            call.__wrapped__(x[:1], rows, 1.0)
        with pytest.raises(ValueError, match=f"{name} must have at least one row, got none"):
            call(x, rows[:0], 1.0)
        with pytest.raises(ValueError, match="noise must be positive and finite, got -1"):
            call(x, rows, -1.0)
        with pytest.raises(ValueError, match=r"noise must be one variance, got shape \(2,\)"):
            call.__wrapped__(x, rows, np.ones(2))
    with pytest.raises(ValueError, match="labels must each be the label of some item of the pool, got 5"):
        pool_copy_posterior(x, views, np.array([1.0, 5.0, 1.0]), items, np.ones(4), 1.0)
    with pytest.raises(ValueError, match=r"one for each view and each item, got shapes \(2,\) for 3 views and \(4,\)"):
        pool_copy_posterior.__wrapped__(x, views, np.ones(2), items, np.ones(4), 1.0)
    with pytest.raises(ValueError, match="dimension must be a whole number of at least 1, got 0"):
        copying_head(0, 1.0)
    with pytest.raises(ValueError, match=r"log_posterior and labels must be \(n,\), values \(L,\), got shapes \(2,\)"):
        label_posterior.__wrapped__(np.zeros(2), np.zeros(3), np.zeros(1))
