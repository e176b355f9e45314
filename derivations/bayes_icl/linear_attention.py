"""The best layer of linear attention: moments of contexts of two and three pairs, term by term, and what minimises."""

import itertools

import numpy as np
import sympy as sp

from derivations.formula import Formula, Interval

v1, v2, t1, t2, noise, n, m4, v = sp.symbols("v_1 v_2 tau_1 tau_2 sigma^2 n m_4 v", positive=True)
r, q = sp.symbols("v_12 tau_12", real=True)
A = sp.Matrix(2, 2, sp.symbols("a_11 a_12 a_21 a_22", real=True))
SOURCE = "Ahn et al. 2023 (arXiv:2306.00297), Mahankali et al. 2023 (arXiv:2307.03576), generalised"

S = sp.Matrix([[v1, r], [r, v2]])
W = sp.Matrix([[t1, q], [q, t2]])
# For identities that are slow in letters.
NUMBERS = {v1: 2, v2: sp.Rational(1, 2), r: sp.Rational(1, 3), t1: 3, t2: 1, q: -sp.Rational(1, 2)}


def _pairings(indices):
    """All ways to cut an even list into pairs."""
    if not indices:
        yield []
        return
    first, *rest = indices
    for i, other in enumerate(rest):
        for pairs in _pairings(rest[:i] + rest[i + 1 :]):
            yield [(first, other), *pairs]


def gaussian_moment(covariance, indices):
    """E of a product of Gaussian coordinates: the sum over pairings."""
    if len(indices) % 2:
        return sp.Integer(0)
    return sp.Add(*[sp.Mul(*[covariance[i, j] for i, j in pairs]) for pairs in _pairings(list(indices))])


def independent_moment(variance, fourth):
    """E of a product of independent symmetric coordinates, up to the fourth moment."""
    table = {0: 1, 2: variance, 4: fourth}

    def moment(_, indices):
        return sp.Mul(*[table.get(indices.count(a), 0) for a in set(indices)])

    return moment


def mean_of(expression, x, w, e, moment, inputs, tasks):
    """E of a polynomial in inputs x (pairs, 2), the task w (2,) and noise e (pairs,): each monomial by its moments."""
    pairs = x.rows
    letters = [*x, *w, *e]
    total = sp.Integer(0)
    for powers, factor in sp.Poly(sp.expand(expression), *letters).terms():
        of_x, of_w, of_e = powers[: 2 * pairs], powers[2 * pairs : 2 * pairs + 2], powers[2 * pairs + 2 :]
        value = gaussian_moment(tasks, [a for a in range(2) for _ in range(of_w[a])])
        for i in range(pairs):
            value *= moment(inputs, [a for a in range(2) for _ in range(of_x[2 * i + a])])
            value *= {0: 1, 1: 0, 2: noise}[of_e[i]]
        total += factor * value
    return total


def summary(pairs):
    """g = (1/n) sum y_i x_i, written out, and the letters in it."""
    x = sp.Matrix(pairs, 2, sp.symbols(f"x:{2 * pairs}", real=True))
    w, e = sp.Matrix(sp.symbols("w_1 w_2", real=True)), sp.Matrix(sp.symbols(f"e:{pairs}", real=True))
    y = x * w + e
    return x.T * y / pairs, (x, w, e)


def second_moment(length):
    """E g g^T as stated, for Gaussian inputs."""
    return S * W * S + (S * W * S + ((S * W).trace() + noise) * S) / length


def risk(layer, length):
    """As stated: bias and scatter."""
    missed = sp.eye(2) - layer * S
    scatter = second_moment(length) - S * W * S
    return noise + (S * missed * W * missed.T).trace() + (S * layer * scatter * layer.T).trace()


def _moments():
    """E g w^T = S W and E g g^T, from every monomial of contexts of two and three pairs."""
    residues = []
    for pairs in (2, 3):
        g, letters = summary(pairs)
        for a, b in itertools.product(range(2), repeat=2):
            residues.append(mean_of(g[a] * letters[1][b], *letters, gaussian_moment, S, W) - (S * W)[a, b])
            found = mean_of(g[a] * g[b], *letters, gaussian_moment, S, W)
            residues.append(found - second_moment(sp.Integer(pairs))[a, b])
    return sp.Matrix([sp.expand(one) for one in residues])


def _expanded():
    """E (y - x^T A g)^2 with a query of its own: sigma^2 + tr S W - 2 tr S A S W + tr S A E[g g^T] A^T."""
    opened = noise + (S * W).trace() - 2 * (S * A * S * W).trace() + (S * A * second_moment(n) * A.T).trace()
    return sp.expand(opened - risk(A, n))


def _query():
    """The same for two pairs, the query among the letters."""
    g, (x, w, e) = summary(2)
    query = sp.Matrix(sp.symbols("x_q1 x_q2", real=True))
    # The third row of x is the query; its label has noise of its own.
    error = (query.T * (w - A * g))[0]
    letters = (sp.Matrix([*x.row(0), *x.row(1), *query]).reshape(3, 2), w, sp.Matrix([*e, sp.Symbol("e_q")]))
    found = noise + mean_of(error**2, *letters, gaussian_moment, S.subs(NUMBERS), W.subs(NUMBERS))
    return sp.expand(found - risk(A, sp.Integer(2)).subs(NUMBERS))


SHRUNK = (1 + 1 / n) * S * W + ((S * W).trace() + noise) / n * sp.eye(2)
OPTIMAL = W * SHRUNK.adjugate() / SHRUNK.det()


