"""What moves is written frame by frame, and as three stills; half a film is no film."""

import os
import re
import stat
import sys

import numpy as np
import pytest
from PIL import Image

from figures import _registry
from figures.__main__ import main

FIGURE = """
from figures._roles import points, role
from figures._text import canvas, title

CLAIM = "A claim"
CAPTION = "It ends at {end:.1f}."
ALT = "A point. It moves to {end:.1f}."
NOTE_IDS = ("D01",)
COST_S = 0.1
SIZES = ("beamer169", "half")
FRAMES = 5
STILLS = (0, 2, 4)


def data(seed=0, fast=False):
    return {"end": 4.0}


def draw(data=None, *, fig=None, frame=2):
    fig = canvas() if fig is None else fig
    animate(data, fig)(frame)
    return fig


def animate(data, fig):
    ax = fig.subplots()
    ax.plot([0, data["end"]], [0, 0.0], **role("muted"))
    (dot,) = ax.plot([], [], **points("forward"))
    title(fig, CLAIM)

    def show(frame):
        dot.set_data([frame], [0.0])
        ax.set_title(f"frame {frame}")

    return show
"""
STILL = FIGURE.replace("FRAMES = 5\nSTILLS = (0, 2, 4)\n", "")
INTERRUPTED = """
    seen = []

    def show(frame):
        seen.append(frame)
        if seen.count(2) == 2:  # first as a still, by the check, and then in the film
            raise KeyboardInterrupt
"""
NAMES = ("moves", "stands")
MP4 = 'import sys; open(sys.argv[-1], "wb").write(" ".join(sys.argv[1:-1]).encode() + b" " + sys.stdin.buffer.read())'


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A registry with a figure that moves and one that does not; the folder to write to."""
    for name, source in zip(NAMES, (FIGURE, STILL), strict=True):
        (tmp_path / f"{name}.py").write_text(source)
    monkeypatch.setattr(_registry, "FOLDER", tmp_path)
    monkeypatch.setattr("figures.__path__", [str(tmp_path)])
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    yield tmp_path / "out"
    for name in NAMES:
        sys.modules.pop(f"figures.{name}", None)


def written(folder):
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_a_film_has_all_frames_and_three_stills(folder, capsys):
    assert main(["moves", "--format", "gif,pdf", "--out", str(folder)]) == 0
    assert written(folder) == ["moves-1.pdf", "moves-2.pdf", "moves-3.pdf", "moves.gif", "moves.json", "moves.pdf"]
    assert "wrote moves.gif  14.0 x 6.8 cm" in capsys.readouterr().out
    with Image.open(folder / "moves.gif") as film:
        assert film.n_frames == 5
        assert film.size == (661, 321)
        assert b"A point. It moves to 4.0." in film.info["comment"]
        frames = [np.asarray((film.seek(k), film.convert("RGB"))[1]) for k in range(5)]
        assert film.info["duration"] == 1500
    assert all(np.any(one != other) for k, one in enumerate(frames) for other in frames[:k])
    assert all((frame[0, -1] == 255).all() for frame in frames)  # the page, exactly
    pages = re.findall(rb"/MediaBox \[ ?0 0 ([\d.]+) ([\d.]+) ?\]", (folder / "moves.pdf").read_bytes())
    assert len(pages) == 5
    assert np.allclose(np.array(pages, float), np.array([14.0, 6.8]) / 2.54 * 72, rtol=0, atol=0.1)


def test_stills_are_of_the_format_that_was_asked_for(folder):
    assert main(["moves", "--format", "svg,png", "--out", str(folder)]) == 0
    stills = [f"moves-{number}.{kind}" for number in (1, 2, 3) for kind in ("png", "svg")]
    assert written(folder) == [*stills, "moves.json"]
    for number, frame in ((1, 0), (2, 2), (3, 4)):
        assert f"frame {frame}" in (folder / f"moves-{number}.svg").read_text()


def test_the_same_film_is_the_same_file(folder):
    for out in ("one", "other"):
        assert main(["moves", "--format", "gif,pdf,png", "--out", str(folder / out)]) == 0
    assert len(written(folder / "one")) == 6
    for name in written(folder / "one"):
        assert (folder / "one" / name).read_bytes() == (folder / "other" / name).read_bytes(), name


def test_what_stands_still_has_no_film(folder, capsys):
    assert main(["stands", "--format", "gif", "--out", str(folder)]) == 2
    assert "stands does not move, it has no gif; what moves: moves" in capsys.readouterr().err
    assert main(["all", "--format", "gif,png", "--out", str(folder)]) == 0
    assert "stands.png" in written(folder)
    assert "stands.gif" not in written(folder)
    assert main(["all", "--format", "gif", "--out", str(folder)]) == 0
    assert "left out: stands does not move" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["gif", "pdf"])
def test_an_interrupted_film_leaves_what_was_there(folder, kind, capsys):
    assert main(["moves", "--format", kind, "--out", str(folder)]) == 0
    before, names = (folder / f"moves.{kind}").read_bytes(), written(folder)
    (folder.parent / "moves.py").write_text(FIGURE.replace("    def show(frame):\n", INTERRUPTED))
    sys.modules.pop("figures.moves")
    assert main(["moves", "--format", kind, "--out", str(folder)]) == 130
    assert "interrupted" in capsys.readouterr().err
    assert (folder / f"moves.{kind}").read_bytes() == before
    assert written(folder) == names


def test_mp4_needs_ffmpeg_and_says_so_before_any_work(folder, capsys):
    assert main(["moves", "--format", "mp4", "--out", str(folder)]) == 2
    assert "mp4 needs ffmpeg on the PATH; gif and pdf do not" in capsys.readouterr().err
    assert written(folder) == []


@pytest.mark.skipif(os.name == "nt", reason="the stand-in is a script with a shebang")
def test_mp4_gets_every_frame(folder):
    """A stand-in for ffmpeg writes down how it was called, and what it was given."""
    stand_in = folder.parent / "bin" / "ffmpeg"
    stand_in.parent.mkdir()
    stand_in.write_text(f"#!{sys.executable}\n{MP4}\n")
    stand_in.chmod(stand_in.stat().st_mode | stat.S_IXUSR)
    assert main(["moves", "--format", "mp4", "--out", str(folder)]) == 0
    raw = (folder / "moves.mp4").read_bytes()
    assert b"-s 661x321" in raw[:300]
    assert len(raw) > 5 * 661 * 321 * 3
    stand_in.write_text(f"#!{sys.executable}\nimport sys; sys.stdin.buffer.read(); sys.exit(3)\n")
    with pytest.raises(OSError, match="exit code 3"):
        main(["moves", "--format", "mp4", "--out", str(folder / "other")])
    assert written(folder / "other") == []


def test_the_list_says_what_moves(folder, capsys):
    assert main(["list"]) == 0
    assert "D01  0.1 s, 5 frames  beamer169, half" in capsys.readouterr().out
