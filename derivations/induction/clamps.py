"""What is left of a minimal head when parts of it are given: one logit each, in closed form."""

import sympy as sp

from derivations.formula import Formula, Interval

t, beta, xi, n, labels, rate = sp.symbols("t beta_2 xi N L eta", positive=True)
s1, b2, b1, c = sp.symbols("s_1 beta beta_1 c", positive=True)

MATCH = sp.exp(beta) - 1 + (n - 1) * beta - (n - 1) * t
COPY = sp.exp(xi) - 1 + (labels - 1) * xi - (labels - 1) * rate * t


def _follows(law, logit, direction):
    """Along the law the logit moves as the gradient says."""
    return lambda: sp.simplify(-sp.diff(law, t) / sp.diff(law, logit) - direction)


def _gradient_of_attention():
    """d ln s_2 / d beta_2 = 1 - s_2 where a label knows its item."""
    s2 = 1 / (1 + (n - 1) * sp.exp(-beta))
    return sp.simplify(sp.diff(sp.log(s2), beta) - (1 - s2))


def _gradient_of_both_layers():
    """d ln s_2 = (1 - s_2) (s_1 d beta_2 + beta_2 s_1 (1 - s_1) d beta_1) where attention is copied."""
    own = 1 / (1 + c * sp.exp(-b1))
    s2 = 1 / (1 + (n - 1) * sp.exp(-b2 * own))
    first = sp.diff(sp.log(s2), b2) - (1 - s2) * own
    second = sp.diff(sp.log(s2), b1) - (1 - s2) * b2 * own * (1 - own)
    return sp.Matrix([sp.simplify(first), sp.simplify(second)])


def _gradient_of_copying():
    """d ln p / d xi = 1 - p where the target attends to the right label alone."""
    p = sp.exp(xi) / (sp.exp(xi) + labels - 1)
    return sp.simplify(sp.diff(sp.log(p), xi) - (1 - p))


matching = Formula(
    title="Matching logit where the other parts of the head are given",
    backs="theory.induction.clamps.matching_alone",
    symbol=beta,
    arguments=(t, n),
    domain={t: Interval(1e-3, 1e4, log=True), n: Interval(1.5, 50)},
    law=MATCH,
    proofs={
        "the gradient of attention": _gradient_of_attention,
        "the law follows it": _follows(MATCH, beta, 1 - 1 / (1 + (n - 1) * sp.exp(-beta))),
        "it starts at zero": MATCH.subs({t: 0, beta: 0}),
        "the gradient of both layers": _gradient_of_both_layers,
    },
    source="derived here, for the experiment of Singh et al. 2024 (arXiv:2404.07129)",
)

copying = Formula(
    title="Copying logit where the target attends to the right label",
    backs="theory.induction.clamps.copying_alone",
    symbol=xi,
    arguments=(t, labels, rate),
    domain={t: Interval(1e-3, 1e4, log=True), labels: Interval(1.5, 100), rate: Interval(0.1, 10)},
    law=COPY,
    proofs={
        "the gradient of copying": _gradient_of_copying,
        "the law follows it": _follows(COPY, xi, rate * (labels - 1) / (sp.exp(xi) + labels - 1)),
        "it starts at zero": COPY.subs({t: 0, xi: 0}),
    },
    source="derived here, for the experiment of Singh et al. 2024 (arXiv:2404.07129)",
)
