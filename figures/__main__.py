"""`python -m figures`: draw the figures of the note, each with its claim, into files.

    python -m figures list
    python -m figures adjoint_jumps --size half --format pdf,svg --out slides
    python -m figures all --mono
    python -m figures sweep --format gif,pdf      (it moves)
    python -m figures gallery                     (figures/README.md and its pictures, anew)
    python -m figures rebuild wrong_gradient      (a training or a measurement whose data are kept; minutes)

Exit code 0: all is well; 1: the check of a picture found faults, which are listed; 2: what was asked for doesn't
exist or can't be written, found out before anything is computed; 130: interrupted.
"""

import argparse
import os
import sys
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from time import perf_counter

from ._files import writable
from ._registry import FOLDER, describe, names
from ._styles import SIZES, themes

FORMATS = ("pdf", "svg", "png", "gif", "mp4")


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
    try:
        if wanted.names == ["gallery"]:
            return _gallery()
        return _rebuild(chosen, wanted.seed) if wanted.names[0] == "rebuild" else _write(chosen, wanted)
    except KeyboardInterrupt:
        print("python -m figures: interrupted; what is not finished is not written", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m figures", description="Draw the figures of the note.")
    parser.add_argument(
        "names", nargs="+", metavar="NAME", help="figures by name, `all`, `list`, or `rebuild` and names"
    )
    parser.add_argument("--theme", default="light", help=f"colours: {', '.join(themes())} (default: %(default)s)")
    parser.add_argument("--size", default="beamer169", help=f"page: {', '.join(SIZES)} (default: %(default)s)")
    parser.add_argument("--format", default="pdf", help="files: pdf, svg, png; gif, mp4 of what moves (default: pdf)")
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
    if wanted.names == ["gallery"]:
        writable(FOLDER / "gallery")
        return []
    if wanted.names[0] == "rebuild":
        return _to_rebuild(wanted.names[1:])
    chosen = _chosen(wanted)
    if "mp4" in wanted.format.split(","):
        from ._animate import ffmpeg

        ffmpeg()
    if chosen:
        writable(wanted.out)
    return chosen


def _chosen(wanted: argparse.Namespace) -> list[str]:
    """Return the figures that are meant; `all` leaves out those that can't be drawn as wanted, and says so."""
    if wanted.names == ["list"]:
        return []
    for name in wanted.names:
        _known("figure", name, [*names(), "all", "list", "rebuild", "gallery"])
    for word in {"list", "rebuild", "gallery"} & set(wanted.names):
        raise ValueError(f"`{word}` comes first" if word == "rebuild" else f"`{word}` stands alone")
    chosen = []
    for name in names() if "all" in wanted.names else wanted.names:
        obstacle = _obstacle(name, wanted)
        if obstacle and "all" not in wanted.names:
            raise ValueError(obstacle)
        if obstacle:
            print(f"left out: {obstacle}")
        else:
            chosen.append(name)
    return chosen


def _obstacle(name: str, wanted: argparse.Namespace) -> str:
    """Return why a figure can't be drawn at this size or with this seed, or nothing."""
    about = describe(name)
    if wanted.size not in about.sizes:
        return f"{name} can't be read at size {wanted.size}; its sizes: {', '.join(about.sizes)}"
    if not about.frames and set(wanted.format.split(",")) <= {"gif", "mp4"}:
        moving = [name for name in names() if describe(name).frames]
        return f"{name} does not move, it has no {wanted.format}; what moves: {', '.join(moving) or 'nothing'}"
    if about.kept:
        from . import _kept  # NumPy is needed from here on

        return _kept.missing(name, wanted.seed) if _kept.begins(name, wanted.fast) else ""
    return ""


def _to_rebuild(asked: list[str]) -> list[str]:
    """Return the figures whose data are to be made anew; ValueError or OSError if they are not kept, or can't be."""
    known = [name for name in names() if describe(name).kept]
    if not asked:
        raise ValueError(f"rebuild what? kept are the data of {', '.join(known) or 'no figure'}")
    for name in asked:
        _known("figure", name, names())
        if name not in known:
            raise ValueError(f"the data of {name} are not kept; kept are those of {', '.join(known) or 'no figure'}")
    writable(FOLDER / "kept")
    return asked


def _known(kind: str, got: str, known: Iterable[str]) -> None:
    known = list(known)
    if got not in known:
        nearest = get_close_matches(got, known, 1, cutoff=0)
        raise ValueError(f"unknown {kind} {got!a}; nearest is {nearest[0]!r}, known are {', '.join(known)}")


def _list() -> None:
    """Print what each figure claims, takes and comes in, as far as anybody reads on."""
    try:
        _print_list()
        sys.stdout.flush()
    except BrokenPipeError:  # as in `| head`; what is still buffered would break it again at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _print_list() -> None:
    for name in names():
        about = describe(name)
        print(f"{name:20} {about.claim}")
        kept = f", kept ({about.kept})" if about.kept else ""
        kept += f", {about.frames} frames" if about.frames else ""
        print(f"{'':20} {' '.join(about.note_ids)}  {about.cost_s:g} s{kept}  {', '.join(about.sizes)}")


def _rebuild(chosen: list[str], seed: int) -> int:
    """Compute and keep the data of figures, saying how long each takes."""
    from ._kept import rebuild

    for name in chosen:
        about, start = describe(name), perf_counter()
        print(f"rebuilding {name} ({about.kept}, about {about.cost_s:g} s)", flush=True)
        path = rebuild(name, seed)
        print(f"kept {path.name}  {path.stat().st_size / 1000:.0f} kB  {perf_counter() - start:.1f} s", flush=True)
    return 0


def _gallery() -> int:
    """Make the small pictures and their page anew, and return 1 if the check objects to any of them."""
    import matplotlib

    matplotlib.use("Agg")
    from ._gallery import write

    faults = write()
    print("\n".join(f"  {fault}" for fault in faults), end="\n" if faults else "")
    return 1 if faults else 0


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
    formats, say = wanted.format.split(","), partial(print, flush=True)
    faults = [write(name, wanted.out, formats, request, say) for name in chosen]
    return 1 if any(faults) else 0


if __name__ == "__main__":
    sys.exit(main())
