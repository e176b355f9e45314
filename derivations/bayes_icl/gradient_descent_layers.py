"""One layer of linear attention is one step of gradient descent, token by token; and the filter of GD++."""

import numpy as np
import sympy as sp

from derivations.formula import Formula, Interval

x0, x1, y0, y1, q, w0 = sp.symbols("x_0 x_1 y_0 y_1 q w_0", real=True)
eta, lam, gamma = sp.symbols("eta lambda gamma", positive=True)

STEP = -eta / 2 * ((w0 * x0 - y0) * x0 + (w0 * x1 - y1) * x1)


def _tokens():
    """The whole layer, by its four matrices, on two pairs and a query of one input."""
    keep = sp.Matrix([[1, 0], [0, 0]])
    value = sp.Matrix([[0, 0], [w0, -1]])
    pairs = [sp.Matrix([x0, y0]), sp.Matrix([x1, y1])]
    token = sp.Matrix([q, 0])
    read = sp.zeros(2, 2)
    for pair in pairs:
        read += value * pair * (keep * pair).T
    moved = token + eta / 2 * read * keep * token
    return sp.Abs(sp.simplify(moved[1] + STEP * q)) + sp.Abs(moved[0] - q)


def _descent():
    w = sp.Symbol("w", real=True)
    loss = ((w * x0 - y0) ** 2 + (w * x1 - y1) ** 2) / 4
    return sp.simplify(-eta * sp.diff(loss, w).subs(w, w0) - STEP)


DOMAIN = {
    x0: Interval(0.2, 2),
    x1: Interval(0.2, 2),
    y0: Interval(-2, -0.1),
    y1: Interval(-2, -0.1),
    q: Interval(0.2, 2),
    w0: Interval(0, 2),
    eta: Interval(0.05, 1),
}


def _layer(x0, x1, y0, y1, q, w0, eta):
    """The query's label after one layer, as a function of the numbers drawn: of the weights alone, in NumPy."""
    return np.array([[x0, y0], [x1, y1], [q, 0.0]]), _weights(w0, eta)


def _weights(w0, eta):
    keep = np.diag([1.0, 0.0])
    return keep, keep, np.array([[0.0, 0.0], [w0, -1.0]]), eta / 2 * np.eye(2)


one_step = Formula(
    title="Label of the query after one layer",
    backs="theory.bayes_icl.gradient_descent_layers.attention_steps",
    symbol=sp.Symbol("y_q"),
    arguments=(x0, x1, y0, y1, q, w0, eta),
    domain=DOMAIN,
    expression=-STEP * q,
    proofs={"the layer's matrices": _tokens, "one step of gradient descent": _descent},
    call=_layer,
    read=lambda tokens: tokens[2, 1],
    source="von Oswald et al. 2023 (arXiv:2212.07677), proposition 1",
)

value_row = Formula(
    title="Value and projection of that layer",
    backs="theory.bayes_icl.gradient_descent_layers.gradient_step_weights",
    symbol=sp.Symbol("(P V)_{yx}"),
    arguments=(eta, w0),
    domain={eta: Interval(0.05, 1), w0: Interval(0.1, 2)},
    expression=eta * w0 / 2,
    proofs={"the layer's matrices": _tokens},
    call=lambda eta, w0: (1, 2, eta, w0),
    read=lambda weights: (weights.projection @ weights.value)[1, 0],
    source="von Oswald et al. 2023 (arXiv:2212.07677), proposition 1",
)

SECOND = 1 - (1 - eta * lam) * (1 - eta * lam * (1 - gamma * lam) ** 2)


def _two_layers():
    """One input: residual y - w x and shrunk input, both from the values before; then the implied weight."""
    x, y, target = x0, y0, q
    s = x**2
    # Inputs shrink by 1 - gamma S; labels lose what a step predicts.
    x_next, target_next = x * (1 - gamma * s), target * (1 - gamma * s)
    y_next, of_query = y - eta * y * x * x, -eta * y * x * target
    of_query = of_query - eta * y_next * x_next * target_next
    implied = -of_query / target
    wanted = (SECOND.subs(lam, s) / s) * x * y
    return sp.simplify(implied - wanted)


shares = Formula(
    title="What two layers have learned that shrink inputs",
    backs="theory.bayes_icl.gradient_descent_layers.shrinking_shares",
    symbol=sp.Symbol("f"),
    arguments=(lam, eta, gamma),
    domain={lam: Interval(0.05, 2), eta: Interval(0.05, 0.4), gamma: Interval(0.01, 0.3)},
    expression=SECOND,
    proofs={
        "two layers by hand": _two_layers,
        "gradient descent": lambda: sp.simplify(SECOND.subs(gamma, 0) - 1 + (1 - eta * lam) ** 2),
    },
    call=lambda lam, eta, gamma: (np.array([lam]), np.array([eta, eta]), np.array([gamma, 0.0])),
    read=lambda found: found[0],
    source="von Oswald et al. 2023 (arXiv:2212.07677), GD++",
)
