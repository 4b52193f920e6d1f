"""The data of figures that take long, kept between runs; a figure that is computed in seconds is computed.

An entry is good for one figure, seed and version (full or fast), for the sources that made it (refode, what the figures
share, and the figure's own module) and for the versions of NumPy and SciPy. When one of them changes, it is replaced.
"""

import os
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

import numpy as np
import scipy

import refode

from ._registry import FOLDER, describe, load

LONG = 5.0  # seconds above which data are kept


def data(name: str, seed: int, fast: bool) -> dict:
    """Return `data(seed, fast)` of the figure `name`, from an earlier run if it took long and nothing has changed."""
    if describe(name).cost_s <= LONG:
        return load(name).data(seed=seed, fast=fast)
    entry = f"{name}-{seed}-{'fast' if fast else 'full'}-"
    path = folder() / f"{entry}{_digest(name)}.npz"
    if path.exists():
        with np.load(path, allow_pickle=False) as kept:
            return {key: kept[key][()] for key in kept.files}
    computed = load(name).data(seed=seed, fast=fast)
    with suppress(OSError):  # a cache that can't be written costs time, not the figure
        _keep(path, entry, computed)
    return computed


def _keep(path: Path, entry: str, computed: dict) -> None:
    """Put `computed` in the place of whatever stands there for the same figure, seed and version."""
    folder().mkdir(parents=True, exist_ok=True)
    for old in folder().glob(f"{entry}*.npz"):
        old.unlink()
    part = path.with_suffix(f".{os.getpid()}.part")
    with part.open("wb") as file:
        np.savez(file, **computed)
    part.replace(path)


def folder() -> Path:
    """Return where the entries are: the user's cache, below XDG_CACHE_HOME if that is set."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "refode" / "figures"


def _digest(name: str) -> str:
    """Return a short hash of all that the data depend on."""
    own = [*FOLDER.glob("_*.py"), FOLDER / f"{name}.py"]
    library = Path(refode.__file__).parent.rglob("*.py")
    versions = f"{np.__version__} {scipy.__version__}".encode()
    return sha256(b"\0".join([versions, *(path.read_bytes() for path in sorted((*own, *library)))])).hexdigest()[:16]
