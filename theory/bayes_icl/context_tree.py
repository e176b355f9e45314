"""Context-tree weighting: exact Bayes for strings whose next symbol depends on a past of unknown, varying length.

A tree source over m symbols is a complete m-ary tree of pasts of at most D symbols; the next symbol is drawn from an
urn at the leaf that the past ends in. Trees have the prior of a branching process, each node above depth D a leaf with
probability beta; urns have a Dirichlet law. The sum over all trees, more than exponentially many, is one recursion,

    P_w(s) = beta P_e(s) + (1 - beta) prod_a P_w(a s),   P_w(s) = P_e(s) at depth D,

P_e(s) the Dirichlet probability of the symbols that followed s. Each node keeps its counts and the log odds lambda of
ending there, and a symbol costs D + 1 steps along its past: from the deepest node to the root

    p_s = sigma(lambda_s) p_e,s + sigma(-lambda_s) p_(a s),   lambda_s <- lambda_s + ln p_e,s(x) - ln p_(a s)(x).

Losses are in nats.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int, Real

from theory.bayes_icl.dirichlet_ngrams import SymbolPredictions, checked_symbols, predictions, safe_log
from theory.checks import positive, real, require, whole, within

# All nodes of all depths are held in memory.
MOST_NODES = 2**24


def context_tree_predictions(
    sequence: Int[ArrayLike, " n"],
    past: Int[ArrayLike, " D"],
    symbols: int,
    stop: Real[ArrayLike, ""] = 0.5,
    prior: Real[ArrayLike, "..."] = 0.5,
) -> SymbolPredictions:
    """Every symbol from those before it, averaged over all trees of pasts and all urns at their leaves.

    p(j | past) = P_w(root; x_0 .. x_{t-1} j) / P_w(root; x_0 .. x_{t-1}).

    Arguments:
        sequence: symbols 0 .. m - 1, (n,).
        past: the D >= 0 symbols before the first, the latest last, (D,); D is the depth of the trees.
        symbols: m >= 2, a Python int; all (m^{D+1} - 1) / (m - 1) nodes are held in memory.
        stop: beta in [0, 1], that a node above depth D is a leaf. 1: one urn; 0: all leaves at depth D.
        prior: a > 0, of the Dirichlet law of urns, () or (m,); 1/2: Krichevsky and Trofimov.
    Returns:
        `SymbolPredictions`.
    Holds when: it is exact Bayes for that prior, any past being given.
    Source: Willems, Shtarkov & Tjalkens 1995 (IEEE Trans. Inf. Theory 41); the odds as in Willems & Tjalkens 1997.
    """
    m = whole("symbols", symbols, 2)
    x, before = checked_symbols(sequence, m), checked_symbols(past, m)
    depth = len(before)
    if _nodes(m, depth) > MOST_NODES:
        raise ValueError(f"past must leave at most {MOST_NODES} nodes, got {depth} of {m} symbols")
    beta, a = within("stop", stop, 0.0, 1.0), positive("prior", prior)
    if beta.ndim or a.shape not in ((), (m,)):
        raise ValueError(f"stop must be a number and prior of shape () or ({m},), got {beta.shape} and {a.shape}")
    return _predictions(x, before, beta, jnp.broadcast_to(a, (m,)), m)


def tree_predictions(
    sequence: Int[ArrayLike, " n"],
    past: Int[ArrayLike, " D"],
    symbols: int,
    leaves: Int[ArrayLike, "S depth"],
    prior: Real[ArrayLike, "..."] = 0.5,
) -> SymbolPredictions:
    """The same for someone who knows the tree, and not the urns at its leaves.

    p(j | past) = (a_j + c_j) / (A + sum_i c_i),   c_j: how often j has followed pasts that end in the same leaf.

    Arguments:
        sequence, past, symbols, prior: as for `context_tree_predictions`.
        leaves: pasts, the latest symbol first, then -1 beyond the depth of the leaf, (S, D).
    Returns:
        `SymbolPredictions`.
    Holds when: every past ends in exactly one leaf (refused otherwise).
    Source: textbook.
    """
    m = whole("symbols", symbols, 2)
    x, before, tree = checked_symbols(sequence, m), checked_symbols(past, m), _tree(leaves, m)
    if tree.shape[1] != len(before):
        raise ValueError(f"leaves must have the {len(before)} columns of the past, got shape {tree.shape}")
    a = positive("prior", prior)
    if a.shape not in ((), (m,)):
        raise ValueError(f"prior must have shape () or ({m},), got {a.shape}")
    return _known(x, before, jnp.asarray(tree), jnp.broadcast_to(a, (m,)))


def tree_log_prior(leaves: Int[ArrayLike, "S D"], symbols: int, stop: Real[ArrayLike, ""] = 0.5) -> Float[Array, ""]:
    """How probable a tree is before any symbol is seen.

    ln beta |leaves above depth D| + ln(1 - beta) (S - 1) / (m - 1).

    Arguments:
        leaves: as for `tree_predictions`, (S, D); symbols: m; stop: beta in [0, 1].
    Returns:
        ln P(tree) <= 0; over all trees P sums to one.
    Holds when: always.
    Source: Willems, Shtarkov & Tjalkens 1995 (IEEE Trans. Inf. Theory 41), at beta = 1/2.
    """
    m, beta = whole("symbols", symbols, 2), within("stop", stop, 0.0, 1.0)
    tree = _tree(leaves, m)
    early, inner = int(np.sum(np.any(tree < 0, axis=1))), (len(tree) - 1) // (m - 1)
    # None of either costs nothing, also where it would be impossible.
    return jnp.where(early > 0, early * safe_log(beta), 0.0) + jnp.where(inner > 0, inner * safe_log(1 - beta), 0.0)


def redundancy_bound(
    leaves: Int[ArrayLike, "S D"], length: Real[ArrayLike, "..."], stop: Real[ArrayLike, ""] = 0.5
) -> Float[Array, "..."]:
    """At most so much more than the true tree source loses context-tree weighting on a string of two symbols.

    -ln P(tree) + S g(n / S),   g(z) = z ln 2 for z < 1,   ln(z) / 2 + ln 2 for z >= 1.

    Arguments:
        leaves: of the true tree, as for `tree_predictions`, (S, D); length: n >= 0 symbols, (...).
        stop: beta in (0, 1).
    Returns:
        nats, (...).
    Holds when: two symbols, a = 1/2; for every string, whatever the urns at the leaves.
    Source: Willems, Shtarkov & Tjalkens 1995 (IEEE Trans. Inf. Theory 41), Theorem 2.
    """
    n = real("length", length)
    n = require("length", n, n >= 0, "must be at least 0")
    s = len(_tree(leaves, 2))
    z = n / s
    each = jnp.where(z < 1, z * np.log(2), jnp.log(jnp.maximum(z, 1.0)) / 2 + np.log(2))
    return s * each - tree_log_prior(leaves, 2, stop)


def all_trees(symbols: int, depth: int) -> list[np.ndarray]:
    """Every complete tree, as `tree_predictions` takes it: for exact sums over few of them.

    T_0 = {leaf},   T_D = {leaf} + T_{D-1}^m.

    Arguments: symbols: m; depth: D; Python ints.
    Returns: arrays of leaves, (S, D) each: 1, 2, 5, 26, 677 trees of two symbols for D = 0, 1, 2, 3, 4.
    Holds when: there are at most a few thousand trees.
    Source: a definition.
    """
    m, d = whole("symbols", symbols, 2), whole("depth", depth, 0)
    trees = [[()]]
    for _ in range(d):
        if len(trees) ** m > 10_000:
            raise ValueError(f"depth must leave at most 10000 trees, got {d} of {m} symbols")
        grown = [[]]
        for a in range(m):
            grown = [[*tree, *[(a, *leaf) for leaf in below]] for tree in grown for below in trees]
        trees = [[()], *grown]
    return [np.array([leaf + (-1,) * (d - len(leaf)) for leaf in tree], int).reshape(len(tree), d) for tree in trees]


def _nodes(m: int, depth: int) -> int:
    return (m ** (depth + 1) - 1) // (m - 1)


def _paths(x, before, m: int):
    """Numbers of the nodes from the root to depth D, for each position and the one after the last, (n + 1, D + 1)."""
    depth, n = len(before), len(x)
    whole_string = jnp.concatenate([before, x])
    code, path = jnp.zeros(n + 1, x.dtype), [jnp.zeros(n + 1, x.dtype)]
    for d in range(1, depth + 1):
        code = code + whole_string[depth - d : depth - d + n + 1] * m ** (d - 1)
        path.append(code + _nodes(m, d - 1))
    return jnp.stack(path, axis=1)


@partial(jax.jit, static_argnums=4)
def _predictions(x, before, beta, a, m: int) -> SymbolPredictions:
    depth, paths = len(before), _paths(x, before, m)
    # Nobody goes on below depth D.
    prior_odds = jnp.where(jnp.arange(depth + 1) < depth, safe_log(beta) - safe_log(1 - beta), jnp.inf)

    def weighed(counts, odds):
        """Log laws at each depth of the path, urn alone and mixed with what is below, (D + 1, m) each."""
        urn = jnp.log(a + counts) - jnp.log(jnp.sum(a) + jnp.sum(counts, axis=-1, keepdims=True))

        def up(below, node):
            here, odds = node
            mixed = jnp.logaddexp(here - jax.nn.softplus(-odds), below - jax.nn.softplus(odds))
            return mixed, mixed

        _, mixed = jax.lax.scan(up, urn[-1], (urn, odds), reverse=True)
        return urn, mixed

    def step(state, now):
        counts, odds = state
        path, symbol = now
        urn, mixed = weighed(counts[path], odds[path])
        below = jnp.concatenate([mixed[1:, symbol], urn[-1:, symbol]])
        odds = odds.at[path].add(urn[:, symbol] - below)
        return (counts.at[path, symbol].add(1.0), odds), mixed[0]

    nodes = _nodes(m, depth)
    of_depth = np.repeat(np.arange(depth + 1), [m**d for d in range(depth + 1)])
    state = jnp.zeros((nodes, m), a.dtype), prior_odds[of_depth]
    (counts, odds), laws = jax.lax.scan(step, state, (paths[:-1], x))
    last = weighed(counts[paths[-1]], odds[paths[-1]])[1][0]
    return predictions(jnp.concatenate([laws, last[None]]), x)


@jax.jit
def _known(x, before, tree, a) -> SymbolPredictions:
    depth, n = len(before), len(x)
    both = jnp.concatenate([before, x])
    recent = jnp.stack([both[depth - d : depth - d + n + 1] for d in range(1, depth + 1)], axis=1) if depth else None
    at = jnp.zeros(n + 1, int)
    if depth:
        at = jnp.argmax(jnp.all((tree < 0) | (recent[:, None] == tree), axis=-1), axis=1)

    def step(counts, now):
        leaf, symbol = now
        return counts.at[leaf, symbol].add(1.0), counts[leaf]

    counts, rows = jax.lax.scan(step, jnp.zeros((len(tree), len(a)), a.dtype), (at[:-1], x))
    c = jnp.concatenate([rows, counts[at[-1:]]])
    return predictions(jnp.log(a + c) - jnp.log(jnp.sum(a) + jnp.sum(c, axis=-1, keepdims=True)), x)


def _tree(leaves, m: int) -> np.ndarray:
    """Leaves of a complete tree: distinct, none the end of another, and no past without one."""
    tree = np.asarray(leaves)
    if (
        tree.ndim != 2
        or not np.issubdtype(tree.dtype, np.integer)
        or tree.min(initial=0) < -1
        or tree.max(initial=0) >= m
    ):
        raise ValueError(f"leaves must be rows of symbols 0 to {m - 1}, then -1, got {leaves}")
    known = tree >= 0
    depths = known.sum(axis=1)
    straight = (known == (np.arange(tree.shape[1]) < depths[:, None])).all()
    apart = all(
        (tree[i, : min(depths[i], depths[j])] != tree[j, : min(depths[i], depths[j])]).any()
        for i in range(len(tree))
        for j in range(i)
    )
    if not (len(tree) and straight and apart and np.isclose(np.sum(float(m) ** -depths), 1)):
        raise ValueError(f"leaves must be those of a complete tree of {m} symbols, got {tree.tolist()}")
    return tree
