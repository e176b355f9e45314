"""The peer's side of the pipe: requests come in as lines of JSON, answers leave as such. Needs Python alone."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Mapping


def serve(versions: Mapping[str, str], kinds: Mapping[str, Callable[..., tuple[Callable[[], object], object]]]) -> None:
    """Answer requests {"kind": ..., "alone": whether it needs the memory of those before, ...} until there are no more.

    The kind is called with the rest of a new request: (call, entries), where `call` returns when its work is done. The
    entries are the answer then, and to the same request from then on the CPU seconds of one call.
    """
    prepared: dict[str, tuple[Callable[[], object], int]] = {}
    answer(versions)
    for line in sys.stdin:
        if line in prepared:
            answer({"seconds": spent(*prepared[line])})
            continue
        request = json.loads(line)
        if request.pop("alone", False):
            prepared.clear()
        try:
            call, entries = kinds[request.pop("kind")](**request)
            call()
            prepared[line] = call, math.ceil(0.02 / max(spent(call, 1), 1e-7))
            answer({"entries": entries})
        except Exception as error:
            answer({"error": f"{type(error).__name__}: {error}"})


def spent(call: Callable[[], object], repeats: int) -> float:
    start = time.process_time()
    for _ in range(repeats):
        call()
    return (time.process_time() - start) / repeats


def answer(content: Mapping[str, object]) -> None:
    print(json.dumps(content), flush=True)
