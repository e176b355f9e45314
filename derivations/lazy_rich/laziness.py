"""Measures of laziness: cosines and participation ratios, written out for the smallest kernels."""

import numpy as np
import sympy as sp

from derivations.formula import Formula, Interval

a, b, c, p, q, r = sp.symbols("a b c p q r", real=True)
s, u = sp.symbols("s u", positive=True)
h = sp.symbols("h_1:4", real=True)
g = sp.symbols("g_1:4", real=True)

_first, _second = sp.Matrix([[a, b], [b, c]]), sp.Matrix([[p, q], [q, r]])


def cosine(first, second):
    """<K, K'> / (|K| |K'|)."""
    inner = [(x.T * y).trace() for x, y in ((first, second), (first, first), (second, second))]
    return inner[0] / sp.sqrt(inner[1] * inner[2])


KERNEL = {a: Interval(0.5, 2), c: Interval(0.5, 2), b: Interval(-0.4, 0.4)}


def entries(*numbers):
    return tuple(np.array([[x, y], [y, z]]) for x, y, z in (numbers[:3], numbers[3:]))


kernel_alignment = Formula(
    title="Kernel alignment",
    backs="theory.lazy_rich.laziness.alignment",
    symbol=sp.Symbol("CA"),
    arguments=(a, b, c, p, q, r),
    domain={**KERNEL, p: Interval(0.5, 2), r: Interval(0.5, 2), q: Interval(-0.4, 0.4)},
    expression=cosine(_first, _second),
    proofs={
        "a multiple is aligned": lambda: sp.simplify(cosine(_first, s * _first) ** 2 - 1),
        "half the squared distance of unit kernels is what is missing": lambda: _distance(_first, _second),
    },
    call=entries,
    source="Cristianini et al. 2001, kernel-target alignment",
)


def _distance(first, second):
    """|K/|K| - K'/|K'||^2 / 2 - (1 - cosine), the lengths being what they are."""
    length, other = sp.symbols("l_1 l_2", positive=True)
    gap = first / length - second / other
    residual = sp.expand((gap.T * gap).trace() / 2 - 1 + (first.T * second).trace() / (length * other))
    return sp.expand(residual.subs({c**2: length**2 - a**2 - 2 * b**2, r**2: other**2 - p**2 - 2 * q**2}))


kernel_misalignment = Formula(
    title="Turn of a kernel",
    backs="theory.lazy_rich.laziness.misalignment",
    symbol=sp.Symbol("S"),
    arguments=(a, b, c, s),
    # The second kernel is the first and a little of another one, which rounding must leave.
    domain={**KERNEL, s: Interval(1e-4, 1, log=True)},
    expression=1 - cosine(_first, _first + s * sp.Matrix([[1, 1], [1, -1]])),
    proofs={
        "of second order in the change": lambda: sp.limit(
            (1 - cosine(sp.Matrix([[2, 0], [0, 1]]), sp.Matrix([[2, s], [s, 1]]))) / s, s, 0
        ),
    },
    call=lambda a, b, c, s: entries(a, b, c, a + s, b + s, c - s),
    source="Fort et al. 2020 (arXiv:2010.15110)",
)


def _correlation():
    """CKA of two one-dimensional representations is their squared Pearson correlation."""
    centre = sp.eye(3) - sp.ones(3, 3) / 3
    first, second = (centre * sp.Matrix(z) * sp.Matrix(z).T * centre for z in (h, g))
    inner = [(x.T * y).trace() for x, y in ((first, second), (first, first), (second, second))]
    cross, own, others = (sp.expand((sp.Matrix(x).T * centre * sp.Matrix(y))[0]) for x, y in ((h, g), (h, h), (g, g)))
    return sp.Matrix([sp.expand(inner[0] - cross**2), sp.expand(inner[1] - own**2), sp.expand(inner[2] - others**2)])


_mean_h, _mean_g = sum(h) / 3, sum(g) / 3
_pearson = sum((x - _mean_h) * (y - _mean_g) for x, y in zip(h, g, strict=True)) ** 2 / (
    sum((x - _mean_h) ** 2 for x in h) * sum((y - _mean_g) ** 2 for y in g)
)

centred_alignment = Formula(
    title="Centred alignment of two representations by one unit each",
    backs="theory.lazy_rich.laziness.centred_alignment",
    symbol=sp.Symbol("CKA"),
    arguments=(*h, *g),
    domain=dict(zip((*h, *g), (Interval(-1, -0.5), Interval(-0.2, 0.2), Interval(1, 2)) * 2, strict=True)),
    expression=_pearson,
    proofs={"it is the squared correlation": _correlation},
    call=lambda *numbers: tuple(np.outer(z, z) for z in (np.array(numbers[:3]), np.array(numbers[3:]))),
    source="Kornblith et al. 2019 (arXiv:1905.00414)",
)

participation = Formula(
    title="Effective rank of a kernel",
    backs="theory.lazy_rich.laziness.effective_rank",
    symbol=sp.Symbol("PR"),
    arguments=(a, b, c),
    domain=KERNEL,
    expression=(a + c) ** 2 / (a**2 + 2 * b**2 + c**2),
    proofs={
        "it is (sum of eigenvalues)^2 / sum of their squares": lambda: sp.simplify(
            sum(k * v for v, k in _first.eigenvals().items()) ** 2
            / sum(k * v**2 for v, k in _first.eigenvals().items())
            - (a + c) ** 2 / (a**2 + 2 * b**2 + c**2)
        ),
        "one for rank one": ((a + c) ** 2 / (a**2 + 2 * b**2 + c**2) - 1).subs(b, s).subs({a: s / u, c: s * u}),
    },
    call=lambda a, b, c: (np.array([[a, b], [b, c]]),),
    source="a definition",
)
