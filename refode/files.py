"""Arrays on disk: written whole or not at all, read only if they are what they say."""

import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from refode.arguments import real_array
from refode.types import Array


def save_arrays(path: str | Path, kind: str, **arrays: Any) -> None:
    """Write arrays to an .npz file of the given kind: beside it first, then moved over it in one step."""
    path = Path(path)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            np.savez(file, kind=np.array(kind), **arrays)
            file.flush()
            os.fsync(file.fileno())  # on the disk before the name points to it
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def load_arrays(path: str | Path, kind: str, shapes: Mapping[str, tuple[int | str, ...]]) -> dict[str, Array]:
    """The arrays of the names and shapes given. ValueError for a file that is damaged, foreign, or of another kind."""
    raw = Path(path).read_bytes()  # what the system refuses, a missing file say, is its own error
    try:
        with np.load(io.BytesIO(raw), allow_pickle=False) as file:
            content = {name: file[name] for name in file.files}
    except Exception as error:  # zipfile and the .npy reader raise a dozen kinds
        raise ValueError(f"{path} is damaged, or no .npz file of plain arrays: {error}") from None
    if "kind" not in content or str(content["kind"]) != kind:
        raise ValueError(f"{path} does not hold a {kind}")
    missing = sorted(set(shapes) - set(content))
    if missing:
        raise ValueError(f"{path} lacks {', '.join(missing)}")
    try:
        return {name: real_array(f"{name} in {path}", content[name], shape) for name, shape in shapes.items()}
    except TypeError as error:  # text, or complex numbers
        raise ValueError(str(error)) from None
