"""Holds a theory function to its `Formula`: what the tests of every derivation run, for formulas of your own as well.

    from validation.formulas import agree, prove

    prove(my_formula)  # every proof simplifies to zero
    agree(my_formula)  # the theory function is the textbook form, at drawn arguments

Each raises `AssertionError` with what is left. The pytest plugin runs both on every formula that it is told of.
"""

from __future__ import annotations

import contextlib
import importlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import hypothesis
import jax
import mpmath
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from derivations.formula import Formula, Interval, prove, reference

__all__ = ["CHANGES", "TOLERANCE", "agree", "answers", "drawn", "middle", "prove", "value_of", "withstand"]

TOLERANCE = 1e-10


def value_of(formula: Formula, *numbers: float) -> Any:
    """What the theory function says at `numbers`."""
    function, arguments = function_and_arguments(formula, *numbers)
    result = function(*arguments, **formula.keywords)
    return formula.read(result) if formula.read else result


def drawn(interval: Interval) -> st.SearchStrategy[float]:
    """Numbers of an interval; the ends are included."""
    if not interval.log:
        return st.floats(interval.low, interval.high, allow_subnormal=False)
    low, high = np.log(interval.low), np.log(interval.high)
    return st.floats(low, high).map(lambda e: float(np.clip(np.exp(e), interval.low, interval.high)))


def middle(formula: Formula) -> list[float]:
    """Numbers in the middle of a formula's domain."""
    ends = [formula.domain[a] for a in formula.arguments]
    return [float((d.low * d.high) ** 0.5) if d.log else 0.5 * (d.low + d.high) for d in ends]


def agree(formula: Formula, name: str = "", draws: Callable[[Callable], Callable] | None = None) -> None:
    """The theory function is the textbook form, to 1e-10 of its value at 40 digits, or an error says where not.

    `draws` are Hypothesis settings, such as `hypothesis.settings(max_examples=500)`; the profile's, if left out.
    """
    name = name or formula.title
    domains = [drawn(formula.domain[a]) for a in formula.arguments]

    @given(st.tuples(*domains))
    def agree(numbers):
        found = value_of(formula, *numbers)
        assert np.ndim(found) == 0, f"{name} compares scalars; give the formula a `read`"
        found = float(found)
        expected = reference(formula, *numbers, near=found)
        with mpmath.workdps(40):
            error = abs(mpmath.mpf(found) - expected) / max(abs(expected), mpmath.mpf("1e-290"))
        assert error < TOLERANCE, f"{numbers}: {found} against {mpmath.nstr(expected, 17)}"

    (draws or hypothesis.settings())(agree)()


# What is done to a number of an argument: far beyond its domain, and what no argument may be.
CHANGES: dict[str, Callable[[float], float]] = {
    "not a number": lambda x: np.nan,
    "infinite": lambda x: np.inf,
    "negative": lambda x: -x - 1e-3,
    "zero": lambda x: 0.0,
    "a thousand times as large": lambda x: 1e3 * x,
    "a thousandth": lambda x: 1e-3 * x,
}
# A refusal: `ValueError`, or where it is found out in a compiled program, JAX's own.
REFUSALS = (ValueError, RuntimeError)
# Seconds.
_SLOW_CALL = 0.2


def withstand(formula: Formula, name: str = "") -> None:
    """The theory function answers or refuses whatever it is given: `answers`, from the middle of its domain."""
    function, arguments = function_and_arguments(formula, *middle(formula))
    answers(function, arguments, formula.keywords, f"{name or formula.title} ({formula.backs})")


