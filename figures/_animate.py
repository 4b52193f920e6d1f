"""Figures that move: as GIF, as a PDF with a page for each frame, as MP4 where there is ffmpeg, and as three stills.

A module that moves says how many FRAMES it has and which three are its STILLS, and has `animate(data, fig)`: it draws
into the figure what stays, and returns `show(frame)`, which changes the rest. Its `draw` takes a `frame`. The layout is
that of the last still and does not change, so that nothing jumps. Pillow, which writes the GIF, comes with Matplotlib.
"""

import shutil
import subprocess
from collections.abc import Callable, Iterable, Iterator
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import numpy as np
from matplotlib import rcParams
from matplotlib.backends.backend_pdf import PdfPages
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image

from ._files import replacing
from ._registry import Description

FILMS = ("gif", "pdf", "mp4")  # what holds all the frames
STILLS = ("png", "svg")  # what holds one; without either of them the stills are PDF too
RATE = 12.5  # frames a second
HOLD = 1.5  # seconds for which a GIF shows the last frame
DPI = 120  # of GIF, MP4 and the maps inside a PDF: 661 x 321 pixels at 14 x 6.8 cm
COLOURS = 64  # in a GIF

Show = Callable[[int], None]


def freeze(figure: Figure, show: Show, last: int) -> None:
    """Lay the figure out for the frame `last`, and keep it so for all others."""
    show(last)
    for _ in range(3):  # a layout and the ticks that it has room for settle together
        figure.draw_without_rendering()
    figure.set_layout_engine("none")


def save(
    figure: Figure,
    show: Show,
    stem: Path,
    formats: Iterable[str],
    about: Description,
    dpi: int | None,
    metadata: Callable,
) -> Iterator[Path]:
    """Write the film in each format that holds one, and the three stills; yield the paths."""
    formats = list(formats)
    for kind in (kind for kind in formats if kind in FILMS):
        path = stem.with_name(f"{stem.name}.{kind}")
        with replacing(path) as file:
            _WRITERS[kind](figure, show, about.frames, file, dpi or DPI, metadata)
        yield path
    for number, frame in enumerate(about.stills, start=1):
        show(frame)
        for kind in [kind for kind in formats if kind in STILLS] or ["pdf"]:
            path = stem.with_name(f"{stem.name}-{number}.{kind}")
            with replacing(path) as file:
                figure.savefig(file, format=kind, dpi=dpi or rcParams["savefig.dpi"], metadata=metadata(kind))
            yield path


def frames(figure: Figure, show: Show, count: int, dpi: int) -> Iterator[Image.Image]:
    """Yield the frames as pictures without transparency."""
    for frame in range(count):
        show(frame)
        file = BytesIO()
        figure.savefig(file, format="png", dpi=dpi, pil_kwargs={"compress_level": 0})
        yield Image.open(file).convert("RGB")


def write_gif(figure: Figure, show: Show, count: int, file: BinaryIO, dpi: int, metadata: Callable) -> None:
    """Write all frames in one palette, that of the first, a middle and the last one: nothing flickers."""
    pictures = list(frames(figure, show, count, dpi))
    some = np.concatenate([np.asarray(pictures[k]) for k in (0, count // 2, 2 * count // 3, count - 1)])
    palette = Image.fromarray(some).quantize(COLOURS - 1)
    page = tuple(round(255 * part) for part in to_rgb(figure.get_facecolor()))
    first, *others = [_quantized(picture, palette, page) for picture in pictures]
    durations = [round(1000 / RATE)] * (count - 1) + [round(1000 * HOLD)]
    comment = "\n".join(metadata("gif").values()).encode()
    first.save(file, "GIF", save_all=True, append_images=others, duration=durations, loop=0, comment=comment)


def _quantized(picture: Image.Image, palette: Image.Image, page: tuple[int, int, int]) -> Image.Image:
    """Return a picture in a palette and the exact colour of the page: on a slide of that colour no box is seen."""
    indices = np.array(picture.quantize(palette=palette, dither=Image.Dither.NONE))
    indices[(np.asarray(picture) == page).all(axis=-1)] = COLOURS - 1
    found = Image.fromarray(indices, "P")
    found.putpalette([*palette.getpalette()[: 3 * (COLOURS - 1)], *page])
    return found


def _write_pdf(figure: Figure, show: Show, count: int, file: BinaryIO, dpi: int, metadata: Callable) -> None:
    with PdfPages(file, metadata=metadata("pdf")) as pages:
        for frame in range(count):
            show(frame)
            pages.savefig(figure, dpi=dpi)


def _write_mp4(figure: Figure, show: Show, count: int, file: BinaryIO, dpi: int, metadata: Callable) -> None:
    """Pipe the frames to ffmpeg; players want even numbers of pixels."""
    pictures = frames(figure, show, count, dpi)
    first = next(pictures)
    size = f"{first.width}x{first.height}"
    source = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", size, "-r", f"{RATE:g}", "-i", "-"]
    even = ["-vf", "pad=ceil(iw/2)*2:ceil(ih/2)*2", "-pix_fmt", "yuv420p"]
    target = ["-map_metadata", "-1", "-fflags", "+bitexact", "-f", "mp4", file.name]
    command = [ffmpeg(), "-y", "-loglevel", "error", *source, *even, *target]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        for picture in (first, *pictures):
            process.stdin.write(picture.tobytes())
    if process.returncode:
        raise OSError(f"ffmpeg ended with exit code {process.returncode}")


def ffmpeg() -> str:
    """Return the path of ffmpeg; ValueError if there is none."""
    path = shutil.which("ffmpeg")
    if path is None:
        raise ValueError("mp4 needs ffmpeg on the PATH; gif and pdf do not")
    return path


_WRITERS = {"gif": write_gif, "pdf": _write_pdf, "mp4": _write_mp4}
