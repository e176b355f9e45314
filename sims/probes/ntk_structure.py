"""Where each parameter enters a network, found in its trace: what the structured empirical NTK is built on.

A weight matrix whose only use is z = scale a W + ... has the Jacobian sum_t scale a_t (x) delta_t, delta being the
derivative of the outputs with respect to z. Its share of the NTK is

    sum_{t, t'} scale^2 (a_t . a'_t') (delta_t . delta'_t'),

without a Jacobian of the size of W. Here t runs over all places at which a sample uses W, the tokens of a sequence. An
embedding is the case of one-hot a. A bias added to the same z is one more input of constant value. The network is
traced by `jax.make_jaxpr`; nothing needs to be annotated, and a parameter used in any other way (twice, as tied
weights are, elementwise, inside a loop) keeps its Jacobian.
"""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from sims.probes.ntk_program import Operation, Program

# Elementwise work on an entry of the kernel costs about as much as this many multiplications of a matrix product.
ELEMENTWISE = 8


class Scaled(NamedTuple):
    """A value that is another one times a product of scalars: their numbers, and whether each multiplies (1) or not."""

    value: int
    scalars: tuple[tuple[int, int], ...] = ()

    def scale(self, known: dict[int, Any]) -> jax.Array:
        return math.prod((known[i] ** power for i, power in self.scalars), start=jnp.ones(()))


def scalar_factor(program: Program, operation: Operation, value: int) -> tuple[tuple[int, int], ...] | None:
    """The scalar by which an operation multiplies `value`, or None if it does something else to it."""
    if operation.name not in ("mul", "div") or operation.inputs.count(value) != 1:
        return None
    place = operation.inputs.index(value)
    other = operation.inputs[1 - place]
    if program.shapes[other] != () or (operation.name == "div" and place == 1):
        return None
    return ((other, 1 if operation.name == "mul" else -1),)


class View(NamedTuple):
    """A value that holds the entries of one parameter, times scalars, in another shape or order; or rows of copies."""

    parameter: int
    scalars: tuple[tuple[int, int], ...] = ()
    copied: bool = False
    row: bool = False


def viewed(program: Program, operation: Operation, view: View, value: int) -> View | None:
    """The view that an operation makes of a view, or None if it makes something else of it."""
    before, after = program.shapes[value], program.shapes[operation.outputs[0]]
    scalars = scalar_factor(program, operation, value)
    if scalars is not None:
        return view._replace(scalars=view.scalars + scalars)
    if operation.name not in ("transpose", "reshape", "squeeze", "broadcast_in_dim"):
        return None
    along_last = before[-1:] == after[-1:]
    if operation.name == "broadcast_in_dim":
        along_last = along_last and operation.options["broadcast_dimensions"][-1:] == (len(after) - 1,)
    elif operation.name == "transpose":
        along_last = along_last and operation.options["permutation"][-1] == len(before) - 1
    copied = view.copied or math.prod(after) != math.prod(before)
    return view._replace(copied=copied, row=view.row and along_last)


class Use(NamedTuple):
    """How an operation uses a view: at which of its inputs."""

    operation: Operation
    place: int
    view: View


def uses(program: Program, parameters: int) -> dict[int, list[Use | None]]:
    """Every use of each of the first arguments, the parameters; None stands for one that is not understood."""
    views = {i: View(p, row=len(program.shapes[i]) == 1) for p, i in enumerate(program.arguments[:parameters])}
    found: dict[int, list[Use | None]] = defaultdict(list)
    for operation in program.operations:
        entering = [i for i in operation.inputs if i in views]
        if len(entering) == 1:
            (value,) = entering
            made = viewed(program, operation, views[value], value)
            if made:
                views[operation.outputs[0]] = made
            else:
                found[views[value].parameter].append(Use(operation, operation.inputs.index(value), views[value]))
        for value in entering if len(entering) > 1 else ():
            found[views[value].parameter].append(None)
    if program.result in views:
        found[views[program.result].parameter].append(None)
    return found


def sunk(program: Program, consumers: dict[int, list[Operation]], start: int) -> Scaled:
    """The value furthest down with the derivative of `start` up to scalars: past multiplications and additions."""
    now = Scaled(start)
    while now.value != program.result and len(consumers[now.value]) == 1:
        (operation,) = consumers[now.value]
        scalars = scalar_factor(program, operation, now.value)
        if operation.inputs.count(now.value) != 1 or (scalars is None and operation.name != "add"):
            break
        if program.shapes[operation.outputs[0]] != program.shapes[now.value]:
            break
        now = Scaled(operation.outputs[0], now.scalars + (scalars or ()))
    return now


