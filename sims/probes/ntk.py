"""The empirical neural tangent kernel of any network: whole, traced, by sample, as an operator; and how far it moves.

    Theta[i, k, j, m] = sum over parameters of  d f_k(x_i) / d theta  d f_m(x'_j) / d theta

The network is any Equinox Module, or pytree with a function that applies it; its parameters are its arrays of floating
numbers, and one array in two places is one parameter. Inputs are pytrees of samples in rows and may be whole numbers.
Three strategies give the same kernel: "jacobian" holds the derivatives of all outputs and multiplies them once,
"structured" forms none of the size of a weight matrix (`ntk_structure`), "products" goes column by column.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse.linalg
from jaxtyping import Array, Float

from sims.probes.ntk_choice import fastest, known, remembered
from sims.probes.ntk_features import Features, contraction, features, traced_contraction

STRATEGIES = ("jacobian", "products", "structured")
# Those that keep what the kernel is made of, so that parts of it can be made.
STORED = ("jacobian", "structured")
# On so many samples, or all, the strategies are timed.
FEW = 32
# Numbers that one block of samples may hold at a time: 1 GiB in float64.
LARGEST = 2**27


def one_row(network: Callable, x: Any) -> Any:
    """The network, which takes samples in rows, on one sample."""
    return jax.tree.map(lambda y: y[0], network(jax.tree.map(lambda leaf: leaf[None], x)))


def empirical_ntk(
    network: Any,
    x: Any,
    other: Any = None,
    *,
    apply: Callable[[Any, Any], Array] = one_row,
    strategy: str = "auto",
    block: int | None = None,
    trainable: Any = eqx.is_inexact_array,
) -> Float[Array, "N1 *outputs_N2_outputs"]:
    """The whole kernel between the samples `x` and `other` (or `x` again).

    Arguments:
        network: an Equinox Module, or any pytree of arrays.
        x, other: samples along the first axis of every array, N1 and N2 of them.
        apply: (network, one sample) -> outputs, an array of any shape; by default `network` itself takes rows. Give a
            named function: a new `lambda` at every call is compiled at every call.
        strategy: one of STRATEGIES, or "auto": the fastest, measured once on a few samples for each kind of network.
        block: samples to work on at a time; by default as many as keep the intermediate arrays under 1 GiB.
        trainable: which leaves are parameters, as for `equinox.partition`.
    Returns:
        the kernel, of shape (N1, *outputs, N2, *outputs).
    """
    problem = _problem(network, apply, trainable, x, other, strategy, block)
    strategy = _chosen(problem, x, strategy)
    shape = _output(problem, x).shape
    if strategy == "products":
        kernel = _by_products(problem, x, x if other is None else other)
    else:
        kernel = _by_features(problem, x, other, strategy == "structured", block, "whole")
    return kernel.reshape(kernel.shape[0], *shape, kernel.shape[2], *shape)


def trace_ntk(
    network: Any,
    x: Any,
    other: Any = None,
    *,
    apply: Callable[[Any, Any], Array] = one_row,
    strategy: str = "structured",
    block: int | None = None,
    trainable: Any = eqx.is_inexact_array,
) -> Float[Array, "N1 N2"]:
    """The mean over outputs of the kernel's diagonal in them: (1/C) sum_k Theta[i, k, j, k].

    Arguments: as for `empirical_ntk`, whose kernel is never formed; `strategy` "structured" or "jacobian".
    """
    problem = _problem(network, apply, trainable, x, other, strategy, block, STORED)
    return _by_features(problem, x, other, strategy == "structured", block, "trace")


def diagonal_ntk(
    network: Any,
    x: Any,
    *,
    apply: Callable[[Any, Any], Array] = one_row,
    strategy: str = "structured",
    trainable: Any = eqx.is_inexact_array,
) -> Float[Array, "N *outputs_outputs"]:
    """The kernel of each sample with itself, Theta[i, k, i, m], of shape (N, *outputs, *outputs).

    Arguments: as for `trace_ntk`.
    """
    problem = _problem(network, apply, trainable, x, None, strategy, None, STORED)
    shape = _output(problem, x).shape
    kernel = _diagonal(problem, x, strategy == "structured")
    return kernel.reshape(-1, *shape, *shape)


def ntk_vector_product(
    network: Any,
    x: Any,
    vector: Float[Array, "N2 *outputs"],
    other: Any = None,
    *,
    apply: Callable[[Any, Any], Array] = one_row,
    trainable: Any = eqx.is_inexact_array,
) -> Float[Array, "N1 *outputs"]:
    """sum over j, m of Theta[i, k, j, m] vector[j, m], for the cost of one gradient and one directional derivative.

    Arguments: as for `empirical_ntk`; no kernel is formed.
    """
    problem = _problem(network, apply, trainable, x, other, "products")
    return _product(problem, x, x if other is None else other, vector)


def top_eigenpairs(
    network: Any,
    x: Any,
    k: int,
    *,
    apply: Callable[[Any, Any], Array] = one_row,
    trainable: Any = eqx.is_inexact_array,
    tolerance: float = 0.0,
) -> tuple[np.ndarray, np.ndarray]:
    """The k largest eigenvalues of the kernel on `x`, falling, and their unit vectors, (k, N, *outputs).

    By Lanczos iteration (ARPACK) on products with vectors, to a relative `tolerance` (0: machine precision); the kernel
    is not formed. Outside `jit` only.
    """
    problem = _problem(network, apply, trainable, x, None, "products")
    output = _output(problem, x)
    full = (_samples(x), *output.shape)
    size = math.prod(full)
    if not 1 <= k < size:
        raise ValueError(f"k must be at least 1 and below the {size} rows of the kernel, got {k}")

    def product(vector):
        return np.ravel(_product(problem, x, x, jnp.asarray(vector.reshape(full), output.dtype)))

    kernel = scipy.sparse.linalg.LinearOperator((size, size), matvec=product, dtype=np.dtype(output.dtype))
    start = np.random.default_rng(0).normal(size=size)
    values, vectors = scipy.sparse.linalg.eigsh(kernel, k, v0=start, tol=tolerance)
    falling = np.argsort(values)[::-1]
    return values[falling], vectors.T[falling].reshape(k, *full)


def ntk_drift(before: Any, after: Any, x: Any, **options) -> Float[Array, ""]:
    """|Theta_after - Theta_before| / |Theta_before| on `x`, in Frobenius norms; options as for `empirical_ntk`."""
    first, last = (empirical_ntk(network, x, **options) for network in (before, after))
    return jnp.linalg.norm(jnp.ravel(last - first)) / jnp.linalg.norm(jnp.ravel(first))


def kernel_distance(before: Float[Array, "*shape"], after: Float[Array, "*shape"]) -> Float[Array, ""]:
    """1 - the cosine of the angle between two kernels, as half the squared distance of their unit vectors."""
    before, after = (jnp.ravel(kernel) / jnp.linalg.norm(jnp.ravel(kernel)) for kernel in (before, after))
    return 0.5 * jnp.sum((before - after) ** 2)


@dataclass(frozen=True)
class Function:
    """How a network is put together from its parameters, and applied: all of it static, so that `jit` knows it."""

    apply: Callable
    form: Any
    places: tuple[int, ...]

    def __call__(self, arrays: tuple[list[Array], Any], sample: Any) -> Array:
        parameters, rest = arrays
        trained = jax.tree.unflatten(self.form, [parameters[i] for i in self.places])
        return self.apply(eqx.combine(trained, rest), sample)

    def outputs(self, rest: Any) -> Callable[[list[Array], Any], Float[Array, " C"]]:
        """(parameters, sample) -> outputs in one row."""
        return lambda parameters, sample: jnp.ravel(self((parameters, rest), sample))


class Problem(NamedTuple):
    """A function, its distinct parameters, and what else is in the network."""

    function: Function
    arrays: tuple[list[Array], Any]


def _problem(network, apply, trainable, x, other, strategy, block=None, allowed=(*STRATEGIES, "auto")) -> Problem:
    if block is not None and block < 1:
        raise ValueError(f"block must be at least 1 sample, got {block}")
    if strategy not in allowed:
        raise ValueError(f"strategy must be one of {', '.join(allowed)}, got {strategy!r}")
    trained, rest = eqx.partition(network, trainable)
    leaves, form = jax.tree.flatten(trained)
    if not leaves:
        raise ValueError("network must have parameters, arrays of floating numbers, got none")
    if any(not eqx.is_inexact_array(leaf) or jnp.iscomplexobj(leaf) for leaf in leaves):
        raise ValueError(f"network must have real floating parameters, got {[leaf.dtype for leaf in leaves]}")
    for name, samples in (("x", x), ("other", other)):
        lengths = {np.shape(leaf)[:1] for leaf in jax.tree.leaves(samples)}
        if len(lengths) > 1 or () in lengths or (0,) in lengths or (name == "x" and not lengths):
            raise ValueError(f"{name} must hold samples along the first axis, got lengths {sorted(lengths)}")
    distinct = {id(leaf): leaf for leaf in leaves}
    order = {key: i for i, key in enumerate(distinct)}
    function = Function(apply, form, tuple(order[id(leaf)] for leaf in leaves))
    return Problem(function, (list(distinct.values()), rest))


def _chosen(problem: Problem, x, strategy: str) -> str:
    """The strategy that "auto" stands for; inside `jit`, where nothing can be measured, the structured one."""
    if strategy != "auto":
        return strategy
    if not known((problem, x)):
        return "structured"

    def run(candidate: str) -> Array:
        few = jax.tree.map(lambda leaf: leaf[:FEW], x)
        if candidate == "products":
            return _by_products(problem, few, few)
        return _by_features(problem, few, None, candidate == "structured", None, "whole")

    return remembered("strategy", (problem, _like(x, min(FEW, _samples(x)))), lambda: fastest(STRATEGIES, run))


def _output(problem: Problem, x: Any) -> jax.ShapeDtypeStruct:
    """The form of the outputs on one sample."""
    one = _like(x)
    return remembered("output", (problem, one), lambda: eqx.filter_eval_shape(problem.function, problem.arrays, one))


def _like(x: Any, *samples: int) -> Any:
    """The form of one sample, or of so many."""
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((*samples, *leaf.shape[1:]), leaf.dtype), x)


def _samples(x: Any) -> int:
    return jax.tree.leaves(x)[0].shape[0]


@eqx.filter_jit
def _features(problem: Problem, x: Any, structured: bool) -> Features:
    parameters, rest = problem.arrays
    return features(problem.function.outputs(rest), parameters, x, structured)


@eqx.filter_jit
def _diagonal(problem: Problem, x: Any, structured: bool) -> Float[Array, "N C C"]:
    def alone(one: Features):
        return contraction(jax.tree.map(lambda leaf: leaf[None], one))[0, :, 0, :]

    return jax.vmap(alone)(_features(problem, x, structured))


def _by_features(problem: Problem, x, other, structured: bool, block: int | None, part: str) -> Array:
    """Block by block; of a kernel of samples among themselves, only one of each pair of mirrored blocks."""
    if block is None:
        one = (problem, _like(x, 1))
        block = remembered(structured, one, lambda: _block(eqx.filter_eval_shape(_features, *one, structured)))
    pieces = functools.partial(_pieces, block=block)
    columns = pieces(x if other is None else other)
    if other is None and len(columns) == 1:
        return _contracted(_features(problem, x, structured), None, part)
    rows, blocks = columns if other is None else pieces(x), {}
    for i, row in enumerate(rows):
        below = _features(problem, row, structured)
        for j, column in enumerate(columns):
            if other is not None or j > i:
                blocks[i, j] = _contracted(below, _features(problem, column, structured), part)
            elif j == i:
                blocks[i, j] = _contracted(below, None, part)
            else:
                mirrored = blocks[j, i]
                blocks[i, j] = jnp.transpose(mirrored, (2, 3, 0, 1)) if part == "whole" else mirrored.T
    whole = [[blocks[i, j] for j in range(len(columns))] for i in range(len(rows))]
    axis = 2 if part == "whole" else 1
    return jnp.concatenate([jnp.concatenate(row, axis=axis) for row in whole], axis=0)


def _block(one: Features) -> int:
    """How many samples keep the Jacobians, and the products of derivatives at all places, under LARGEST numbers."""
    held = one.rows.size + sum(factors.derivatives.size for factors in one.factors)
    crossed = max((math.prod(f.derivatives.shape[1:4]) for f in one.factors), default=one.rows.shape[1])
    return max(1, min(LARGEST // max(held, 1), int(LARGEST**0.5) // crossed))


def _pieces(x: Any, block: int) -> list[Any]:
    if _samples(x) <= block:
        return [x]
    places = [slice(start, start + block) for start in range(0, _samples(x), block)]
    return [jax.tree.map(operator.itemgetter(place), x) for place in places]


@eqx.filter_jit
def _contracted(left: Features, right: Features | None, part: str) -> Array:
    return contraction(left, right) if part == "whole" else traced_contraction(left, right or left)


@eqx.filter_jit
def _product(problem: Problem, x: Any, other: Any, vector: Array) -> Array:
    parameters, rest = problem.arrays

    def outputs(samples):
        return lambda parameters: jax.vmap(lambda one: problem.function((parameters, rest), one))(samples)

    _, pull = jax.vjp(outputs(other), parameters)
    return jax.jvp(outputs(x), (parameters,), pull(vector))[1]


@eqx.filter_jit
def _by_products(problem: Problem, x: Any, other: Any) -> Float[Array, "N1 C N2 C"]:
    """The C columns of one sample of `other` at a time."""
    parameters, rest = problem.arrays
    outputs = problem.function.outputs(rest)
    _, push = jax.linearize(lambda p: jax.vmap(functools.partial(outputs, p))(x), parameters)

    def columns(sample):
        result, pull = jax.vjp(lambda p: outputs(p, sample), parameters)
        return jax.vmap(lambda one: push(*pull(one)))(jnp.eye(result.size, dtype=result.dtype))

    return jnp.transpose(jax.lax.map(columns, other), (2, 3, 0, 1))
