"""A network's trace as a list of numbered operations, which can be read, and run again with additions inside."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal, jaxpr_as_fun


class Operation(NamedTuple):
    """One primitive operation on numbered values: by name and options, and as a function of the values `needed`."""

    name: str
    options: dict[str, Any]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    function: Callable[..., list]
    needed: tuple[int, ...]


class Program(NamedTuple):
    """A traced function: operations in order, constants, shapes and dtypes of all values, arguments and result."""

    operations: tuple[Operation, ...]
    constants: dict[int, Any]
    shapes: dict[int, tuple[int, ...]]
    dtypes: dict[int, Any]
    arguments: tuple[int, ...]
    result: int


def traced(function: Callable, *arguments: Any) -> Program:
    """The program of `function`, whose arguments are pytrees of arrays and whose result is one array."""
    closed = jax.make_jaxpr(function)(*arguments)
    operations: list[Operation] = []
    constants, shapes, dtypes = {}, {}, {}

    def number(variable) -> int:
        new = len(shapes)
        shapes[new], dtypes[new] = tuple(variable.aval.shape), variable.aval.dtype
        return new

    def constant(variable, value) -> int:
        new = number(variable)
        constants[new] = value
        return new

    def inline(jaxpr, values, inputs) -> list[int]:
        known = {v: constant(v, value) for v, value in zip(jaxpr.constvars, values, strict=True)}
        known |= dict(zip(jaxpr.invars, inputs, strict=True))

        def read(v) -> int:
            return constant(v, v.val) if isinstance(v, Literal) else known[v]

        for equation in jaxpr.eqns:
            arguments = tuple(read(v) for v in equation.invars)
            # A compiled function within the network is part of it.
            if equation.primitive.name in ("jit", "pjit") and "jaxpr" in equation.params:
                inner = equation.params["jaxpr"]
                results = inline(inner.jaxpr, inner.consts, arguments)
            else:
                results = [number(v) for v in equation.outvars]
                function, variables = alone(jaxpr, equation)
                needed = tuple(known[v] for v in variables)
                name = equation.primitive.name
                operations.append(Operation(name, equation.params, arguments, tuple(results), function, needed))
            known |= dict(zip(equation.outvars, results, strict=True))
        return [read(v) for v in jaxpr.outvars]

    arguments = tuple(number(v) for v in closed.jaxpr.invars)
    (result,) = inline(closed.jaxpr, closed.consts, arguments)
    return Program(tuple(operations), constants, shapes, dtypes, arguments, result)


def alone(jaxpr: Jaxpr, equation: JaxprEqn) -> tuple[Callable[..., list], list]:
    """One equation as a function of the variables in it, and these."""
    variables = list(dict.fromkeys(v for v in equation.invars if not isinstance(v, Literal)))
    single = jaxpr.replace(constvars=[], invars=variables, outvars=list(equation.outvars), eqns=[equation])
    return jaxpr_as_fun(ClosedJaxpr(single, [])), variables


def evaluated(program: Program, arguments: list[Any], probes: dict[int, jax.Array]) -> dict[int, Any]:
    """All values of a program, where `probes` are added to some of them."""
    known = program.constants | dict(zip(program.arguments, arguments, strict=True))
    for operation in program.operations:
        results = operation.function(*(known[i] for i in operation.needed))
        for i, result in zip(operation.outputs, results, strict=True):
            known[i] = result + probes[i] if i in probes else result
    return known
