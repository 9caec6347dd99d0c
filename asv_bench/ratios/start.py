"""What a new process costs: seconds of importing, and of first calls with the machine-code cache full and empty.

No rival: the numbers are seconds, and the limits are what a person takes for an immediate answer.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from ratios import Row

__all__ = ["in_new_process", "rows"]

#: A first call: what is printed of it, and its code, with X (100, 32) at general norms.
CALLS = {
    "kernel of tanh": 'nk.FCN("tanh", depth=4).kernel("ntk")(0.3)',
    "formula and its kernel": 'nk.FCN(nk.activation("max(z-1,0)+0.1*cos(4*z)"), depth=4).kernel("ntk")(0.3)',
    "ntk(X) of tanh, n = 100": 'nk.FCN("tanh", depth=4, w_std=2**0.5, b_std=0.1).ntk(X)',
}
#: A formula whose tile is in no cache that the calls above have filled.
NEW_CALL = 'nk.FCN(nk.activation("0.7*max(z,0.5)+0.2*sin(3*z)*exp(-z*z)"), depth=4).kernel("ntk")(0.3)'

#: The package resolves its names when they are first used, so the engine's imports have a clock of their own.
_TIMED = """
import time
start = time.perf_counter()
import ntkengine as nk
imported = time.perf_counter()
nk.FCN, nk.activation
resolved = time.perf_counter()
import numpy as np
X = np.random.default_rng(0).standard_normal((100, 32))
called = time.perf_counter()
{call}
print([imported - start, resolved - imported, time.perf_counter() - called])
"""


def in_new_process(code: str, cache: str | os.PathLike[str] | None = None) -> list[float]:
    """Run Python ``code`` in a new process and read the list of numbers that its last line of output holds.

    Parameters
    ----------
    code : str
    cache : path, optional
        Folder of the machine-code cache. None: the one of this process.

    Raises
    ------
    RuntimeError
        If the process fails; the text is what it wrote to its standard error.
    """
    environment = dict(os.environ) if cache is None else {**os.environ, "NTKENGINE_CACHE_DIR": str(cache)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"a benchmark's process failed:\n{done.stderr}")
    return [float(value) for value in json.loads(done.stdout.splitlines()[-1])]


def first_call(call: str, cache: Path) -> list[float]:
    """Seconds of ``import ntkengine``, of the engine's imports (numba and SciPy among them), and of ``call``."""
    return in_new_process(_TIMED.format(call=call), cache)


def rows(repeats: int = 5) -> Iterator[Row]:
    with tempfile.TemporaryDirectory(prefix="ntkengine-bench-") as name:
        folder, full = Path(name), Path(name, "full")
        empty: dict[str, float] = {}
        for number, (what, call) in enumerate(CALLS.items()):
            own = folder / str(number)
            own.mkdir()
            empty[what] = first_call(call, own)[2]
            shutil.copytree(own, full, dirs_exist_ok=True)  # entries of a cache are named by their contents
        warm = {what: [first_call(call, full) for _ in range(repeats)] for what, call in CALLS.items()}
        fresh = []
        for number in range(repeats):
            copy = folder / f"new-{number}"
            shutil.copytree(full, copy)
            fresh.append(first_call(NEW_CALL, copy)[2])
    every = [times for found in warm.values() for times in found]
    yield Row("seconds: import ntkengine", median(times[0] for times in every), 0.5)
    yield Row("seconds: nk.FCN, nk.activation first named", median(times[1] for times in every), "reported")
    for what, found in warm.items():
        yield Row(f"seconds: first {what}, cache full", median(times[2] for times in found), 0.3)
    yield Row("seconds: first kernel of a new formula, cache full", median(fresh), 3.0)
    for what, seconds in empty.items():
        yield Row(f"seconds: first {what}, cache empty", seconds, "reported")
