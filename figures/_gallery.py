"""The gallery: a small picture of every figure, and the page that shows them with claim, caption and command.

`python -m figures gallery` makes both anew. The pictures are compared in the tests with what is drawn today, as an eye
from afar would: other versions of Matplotlib and FreeType move letters by a pixel, and may.
"""

from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from time import perf_counter

import numpy as np
from PIL import Image

from . import _animate, _kept, _registry
from ._files import replacing
from ._io import Drawing, Request, opened
from ._registry import Description

WIDTH = 700  # pixels of a picture
FILM_DPI = 90  # of a GIF
COLOURS = 128
BLOCKS = 10, 20  # down and across, whose means are compared: a curve that moves by a pixel leaves no block

LECTURES = {
    "Models": ("resnet_limit", "vector_field", "spiral_fit", "cannot_cross", "nfe", "nfe_training", "regularised_nfev"),
    "Gradients": (
        "adjoint_jumps",
        "sweep",
        "minus_sign",
        "theorem1_slopes",
        "theta_accumulation",
        "time_gradients",
        "vjp_shapes",
        "fd_vcurve",
        "gradient_error_vs_tol",
        "error_calibration",
        "memory",
        "reverse_drift",
        "otd_gap",
    ),
    "Flows": (
        "density_morph",
        "density_flow",
        "instant_change",
        "mass",
        "nf_vs_cnf",
        "hutchinson",
        "wrong_gradient",
        "grid_trap",
        "image_density",
    ),
}
HEAD = """\
# The figures

One module a figure, each of which claims something; a test asserts it on the numbers that are drawn. This page and its
pictures are made by `python -m figures gallery`.

```sh
python -m figures list
python -m figures adjoint_jumps --size beamer169 --theme dark --format pdf,svg,png --out slides
python -m figures all --size half --mono --no-title
python -m figures sweep --format gif,pdf
```

Themes: `light`, `dark`, and `--mono` for print. Sizes, which a page has exactly: `beamer169` 14 x 6.8 cm, `half`
6.8 x 5.8 (one of two columns of it), `beamer43` 10.8 x 6.6, `ppt169` 30 x 14.5, `column` 8.25 x 5.6, `text` 13.97 x
6.8; a figure is drawn at those at which it can be read. Beside each picture goes a JSON file with claim, caption, alt
text, command and versions. Trainings and measurements are kept in `figures/kept`, with what made them, and
`python -m figures rebuild NAME` makes them anew. What moves is written as GIF, as a PDF of all frames (for LaTeX's
`animate`, or a page for an overlay), as MP4 where there is ffmpeg, and as three stills.

In a script, in a figure and a style of one's own (a figure of several panels takes `fig=`, which may be a subfigure,
and one of a single panel `ax=`); colours are roles, taken from `axes.prop_cycle`: reference, forward, adjoint,
alternative, data, muted.

```python
import matplotlib.pyplot as plt
from figures import fd_vcurve, minus_sign

with plt.style.context(["figures.styles.base", "figures.styles.dark", "figures.styles.beamer169"]):
    left, right = plt.figure(layout="constrained").subfigures(1, 2)
    minus_sign.draw(fig=left)
    fd_vcurve.draw(ax=right.subplots())

numbers = fd_vcurve.data(seed=1)
```
"""


def write(folder: Path = _registry.FOLDER, say: Callable = print) -> list[str]:
    """Draw all pictures into `folder`/gallery and the page into `folder`; return what the check objects to."""
    names, entries, faults = [], {}, []
    for name in _registry.names():
        gap = _kept.missing(name) if _kept.begins(name, fast=False) else ""
        names += [] if gap else [name]
        faults += [gap] if gap else []
    for number, name in enumerate(names, start=1):
        start = perf_counter()
        with opened(name, Request()) as drawing:
            for path, picture in pictures(drawing, folder / "gallery"):
                with replacing(path) as file:
                    file.write(picture)
        entries[name] = _entry(drawing.about)
        faults += [f"{name}: {fault}" for fault in drawing.faults]
        say(f"{number:2} of {len(names)}  {name}  {perf_counter() - start:.1f} s", flush=True)
    with replacing(folder / "README.md") as file:
        file.write(_page(entries).encode())
    return faults


def pictures(drawing: Drawing, folder: Path) -> Iterator[tuple[Path, bytes]]:
    """Yield the picture of a figure and, if it moves, its film, with their paths."""
    file = BytesIO()
    drawn(drawing).quantize(COLOURS, dither=Image.Dither.NONE).save(file, "PNG", optimize=True)
    yield folder / f"{drawing.about.name}.png", file.getvalue()
    if drawing.about.frames:
        film = BytesIO()
        _animate.write_gif(drawing.figure, drawing.show, drawing.about.frames, film, FILM_DPI, lambda _: {})
        yield folder / f"{drawing.about.name}.gif", film.getvalue()


def drawn(drawing: Drawing) -> Image.Image:
    """Return a figure, or its middle still, as a picture of WIDTH pixels."""
    if drawing.about.frames:
        drawing.show(drawing.about.stills[1])
    file = BytesIO()
    drawing.figure.savefig(file, format="png", dpi=WIDTH / drawing.figure.get_figwidth())
    return Image.open(file).convert("RGB")


def distance(one: Image.Image, other: Image.Image) -> float:
    """Return how far two pictures are apart as seen from afar: the RMS over blocks of pixels, in parts of white."""
    seen, its = (_from_afar(picture) for picture in (one, other))
    return float(np.sqrt(np.mean((seen - its) ** 2)))


def tolerance(picture: Image.Image) -> float:
    """Return how far a picture is from itself, moved by a pixel down or to the right, whichever is more."""
    pixels = np.asarray(picture.convert("RGB"))
    return max(distance(picture, Image.fromarray(np.roll(pixels, 1, axis))) for axis in (0, 1))


def _from_afar(picture: Image.Image) -> np.ndarray:
    """Return the mean colour of each block."""
    pixels, (down, across) = np.asarray(picture.convert("RGB"), dtype=float) / 255, BLOCKS
    height, width = (length // count for length, count in zip(pixels.shape, BLOCKS, strict=False))
    blocks = pixels[: height * down, : width * across].reshape(down, height, across, width, 3)
    return blocks.mean(axis=(1, 3))


def _page(entries: dict[str, str]) -> str:
    """Return the page: head, lectures, and what belongs to none of them."""
    placed = {name for names in LECTURES.values() for name in names}
    lectures = LECTURES | {"More": [name for name in entries if name not in placed]}
    parts = [HEAD]
    for lecture, names in lectures.items():
        shown = [entries[name] for name in names if name in entries]
        parts += [f"## {lecture}\n", *shown] if shown else []
    return "\n".join(parts)


def _entry(about: Description) -> str:
    """Return what the page says of a figure."""
    ending = "gif" if about.frames else "png"
    how = f"kept {about.kept}" if about.kept else f"{about.cost_s:g} s"
    if about.frames:
        how += f", {about.frames} frames"
    formats = "gif,pdf" if about.frames else "pdf,svg,png"
    return f"""\
### {about.claim}

![{about.alt}](gallery/{about.name}.{ending})

{about.caption}

`python -m figures {about.name} --format {formats}`
{how}; {", ".join(about.sizes)}; {" ".join(about.note_ids)}
"""
