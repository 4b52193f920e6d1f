"""The data of figures that nobody waits for: trainings, and measurements of one machine, committed with what made them.

A module asks for it by a literal, KEPT = "training" or KEPT = "measurement", and says what `draw` draws when it is
given nothing by `compute = partial(kept, "its_name")`, where other modules say `compute = data`. From then on
`python -m figures its_name` draws from figures/kept/its_name-0.npz, and `python -m figures rebuild its_name` calls
`data(seed)` and replaces that file.

A file holds the key of the source that made it: of `data` and what this uses of its own module, so that a new caption
trains nothing anew. A file with another key is out of date, and is said to be.
"""

import ast
import json
import os
import platform
import signal
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from types import FrameType

import numpy as np
import scipy

import refode

from . import _registry
from ._files import replacing

MADE_BY = "made_by"  # the entry of a file that is not data


def kept(name: str, seed: int = 0) -> dict:
    """Return the kept data of the figure `name`; FileNotFoundError says how to make them."""
    return {key: value for key, value in _content(name, seed).items() if key != MADE_BY}


def made_by(name: str, seed: int = 0) -> dict:
    """Return what made the kept data: key, seed, versions and, for a measurement, the machine."""
    return json.loads(str(_content(name, seed)[MADE_BY]))


def is_current(name: str, seed: int = 0) -> bool:
    """Return whether the kept data are those of the module as it stands."""
    return made_by(name, seed)["key"] == _key(name, seed)


def rebuild(name: str, seed: int = 0) -> Path:
    """Compute the full data of the figure `name` and put them in the place of what was kept; return the file."""
    key = _key(name, seed)  # of the source as it stands now, whatever becomes of it meanwhile
    data = computed(name, seed, fast=False)
    about = {"figure": name, "seed": seed, "key": key, "versions": versions()}
    if _registry.describe(name).kept == "measurement":
        about["machine"] = machine()
    path = path_of(name, seed)
    with replacing(path) as file:
        np.savez_compressed(file, **data, **{MADE_BY: np.array(json.dumps(about))})
    return path


def path_of(name: str, seed: int = 0) -> Path:
    """Return where the data of a figure are kept, or would be."""
    return folder() / f"{name}-{seed}.npz"


def folder() -> Path:
    """Return the folder of all kept data, part of the package."""
    return _registry.FOLDER / "kept"


def command(name: str, seed: int = 0) -> str:
    """Return the command that makes the data of a figure anew."""
    return f"python -m figures rebuild {name}" + (f" --seed {seed}" if seed else "")


def computed(name: str, seed: int, fast: bool) -> dict:
    """Return `data(seed, fast)` of the figure `name`.

    Ctrl-C ends it even if `data` makes do with what it has, as a fit does: half a training is not to be kept.
    """
    interruptions = []

    def note(number: int, frame: FrameType | None) -> None:
        interruptions.append(number)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, note)
    try:
        data = _registry.load(name).data(seed=seed, fast=fast)
    finally:
        signal.signal(signal.SIGINT, before)
    if interruptions:
        raise KeyboardInterrupt
    return data


def versions() -> dict[str, str]:
    """Return the versions of what computes."""
    return {"python": platform.python_version()} | {each.__name__: each.__version__ for each in (refode, np, scipy)}


def machine() -> dict[str, str | int]:
    """Return what a time or a peak of memory depends on, and nothing by which the machine could be known."""
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count() or 1,
        "system": platform.system(),
        "blas": f"{blas['name']} {blas['version']}",
        "threads": os.environ.get("OPENBLAS_NUM_THREADS", "as many as cores"),
    }


def _cpu() -> str:
    """Return the model of the processor; Python itself knows it on some systems only."""
    try:
        about = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        about = ""
    models = [line.partition(":")[2].strip() for line in about.splitlines() if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def missing(name: str, seed: int = 0) -> str:
    """Return that the data of a figure are not there, and how to make them, or nothing."""
    if path_of(name, seed).exists():
        return ""
    cost = _registry.describe(name).cost_s
    return f"no data of {name} are kept for seed {seed}; make them in about {cost:g} s: {command(name, seed)}"


def _content(name: str, seed: int) -> dict:
    if missing(name, seed):
        raise FileNotFoundError(missing(name, seed))
    with np.load(path_of(name, seed), allow_pickle=False) as file:
        return {key: file[key][()] for key in file.files}


def _key(name: str, seed: int) -> str:
    """Return a short hash of the seed and of the source that the data come from."""
    source = (_registry.FOLDER / f"{name}.py").read_text(encoding="utf-8")
    return sha256("\n".join([*_behind_data(source), f"seed {seed}"]).encode()).hexdigest()[:16]


def _behind_data(source: str) -> Iterator[str]:
    """Yield the source of `data` and of all that it uses of its module, each once, in the order of the module."""
    parts = {name: node for node in ast.parse(source).body for name in _defines(node)}
    used, found = ["data"], set()
    while used:
        name = used.pop()
        if name in parts and name not in found:
            found.add(name)
            used += [node.id for node in ast.walk(parts[name]) if isinstance(node, ast.Name)]
    lines = source.splitlines()
    for first, last in sorted({_extent(parts[name]) for name in found}):
        yield "\n".join(lines[first:last])


def _defines(node: ast.stmt) -> Iterator[str]:
    """Yield the names that a statement of a module gives to something."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        yield node.name
    elif isinstance(node, ast.Import | ast.ImportFrom):
        yield from (alias.asname or alias.name for alias in node.names)
    else:
        yield from (
            each.id for each in ast.walk(node) if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store)
        )


def _extent(node: ast.stmt) -> tuple[int, int]:
    first = min([node.lineno, *(each.lineno for each in getattr(node, "decorator_list", ()))])
    return first - 1, node.end_lineno or first