def answers(
    function: Callable[..., Any], arguments: tuple, keywords: Mapping[str, Any] | None = None, name: str = ""
) -> None:
    """The function answers or refuses whatever it is given: no NaN comes out, and none goes in unnoticed.

    One number of one argument is changed at a time (see `CHANGES`), from `arguments`, which must be proper ones. What
    is allowed is an answer without NaN or a refusal; NaN must be refused where the answer depends on it. Otherwise an
    `AssertionError` says all that went wrong.
    """
    parts = split(function, arguments, keywords or {})
    call, usual = _quick(parts)
    assert not _holds_nan(usual), f"{name}: the arguments themselves give NaN"
    wrong = []
    for i, leaf in enumerate(parts.reals):
        for what, change in CHANGES.items():
            changed = np.array(leaf, float)
            at = np.unravel_index(changed.size // 2, changed.shape)
            if change(changed[at]) == changed[at]:
                continue
            changed[at] = change(changed[at])
            given = [*parts.reals[:i], _like(leaf, changed), *parts.reals[i + 1 :]]
            try:
                result = jax.block_until_ready(call(given))
            except REFUSALS:
                continue
            if _holds_nan(result):
                wrong.append(f"number {i} {what} gives NaN")
            elif what == "not a number" and not _same(result, usual):
                wrong.append(f"number {i} {what} goes unnoticed")
    assert not wrong, f"{name}: " + "; ".join(wrong)


class Parts(NamedTuple):
    """A call, taken apart: `call` of its floating numbers and arrays, what these are, and `key` for all the rest."""

    call: Callable[[Sequence[Any]], Any]
    reals: list[Any]
    key: str


def split(function: Callable[..., Any], arguments: tuple, keywords: Mapping[str, Any]) -> Parts:
    """A call as a function of the floating numbers and arrays in its arguments; calls of one key are one program."""
    leaves, form = jax.tree.flatten(arguments)
    places = [i for i, leaf in enumerate(leaves) if _is_real(leaf)]

    def call(reals):
        given = list(leaves)
        for i, x in zip(places, reals, strict=True):
            given[i] = x
        return function(*jax.tree.unflatten(form, given), **keywords)

    fixed = [np.shape(x) if i in places else _fixed(x) for i, x in enumerate(leaves)]
    return Parts(call, [leaves[i] for i in places], f"{form} {fixed}")


def function_and_arguments(formula: Formula, *numbers: float) -> tuple[Callable, tuple]:
    """The theory function that a formula backs, and its arguments where the formula's are `numbers`."""
    module, name = formula.backs.rsplit(".", 1)
    function = getattr(importlib.import_module(module), name)
    return function, tuple(formula.call(*numbers)) if formula.call else tuple(numbers)


def _quick(parts: Parts) -> tuple[Callable[[Sequence[Any]], Any], Any]:
    """A call and its result; as one program where plain calls are slow, which make theirs anew each time."""
    jax.block_until_ready(parts.call(parts.reals))
    start = time.process_time()
    usual = jax.block_until_ready(parts.call(parts.reals))
    if time.process_time() - start > _SLOW_CALL:
        # Some read their arguments as plain floats, which a program has none of.
        with contextlib.suppress(TypeError, *REFUSALS):
            whole = jax.jit(parts.call)
            return whole, jax.block_until_ready(whole(parts.reals))
    return parts.call, usual


def _like(leaf: Any, changed: np.ndarray) -> Any:
    """A changed number or array of the kind of `leaf`: of another kind it would need programs of its own."""
    return type(leaf)(changed) if isinstance(leaf, float) else changed.astype(leaf.dtype)


def _fixed(leaf: Any) -> str:
    return repr((leaf.dtype, leaf.shape, np.asarray(leaf).tolist())) if isinstance(leaf, np.ndarray) else repr(leaf)


def _is_real(leaf: Any) -> bool:
    kind = getattr(leaf, "dtype", None)
    return isinstance(leaf, float) or (
        kind is not None and np.issubdtype(np.dtype(kind), np.floating) and leaf.size > 0
    )


def _numbers(result: Any) -> list[np.ndarray]:
    """The inexact arrays and numbers of a result."""
    leaves = [x for x in jax.tree.leaves(result) if isinstance(x, float) or hasattr(x, "dtype")]
    return [np.asarray(x) for x in leaves if jax.numpy.issubdtype(jax.numpy.result_type(x), np.inexact)]


def _holds_nan(result: Any) -> bool:
    return any(np.isnan(x).any() for x in _numbers(result))


def _same(result: Any, other: Any) -> bool:
    pairs = zip(_numbers(result), _numbers(other), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)
