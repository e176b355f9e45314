"""Labelled items seen through noise: conditioning of two views on each other, and of a view on a pool."""

import numpy as np
import sympy as sp

from derivations.formula import Formula, Interval

s2 = sp.Symbol("sigma^2", positive=True)
x, a, b, m = sp.symbols("x a b mu", real=True)
root = sp.sqrt(1 + s2)


def normal(value, mean, variance):
    return sp.exp(-((value - mean) ** 2) / (2 * variance)) / sp.sqrt(2 * sp.pi * variance)


# In d dimensions an entry of a view has mean mu / root and variance s2 / (1 + s2) / d, and one of mu variance 1 / d.
def _log(view, item, d):
    return -d * (root * view - item) ** 2 / (2 * s2)


def _copied(view, other, d):
    return -d * (1 + s2) ** 2 * (view - other / (1 + s2)) ** 2 / (2 * s2 * (2 + s2))


def _logistic(gain):
    """P of the first of two whose log weights differ by `gain`."""
    return 1 / (1 + sp.exp(-gain))


def _view_of_item():
    """The density of sqrt(1 + s2) x = mu + sigma e, up to what does not depend on mu."""
    return sp.simplify(sp.diff(sp.log(normal(x, m / root, s2 / (1 + s2))) - _log(x, m, 1), m))


def _two_views():
    """ln of int p(x | mu) p(a | mu) p(mu) dmu / p(a) has the stated slope in x and in a, that of a's law taken off."""
    inside = normal(x, m / root, s2 / (1 + s2)) * normal(a, m / root, s2 / (1 + s2)) * normal(m, 0, 1)
    exponent = sp.expand(sp.simplify(sp.expand_log(sp.log(inside), force=True)))
    # A Gaussian integral over mu: exp(c m^2 + k m + rest) gives exp(rest - k^2 / (4 c)), up to a constant.
    c, k, rest = (exponent.coeff(m, power) for power in (2, 1, 0))
    integral = rest - k**2 / (4 * c) + a**2 / 2
    off = integral - _copied(x, a, 1)
    return sp.simplify(sp.Abs(sp.simplify(sp.diff(off, x))) + sp.Abs(sp.simplify(sp.diff(off, a))))


def _covariance():
    """Cov(x, a) = E mu^2 / (1 + s2), so that E (x | a) and Var (x | a) are those of the stated square."""
    shared = 1 / (1 + s2)
    return sp.simplify(1 - shared**2 - s2 * (2 + s2) / (1 + s2) ** 2)


def _law_of_views():
    """A view has the law of items: (Var mu + s2) / (1 + s2) = 1."""
    return sp.simplify((1 + s2) / root**2 - 1)


p, q, u, v, w, z = sp.symbols("x_1 x_2 u_1 u_2 v_1 v_2", real=True)
PLANE = {name: Interval(-1.5, 1.5) for name in (p, q, u, v, w, z)} | {s2: Interval(0.2, 3, log=True)}


def _in_the_plane(log):
    """How much likelier (p, q) comes from (u, v) than from (w, z), two dimensions."""
    return log(p, u, 2) + log(q, v, 2) - log(p, w, 2) - log(q, z, 2)


def _pair(p, q, u, v, w, z, s2):
    return np.array([p, q]), np.array([[u, v], [w, z]]), s2


known = Formula(
    title="Probability of the first of two items of a pool",
    backs="theory.bayes_icl.labelled_items.item_posterior",
    symbol=sp.Symbol("P_1"),
    arguments=(p, q, u, v, w, z, s2),
    domain=PLANE,
    expression=_logistic(_in_the_plane(_log)),
    proofs={
        "density of a view": _view_of_item,
        "law of views": _law_of_views,
        "equal items": lambda: sp.simplify(_in_the_plane(_log).subs({w: u, z: v})),
    },
    call=_pair,
    read=lambda found: np.exp(found[0]),
    source="Wurgaft et al. 2025 (arXiv:2506.17859)",
)

copied = Formula(
    title="Probability that the first of two views shows the same item",
    backs="theory.bayes_icl.labelled_items.copy_posterior",
    symbol=sp.Symbol("P_1"),
    arguments=(p, q, u, v, w, z, s2),
    domain=PLANE,
    expression=_logistic(_in_the_plane(_copied)),
    proofs={"item integrated out": _two_views, "conditioning": _covariance},
    call=_pair,
    read=lambda found: np.exp(found[0]),
    source="Wurgaft et al. 2025 (arXiv:2506.17859)",
)

