"""Attention as a support vector machine: what trained weights do far out, in an exponential loss."""

import numpy as np
import sympy as sp

from derivations.formula import Formula, Interval

p, q, size, t = sp.symbols("p q R t", positive=True)
c, gamma = sp.symbols("c gamma", real=True)
g1, g2 = sp.symbols("g_1 g_2", positive=True)
SCORES, VALUES = sp.symbols("a_1:4", real=True), sp.symbols("gamma_1:4", real=True)
HERE = "derived here"
LENGTHS = {p: Interval(1.0, 1.3), q: Interval(1.0, 1.3), c: Interval(-0.8, 0.3)}

# One sample of three tokens: differences delta_1, delta_2 of lengths p, q and cosine c, and a query of length 1.
DELTA = (sp.Matrix([p, 0]), sp.Matrix([q * c, q * sp.sqrt(1 - c**2)]))
GRAM = sp.Matrix(2, 2, lambda i, j: sp.simplify(DELTA[i].dot(DELTA[j])))
LAMBDA = GRAM.inv() * sp.ones(2, 1)
W = LAMBDA[0] * DELTA[0] + LAMBDA[1] * DELTA[1]


def _tokens(p, q, c):
    """The selected token at the origin, the others at minus the differences; the query; the selection."""
    delta = np.array([[0.0, 0.0], [p, 0.0], [q * c, q * np.sqrt(1 - c**2)]])
    return -delta[None], np.array([[0.6, -0.8]]), np.array([0])


def _solution(p, q, c):
    """Fields of the solution in the order of the record, by the inverse of a matrix of two rows."""
    x, z, _ = _tokens(p, q, c)
    delta = -x[0, 1:]
    multipliers = np.linalg.solve(delta @ delta.T, np.ones(2))
    w = np.outer(multipliers @ delta, z[0])
    margins = np.array([[0.0, 1.0, 1.0]])
    return w, np.array([[0.0, *multipliers]]), margins, np.linalg.norm(w), np.zeros(()), np.zeros((), int)


_softmax = [sp.exp(x) / sum(map(sp.exp, SCORES)) for x in SCORES]

slope = Formula(
    title="Derivative of what attention reads in a score",
    backs="theory.induction.attention_svm.attention_slope",
    symbol=sp.Symbol("f_1"),
    arguments=SCORES + VALUES,
    # The first value is the largest: a sum without cancellation.
    domain=dict.fromkeys(SCORES, Interval(-20, 20))
    | dict.fromkeys(VALUES, Interval(-1, 1))
    | {VALUES[0]: Interval(2, 3)},
    expression=_softmax[0] * sum(s * (VALUES[0] - v) for s, v in zip(_softmax, VALUES, strict=True)),
    proofs={
        "it is the derivative": lambda: (
            _softmax[0] * sum(s * (VALUES[0] - v) for s, v in zip(_softmax, VALUES, strict=True))
            - sp.diff(sum(s * v for s, v in zip(_softmax, VALUES, strict=True)), SCORES[0])
        ),
    },
    call=lambda *x: (np.array(x[:3]), np.array(x[3:])),
    read=lambda found: found[0],
    source="a definition",
)


def _first_order():
    """The excess loss of a little attention epsilon s_t on wrong tokens, over epsilon."""
    e, s = sp.Symbol("epsilon", positive=True), sp.symbols("s_1:3", positive=True)
    gains = g1, g2
    read = gamma - e * sum(x * y for x, y in zip(gains, s, strict=True))
    first = sp.diff(sp.log(1 + sp.exp(-read)), e).subs(e, 0)
    return sp.simplify(first - sum(x * y for x, y in zip(gains, s, strict=True)) / (1 + sp.exp(gamma)))


weight = Formula(
    title="What wrong attention costs",
    backs="theory.induction.attention_svm.loss_weights",
    symbol=sp.Symbol("w"),
    arguments=(gamma, g1, g2),
    domain={gamma: Interval(-5, 5), g1: Interval(0.1, 3), g2: Interval(0.1, 3)},
    expression=g1 / (1 + sp.exp(gamma)),
    proofs={"first order in wrong attention": _first_order},
    call=lambda gamma, g1, g2: (np.array([[gamma - g1, gamma, gamma - g2]]), np.array([1])),
    # The difference of two numbers near gamma is not known to 1e-10 of a small gain.
    read=lambda found: found[0, 0],
    source=HERE,
)

RATIO = [sp.log(g / lam) for g, lam in zip((g1, g2), LAMBDA, strict=True)]
_offset = sp.sqrt((sp.Matrix(RATIO).T * GRAM.inv() * sp.Matrix(RATIO))[0])
_beside = sp.log(g1 * LAMBDA[1] / (g2 * LAMBDA[0])) / sp.sqrt(p**2 + q**2 - 2 * p * q * c)


def _exponential_flow():
    """W = W_max ln t + rho solves dW/dt = sum w exp(-<W, phi>) phi, whatever the weights w."""
    point = W * sp.log(t) + sum(
        (k * delta for k, delta in zip(GRAM.inv() * sp.Matrix(RATIO), DELTA, strict=True)), sp.zeros(2, 1)
    )
    numbers = {p: sp.Rational(6, 5), q: 1, c: sp.Rational(3, 5), g1: 3, g2: sp.Rational(1, 2)}
    force = sum(
        (g * sp.exp(-point.dot(delta)) * delta for g, delta in zip((g1, g2), DELTA, strict=True)), sp.zeros(2, 1)
    )
    left = (sp.diff(point, t) - force).subs(numbers)
    return sp.simplify(sp.powsimp(sp.expand(sp.simplify(left)), force=True))


