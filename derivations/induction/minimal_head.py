"""A head on whole sequences: what attention leaks, what recurring classes add, and the lead of an untrained label."""

import numpy as np
import sympy as sp

from derivations.formula import Formula, Interval

xi, beta2, beta1 = sp.symbols("xi beta_2 beta_1", real=True)
rho, m = sp.symbols("rho m", positive=True)
n = sp.Symbol("N", positive=True)

DOMAIN = {
    xi: Interval(-3, 8),
    beta2: Interval(-2, 8),
    beta1: Interval(-2, 6),
    rho: Interval(0.1, 1),
    m: Interval(0.5, 30),
}
# A class that recurs: its items come first and third, between and after them one item each of two other classes ...
BURST = (0, 1, 0, 2)
# ... and both orders of two classes.
PAIR = ((0, 1), (1, 0))


def held(order, place):
    """Overlap of the target with what a label holds, by the formula."""
    own = sp.exp(beta1) / (sp.exp(beta1) + 2 * place + 1)
    astray = 1 / (sp.exp(beta1) + 2 * place + 1)
    return rho * (own * int(order[place] == 0) + astray * sum(name == 0 for name in order[:place]))


def held_by_attention(order, place):
    """The same from vectors: a softmax over all tokens up to the label, items and labels along axes of their own."""
    classes = max(order) + 1
    items = [sp.eye(2 * classes).col(name) for name in order]
    labels = [sp.eye(2 * classes).col(classes + name) for name in order]
    tokens = [vector for pair in zip(items, labels, strict=True) for vector in pair][: 2 * place + 2]
    weights = [sp.exp(beta1) if i == 2 * place else sp.Integer(1) for i in range(len(tokens))]
    mean = sum((w * x for w, x in zip(weights, tokens, strict=True)), sp.zeros(2 * classes, 1)) / sum(weights)
    # Another exemplar of the target's class has this much in common with it.
    return (rho * items[order.index(0)].T * mean)[0]


def attention(order, overlap=held):
    weights = [sp.exp(beta2 * overlap(order, place)) for place in range(len(order))]
    return [w / sum(weights) for w in weights]


def probability(order, copied=None):
    """Of the right label among m others that are not in the context."""
    q = attention(order) if copied is None else copied
    of_class = [sum(q[i] for i, name in enumerate(order) if name == which) for which in range(max(order) + 1)]
    return sp.exp(xi * of_class[0]) / (sum(sp.exp(xi * each) for each in of_class) + m)


def _from_vectors():
    """Every weight, for a class that recurs."""
    pairs = zip(attention(BURST), attention(BURST, held_by_attention), strict=True)
    return sp.Add(*(sp.Abs(sp.simplify(one - other)) for one, other in pairs))


def _no_leak():
    """Where no item of the target's class comes before another one nothing leaks, and two classes are nested logits."""
    s2 = 1 / (1 + sp.exp(-beta2 * rho * sp.exp(beta1) / (sp.exp(beta1) + 3)))
    return sp.simplify(attention((1, 0))[1] - s2)


minimal_head_attention = Formula(
    title="Attention to the first of two labels of the target's class",
    backs="theory.induction.minimal_head.minimal_head_attention",
    symbol=sp.Symbol("q_1"),
    arguments=(beta2, beta1, rho),
    domain=DOMAIN,
    expression=attention(BURST)[0],
    proofs={"softmax of overlaps of vectors": _from_vectors, "two classes are nested logits": _no_leak},
    call=lambda beta2, beta1, rho: (beta2, beta1, np.array([BURST]), rho),
    read=lambda q: q[0, 0],
    source="the minimal model of Reddy 2024 (arXiv:2312.03002), as reconstructed from its network",
)


def _classifier():
    """From a classifier of five labels, W = xi (1 - 1/5), and the attended labels as indicators."""
    order, q = PAIR[0], sp.symbols("q_0 q_1", positive=True)
    w = xi * (sp.eye(5) - sp.ones(5, 5) / 5)
    z = w * sp.Matrix([*q, 0, 0, 0])
    direct = sp.exp(z[0]) / sum(sp.exp(each) for each in z)
    return sp.simplify((direct - probability(order, q).subs(m, 3)).rewrite(sp.exp))


accuracy = Formula(
    title="Probability of the right label, over both orders of two classes",
    backs="theory.induction.minimal_head.minimal_head_progress",
    symbol=sp.Symbol("p"),
    arguments=(xi, beta2, beta1, m, rho),
    domain=DOMAIN,
    expression=(probability(PAIR[0]) + probability(PAIR[1])) / 2,
    proofs={
        "softmax of a linear classifier": _classifier,
        "chance at the origin": lambda: sp.simplify(probability(BURST).subs({xi: 0, m: 5}) - sp.Rational(1, 8)),
    },
    call=lambda xi, beta2, beta1, m, rho: ((xi, beta2, beta1), np.array(PAIR), 2 + m, rho),
    read=lambda found: found.accuracy,
    source="derived here",
)


def _lead_by_sums():
    """All orders of up to six classes: where the target's stands is what matters."""
    wrong = sp.Integer(0)
    for size in range(2, 7):
        total = sp.Integer(0)
        for where in range(size):
            order = [0 if i == where else 1 + i for i in range(size)]
            holds = [held(order, place).subs(beta1, 0) for place in range(size)]
            total += holds[where] - sp.Add(*holds) / size
        wrong += sp.Abs(sp.simplify(total / size / rho - LEAD.subs(n, size) / rho))
    return wrong


def _is_a_linear_mode():
    """Where L = N, ln p to second order at the origin is xi beta_2 lead / N, as uv s is for a two-layer mode."""
    chance = {xi: 0, beta2: 0, beta1: 0}
    second = sum(sp.diff(sp.log(probability(order)).subs(m, 0), xi, beta2) for order in PAIR) / 2
    return sp.simplify(second.subs(chance) - LEAD.subs(n, 2) / 2)


# The N-th harmonic number, less one.
LEAD = rho * (sp.digamma(n + 1) + sp.EulerGamma - 1) / (2 * n)

untrained_lead = Formula(
    title="Lead of the right label before attention is learned",
    backs="theory.induction.minimal_head.untrained_lead",
    symbol=sp.Symbol("o"),
    arguments=(n, rho),
    domain={n: Interval(1.5, 40), rho: DOMAIN[rho]},
    expression=LEAD,
    proofs={"sum over orders": _lead_by_sums, "strength of a linear mode": _is_a_linear_mode},
    source="derived here",
)