class Entry(NamedTuple):
    """One parameter's entry into a value z: the inputs `a` (None for a bias) with their scale, read as (B, T, I)."""

    parameter: int
    z: int
    scalars: tuple[tuple[int, int], ...]
    inputs: int | None
    # (batch, free, contracted) axes of the inputs; axes of z to bring it to (batch, free, outputs); shapes.
    axes: tuple[int, ...]
    z_axes: tuple[int, ...]
    blocks: int
    places: int
    width: int
    outputs: int
    tokens: bool = False


def entry(program: Program, consumers: dict[int, list[Operation]], use: Use) -> Entry | None:
    """The entry that a use is, or None: then the parameter keeps its Jacobian."""
    kinds = {"dot_general": _dense, "gather": _embedding, "add": _bias}
    if use.operation.name not in kinds:
        return None
    made = kinds[use.operation.name](program, use)
    if made is None:
        return None
    below = sunk(program, consumers, made.z)
    return made._replace(z=below.value, scalars=made.scalars + below.scalars)


def _dense(program: Program, use: Use) -> Entry | None:
    """z = a W, by whatever axes."""
    if use.view.copied:
        return None
    contracted, batch = use.operation.options["dimension_numbers"]
    other = use.operation.inputs[1 - use.place]
    shapes = [program.shapes[i] for i in use.operation.inputs]
    free = [
        tuple(i for i in range(len(s)) if i not in (*c, *b)) for s, c, b in zip(shapes, contracted, batch, strict=True)
    ]
    mine, theirs = use.place, 1 - use.place
    groups = ((theirs, batch[theirs]), (theirs, free[theirs]), (theirs, contracted[theirs]), (mine, free[mine]))
    sizes = [math.prod(shapes[place][i] for i in axes) for place, axes in groups]
    # The result has the batch axes first, then the free axes of its first operand, then those of its second.
    b, left, right = len(batch[0]), len(free[0]), len(free[1])
    first, second = tuple(range(b, b + left)), tuple(range(b + left, b + left + right))
    z_axes = (*range(b), *(first + second if use.place == 1 else second + first))
    axes = (*batch[theirs], *free[theirs], *contracted[theirs])
    return Entry(use.view.parameter, use.operation.outputs[0], use.view.scalars, other, axes, z_axes, *sizes)


def _embedding(program: Program, use: Use) -> Entry | None:
    """z = W[tokens], rows of a matrix chosen by whole numbers."""
    numbers = use.operation.options["dimension_numbers"]
    matrix, shape = program.shapes[use.operation.inputs[0]], program.shapes[use.operation.outputs[0]]
    if use.place != 0 or use.view.copied or len(matrix) != 2:
        return None
    rows, width = matrix
    plain = (
        tuple(use.operation.options["slice_sizes"]) == (1, width)
        and tuple(numbers.offset_dims) == (len(shape) - 1,)
        and tuple(numbers.collapsed_slice_dims) == (0,)
        and tuple(numbers.start_index_map) == (0,)
        and not numbers.operand_batching_dims
    )
    if not plain:
        return None
    return Entry(
        use.view.parameter,
        use.operation.outputs[0],
        use.view.scalars,
        use.operation.inputs[1],
        tuple(range(len(shape))),
        tuple(range(len(shape))),
        1,
        math.prod(shape[:-1]),
        rows,
        width,
        tokens=True,
    )


def _bias(program: Program, use: Use) -> Entry | None:
    """z = ... + b along the last axis."""
    shape = program.shapes[use.operation.outputs[0]]
    if not use.view.row or not shape or program.shapes[use.operation.inputs[use.place]] != shape:
        return None
    axes = tuple(range(len(shape)))
    places = math.prod(shape[:-1])
    return Entry(
        use.view.parameter, use.operation.outputs[0], use.view.scalars, None, axes, axes, 1, places, 1, shape[-1]
    )


class Layer(NamedTuple):
    """All entries into one value that share its derivative."""

    entries: tuple[Entry, ...]

    def cost(self) -> tuple[int, int]:
        """Multiplications per entry of the kernel: of the sum over places, and of the Jacobians instead."""
        one = self.entries[0]
        structured = one.blocks * one.places**2 * (one.outputs + ELEMENTWISE)
        return structured, sum(e.blocks * e.width * e.outputs for e in self.entries)


def layers(program: Program, parameters: int) -> list[Layer]:
    """The layers whose share of the kernel is cheaper without Jacobians; no parameter is in two of them."""
    consumers = defaultdict(list)
    for operation in program.operations:
        for i in set(operation.inputs):
            consumers[i].append(operation)
    groups = defaultdict(list)
    for found in uses(program, parameters).values():
        if len(found) == 1 and found[0] is not None:
            made = entry(program, consumers, found[0])
            if made is not None:
                groups[made.z, made.z_axes, made.blocks, made.places, made.outputs, made.tokens].append(made)
    made = [Layer(tuple(group)) for group in groups.values()]
    return [layer for layer in made if layer.cost()[0] < layer.cost()[1]]
