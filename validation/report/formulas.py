"""Formulas of the derivations in MathML: equations, and what was proved of them."""

from __future__ import annotations

import functools
import re
from html import escape
from pathlib import Path
from typing import Any


@functools.cache
def formula(name: str, study: str) -> str:
    """One formula: its equation in MathML, what was proved of it, and the theory function that it backs.

    SymPy takes a tenth of a second for one: it is kept.
    """
    from derivations.formula import Formula, find  # loads SymPy

    try:
        shown = find(name) if _is_known(name, study) else None
    except ValueError:
        shown = None
    if not isinstance(shown, Formula):
        # A result of an older version may name a formula that is gone.
        return ""
    proofs = "; ".join(escape(statement) for statement in shown.proofs)
    return (
        f'<div class="formula"><span>{escape(shown.title)}</span>'
        f'<div class="equation">{equation(shown)}</div>'
        f"<small>Proved: {proofs}. Backs <code>{escape(shown.backs)}</code>. {escape(shown.source)}</small></div>\n"
    )


def _is_known(name: str, study: str) -> bool:
    """Whether it is a formula of the derivations, or else one that the study names: a result's word loads no module."""
    import derivations

    file = name.rpartition(".")[0]
    places = [Path(root, *file.split(".")).with_suffix(".py") for root in derivations.__path__]
    if re.fullmatch(r"\w+(\.\w+)*", file) and any(place.is_file() for place in places):
        return True
    from validation.study import discover
    from validation.study import find as study_of

    return study in discover() and name in study_of(study).formulas


def equation(shown: Any) -> str:
    """`symbol = expression`, or `law = 0`, in presentation MathML; what a long one repeats has lines of its own."""
    from sympy import Integer
    from sympy.core.function import AppliedUndef
    from sympy.printing.mathml import MathMLPresentationPrinter

    class Printer(MathMLPresentationPrinter):
        def mathml_tag(self, e):
            # SymPy's own would write E_g(t) with a small e.
            return e.func.__name__ if isinstance(e, AppliedUndef) else super().mathml_tag(e)

    def markup(expression) -> str:
        text = Printer({"mul_symbol": "", "fold_short_frac": False})._print(expression).toxml()
        # The printer's empty operator between factors would be drawn as a wide gap, its e as a double-struck one.
        text = re.sub(r"<mo>(&amp;InvisibleTimes;|&InvisibleTimes;)?</mo>|<mo/>", "<mo>\u2062</mo>", text)
        text = re.sub(r"<mi>(\w+)_(\w+)</mi>", r"<msub><mi>\1</mi><mi>\2</mi></msub>", text)
        return text.replace("&ExponentialE;", "e").replace("<mo>-</mo>", "<mo>\u2212</mo>")

    def line(left, right) -> str:
        body = f"{markup(left)}<mo>=</mo>{markup(right)}"
        return f'<math xmlns="http://www.w3.org/1998/Math/MathML" display="block"><mrow>{body}</mrow></math>'

    implicit = shown.expression is None
    form, parts = repeated_parts(shown.law if implicit else shown.expression)
    first = line(form, Integer(0)) if implicit else line(shown.symbol, form)
    return first + "".join(line(name, part) for name, part in parts)


def repeated_parts(expression: Any, long: int = 50) -> tuple[Any, list[tuple[Any, Any]]]:
    """A long expression in terms of the parts that it repeats, and these: (short form, [(name, part)]).

    Only parts of four operations and more that occur twice get a name; a textbook would not name the others either.
    """
    import sympy as sp

    if not isinstance(expression, sp.Expr) or expression.count_ops() <= long:
        return expression, []
    found, (short,) = sp.cse(expression, sp.numbered_symbols("part", cls=sp.Dummy), order="none")
    kept = []
    for i, (name, part) in enumerate(found):
        later = [short, *(p for _, p in found[i + 1 :])]
        if part.count_ops() >= 4 and sum(x.count(name) for x in later) > 1:
            kept.append((name, part))
            continue
        short = short.xreplace({name: part})
        found[i + 1 :] = [(n, p.xreplace({name: part})) for n, p in found[i + 1 :]]
    taken = {str(s) for s in expression.free_symbols}
    letter = next(x for x in ("xi", "chi", "Theta") if not any(t.startswith(x) for t in taken))
    names = {name: sp.Symbol(f"{letter}_{i}") for i, (name, _) in enumerate(kept, 1)}
    return short.xreplace(names), [(names[n], p.xreplace(names)) for n, p in kept]
