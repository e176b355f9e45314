"""Sharing a mode between two layers of a given relative scale, textbook forms."""

import numpy as np
import sympy as sp

from derivations.formula import Formula, Interval

s = sp.Symbol("s", positive=True)
lam = sp.Symbol("lambda", real=True)
_root = sp.sqrt(lam**2 + 4 * s**2)
_a = sp.sqrt((_root - lam) / 2)
_b = sp.sqrt((_root + lam) / 2)
_PROOFS = {"a b = s": (_a * _b) ** 2 - s**2, "b^2 - a^2 = lam": _b**2 - _a**2 - lam}
_DOMAIN = {s: Interval(1e-8, 20, log=True), lam: Interval(-10, 10)}
_ONE = np.eye(1)


def _layer(title, symbol, expression, index):
    return Formula(
        title=title,
        backs="theory.deep_linear.balanced_start.layer_strengths",
        symbol=sp.Symbol(symbol),
        arguments=(s, lam),
        domain=_DOMAIN,
        expression=expression,
        proofs=_PROOFS,
        read=lambda layers: layers[index],
        source="Dominé et al. 2024, lambda-balanced initialisation",
    )


lower = _layer("Strength of the lower layer at relative scale lam", "a", _a, 0)
upper = _layer("Strength of the upper layer at relative scale lam", "b", _b, 1)

start = Formula(
    title="Sum of the weights of a lambda-balanced chain of one unit a layer",
    backs="theory.deep_linear.balanced_start.balanced_start",
    symbol=sp.Symbol("a") + sp.Symbol("b"),
    arguments=(s, lam),
    domain=_DOMAIN,
    expression=_a + _b,
    proofs=_PROOFS | {"(a + b)^2 = sqrt(lam^2 + 4 s^2) + 2 s": lambda: _a**2 + _b**2 + 2 * s - _root - 2 * s},
    call=lambda s, lam: (np.array([s]), lam, _ONE, _ONE, _ONE),
    read=lambda start: start.w1[0, 0] + start.w2[0, 0],
    source="Dominé et al. 2024, lambda-balanced initialisation",
)
