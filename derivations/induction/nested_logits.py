"""Three nested logits: gradients, what is conserved, the plateau, the saddle, and the head that they average."""

import itertools

import sympy as sp

from derivations.formula import Formula, Interval

xi, beta2, beta1 = sp.symbols("xi beta_2 beta_1", real=True)
n, m, c, t = sp.symbols("N m c t", positive=True)
labels = n + m

S1 = 1 / (1 + c * sp.exp(-beta1))
S2 = 1 / (1 + (n - 1) * sp.exp(-beta2 * S1))
RIGHT, WRONG = sp.exp(xi * S2), sp.exp(xi * (1 - S2) / (n - 1))
Z = RIGHT + (n - 1) * WRONG + m
P, OTHER = RIGHT / Z, WRONG / Z
GAIN = xi * (1 - P + OTHER) * S2 * (1 - S2)

DOMAIN = {
    xi: Interval(-3, 8),
    beta2: Interval(-2, 8),
    beta1: Interval(-2, 6),
    n: Interval(1.5, 8),
    m: Interval(0.5, 30),
    c: Interval(0.5, 20),
}
ARGUMENTS = (xi, beta2, beta1, n, m, c)
SOURCE = "a reconstruction of the model of Reddy 2024 (arXiv:2312.03002)"


def _call(xi, beta2, beta1, n, m, c):
    return (xi, beta2, beta1), n, n + m, c


def _is_gradient(logit, direction):
    """The stated direction is the derivative of ln p."""
    return lambda: sp.simplify(sp.together(sp.diff(sp.log(RIGHT) - sp.log(Z), logit) - direction))


accuracy = Formula(
    title="Probability of the right label",
    backs="theory.induction.nested_logits.progress",
    symbol=sp.Symbol("p"),
    arguments=ARGUMENTS,
    domain=DOMAIN,
    expression=P,
    proofs={
        "probabilities sum to one": lambda: sp.simplify(P + (n - 1) * OTHER + m / Z - 1),
        "chance at the origin": lambda: sp.simplify(P.subs({xi: 0}) - 1 / labels),
    },
    call=_call,
    read=lambda found: found.accuracy,
    source=SOURCE,
)

copying = Formula(
    title="Gradient of the copying logit",
    backs="theory.induction.nested_logits.ascent",
    symbol=sp.Symbol("g_xi"),
    arguments=ARGUMENTS,
    domain=DOMAIN,
    # Away from its zero.
    expression=S2 * (1 - P) - OTHER * (1 - S2) + 2,
    proofs={
        "d ln p / d xi": _is_gradient(xi, S2 * (1 - P) - OTHER * (1 - S2)),
        "the only one at the origin": lambda: sp.simplify(
            (S2 * (1 - P) - OTHER * (1 - S2)).subs({xi: 0, beta2: 0, beta1: 0}) - m / (n * labels)
        ),
    },
    call=_call,
    read=lambda found: found.copy + 2,
    source=SOURCE,
)

matching = Formula(
    title="Gradient of the matching logit",
    backs="theory.induction.nested_logits.ascent",
    symbol=sp.Symbol("g_2"),
    arguments=ARGUMENTS,
    domain=DOMAIN,
    expression=GAIN * S1 + 2,
    proofs={"d ln p / d beta_2": _is_gradient(beta2, GAIN * S1)},
    call=_call,
    read=lambda found: found.match + 2,
    source=SOURCE,
)

looking = Formula(
    title="Gradient of the previous-token logit",
    backs="theory.induction.nested_logits.ascent",
    symbol=sp.Symbol("g_1"),
    arguments=ARGUMENTS,
    domain=DOMAIN,
    expression=GAIN * beta2 * S1 * (1 - S1) + 2,
    proofs={"d ln p / d beta_1": _is_gradient(beta1, GAIN * beta2 * S1 * (1 - S1))},
    call=_call,
    read=lambda found: found.previous + 2,
    source=SOURCE,
)

_constant = beta2**2 / 2 - beta1 - sp.exp(beta1) / c


def _is_conserved():
    """Whatever multiplies both gradients, (s_1, beta_2 s_1 (1 - s_1)) leaves it unchanged."""
    along = sp.diff(_constant, beta2) * S1 + sp.diff(_constant, beta1) * beta2 * S1 * (1 - S1)
    return sp.simplify(along)


conserved = Formula(
    title="Conserved quantity of the two layers of attention",
    backs="theory.induction.nested_logits.conserved",
    symbol=sp.Symbol("I"),
    arguments=(beta2, beta1, c),
    domain={beta2: Interval(3, 8), beta1: Interval(-3, -0.5), c: DOMAIN[c]},
    expression=_constant,
    proofs={"it is conserved": _is_conserved},
    source="derived here",
)

_plateau = n**2 * (sp.exp(xi / n) - 1) + m * xi - t * m / n


def _plateau_flow():
    """Along the stated curve dxi/dt is the gradient of xi at beta_2 = 0."""
    speed = -sp.diff(_plateau, t) / sp.diff(_plateau, xi)
    direction = (S2 * (1 - P) - OTHER * (1 - S2)).subs(beta2, 0)
    return sp.simplify(speed - direction)


