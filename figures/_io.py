"""From a figure to files: the page has exactly the size asked for, the bytes can be made again, and each picture
carries its claim, its text for those who can't see it, and the command that made it.
"""

import json
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from types import ModuleType

import matplotlib
import matplotlib.pyplot as plt
from matplotlib import rc_context, rcParams
from matplotlib.figure import Figure

from . import _kept
from ._cache import data as cached_data
from ._files import replacing
from ._lint import lint
from ._registry import Description, describe, load
from ._styles import style


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
    data = cached_data(name, request.seed, request.fast)
    about = filled(describe(name), data)
    with (
        style(request.theme, request.size, mono=request.mono),
        rc_context({"svg.fonttype": request.svg_text}),
        warnings.catch_warnings(record=True) as caught,
    ):
        warnings.simplefilter("always")
        figure = draw(load(name), data, title=request.title)
        faults = [*lint(figure, about.alt), *(f"warning: {warning.message}" for warning in caught)]
        origin = ""
        if _kept.begins(name, request.fast):
            origin = f"  kept {about.kept}; anew: {_kept.command(name, request.seed)}"
            if not _kept.is_current(name, request.seed):
                faults.append(f"the kept data are not of this version of {name}; {_kept.command(name, request.seed)}")
        width, height = figure.get_size_inches() * 2.54
        for path in save(figure, out / request.stem(name), formats, about, request):
            verdict = f"lint: {len(faults)} faults" if faults else "lint ok"
            say(f"wrote {path.name}  {width:.1f} x {height:.1f} cm  {perf_counter() - start:.1f} s  {verdict}{origin}")
            origin = ""  # said once
            start = perf_counter()
        plt.close(figure)
    for fault in faults:
        say(f"  {fault}")
    return faults


def draw(module: ModuleType, data: dict, *, title: bool = True) -> Figure:
    """Return the figure that a module draws from `data`, with or without its claim as the title."""
    figure = module.draw(data)
    figure = figure if isinstance(figure, Figure) else figure.figure  # a single panel returns its axes
    if not title:
        figure.suptitle("").set_in_layout(False)
    return figure


def filled(about: Description, data: dict) -> Description:
    """Return a description whose caption and alt text have their {numbers} filled in from `data`."""
    return replace(about, caption=about.caption.format_map(data), alt=about.alt.format_map(data))


def save(figure: Figure, stem: Path, formats: Iterable[str], about: Description, request: Request) -> Iterator[Path]:
    """Write the figure as `stem`.pdf, .svg, .png and its description as `stem`.json; yield the pictures' paths."""
    dpi = request.dpi or rcParams["savefig.dpi"]
    for kind in formats:
        path = stem.with_name(f"{stem.name}.{kind}")
        with replacing(path) as file, rc_context({"savefig.bbox": "standard"}):
            figure.savefig(file, format=kind, dpi=dpi, metadata=_metadata(kind, about, request))
        yield path
    with replacing(stem.with_name(f"{stem.name}.json")) as file:
        text = json.dumps(_sidecar(about, request), indent=2, ensure_ascii=False)
        file.write(f"{text}\n".encode())


def _metadata(kind: str, about: Description, request: Request) -> dict:
    """Return the claim, the alt text and the command in the words of the file format, and no date."""
    common, command = {"Title": about.claim}, request.command(about.name)
    if kind == "pdf":
        ids = " ".join(about.note_ids)
        return common | {"Subject": about.alt, "Keywords": ids, "Creator": command, "CreationDate": None}
    return common | {"Description": about.alt, "Source": command} | ({"Date": None} if kind == "svg" else {})


def _sidecar(about: Description, request: Request) -> dict:
    kept = {"kept": _kept.made_by(about.name, request.seed)} if _kept.begins(about.name, request.fast) else {}
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
