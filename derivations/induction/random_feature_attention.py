"""A layer of attention with frozen random scores: Price's theorem, twice, and the kernel of one pair of keys."""

import numpy as np
import sympy as sp

from derivations.formula import Formula, Interval

h, k = sp.symbols("h k", real=True)
rho, r, t = sp.symbols("rho r t", real=True)
s, u = sp.symbols("s s'", positive=True)
CDF = {z: (1 + sp.erf(z / sp.sqrt(2))) / 2 for z in (h, k)}
PDF = {z: sp.exp(-(z**2) / 2) / sp.sqrt(2 * sp.pi) for z in (h, k)}
MEAN = {z: z * CDF[z] + PDF[z] for z in (h, k)}
JOINT = sp.exp(-(h**2 + k**2 - 2 * h * k * r) / (2 * (1 - r**2))) / (2 * sp.pi * sp.sqrt(1 - r**2))
HERE = "derived here"

_angle = (rho - sp.sin(t)) * sp.exp(-(h**2 + k**2 - 2 * h * k * sp.sin(t)) / (2 * sp.cos(t) ** 2)) / (2 * sp.pi)
_product = s * u * (MEAN[h] * MEAN[k] + rho * CDF[h] * CDF[k] + sp.Integral(_angle, (t, 0, sp.asin(rho))))


def _plackett():
    """The joint density of unit Gaussians at (-h, -k) obeys dp/dr = d^2 p / dh dk: derivatives in r are in h and k."""
    return sp.simplify((sp.diff(JOINT, r) - sp.diff(JOINT, h, k)) / JOINT)


def _first_values():
    """At r = 0 the product of means, and its derivative that of the means: g' = Phi."""
    z = sp.Symbol("z", real=True)
    density = sp.exp(-(z**2) / 2) / sp.sqrt(2 * sp.pi)
    mean = sp.integrate((h + z) * density, (z, -h, sp.oo))
    return sp.Matrix([sp.simplify((mean - MEAN[h]).rewrite(sp.erf)), sp.simplify(sp.diff(MEAN[h], h) - CDF[h])])


def _second_integral():
    """int_0^rho (rho - r) p(r) dr has the second derivative p: with any density p."""
    p = sp.Function("p")
    twice = sp.diff(sp.Integral((rho - r) * p(r), (r, 0, rho)), rho, 2).doit()
    # r = sin t takes the square root out of the density of unit Gaussians.
    turned = (JOINT.subs({h: 0, k: 0}) * sp.sqrt(1 - r**2)).subs(r, sp.sin(t)) - 1 / (2 * sp.pi)
    return sp.Matrix([sp.simplify(twice - p(rho)), sp.simplify(turned)])


def _no_mean():
    """Without means: the arc-cosine kernel."""
    plain = sp.integrate(_angle.subs({h: 0, k: 0}), (t, 0, sp.asin(rho)))
    found = MEAN[h].subs(h, 0) ** 2 + rho / 4 + plain
    return sp.simplify(found - (sp.sqrt(1 - rho**2) + (sp.pi / 2 + sp.asin(rho)) * rho) / (2 * sp.pi))


relu_product = Formula(
    title="Mean product of two ReLUs of Gaussians with means",
    backs="theory.induction.random_feature_attention.relu_product",
    symbol=sp.Symbol("E"),
    arguments=(h, k, s, u, rho),
    domain={
        h: Interval(-2, 4),
        k: Interval(-2, 4),
        s: Interval(0.3, 3),
        u: Interval(0.3, 3),
        rho: Interval(-0.5, 0.98),
    },
    expression=_product,
    proofs={
        "Plackett's identity": _plackett,
        "no correlation": _first_values,
        "two derivatives": _second_integral,
        "no means": _no_mean,
    },
    call=lambda h, k, s, u, rho: (h * s, k * u, s, u, rho),
    source="Price 1958; derived here",
)

c = sp.Symbol("c", real=True)


def _moments():
    """Scores x_0 . W x_1 of W = b + s G for explicit vectors of two entries, by the variances of the entries of G."""
    x0, x1, y0, y1 = (sp.Matrix(sp.symbols(f"{name}_1:3", real=True)) for name in ("p", "q", "v", "w"))
    entries = [(i, j) for i in range(2) for j in range(2)]
    covariance = sum(s**2 * (x0[i] * x1[j]) * (y0[i] * y1[j]) for i, j in entries)
    return sp.expand(covariance - s**2 * x0.dot(y0) * x1.dot(y1))


def _points(s, rho, c):
    """Unit queries of overlap rho, the same unit key twice, of overlap c with the first query and no more."""
    queries = np.array([[1.0, 0.0, 0.0], [rho, np.sqrt(1 - rho**2), 0.0]])
    key = np.array([c, 0.0, np.sqrt(1 - c**2)])
    return queries[:1], key[None, None], queries[1:], key[None, None], s, 0.0


pair = Formula(
    title="Kernel of two samples with one and the same key",
    backs="theory.induction.random_feature_attention.attention_kernel",
    symbol=sp.Symbol("K"),
    arguments=(s, rho, c),
    domain={s: Interval(0.3, 3), rho: Interval(-0.98, 0.98), c: Interval(-0.98, 0.98)},
    expression=s**2 * (sp.sqrt(1 - rho**2) + (sp.pi - sp.acos(rho)) * rho) / (2 * sp.pi),
    proofs={"covariance of scores": _moments, "no means": _no_mean},
    call=_points,
    read=lambda found: found[0, 0],
    source=HERE,
)