d = sp.Symbol("d", positive=True, integer=True)
SCALE = d * (1 + s2) / (s2 * (2 + s2))
PENALTY = d / (2 * s2 * (2 + s2))


def _square():
    """Two views of the context: the log weights differ by what the head's scores differ by."""
    stated = SCALE * x * (a - b) - PENALTY * (a**2 - b**2)
    return sp.simplify(stated - (_copied(x, a, d) - _copied(x, b, d)))


def _head(title, symbol, expression, name):
    return Formula(
        title=title,
        backs="theory.bayes_icl.labelled_items.copying_head",
        symbol=sp.Symbol(symbol),
        arguments=(s2,),
        domain={s2: Interval(0.01, 10, log=True)},
        # The proof is one for all d; a number is drawn for five dimensions.
        expression=expression.subs(d, 5),
        proofs={"expanded square": _square},
        call=lambda s2: (5, s2),
        read=lambda found: getattr(found, name),
        source="derived here",
    )


scale = _head("Scale of the head that copies", "s", SCALE, "scale")
penalty = _head("What that head takes off for length", "p", PENALTY, "penalty")

x1, x2, m1, m2 = sp.symbols("x_1 x_2 mu_1 mu_2", real=True)
LINE = {name: Interval(-2, 2) for name in (x, x1, x2, m1, m2)} | {s2: Interval(0.1, 3, log=True)}


def _both(view):
    """Weight of a view of the context: each item's share of it, times what the item makes of x. One dimension."""
    first = 1 / (1 + sp.exp(_log(view, m2, 1) - _log(view, m1, 1)))
    return first * sp.exp(_log(x, m1, 1)) + (1 - first) * sp.exp(_log(x, m2, 1))


def _bayes():
    """P(i | x, x_1, x_2) from all pairs of items: sum over j, k of p(x_1 | j) p(x_2 | k) p(x | item of i)."""
    like = [[sp.exp(_log(view, item, 1)) for item in (m1, m2)] for view in (x1, x2)]
    new = [sp.exp(_log(x, item, 1)) for item in (m1, m2)]
    pairs = [(j, k) for j in (0, 1) for k in (0, 1)]
    joint = [sum(like[0][j] * like[1][k] * new[(j, k)[i]] for j, k in pairs) for i in (0, 1)]
    return sp.simplify(joint[0] * _both(x2) - joint[1] * _both(x1))


both = Formula(
    title="Probability of the first of two views, two items of one label known",
    backs="theory.bayes_icl.labelled_items.pool_copy_posterior",
    symbol=sp.Symbol("P_1"),
    arguments=(x, x1, x2, m1, m2, s2),
    domain=LINE,
    expression=_both(x1) / (_both(x1) + _both(x2)),
    proofs={
        "all pairs of items": _bayes,
        "views alike": lambda: sp.simplify((_both(x1) / (_both(x1) + _both(x2))).subs(x2, x1) - sp.Rational(1, 2)),
    },
    call=lambda x, x1, x2, m1, m2, s2: (
        np.array([x]),
        np.array([[x1], [x2]]),
        np.ones(2),
        np.array([[m1], [m2]]),
        np.ones(2),
        s2,
    ),
    read=lambda found: np.exp(found[0]),
    source="derived here",
)

asked = Formula(
    title="Probability of the label that the first and the last of three have",
    backs="theory.bayes_icl.labelled_items.label_posterior",
    symbol=sp.Symbol("P_l"),
    arguments=(a, b, m),
    domain={a: Interval(-5, 0), b: Interval(-5, 0), m: Interval(-5, 0)},
    expression=sp.exp(a) + sp.exp(m),
    proofs={"with the other label they are all": (sp.exp(a) + sp.exp(m)) + sp.exp(b) - sum(map(sp.exp, (a, b, m)))},
    call=lambda a, b, m: (np.array([a, b, m]), np.array([1.0, -1.0, 1.0]), np.array([1.0, -1.0])),
    read=lambda found: np.exp(found[0]),
    source="sum rule",
)
