"""Which figures there are, and what each says of itself, found without importing any of them.

A figure is a module of this package whose name does not begin with an underscore. Its CLAIM, CAPTION, ALT,
NOTE_IDS, COST_S and SIZES, and KEPT, FRAMES and STILLS if it has them, are literals, so they are read from the source:
`python -m figures list` starts no NumPy and solves nothing.
"""

import ast
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType

FOLDER = Path(__file__).parent
WHY_KEPT = ("training", "measurement")


@dataclass(frozen=True)
class Description:
    """What a figure says of itself: its name, the six literals of its module, and those that most go without.

    `kept` says why the data are kept: they are a "training" or a "measurement". What moves has `frames`, and three
    of them are its `stills`.
    """

    name: str
    claim: str
    caption: str
    alt: str
    note_ids: tuple[str, ...]
    cost_s: float
    sizes: tuple[str, ...]
    kept: str | None = None
    frames: int = 0
    stills: tuple[int, ...] = ()


def names() -> list[str]:
    """Return the names of all figures, in alphabetical order."""
    return sorted(path.stem for path in FOLDER.glob("*.py") if not path.stem.startswith("_"))


def describe(name: str) -> Description:
    """Return what the figure `name` says of itself; ValueError names a literal that is missing."""
    found = _literals(FOLDER / f"{name}.py")
    wanted = ("CLAIM", "CAPTION", "ALT", "NOTE_IDS", "COST_S", "SIZES")
    missing = [key for key in wanted if key not in found]
    if missing:
        raise ValueError(f"figure {name} does not define {', '.join(missing)} as literals")
    if found.get("KEPT") not in (None, *WHY_KEPT):
        raise ValueError(f"KEPT of figure {name} must be one of {', '.join(WHY_KEPT)}, got {found['KEPT']!r}")
    return Description(
        name, *(found[key] for key in wanted), found.get("KEPT"), found.get("FRAMES", 0), found.get("STILLS", ())
    )


def load(name: str) -> ModuleType:
    """Import the module of the figure `name`."""
    return import_module(f"figures.{name}")


def _literals(path: Path) -> dict:
    """Return the upper-case names that the module at `path` sets to literals, without running it."""
    found = {}
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id.isupper():
            try:
                found[node.targets[0].id] = ast.literal_eval(node.value)
            except ValueError:  # a constant that is computed is the module's own business
                continue
    return found
