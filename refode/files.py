"""Arrays on disk: written whole or not at all, read only if they are what they say."""

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from refode.arguments import real_array
from refode.types import Array


def save_arrays(path: str | Path, kind: str, **arrays: Any) -> None:
    """Write arrays to an .npz file of the given kind: beside it first, then moved over it in one step."""
    path = Path(path)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            np.savez(file, kind=np.array(kind), **arrays)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def load_arrays(path: str | Path, kind: str, shapes: Mapping[str, tuple[int | str, ...]]) -> dict[str, Array]:
    """The arrays of the names and shapes given. ValueError for a file that is damaged, foreign, or of another kind."""
    try:
        with np.load(path, allow_pickle=False) as file:
            content = {name: file[name] for name in file.files}
    except (ValueError, BadZipFile, EOFError, KeyError, OSError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise ValueError(f"{path} is damaged, or no .npz file: {error}") from None
    if "kind" not in content or str(content["kind"]) != kind:
        raise ValueError(f"{path} does not hold a {kind}")
    missing = sorted(set(shapes) - set(content))
    if missing:
        raise ValueError(f"{path} lacks {', '.join(missing)}")
    return {name: real_array(f"{name} in {path}", content[name], shape) for name, shape in shapes.items()}
