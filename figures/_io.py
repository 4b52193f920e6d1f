"""From a figure to files: the page has exactly the size asked for, the bytes can be made again, and each picture
carries its claim, its text for those who can't see it, and the command that made it.
"""

import json
import logging
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from time import perf_counter
from types import ModuleType

import matplotlib
import matplotlib.pyplot as plt
from matplotlib import rc_context, rcParams
from matplotlib.figure import Figure

from . import _kept
from ._animate import freeze
from ._animate import save as save_film
from ._cache import data as cached_data
from ._files import replacing
from ._lint import lint
from ._registry import Description, describe, load
from ._styles import style
from ._text import canvas

PICTURES = ("pdf", "svg", "png")  # of a figure that does not move


@dataclass(frozen=True)
class Request:
    """How a figure is wanted: what changes the picture, and with it the name of its file."""

    theme: str = "light"
    size: str = "beamer169"
    mono: bool = False
    seed: int = 0
    fast: bool = False
    title: bool = True
    dpi: int | None = None
    svg_text: str = "none"

    def stem(self, name: str) -> str:
        """Return the file name, without its ending: the defaults go without saying."""
        look = "mono" if self.mono else self.theme
        return "_".join([name, *[part for part in (self.size, look) if part not in ("beamer169", "light")]])

    def command(self, name: str) -> str:
        """Return the command that draws this picture, with the options that differ from their defaults."""
        options = [f"--{key} {getattr(self, key)}" for key in ("theme", "size", "seed") if self._differs(key)]
        options += [f"--{key}" for key in ("mono", "fast") if getattr(self, key)]
        options += [] if self.title else ["--no-title"]
        options += [f"--dpi {self.dpi}"] if self.dpi else []
        options += [f"--svg-text {self.svg_text}"] if self._differs("svg_text") else []
        return " ".join(["python -m figures", name, *options])

    def _differs(self, key: str) -> bool:
        return getattr(self, key) != getattr(Request(), key)


def write(
    name: str, out: Path, formats: Iterable[str] = ("pdf",), request: Request | None = None, say: Callable = print
) -> list[str]:
    """Compute, draw, check and save the figure `name` in the folder `out`; return what the check objects to.

    `say` gets one line for each file and one for each objection. A warning of Matplotlib, such as a letter that the
    font lacks, is an objection too.
    """
    request = request or Request()
    start = perf_counter()
    with opened(name, request) as drawing:
        about, faults = drawing.about, drawing.faults
        begins = _kept.begins(name, request.fast)
        origin = f"  kept {about.kept}; anew: {_kept.command(name, request.seed)}" if begins else ""
        width, height = drawing.figure.get_size_inches() * 2.54
        for path in save(drawing.figure, out / request.stem(name), formats, about, request, drawing.show):
            verdict = f"lint: {len(faults)} faults" if faults else "lint ok"
            say(f"wrote {path.name}  {width:.1f} x {height:.1f} cm  {perf_counter() - start:.1f} s  {verdict}{origin}")
            origin = ""  # said once
            start = perf_counter()
    for fault in faults:
        say(f"  {fault}")
    return faults


@dataclass(frozen=True)
class Drawing:
    """A figure as it is drawn, what shows a frame of it, what it says of itself, and what the check objects to."""

    figure: Figure
    show: Callable[[int], None]
    about: Description
    faults: list[str]


@contextmanager
def opened(name: str, request: Request) -> Iterator[Drawing]:
    """Compute, draw and check a figure, and close it in the end; the style is that of the request meanwhile."""
    data = cached_data(name, request.seed, request.fast)
    about = filled(describe(name), data)
    with (
        style(request.theme, request.size, mono=request.mono),
        rc_context({"svg.fonttype": request.svg_text}),
        _objections() as caught,
    ):
        figure, show = moving(load(name), data, about, title=request.title)
        faults = []
        for still in about.stills or (0,):
            show(still)
            faults += [fault for fault in lint(figure, about.alt) if fault not in faults]
        faults += [f"warning: {message}" for message in caught]
        if _kept.begins(name, request.fast) and not _kept.is_current(name, request.seed):
            faults.append(f"the kept data are not of this version of {name}; {_kept.command(name, request.seed)}")
        yield Drawing(figure, show, about, faults)
        plt.close(figure)


