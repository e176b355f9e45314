"""`Formula`: a textbook form, the theory function that it backs, and the proof that it is right.

A derivation file holds plain SymPy and a few module-level `Formula` objects; nothing registers them.
`tests/test_derivations.py` runs two things on each: every entry of `proofs` must simplify to zero, and the
theory function must agree with the textbook form, evaluated at 40 digits, on arguments drawn from `domain`.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import mpmath
import sympy as sp

DIGITS = 40


@dataclass(frozen=True)
class Interval:
    """Where an argument is drawn from: `[low, high]`, uniformly or (`log=True`) uniformly in its logarithm."""

    low: float
    high: float
    log: bool = False


@dataclass(frozen=True, kw_only=True)
class Formula:
    """One exactly stated formula.

    `title`       what the formula gives, in a few words.
    `backs`       dotted path of the theory function: "theory.deep_linear.modes.mode_strength".
    `symbol`      left-hand side, as the field writes it: u(t).
    `arguments`   the symbols that are drawn, in the order in which `call` (or the theory function) takes them.
    `domain`      an `Interval` for each argument.
    `expression`  the explicit form; or, where there is none,
    `law`         an expression F(symbol, arguments) whose root `symbol` is the value.
    `proofs`      statement -> expression, or function of nothing that builds it, that SymPy simplifies to zero:
                  the residual of the ODE or integral, the initial condition, a limit.
    `call`        numbers -> the theory function's positional arguments, where they are not simply the drawn numbers
                  (matrices are built here, static arguments are bound with `keywords`).
    `read`        the theory function's result -> the number to compare, where the result is not a scalar.
    `source`      where the formula stands, with its equation number.
    """

    title: str
    backs: str
    symbol: sp.Basic
    arguments: tuple[sp.Symbol, ...]
    domain: Mapping[sp.Symbol, Interval]
    source: str
    expression: sp.Expr | None = None
    law: sp.Expr | None = None
    proofs: Mapping[str, sp.Expr | Callable[[], sp.Expr]] = field(default_factory=dict)
    call: Callable[..., tuple] | None = None
    keywords: Mapping[str, Any] = field(default_factory=dict)
    read: Callable[[Any], Any] | None = None

    def __post_init__(self):
        if (self.expression is None) == (self.law is None):
            raise ValueError(f"Formula {self.title!r} needs either an expression or a law, not both")
        missing = [a for a in self.arguments if a not in self.domain]
        if missing:
            raise ValueError(f"Formula {self.title!r} has no domain for {missing}")
        if not self.proofs:
            raise ValueError(f"Formula {self.title!r} has no proofs: nothing says that it is right")

    @functools.cached_property
    def numeric(self) -> Callable[..., Any]:
        """The expression, or the law with its unknown first, as a function of mpmath numbers."""
        if self.expression is not None:
            return sp.lambdify(self.arguments, self.expression, "mpmath")
        unknown = sp.Dummy("unknown")
        law = sp.sympify(self.law).subs(self.symbol, unknown)
        return sp.lambdify((unknown, *self.arguments), law, "mpmath")


def prove(formula: Formula) -> None:
    """Simplify every residual of `formula` to zero, or raise `AssertionError` naming the one that is left."""
    for statement, residual in formula.proofs.items():
        left = sp.simplify(residual() if callable(residual) else residual)
        if left != 0 and not (isinstance(left, sp.MatrixBase) and left.is_zero_matrix):
            raise AssertionError(f"{formula.title}: {statement!r} leaves {left}")


def reference(formula: Formula, *numbers: float, near: float | None = None) -> Any:
    """The textbook value at `numbers`, to 40 digits.

    An implicit law is solved from the start `near` (the value on trial): a wrong trial is led to the true root,
    and the two then differ.
    """
    with mpmath.workdps(DIGITS):
        exact = [mpmath.mpf(n) for n in numbers]
        if formula.expression is not None:
            return mpmath.mpf(formula.numeric(*exact))
        return mpmath.findroot(lambda value: formula.numeric(value, *exact), mpmath.mpf(near))


def discover(within: str = "") -> Iterator[tuple[str, Formula]]:
    """Every `Formula` of every derivation file, with its dotted name: "deep_linear.modes.two_layer".

    Of one family or file alone, if `within` is its dotted name: no other file is loaded.
    """
    package = importlib.import_module("derivations")
    for info in pkgutil.walk_packages(package.__path__, "derivations."):
        if info.name == __name__ or not f"{info.name}.".startswith(f"derivations.{within}." if within else ""):
            continue
        for name, value in vars(importlib.import_module(info.name)).items():
            if isinstance(value, Formula):
                yield f"{info.name.removeprefix('derivations.')}.{name}", value


def find(name: str) -> Formula:
    """The formula of that dotted name, without loading any other file: "deep_linear.modes.two_layer".

    One of your own is named by its whole path: "my_family.my_study_derivation.law".
    """
    file, _, formula = name.rpartition(".")
    for module in (f"derivations.{file}", file):
        try:
            return vars(importlib.import_module(module))[formula]
        except (KeyError, ModuleNotFoundError, ValueError):
            continue
    raise ValueError(f"name must be a formula like 'deep_linear.modes.two_layer', got {name!r}")
