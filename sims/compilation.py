"""How much XLA should think before it runs a program on the CPU.

Compiled programs are kept from run to run where the user's JAX_COMPILATION_CACHE_DIR says, and not otherwise: of a
smoke run they save up to a fifth, since most of it is tracing, the folder grows without limit, and depending on what
is installed JAX does not notice an entry in which a bit has flipped.
"""

from __future__ import annotations

import gc
import importlib.metadata
import os
from pathlib import Path

_QUICK = "--xla_backend_optimization_level=0"
# Small programs are not worth cutting into parts for several threads: whole, they compile some 10 % sooner.
_IN_ONE_PART = "--xla_cpu_parallel_codegen_split_count=1"
# On the CPU a batched decomposition waits for threads of the pool on which it runs itself. In JAX 0.10 two of them at a
# time stop a machine of two cores for ever, and this scheduler is what sets them going at a time.
ONE_AT_A_TIME = "--xla_cpu_enable_concurrency_optimized_scheduler=false"


def quick_compilation() -> str:
    """XLA's flags for programs that take longer to compile than to run: smoke runs, tests."""
    flags = [_QUICK, _IN_ONE_PART, ONE_AT_A_TIME]
    return " ".join(flags + ["--xla_cpu_use_fusion_emitters=false"] * _emitters_are_optional())


def collect_seldom() -> None:
    """Let Python look for cycles a hundred times less often: tracing makes many objects, of which most live on."""
    gc.set_threshold(100_000, 50, 100)


def forget_compiled(most_maps: int = 8_000) -> None:
    """Clear JAX's caches once this process is full of compiled programs, which slow down whatever comes next.

    Each holds some memory maps. Linux gives a process 65530, and XLA crashes where there are no more.
    """
    import jax

    maps = Path("/proc/self/maps")
    if maps.exists() and maps.read_text().count("\n") <= most_maps:
        return
    jax.clear_caches()
    gc.collect()


def optimisations() -> dict[str, str | bool] | None:
    """XLA's options for programs that run for longer than they compile, where its flags ask for quick compilation.

    The first level with emitted fusions runs faster than the second without, and compiles as soon.
    """
    if _QUICK not in os.environ.get("XLA_FLAGS", ""):
        return None
    emitted = {"xla_cpu_use_fusion_emitters": True} if _emitters_are_optional() else {}
    return {"xla_backend_optimization_level": "1"} | emitted


def _emitters_are_optional() -> bool:
    """Later versions always emit fusions, quickly, and end the process at an option that they do not know."""
    version = importlib.metadata.version("jaxlib").split(".")
    return (int(version[0]), int(version[1])) < (0, 11)