@contextmanager
def _objections() -> Iterator[list[str]]:
    """Yield a list that fills with what Matplotlib warns of, be it a warning or a line of its log."""
    messages: list[str] = []
    noting = logging.Handler(logging.WARNING)
    noting.emit = lambda record: messages.append(record.getMessage())
    log = logging.getLogger("matplotlib")
    log.addHandler(noting)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.showwarning = lambda message, *_, **__: messages.append(str(message))
            yield messages
    finally:
        log.removeHandler(noting)


def draw(module: ModuleType, data: dict, *, title: bool = True) -> Figure:
    """Return the figure that a module draws from `data`, with or without its claim as the title."""
    figure = module.draw(data)
    figure = figure if isinstance(figure, Figure) else figure.figure  # a single panel returns its axes
    if not title:
        figure.suptitle("").set_in_layout(False)
    return figure


def moving(module: ModuleType, data: dict, about: Description, *, title: bool = True) -> tuple[Figure, Callable]:
    """Return the figure and what shows a frame of it; of a figure that does not move, nothing changes."""
    if not about.frames:
        return draw(module, data, title=title), lambda frame: None
    figure = canvas()
    show = module.animate(data, figure)
    if not title:
        figure.suptitle("").set_in_layout(False)
    freeze(figure, show, about.stills[-1])
    return figure, show


def filled(about: Description, data: dict) -> Description:
    """Return a description whose caption and alt text have their {numbers} filled in from `data`."""
    return replace(about, caption=about.caption.format_map(data), alt=about.alt.format_map(data))


def save(
    figure: Figure,
    stem: Path,
    formats: Iterable[str],
    about: Description,
    request: Request,
    show: Callable | None = None,
) -> Iterator[Path]:
    """Write the figure as `stem`.pdf, .svg, .png and its description as `stem`.json; yield the pictures' paths.

    What moves, by `show(frame)`, is written as a film, `stem`.gif, .pdf, .mp4, and as stills, `stem`-1.png and so on.
    """
    with rc_context({"savefig.bbox": "standard"}):
        if about.frames:
            yield from save_film(figure, show, stem, formats, about, request.dpi, partial(_metadata, about, request))
        else:
            for kind in (kind for kind in formats if kind in PICTURES):
                path = stem.with_name(f"{stem.name}.{kind}")
                dpi = request.dpi or rcParams["savefig.dpi"]
                with replacing(path) as file:
                    figure.savefig(file, format=kind, dpi=dpi, metadata=_metadata(about, request, kind))
                yield path
    with replacing(stem.with_name(f"{stem.name}.json")) as file:
        text = json.dumps(_sidecar(about, request), indent=2, ensure_ascii=False)
        file.write(f"{text}\n".encode())


def _metadata(about: Description, request: Request, kind: str) -> dict:
    """Return the claim, the alt text and the command in the words of the file format, and no date."""
    common, command = {"Title": about.claim}, request.command(about.name)
    if kind == "pdf":
        ids = " ".join(about.note_ids)
        return common | {"Subject": about.alt, "Keywords": ids, "Creator": command, "CreationDate": None}
    return common | {"Description": about.alt, "Source": command} | ({"Date": None} if kind == "svg" else {})


def _sidecar(about: Description, request: Request) -> dict:
    begins = about.kept and _kept.begins(about.name, request.fast)
    kept = {"kept": _kept.made_by(about.name, request.seed)} if begins else {}
    return {
        "name": about.name,
        "claim": about.claim,
        "caption": about.caption,
        "alt": about.alt,
        "note_ids": about.note_ids,
        "command": request.command(about.name),
        "seed": request.seed,
        "versions": {**_kept.versions(), "matplotlib": matplotlib.__version__},
        **kept,
    }
