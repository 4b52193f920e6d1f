"""`python -m figures`: draw the figures of the note, each with its claim, into files.

    python -m figures list
    python -m figures adjoint_jumps --size half --format pdf,svg --out slides
    python -m figures all --mono

Exit code 0: all is well; 1: the check of a picture found faults, which are listed; 2: what was asked for doesn't
exist or can't be written, found out before anything is computed.
"""

import argparse
import sys
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path
from tempfile import TemporaryFile

from ._registry import describe, names
from ._styles import SIZES, themes

FORMATS = ("pdf", "svg", "png")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (without the program's name) and return its exit code."""
    parser = _parser()
    wanted = parser.parse_args(argv)
    try:
        chosen = _checked(wanted)
    except (ValueError, OSError) as error:
        print(f"python -m figures: {error}", file=sys.stderr)
        return 2
    if wanted.names == ["list"]:
        _list()
        return 0
    return _write(chosen, wanted)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m figures", description="Draw the figures of the note.")
    parser.add_argument("names", nargs="+", metavar="NAME", help="figures by name, or `all`, or `list`")
    parser.add_argument("--theme", default="light", help=f"colours: {', '.join(themes())} (default: %(default)s)")
    parser.add_argument("--size", default="beamer169", help=f"page: {', '.join(SIZES)} (default: %(default)s)")
    parser.add_argument("--format", default="pdf", help="files: pdf, svg, png, separated by commas (default: pdf)")
    parser.add_argument("--out", type=Path, default=Path(), help="folder to write to (default: this one)")
    parser.add_argument("--seed", type=int, default=0, help="seed of what is drawn at random (default: 0)")
    parser.add_argument("--fast", action="store_true", help="compute a coarser version")
    parser.add_argument("--mono", action="store_true", help="black lines for print, instead of a theme")
    parser.add_argument("--no-title", dest="title", action="store_false", help="leave the claim to the slide's title")
    parser.add_argument("--dpi", type=int, help="pixels per inch of PNG files (default: 200)")
    parser.add_argument("--svg-text", default="none", help="`path` draws letters as shapes (default: text stays text)")
    return parser


def _checked(wanted: argparse.Namespace) -> list[str]:
    """Return the names of the figures to draw; what is unknown or can't be written raises, before any work."""
    for kind, got, known in (
        ("theme", wanted.theme, themes()),
        ("size", wanted.size, SIZES),
        ("svg text", wanted.svg_text, ("none", "path")),
        *(("format", part, FORMATS) for part in wanted.format.split(",")),
    ):
        _known(kind, got, known)
    if wanted.dpi is not None and wanted.dpi <= 0:
        raise ValueError(f"--dpi must be positive, got {wanted.dpi}")
    if wanted.seed < 0:
        raise ValueError(f"--seed must not be negative, got {wanted.seed}")
    chosen = _chosen(wanted.names, wanted.size)
    if chosen:
        _writable(wanted.out)
    return chosen


def _chosen(asked: list[str], size: str) -> list[str]:
    """Return the figures that are meant; `all` leaves out those that can't be read at this size, and says so."""
    if asked == ["list"]:
        return []
    for name in asked:
        _known("figure", name, [*names(), "all", "list"])
    if "list" in asked:
        raise ValueError("`list` stands alone")
    legible = {name: size in describe(name).sizes for name in (names() if "all" in asked else asked)}
    for name in (name for name, fits in legible.items() if not fits):
        remark = f"{name} can't be read at size {size}; its sizes: {', '.join(describe(name).sizes)}"
        if "all" not in asked:
            raise ValueError(remark)
        print(f"left out: {remark}")
    return [name for name, fits in legible.items() if fits]


def _known(kind: str, got: str, known: Iterable[str]) -> None:
    known = list(known)
    if got not in known:
        nearest = get_close_matches(got, known, 1, cutoff=0)
        raise ValueError(f"unknown {kind} {got!a}; nearest is {nearest[0]!r}, known are {', '.join(known)}")


def _writable(folder: Path) -> None:
    """Make the folder if need be, and try it: OSError if nothing can be written there."""
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryFile(dir=folder):
        pass


def _list() -> None:
    for name in names():
        about = describe(name)
        print(f"{name:20} {about.claim}")
        print(f"{'':20} {' '.join(about.note_ids)}  {about.cost_s:g} s  {', '.join(about.sizes)}")


def _write(chosen: list[str], wanted: argparse.Namespace) -> int:
    """Write the figures and return 1 if the check objects to any of them, 0 otherwise."""
    import matplotlib

    matplotlib.use("Agg")  # files need no window
    from ._io import Request, write

    request = Request(
        theme=wanted.theme,
        size=wanted.size,
        mono=wanted.mono,
        seed=wanted.seed,
        fast=wanted.fast,
        title=wanted.title,
        dpi=wanted.dpi,
        svg_text=wanted.svg_text,
    )
    faults = [write(name, wanted.out, wanted.format.split(","), request) for name in chosen]
    return 1 if any(faults) else 0


if __name__ == "__main__":
    sys.exit(main())
