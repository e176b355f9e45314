"""`Study`, `Claim`, `check`: a theory, the trained networks that could refute it, and the judgement.

A study is one file that holds one `STUDY`. `problem` draws the plain numbers (a spectrum, initial weights,
data) that both sides are given; `predict` is the theory's word on them, before any training; `simulate` trains
the networks; the claims judge the pair. To judge your own theory or your own network with the same claims:

    from validation.study import check, find
    outcome = check(find("two_layer_modes"), predict=my_theory)
"""

from __future__ import annotations

import difflib
import importlib
import math
import pkgutil
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

# Where a theory holds, and what it answers: the columns and the rows of the report's map.
REGIMES = {
    "linear": "Linear networks, of any depth, width and scale of the start",
    "lazy": "Wide networks or large outputs: features stay, training is that of a kernel",
    "rich": "Small outputs, or scalings that keep features moving",
    "attention": "Attention on few tasks or facts: looked up in the context, or known in the weights",
    "bayes": "Many tasks: prediction from a context, measured against Bayes",
}
ASKS = {
    "when": "When is it learned, in which order, how abruptly?",
    "what": "Which solution, representation or algorithm?",
    "how well": "How well does it do on what it has not seen?",
    "how trained": "Which steps, noise, depth and optimiser can it be trained with?",
}

Problem = SimpleNamespace
Prediction = Mapping[str, Any]
Observation = Mapping[str, Any]


def settings_as_problem(settings: Mapping[str, Any], seed: int) -> Problem:
    """The problem of a study that draws nothing: its settings and the seed, by name."""
    return Problem(**settings, seed=seed)


@dataclass(frozen=True)
class Claim:
    """One falsifiable sentence. It holds if `measure(prediction, observation)` is at most `tolerance`.

    `measure` gives a dimensionless scalar: the deviation over the deviation that is expected (see
    `validation.metrics`), so that tolerances are of order one. `reason` says where the tolerance comes from.
    NaN never holds.
    """

    statement: str
    measure: Callable[[Prediction, Observation], float]
    tolerance: float
    reason: str


@dataclass(frozen=True)
class Rival:
    """A wrong theory that the claims must refute: what it believes, and the prediction that follows.

    `predict(problem, prediction)` is given our own prediction, to replace in it what it believes otherwise.
    """

    belief: str
    predict: Callable[[Problem, Prediction], Prediction]


@dataclass(frozen=True, kw_only=True)
class Study:
    """One phenomenon: one file, one figure.

    `title`     the phenomenon, as a researcher would search for it.
    `question`  what the reader sees answered, in a sentence or two.
    `source`    paper and equation.
    `sizes`     settings by size: `smoke` (2 CPU cores, seconds) and `paper` (the source's own; one GPU, minutes).
    `problem`   (settings, seed) -> the plain numbers that both sides get.
    `predict`   problem -> prediction (a dict of arrays), from the theory alone.
    `simulate`  problem -> observation (a dict of arrays), from trained networks alone.
    `claims`    what is held to be true of the pair.
    `rivals`    wrong theories, at least one, that the claims must refute.
    `draw`      (figure, problem, prediction, observation) -> None: theory as lines, networks as points or bands.
    `formulas`  names of the derivations behind the prediction: "deep_linear.modes.two_layer".
    `regimes`   where the theory holds, of `REGIMES`, and
    `asks`      what it answers, of `ASKS`: its place on the report's map.
    """

    title: str
    question: str
    source: str
    sizes: Mapping[str, Mapping[str, Any]]
    predict: Callable[[Problem], Prediction]
    simulate: Callable[[Problem], Observation]
    claims: tuple[Claim, ...]
    rivals: tuple[Rival, ...]
    draw: Callable[..., None]
    problem: Callable[[Mapping[str, Any], int], Problem] = settings_as_problem
    formulas: tuple[str, ...] = ()
    regimes: tuple[str, ...] = ()
    asks: str = ""

    def __post_init__(self):
        for size in ("smoke", "paper"):
            if size not in self.sizes:
                raise ValueError(f"Study {self.title!r} has no size {size!r}")
        if not self.claims or not self.rivals:
            raise ValueError(f"Study {self.title!r} needs claims, and a rival that they refute")
        for regime in self.regimes:
            if regime not in REGIMES:
                raise ValueError(f"regimes of Study {self.title!r} must be of {', '.join(REGIMES)}, got {regime!r}")
        if self.asks and self.asks not in ASKS:
            raise ValueError(f"asks of Study {self.title!r} must be one of {', '.join(ASKS)}, got {self.asks!r}")


@dataclass(frozen=True)
class Verdict:
    """A claim and its measured value."""

    statement: str
    value: float
    tolerance: float
    reason: str

    @property
    def holds(self) -> bool:
        return self.value <= self.tolerance