def _shares():
    """Along it the pull of each token, w exp(-margin), is its multiplier over t."""
    margins = [sp.log(t) + r for r in RATIO]
    return sp.Matrix(
        [sp.simplify(g * sp.exp(-m) - lam / t) for g, m, lam in zip((g1, g2), margins, LAMBDA, strict=True)]
    )


def _perpendicular():
    """rho_perp lies along phi_1 - phi_2, on which both margins of W cancel: there rho has the difference of its own."""
    r = sp.Matrix(sp.symbols("r_1:3"))
    rho = sum((k * delta for k, delta in zip(GRAM.inv() * r, DELTA, strict=True)), sp.zeros(2, 1))
    across = DELTA[0] - DELTA[1]
    length = p**2 + q**2 - 2 * p * q * c
    left = [W.dot(across), rho.dot(across) - (r[0] - r[1]), across.dot(across) - length]
    return sp.Matrix([sp.simplify(x) for x in left])


_WEIGHTS = {g1: Interval(3, 10), g2: Interval(0.5, 1)}


def _values(g1, g2):
    """Scores of which the gains are g_1 and g_2 after division by 1 + e^0."""
    return np.array([[0.0, -2 * g1, -2 * g2]])


offset = Formula(
    title="Length of the offset of trained weights from the ray of largest margin",
    backs="theory.induction.attention_svm.path_offset",
    symbol=sp.Symbol("rho"),
    arguments=(p, q, c, g1, g2),
    domain=LENGTHS | _WEIGHTS,
    expression=_offset,
    proofs={"the exponential flow": _exponential_flow, "the pull of each token": _shares},
    call=lambda p, q, c, g1, g2: (
        _solution(p, q, c),
        *_tokens(p, q, c)[:2],
        _values(g1, g2),
        np.array([0]),
    ),
    read=lambda found: (found**2).sum() ** 0.5,
    source="Soudry et al. 2018 (arXiv:1710.10345), theorem 4",
)

shares = Formula(
    title="Share of the last wrong attention",
    backs="theory.induction.attention_svm.residual_attention",
    symbol=sp.Symbol("s_1"),
    arguments=(p, q, c, g1, g2),
    domain=LENGTHS | _WEIGHTS,
    expression=LAMBDA[0] / g1 / (LAMBDA[0] / g1 + LAMBDA[1] / g2),
    proofs={"the pull of each token": _shares},
    call=lambda p, q, c, g1, g2: (_solution(p, q, c), _values(g1, g2), np.array([0])),
    read=lambda found: found[0, 1],
    source=HERE,
)


def _numeric_offset(p, q, c, g1, g2):
    x, z, _ = _tokens(p, q, c)
    delta, multipliers = -x[0, 1:], _solution(p, q, c)[1][0, 1:]
    along = np.linalg.solve(delta @ delta.T, np.log(np.array([g1, g2]) / multipliers))
    return np.outer(along @ delta, z[0])


misaligned = Formula(
    title="Misalignment of trained weights",
    backs="theory.induction.attention_svm.misalignment",
    symbol=sp.Symbol("epsilon"),
    arguments=(size, p, q, c, g1, g2),
    domain={size: Interval(10, 1000, log=True)} | LENGTHS | _WEIGHTS,
    expression=1 - sp.sqrt(1 - _beside**2 / size**2),
    proofs={
        "the offset beside the ray": _perpendicular,
        "1 / |W|^2": lambda: sp.limit((1 - sp.sqrt(1 - g1**2 / size**2)) * size**2, size, sp.oo) - g1**2 / 2,
    },
    call=lambda size, *rest: (size, _solution(*rest[:3]), _numeric_offset(*rest)),
    source=HERE,
)

_other_rate = p**2 * LAMBDA[0] + q**2 * LAMBDA[1] - 1


def _linearised():
    """Margins a' = G w e^{-a}, near ln t + ln(w / lambda), in kappa = ln t: d delta / d kappa = -G Lambda delta."""
    deviation = sp.symbols("d_1:3", real=True)
    margins = [sp.log(t) + r + d for r, d in zip(RATIO, deviation, strict=True)]
    pull = sp.Matrix([g * sp.exp(-m) for g, m in zip((g1, g2), margins, strict=True)])
    rate = sp.simplify(t * GRAM * pull - sp.ones(2, 1)).jacobian(deviation).subs(dict.fromkeys(deviation, 0))
    matrix = GRAM * sp.diag(*LAMBDA)
    one = sp.simplify((matrix - sp.eye(2)).det())
    other = sp.simplify((matrix - _other_rate * sp.eye(2)).det())
    return sp.Matrix([*sp.simplify(rate + matrix), one, other])


relaxation = Formula(
    title="Rate at which the offset settles",
    backs="theory.induction.attention_svm.relaxation_rate",
    symbol=sp.Symbol("r"),
    arguments=(p, q, c),
    # Where it is below one, the rate of a shift of time.
    domain=LENGTHS | {c: Interval(0.0, 0.3)},
    expression=_other_rate,
    proofs={"linearised margins": _linearised},
    call=lambda p, q, c: (_solution(p, q, c), *_tokens(p, q, c)),
    source=HERE,
)