def _stationary():
    """The slope of the risk, 2 S (A E[g g^T] - W S), vanishes at A* = W SHRUNK^{-1}, since SHRUNK S = E[g g^T]."""
    slope = risk(A, n).diff(A)
    stated = 2 * S * (A * second_moment(n) - W * S)
    at_best = (OPTIMAL * second_moment(n) - W * S).subs(NUMBERS)
    return sp.Matrix(
        [
            *(slope - stated).applyfunc(sp.expand),
            *(SHRUNK * S - second_moment(n)).applyfunc(sp.expand),
            *at_best.applyfunc(sp.cancel),
        ]
    )


def _call(v1, v2, r, t1, t2, q, noise, n):
    return (np.array([[v1, r], [r, v2]]), np.array([[t1, q], [q, t2]]), noise), n


ARGUMENTS = (v1, v2, r, t1, t2, q, noise, n)
DOMAIN = {
    v1: Interval(0.5, 5, log=True),
    v2: Interval(0.5, 5, log=True),
    r: Interval(-0.45, 0.45),
    t1: Interval(0.5, 5, log=True),
    t2: Interval(0.5, 5, log=True),
    q: Interval(-0.45, 0.45),
    noise: Interval(0, 10),
    n: Interval(1, 1000, log=True),
}

layer = Formula(
    title="Best layer of linear attention",
    backs="theory.bayes_icl.linear_attention.optimal_layer",
    symbol=sp.Symbol("A_11"),
    arguments=ARGUMENTS,
    domain=DOMAIN,
    expression=OPTIMAL[0, 0],
    proofs={
        "moments of contexts": _moments,
        "stationary": _stationary,
        "symmetric": lambda: (OPTIMAL - OPTIMAL.T).subs(NUMBERS).applyfunc(sp.cancel),
        "long contexts invert": lambda: (
            sp.limit(OPTIMAL.subs(NUMBERS | {noise: 3})[0, 1], n, sp.oo) - S.inv().subs(NUMBERS)[0, 1]
        ),
    },
    call=_call,
    read=lambda found: found[0, 0],
    source=SOURCE,
)

least = Formula(
    title="Risk of the best layer",
    backs="theory.bayes_icl.linear_attention.optimal_risk",
    symbol=sp.Symbol("R"),
    arguments=ARGUMENTS,
    domain=DOMAIN,
    expression=noise + (S * W).trace() - (S * OPTIMAL * S * W).trace(),
    proofs={
        "risk, opened": _expanded,
        "risk, from all letters": _query,
        "value at the minimum": lambda: sp.cancel(
            (risk(OPTIMAL, n) - noise - (S * W).trace() + (S * OPTIMAL * S * W).trace()).subs(NUMBERS | {noise: 3})
        ),
    },
    call=_call,
    source=SOURCE,
)

ANY = (A[0, 0], A[0, 1], A[1, 0], A[1, 1])

tested = Formula(
    title="Risk of any layer at any length",
    backs="theory.bayes_icl.linear_attention.layer_risk",
    symbol=sp.Symbol("R"),
    arguments=(*ANY, *ARGUMENTS),
    domain=DOMAIN | {one: Interval(-2, 2) for one in ANY},
    expression=risk(A, n),
    proofs={
        "risk, opened": _expanded,
        "a layer of zeros": lambda: risk(sp.zeros(2), n) - noise - (S * W).trace(),
    },
    call=lambda a, b, c, d, *rest: (np.array([[a, b], [c, d]]), *_call(*rest)),
    source=SOURCE,
)

_w = sp.diag(t1, t2)
_fourth = (n - 1) / n * v**2 * _w + ((2 * v**2 * _w + v**2 * _w.trace() * sp.eye(2)) + (m4 - 3 * v**2) * _w) / n
_second = _fourth + noise * v / n * sp.eye(2)


def _independent_moments():
    """E g g^T of contexts of two pairs of independent coordinates with any fourth moment."""
    g, letters = summary(2)
    moment = independent_moment(v, m4)
    return sp.Matrix(
        [
            sp.expand(mean_of(g[a] * g[b], *letters, moment, None, _w) - _second[a, b].subs(n, 2))
            for a, b in itertools.product(range(2), repeat=2)
        ]
    )


independent = Formula(
    title="Best layer for independent coordinates that are not Gaussian",
    backs="theory.bayes_icl.linear_attention.optimal_layer",
    symbol=sp.Symbol("A_11"),
    arguments=(v, m4, t1, t2, noise, n),
    domain={v: Interval(0.3, 2), m4: Interval(4, 40), **{a: DOMAIN[a] for a in (t1, t2, noise, n)}},
    expression=(v * _w * _second.inv())[0, 0],
    proofs={
        "moments of contexts": _independent_moments,
        # Variance v, tasks of one variance: A = v / e with the textbook's e.
        "one variance": lambda: sp.cancel(
            (v * _w * _second.inv()).subs(t2, t1)[0, 0]
            - v / ((n - 1) / n * v**2 + (v**2 + m4) / n + noise / t1 * v / n)
        ),
    },
    call=lambda v, m4, t1, t2, noise, n: (
        (np.array([v, v]), np.array([t1, t2]), noise, m4 - 3 * v**2),
        n,
    ),
    read=lambda found: found[0, 0],
    source="derived for the model of von Oswald et al. 2023 (arXiv:2212.07677)",
)
