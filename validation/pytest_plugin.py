"""A plugin of pytest: the studies and the formulas of a project of your own, as tests of its own.

    [tool.pytest.ini_options]
    stagewise_studies = ["."]                   # folders of families, as in STAGEWISE_STUDIES, which counts as well
    stagewise_derivations = ["*.*_derivation"]  # modules with formulas; a * stands for any name in those folders

A study is trained and judged once; each of its claims is a test (`holds`), and so is each rival (`is_refuted`). Each
`Formula` is two: `proofs_simplify_to_zero` and `theory_is_the_textbook_form`. `-m "not stagewise"` leaves them out,
`--stagewise-size` and `--stagewise-seed` say how to run the studies. With pytest-xdist, `--dist loadfile` keeps the
tests of a study together, so that no other worker trains it again.

Where neither option is set, nothing is loaded or changed. Where one is, JAX is set to float64 and to quick compilation
before it is imported, as the command `stagewise` does, unless JAX_ENABLE_X64 or XLA_FLAGS say otherwise.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest


class Sources(NamedTuple):
    """What a project is collected from: folders of families, and files with formulas by their module's name."""

    folders: tuple[Path, ...]
    derivations: dict[Path, str]


SOURCES = pytest.StashKey[Sources]()
VARIABLE = "STAGEWISE_STUDIES"


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("stagewise", "studies of stagewise")
    group.addoption("--stagewise-size", default="smoke", metavar="SIZE", help="size to run studies at: smoke or paper")
    group.addoption("--stagewise-seed", default=0, type=int, metavar="SEED", help="seed to run studies with")
    parser.addini("stagewise_studies", "folders of families of studies", type="paths", default=[])
    parser.addini("stagewise_derivations", "modules that hold formulas; * stands for any name", type="args", default=[])


def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """Before any conftest.py may import JAX: float64, and the command's way of compiling."""
    if not _wanted(early_config):
        return
    from sims.compilation import ONE_AT_A_TIME, quick_compilation

    if "jax" in sys.modules and "JAX_ENABLE_X64" not in os.environ:
        sys.modules["jax"].config.update("jax_enable_x64", True)
    os.environ.setdefault("JAX_ENABLE_X64", "1")
    smoke = early_config.known_args_namespace.stagewise_size == "smoke"
    os.environ.setdefault("XLA_FLAGS", quick_compilation() if smoke else ONE_AT_A_TIME)


def pytest_configure(config: pytest.Config) -> None:
    if not _wanted(config):
        return
    if (seed := int(config.getoption("stagewise_seed"))) < 0:
        raise pytest.UsageError(f"--stagewise-seed must be 0 or more, got {seed}")
    folders = tuple(_folders(config))
    for folder in folders:
        if not folder.is_dir():
            raise pytest.UsageError(f"stagewise_studies must name folders, got {folder}, which is none")
    from validation.studies import include

    include(*folders)
    # For the processes that tests start.
    os.environ[VARIABLE] = os.pathsep.join(map(str, folders))
    config.addinivalue_line("markers", "stagewise: claims, rivals and formulas, which the plugin of stagewise collects")
    sources = Sources(folders, dict(_derivations(config, folders)))
    config.stash[SOURCES] = sources
    _add_to_arguments(config, sources)


def pytest_report_header(config: pytest.Config) -> str | None:
    sources = config.stash.get(SOURCES, None)
    if sources is None:
        return None
    size, seed = config.getoption("stagewise_size"), config.getoption("stagewise_seed")
    return (
        f"stagewise: studies: {sum(1 for _ in _studies(sources))}, files of formulas: {len(sources.derivations)}, "
        f"--stagewise-size={size} --stagewise-seed={seed} JAX_ENABLE_X64={os.environ['JAX_ENABLE_X64']}"
    )


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    sources = parent.config.stash.get(SOURCES, None)
    if sources is None or file_path.suffix != ".py":
        return None
    study, module = _is_study(file_path, sources), sources.derivations.get(file_path)
    if not study and module is None:
        return None
    return Phenomenon.from_parent(parent, path=file_path, study=study, module=module)


