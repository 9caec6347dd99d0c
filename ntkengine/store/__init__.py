"""Runs kept in HDF5: a store is a folder, a run is one file in it, and a kill at any moment loses no
finished run.

The store knows nothing of experiments: a :class:`Run` holds a configuration, named arrays with named
dimensions, and small results. Importing this package loads neither h5py nor anything compiled; h5py comes
with the first file.
"""

from ntkengine.store.run import Run, Variable
from ntkengine.store.store import Header, Scan, Store

__all__ = ["Header", "Run", "Scan", "Store", "Variable"]
