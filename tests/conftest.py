"""Four threads wherever the tests run, so that bits can be compared over 1, 2 and 4."""

import os

os.environ["NUMBA_NUM_THREADS"] = "4"
os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # four threads on two cores should not spin
os.environ.setdefault("MPLBACKEND", "Agg")