plateau = Formula(
    title="Copying logit on the plateau",
    backs="theory.induction.nested_logits.plateau_copy",
    symbol=xi,
    arguments=(t, n, m),
    domain={t: Interval(1e-2, 1e4, log=True), n: DOMAIN[n], m: DOMAIN[m]},
    law=_plateau,
    proofs={"it follows the flow": _plateau_flow, "it starts at zero": _plateau.subs({t: 0, xi: 0})},
    call=lambda t, n, m: (t, n, n + m),
    source="derived here",
)


def _saddle():
    """Where L = N the second derivatives of ln p at the origin couple xi and beta_2, and nothing else."""
    full = sp.log(RIGHT / (RIGHT + (n - 1) * WRONG))
    origin = {xi: 0, beta2: 0, beta1: 0}
    second = [sp.diff(full, a, b).subs(origin) for a, b in itertools.combinations_with_replacement((xi, beta2), 2)]
    rate = (n - 1) / n**2 / (1 + c)
    return sp.Matrix([sp.simplify(value - wanted) for value, wanted in zip(second, (0, rate, 0), strict=True)])


saddle = Formula(
    title="Rate at which a head without a curriculum leaves the origin",
    backs="theory.induction.nested_logits.saddle_rate",
    symbol=sp.Symbol("lambda"),
    arguments=(n, c),
    domain={n: DOMAIN[n], c: DOMAIN[c]},
    expression=(n - 1) / n**2 / (1 + c),
    proofs={"second derivatives at the origin": _saddle},
    source="derived here",
)

_b = sp.Symbol("b", positive=True)
_looking = c * sp.exp(-_b)


def _drive_integrand():
    """dbeta_1 / dtheta = beta_2 s_1 (1 - s_1), with beta_2 from the conserved quantity."""
    pace = sp.simplify(S1 * (1 - S1) - _looking.subs(_b, beta1) / (1 + _looking.subs(_b, beta1)) ** 2)
    kept = _constant.subs({beta2: sp.sqrt(2 * (beta1 + (sp.exp(beta1) - 1) / c))}) - _constant.subs(
        {beta2: 0, beta1: 0}
    )
    return sp.Matrix([pace, sp.simplify(kept)])


drive = Formula(
    title="Drive that a head needs",
    backs="theory.induction.nested_logits.required_drive",
    symbol=sp.Symbol("theta"),
    arguments=(c,),
    domain={c: Interval(1.5, 300, log=True)},
    # b = u^2, without the square root at the origin.
    expression=sp.Integral(
        (2 * t * (1 + _looking) ** 2 / (_looking * sp.sqrt(2 * (_b + (sp.exp(_b) - 1) / c)))).subs(_b, t**2),
        (t, 0, sp.sqrt(sp.log(c))),
    ),
    proofs={"pace and conserved quantity": _drive_integrand},
    source="derived here",
)


def _classifier():
    """Rows of a linear classifier on orthogonal labels: all sequences of two of three labels, enumerated."""
    size, share = 3, sp.Symbol("s", positive=True)
    diagonal, rest = sp.symbols("d e", real=True)
    w = sp.Matrix(size, size, lambda i, j: sp.Symbol(f"w_{i}{j}", real=True))
    here = {w[i, j]: diagonal if i == j else rest for i in range(size) for j in range(size)}
    pairs = list(itertools.permutations(range(size), 2))
    total = 0
    for right, wrong in pairs:
        attended = sp.Matrix([share if i == right else 1 - share if i == wrong else 0 for i in range(size)])
        outputs = w * attended
        total += (outputs[right] - sp.log(sum(sp.exp(f) for f in outputs))) / len(pairs)
    slope = lambda i, j: sp.diff(total, w[i, j]).subs(here)  # noqa: E731
    on = sum(slope(i, i) for i in range(size)) / size
    off = sum(slope(i, j) for i, j in itertools.permutations(range(size), 2)) / (size * (size - 1))
    z = sp.exp((diagonal - rest) * share)
    other, none = sp.exp((diagonal - rest) * (1 - share)), 1
    p, p_other = z / (z + other + none), other / (z + other + none)
    expected = (share * (1 - p) - p_other * (1 - share)) / (size - 1)
    return sp.simplify((on - off - expected).rewrite(sp.exp))


mean_accuracy = Formula(
    title="Accuracy of a head at the chance of its plateau",
    backs="theory.induction.nested_logits.progress",
    symbol=sp.Symbol("p_plateau"),
    arguments=(xi, n, m),
    domain={xi: DOMAIN[xi], n: DOMAIN[n], m: DOMAIN[m]},
    expression=P.subs(beta2, 0),
    proofs={
        "a classifier's rows learn at 1 / (L - 1)": _classifier,
        "at most 1 / N": lambda: sp.limit(P.subs(beta2, 0).subs({n: 4, m: 3}), xi, sp.oo) - sp.Rational(1, 4),
    },
    call=lambda xi, n, m: ((xi, 0.0, 1.0), n, n + m, 3.0),
    read=lambda found: found.accuracy,
    source=SOURCE,
)