class Phenomenon(pytest.File):
    """A file with a study, with formulas, or with both."""

    def __init__(self, *, study: bool, module: str | None, **options: Any):
        super().__init__(**options)
        self.is_study, self.module = study, module
        self.failure: Exception | None = None

    def collect(self) -> Iterator[pytest.Item]:
        if self.is_study:
            for i, claim in enumerate(self.study.claims):
                yield Holds.from_parent(self, name=_named("holds", claim.statement), number=i)
            for i, rival in enumerate(self.study.rivals):
                yield IsRefuted.from_parent(self, name=_named("is_refuted", rival.belief), number=i)
        if self.module is not None:
            yield from self.formula_items(self.module)

    def formula_items(self, module: str) -> Iterator[pytest.Item]:
        from derivations.formula import Formula

        formulas = {k: v for k, v in vars(importlib.import_module(module)).items() if isinstance(v, Formula)}
        if not formulas:
            raise self.CollectError(f"{module} is named by stagewise_derivations, but holds no Formula")
        for name, formula in formulas.items():
            yield Proved.from_parent(self, name=_named("proofs_simplify_to_zero", name), formula=formula)
            yield IsTextbookForm.from_parent(self, name=_named("theory_is_the_textbook_form", name), formula=formula)

    @functools.cached_property
    def study(self) -> Any:
        """The file's `STUDY`, under the name by which the command knows it."""
        from validation.study import Study

        family, name = self.path.parent.name, f"validation.studies.{self.path.parent.name}.{self.path.stem}"
        found = importlib.util.find_spec(name)
        if found is None or found.origin is None or not os.path.samefile(found.origin, self.path):
            raise self.CollectError(f"{self.path}: another family is called {family!r}, and is found first: rename it")
        study = importlib.import_module(name).STUDY
        if not isinstance(study, Study):
            raise self.CollectError(f"{self.path}: STUDY must be a validation.study.Study, got {study!r}")
        if self.size not in study.sizes:
            sizes = ", ".join(study.sizes)
            raise self.CollectError(f"{self.path}: --stagewise-size must be one of {sizes}, got {self.size!r}")
        return study

    @property
    def size(self) -> str:
        return self.config.getoption("stagewise_size")

    @functools.cached_property
    def outcome(self) -> Any:
        """The study's one run. What it raises is raised once; the other tests say in one line that it was."""
        from validation.study import check

        if self.failure is not None:
            why = f"{type(self.failure).__name__}: {self.failure}"
            pytest.fail(f"The study could not be judged, as another of its tests shows: {why}", pytrace=False)
        try:
            return check(self.study, size=self.size, seed=self.config.getoption("stagewise_seed"))
        except Exception as error:
            self.failure = error
            raise


class Statement(pytest.Item):
    """A test that is no function: its failure is a few sentences, not lines of code."""

    def __init__(self, **options: Any):
        super().__init__(**options)
        self.add_marker("stagewise")

    def repr_failure(self, excinfo: pytest.ExceptionInfo, style: Any = None) -> Any:
        # Of an error in the project's own code, its own lines.
        machinery = tuple(_machinery())
        theirs = excinfo.traceback.filter(lambda entry: not any(Path(entry.path).is_relative_to(p) for p in machinery))
        if len(theirs) and not self.config.getoption("fulltrace"):
            excinfo.traceback = theirs
        return super().repr_failure(excinfo, style or "short")

    def reportinfo(self) -> tuple[Path, None, str]:
        return self.path, None, self.name


class Judged(Statement):
    """A claim or a rival, by its number in the study."""

    def __init__(self, *, number: int, **options: Any):
        super().__init__(**options)
        self.number = number


class Holds(Judged):
    def runtest(self) -> None:
        verdict = self.parent.outcome.verdicts[self.number]
        self.user_properties += [("measured", verdict.value), ("tolerance", verdict.tolerance)]
        if not verdict.holds:
            value, tolerance = f"measured   {verdict.value:.4g}", f"tolerance  {verdict.tolerance:g}: {verdict.reason}"
            pytest.fail("\n".join([f"The claim fails: {verdict.statement}", value, tolerance]), pytrace=False)


