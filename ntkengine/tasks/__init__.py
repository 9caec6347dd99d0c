"""Data with a train/test split (:mod:`.base`), built-in ones (:mod:`.builtin`), CSV (:mod:`.tabular`)."""

from ntkengine.tasks.base import DataFile, Parameter, Scaling, Table, Task, TaskFamily, make_task, registry
from ntkengine.tasks.tabular import load_csv

__all__ = [
    "BUILTIN_TASKS",
    "DataFile",
    "Parameter",
    "Scaling",
    "Table",
    "Task",
    "TaskFamily",
    "load_csv",
    "make_task",
    "registry",
]

#: Names of the built-in tasks; ``builtin.py`` defines ``<name, with _ for ->_family`` for each.
BUILTIN_TASKS = ("balance-scale", "parity", "tic-tac-toe", "wine-quality-red")
