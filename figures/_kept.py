"""The data of figures that nobody waits for: trainings, and measurements of one machine, committed with what made them.

A module asks for it by a literal, KEPT = "training" or KEPT = "measurement", and says what `draw` draws when it is
given nothing by `compute = partial(kept, "its_name")`, where other modules say `compute = data`. From then on
`python -m figures its_name` draws from figures/kept/its_name-0.npz, and `python -m figures rebuild its_name` calls
`data(seed)` and replaces that file. Where that would be too much to keep, a module has `train(seed)` beside `data`:
then its result is what is kept, and `data` goes on from `kept("its_name", seed)`.

A file holds the key of the source that made it: of `data` or `train` and what this uses of its own module, so that a
new caption trains nothing anew. A file with another key is out of date, and is said to be.
"""

import ast
import json
import os
import platform
import signal
from collections.abc import Callable, Iterator
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


def begins(name: str, fast: bool) -> bool:
    """Return whether what is drawn comes from what is kept: the fast version does only if `data` goes on from it."""
    return bool(_registry.describe(name).kept) and (not fast or _maker(name) == "train")


def holds(name: str) -> bool:
    """Return whether all of the data are kept, so that `data` need not be called."""
    return bool(_registry.describe(name).kept) and _maker(name) == "data"


def is_current(name: str, seed: int = 0) -> bool:
    """Return whether the kept data are those of the module as it stands."""
    return made_by(name, seed)["key"] == _key(name, seed)


def rebuild(name: str, seed: int = 0) -> Path:
    """Compute what the figure `name` keeps and put it in the place of what was kept; return the file."""
    key = _key(name, seed)  # of the source as it stands now, whatever becomes of it meanwhile
    data = uninterrupted(getattr(_registry.load(name), _maker(name)), seed)
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


def uninterrupted(compute: Callable[..., dict], seed: int, **options: bool) -> dict:
    """Return `compute(seed)`, all of it: Ctrl-C is raised even if `compute` returns what it has, as a fit does."""
    interruptions = []

    def note(number: int, frame: FrameType | None) -> None:
        interruptions.append(number)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, note)
    try:
        data = compute(seed=seed, **options)
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
    source = "\n".join([*_behind(_maker(name), _source(name)), f"seed {seed}"])
    return sha256(source.encode()).hexdigest()[:16]


def _maker(name: str) -> str:
    """Return the name of the function whose result is kept."""
    functions = {node.name for node in ast.parse(_source(name)).body if isinstance(node, ast.FunctionDef)}
    return "train" if "train" in functions else "data"


def _source(name: str) -> str:
    return (_registry.FOLDER / f"{name}.py").read_text(encoding="utf-8")


def _behind(maker: str, source: str) -> Iterator[str]:
    """Yield the source of a function and of all that it uses of its module, each once, in the order of the module."""
    parts = {name: node for node in ast.parse(source).body for name in _defines(node)}
    used, found = [maker], set()
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