@dataclass(frozen=True)
class Refutation:
    """A rival and what the claims measured on it. Only a finite deviation refutes: NaN proves nothing."""

    belief: str
    verdicts: tuple[Verdict, ...]

    @property
    def refuted_by(self) -> tuple[Verdict, ...]:
        return tuple(v for v in self.verdicts if math.isfinite(v.value) and not v.holds)

    @property
    def holds(self) -> bool:
        """Whether the rival is refuted, as it must be."""
        return bool(self.refuted_by)


@dataclass(frozen=True)
class Outcome:
    """All that one check produced. `holds` is its verdict: every claim holds, every rival is refuted."""

    problem: Problem
    prediction: Prediction
    observation: Observation
    verdicts: tuple[Verdict, ...]
    refutations: tuple[Refutation, ...]
    seconds: Mapping[str, float] = field(default_factory=dict)

    @property
    def holds(self) -> bool:
        return all(v.holds for v in self.verdicts) and all(r.holds for r in self.refutations)


def check(
    study: Study,
    *,
    size: str = "smoke",
    seed: int = 0,
    predict: Callable[[Problem], Prediction] | None = None,
    simulate: Callable[[Problem], Observation] | None = None,
) -> Outcome:
    """Run `study` at `size` and judge it, with your own `predict` or `simulate` in place of ours if given."""
    if size not in study.sizes:
        raise ValueError(f"size must be one of {', '.join(study.sizes)}, got {size!r}")
    problem = study.problem(study.sizes[size], seed)
    start = time.perf_counter()
    prediction = (predict or study.predict)(problem)
    predicted = time.perf_counter()
    observation = (simulate or study.simulate)(problem)
    simulated = time.perf_counter()
    verdicts = judge(study.claims, prediction, observation)
    refutations = tuple(
        Refutation(rival.belief, judge(study.claims, rival.predict(problem, prediction), observation))
        for rival in study.rivals
    )
    seconds = {"theory": predicted - start, "networks": simulated - predicted}
    return Outcome(problem, prediction, observation, verdicts, refutations, seconds)


def judge(claims: tuple[Claim, ...], prediction: Prediction, observation: Observation) -> tuple[Verdict, ...]:
    """Each claim's measured value on one prediction and one observation."""
    verdicts = []
    for claim in claims:
        try:
            # A wrong theory may divide by nothing. The verdict says so: infinity and NaN neither hold nor refute.
            with np.errstate(divide="ignore", invalid="ignore"):
                value = float(claim.measure(prediction, observation))
        except KeyError as missing:
            raise ValueError(
                f"the claim {claim.statement!r} needs {missing}, which the prediction or the observation lacks"
            ) from missing
        verdicts.append(Verdict(claim.statement, value, claim.tolerance, claim.reason))
    return tuple(verdicts)


def discover() -> dict[str, str]:
    """Study names ("deep_linear/two_layer_modes") -> module paths, from the files alone: nothing is imported."""
    studies = importlib.import_module("validation.studies")
    names = {}
    for family in pkgutil.iter_modules(studies.__path__):
        package = f"validation.studies.{family.name}"
        for folder in (Path(p) / family.name for p in studies.__path__):
            for file in pkgutil.iter_modules([str(folder)]):
                if not file.name.startswith("_") and holds_study(folder / f"{file.name}.py"):
                    names[f"{family.name}/{file.name}"] = f"{package}.{file.name}"
    return names


def holds_study(file: Path) -> bool:
    """Whether a file names a `STUDY`: in a family of your own, a theory may lie beside it."""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeError):
        return False
    return bool(re.search(r"^(STUDY\b|from .*import .*\bSTUDY\b)", text, re.MULTILINE))


def find(name: str) -> Study:
    """The study called `name`: "deep_linear/depth", or "depth" where that is unambiguous."""
    (found, *others) = select([name])
    if others or name not in (found, found.split("/")[1]):
        raise ValueError(f"name must be one study, got {name!r}, a family of {len(others) + 1}")
    return importlib.import_module(discover()[found]).STUDY


def _instead_of(name: str, known: list[str] | dict[str, str]) -> str:
    """What somebody may have meant by a name that nobody has."""
    families = sorted({full.split("/")[0] for full in known})
    spelt = {part: full for full in known for part in (full, full.split("/")[1])}
    near = dict.fromkeys(spelt[part] for part in difflib.get_close_matches(name, spelt, n=3))
    if near:
        return f"did you mean {' or '.join(near)}?"
    return f"the families are {', '.join(families)}, and `stagewise list` names their studies"


def select(names: Iterator[str] | list[str]) -> list[str]:
    """The full names of the studies that `names` (studies or families; all, if empty) stand for, in order."""
    known = discover()
    chosen: list[str] = []
    for name in names:
        hits = [k for k in known if name in (k, k.split("/")[0], k.split("/")[1])]
        if not hits:
            raise ValueError(f"unknown study or family {name!r}; {_instead_of(name, known)}")
        chosen += [hit for hit in hits if hit not in chosen]
    return chosen if names else list(known)