class IsRefuted(Judged):
    def runtest(self) -> None:
        rival = self.parent.outcome.refutations[self.number]
        if not rival.holds:
            measured = [f"measured {v.value:.4g}, tolerance {v.tolerance:g}: {v.statement}" for v in rival.verdicts]
            pytest.fail("\n".join([f"No claim refutes the rival: {rival.belief}", *measured]), pytrace=False)


class Checked(Statement):
    """A formula."""

    def __init__(self, *, formula: Any, **options: Any):
        super().__init__(**options)
        self.formula = formula


class Proved(Checked):
    def runtest(self) -> None:
        from validation.formulas import prove

        try:
            prove(self.formula)
            return
        except AssertionError as error:
            why = f"The proof fails: {error}"
        pytest.fail(why, pytrace=False)


class IsTextbookForm(Checked):
    def runtest(self) -> None:
        import hypothesis

        from validation.formulas import TOLERANCE, agree

        # The first call compiles, and mpmath is slow; how many numbers are drawn is for the project's profile to say.
        slow = [hypothesis.HealthCheck.too_slow, hypothesis.HealthCheck.data_too_large]
        patient = hypothesis.settings(deadline=None, suppress_health_check=slow)
        try:
            agree(self.formula, draws=patient)
            return
        except AssertionError as error:
            what = f"{self.formula.backs} is not its formula, to {TOLERANCE:g}: {self.formula.title}"
            why = f"{what}\n({', '.join(map(str, self.formula.arguments))}) = {error}"
        pytest.fail(why, pytrace=False)


def _machinery() -> Iterator[Path]:
    """Where a traceback passes before it comes to the project's own code."""
    yield from (Path(__file__).parent, Path(__file__).parent.parent / "derivations" / "formula.py")
    yield Path(functools.__file__)
    yield from (Path(sys.modules[m].__file__).parent for m in ("_pytest", "pluggy", "hypothesis") if m in sys.modules)


def _named(what: str, of: str) -> str:
    # Node ids are cut at double colons.
    return f"{what}[{of.replace('::', ':')}]"


def _wanted(config: pytest.Config) -> bool:
    named = (config.getini("stagewise_studies"), config.getini("stagewise_derivations"), os.environ.get(VARIABLE))
    return any(named)


def _folders(config: pytest.Config) -> Iterator[Path]:
    named = [*config.getini("stagewise_studies"), *filter(None, os.environ.get(VARIABLE, "").split(os.pathsep))]
    yield from dict.fromkeys(Path(os.path.abspath(folder)) for folder in named)


def _derivations(config: pytest.Config, folders: tuple[Path, ...]) -> Iterator[tuple[Path, str]]:
    """Files and names of the modules that `stagewise_derivations` names; of these nothing but packages is imported."""
    for name in config.getini("stagewise_derivations"):
        found = []
        if "*" in name:
            for folder in (*folders, *config.getini("pythonpath")):
                for file in sorted(Path(folder).glob(name.replace(".", "/") + ".py")):
                    found.append((file, ".".join(file.relative_to(folder).with_suffix("").parts)))
        else:
            try:
                module = importlib.util.find_spec(name)
            except (ImportError, ValueError):
                module = None
            if module is not None and module.origin:
                found.append((Path(module.origin), name))
        if not found:
            raise pytest.UsageError(f"stagewise_derivations must name modules, got {name!r}, which is none")
        yield from found


def _is_study(file: Path, sources: Sources) -> bool:
    from validation.study import holds_study

    family = file.parent
    public = not file.name.startswith("_") and family.parent in sources.folders
    return public and (family / "__init__.py").exists() and holds_study(file)


def _studies(sources: Sources) -> Iterator[Path]:
    for folder in sources.folders:
        yield from (file for file in sorted(folder.glob("*/*.py")) if _is_study(file, sources))


def _add_to_arguments(config: pytest.Config, sources: Sources) -> None:
    """Where the whole project is tested, what lies outside of `testpaths` is as well."""
    start = config.invocation_params.dir
    if config.args_source is pytest.Config.ArgsSource.ARGS or start != config.rootpath:
        return
    known = [start / argument.split("::")[0] for argument in config.args]
    for file in (*_studies(sources), *sources.derivations):
        if not any(file.is_relative_to(path) for path in known):
            config.args.append(str(file))
