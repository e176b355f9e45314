"""Labelled items seen through noise: known by heart, looked up in the context, or both.

An item mu ~ N(0, I / d) has a label. A view of it is

    x = (mu + sigma e) / sqrt(1 + sigma^2),   e ~ N(0, I / d),

so that views have the law of items. A context holds views x_1 .. x_n of items drawn independently, and their labels;
then comes a new view x of one of these items, each alike likely, whose label is asked for. Who knows a pool of items
by heart can name the one that x shows; who knows nothing but the law can say which view of the context shows the same;
who does both does best, and when the pool grows does what the second one does: a single head of softmax attention.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Real

from theory.checks import matrix, positive, real, require, whole


class CopyingHead(NamedTuple):
    """Attention of x to x_i is `scale` x . x_i - `penalty` |x_i|^2, before the softmax over the context; each ()."""

    scale: Float[Array, ""]
    penalty: Float[Array, ""]


def item_posterior(
    x: Real[ArrayLike, " d"], items: Real[ArrayLike, "M d"], noise: Real[ArrayLike, ""]
) -> Float[Array, " M"]:
    """Which item of a pool a view shows, whatever the context.

    P(j | x) ~ exp(-d |sqrt(1 + sigma^2) x - mu_j|^2 / (2 sigma^2)).

    Arguments:
        x: the view, (d,); items: the pool, one mu in each row, (M, d); noise: sigma^2 > 0, a variance.
    Returns:
        log probabilities, (M,).
    Holds when: all items are alike likely: with no context, or one that does not hold the item for certain.
    Source: the memorising predictor of Wurgaft et al. 2025 (arXiv:2506.17859); Bayes' rule.
    """
    view, pool, s2 = _checked(x, items, "items", noise)
    return jax.nn.log_softmax(_of_items(view, pool, s2))


def copy_posterior(
    x: Real[ArrayLike, " d"], views: Real[ArrayLike, "n d"], noise: Real[ArrayLike, ""]
) -> Float[Array, " n"]:
    """Which view of the context shows the same item as a new one, for items never seen before.

    P(i | x, context) ~ exp(-d (1 + sigma^2)^2 |x - x_i / (1 + sigma^2)|^2 / (2 sigma^2 (2 + sigma^2))).

    Arguments:
        x: the new view, (d,); views: of the context, (n, d); noise: sigma^2 > 0, a variance.
    Returns:
        log probabilities, (n,).
    Holds when: items are independent draws of N(0, I / d), and the new view shows one of the context's.
    Source: the generalising predictor of Wurgaft et al. 2025 (arXiv:2506.17859); derived in
        derivations/bayes_icl/labelled_items.py.
    """
    view, context, s2 = _checked(x, views, "views", noise)
    off = jnp.sum((view - context / (1 + s2)) ** 2, axis=1)
    return jax.nn.log_softmax(-len(view) * (1 + s2) ** 2 / (2 * s2 * (2 + s2)) * off)


def copying_head(dimension: int, noise: Real[ArrayLike, ""]) -> CopyingHead:
    """The head of softmax attention that is `copy_posterior`: no network need do better with endless items.

    ln P(i | x, context) = scale x . x_i - penalty |x_i|^2 + const,
    scale = d (1 + sigma^2) / (sigma^2 (2 + sigma^2)),   penalty = d / (2 sigma^2 (2 + sigma^2)).

    Arguments:
        dimension: d, a Python int; noise: sigma^2 > 0, a variance.
    Returns:
        `CopyingHead`; its value is the label of x_i.
    Holds when: as for `copy_posterior`. Where views have one length the penalty falls out.
    Source: derived in derivations/bayes_icl/labelled_items.py.
    """
    d, s2 = whole("dimension", dimension), positive("noise", noise)
    share = d / (s2 * (2 + s2))
    return CopyingHead(share * (1 + s2), share / 2)


def pool_copy_posterior(
    x: Real[ArrayLike, " d"],
    views: Real[ArrayLike, "n d"],
    labels: Real[ArrayLike, " n"],
    items: Real[ArrayLike, "M d"],
    item_labels: Real[ArrayLike, " M"],
    noise: Real[ArrayLike, ""],
) -> Float[Array, " n"]:
    """Which view of the context shows the same item as a new one, for who knows the pool by heart.

    P(i | x, context) ~ sum_j P(j | x_i, label_i) exp(-d |sqrt(1 + sigma^2) x - mu_j|^2 / (2 sigma^2)),
    where P(j | x_i, label_i) is the `item_posterior` of x_i among the items of its label.

    Arguments:
        x: the new view, (d,); views: of the context, (n, d); labels: of these, numbers, (n,).
        items: the pool, (M, d); item_labels: of these, (M,); noise: sigma^2 > 0, a variance.
    Returns:
        log probabilities, (n,).
    Holds when: each item of the context is an independent, uniform draw from the pool, with its own label, and the new
        view shows one of the context's. Costs n M d.
    Source: derived in derivations/bayes_icl/labelled_items.py.
    """
    view, context, s2 = _checked(x, views, "views", noise)
    _, pool, _ = _checked(view, items, "items", s2)
    seen, known = real("labels", labels), real("item_labels", item_labels)
    if seen.shape != context.shape[:1] or known.shape != pool.shape[:1]:
        shapes = f"{seen.shape} for {len(context)} views and {known.shape} for {len(pool)} items"
        raise ValueError(f"labels and item_labels must be one for each view and each item, got shapes {shapes}")
    of_some = jnp.any(seen[:, None] == known, axis=1)
    seen = require("labels", seen, of_some, "must each be the label of some item of the pool")
    shown = jnp.where(seen[:, None] == known, jax.vmap(lambda one: _of_items(one, pool, s2))(context), -jnp.inf)
    alike = jax.nn.log_softmax(shown, axis=1) + _of_items(view, pool, s2)
    return jax.nn.log_softmax(jax.nn.logsumexp(alike, axis=1))


def label_posterior(
    log_posterior: Real[ArrayLike, " n"], labels: Real[ArrayLike, " n"], values: Real[ArrayLike, " L"]
) -> Float[Array, " L"]:
    """What label to expect, from which item or view it might be.

    P(value) = sum over i with label_i = value of P(i).

    Arguments:
        log_posterior: log probabilities of items or of views, (n,); labels: of these, (n,); values: to ask for, (L,).
    Returns:
        log probabilities, (L,); -inf for a value that no label has.
    Holds when: `log_posterior` is one of the posteriors above; not normalised again.
    Source: the sum rule.
    """
    logs, held, asked = real("log_posterior", log_posterior), real("labels", labels), real("values", values)
    if logs.ndim != 1 or held.shape != logs.shape or asked.ndim != 1:
        shapes = f"{logs.shape}, {held.shape} and {asked.shape}"
        raise ValueError(f"log_posterior and labels must be (n,), values (L,), got shapes {shapes}")
    return jax.nn.logsumexp(jnp.where(asked[:, None] == held, logs, -jnp.inf), axis=1)


def _of_items(view, pool, s2):
    """ln p(x | mu_j) up to what all items share."""
    return -len(view) / (2 * s2) * jnp.sum((jnp.sqrt(1 + s2) * view - pool) ** 2, axis=1)


def _checked(x, rows, name, noise):
    view, table, s2 = real("x", x), matrix(name, rows), positive("noise", noise)
    if view.ndim != 1 or table.shape[1] != len(view):
        raise ValueError(f"x (d,) and {name} (n, d) must fit together, got shapes {view.shape} and {table.shape}")
    if not len(table):
        raise ValueError(f"{name} must have at least one row, got none")
    if s2.ndim:
        raise ValueError(f"noise must be one variance, got shape {s2.shape}")
    return view, table, s2
