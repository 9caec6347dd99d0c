"""``python asv_bench/ratios [name ...]``: measure the topics named, or all but the heavy ones; one table.

Exit code 1: a limit is missed; 2: there is no such topic.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

os.environ.pop(
    "OPENBLAS_CORETYPE", None
)  # a forced core type slows a rival's BLAS, which reads this when it is loaded
folder = Path(__file__).resolve().parent
#: Topics that run only when named, for what they take of the disk: "module-function".
HEAVY = ("gram-large",)


def main(names: list[str]) -> int:
    light = sorted(module.name for module in iter_modules([str(folder)]) if not module.name.startswith("_"))
    unknown = [name for name in names if name not in (*light, *HEAVY)]
    if unknown:
        topics = ", ".join([*light, *HEAVY])
        print(f"no topic {', '.join(unknown)}; topics: {topics}", file=sys.stderr)
        return 2
    missed = 0
    for topic in names or light:
        module, _, function = topic.partition("-")
        for what, ratio, limit in getattr(import_module(f"ratios.{module}"), function or "rows")():
            verdict = limit
            if not isinstance(limit, str):
                late = not ratio <= limit
                missed += late
                verdict = f"≤ {limit:.3f}  {'MISSED' if late else 'ok'}"
            print(f"{topic:<10} {what:<66} {ratio:8.3f}  {verdict}", flush=True)
    return int(missed > 0)


if __name__ == "__main__":
    sys.path[0] = str(folder.parent)  # as a script, Python puts this folder there, and ratios is no package
    sys.exit(main(sys.argv[1:]))
