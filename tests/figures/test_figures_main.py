"""The command line: what is unknown or can't be written is refused before anything is computed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from figures import _registry
from figures.__main__ import main

ROOT = Path(__file__).parents[2]

FIGURE = """
from figures._text import canvas, title

CLAIM = "A claim"
CAPTION = "The end is {end:.1f}."
ALT = "A line. It ends at {end:.1f}."
NOTE_IDS = ("D01",)
COST_S = 0.1
SIZES = ("beamer169", "half")


def data(seed=0, fast=False):
    return {"end": 2.0 + seed + fast}


def draw(data=None, *, ax=None):
    fig = canvas()
    ax = fig.subplots()
    ax.plot([0, 1], [0, data["end"]], **LOOK)
    title(fig, CLAIM)
    return ax
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A registry with two figures, `tidy` and `untidy`, whose curve has a colour that is no role."""
    for name, look in (("tidy", {"color": "black"}), ("untidy", {"color": "lime"})):
        (tmp_path / "figures" / f"{name}.py").parent.mkdir(exist_ok=True)
        (tmp_path / "figures" / f"{name}.py").write_text(FIGURE.replace("LOOK", repr(look)))
    monkeypatch.setattr(_registry, "FOLDER", tmp_path / "figures")
    monkeypatch.setattr("figures.__path__", [str(tmp_path / "figures")])
    yield tmp_path
    for name in ("tidy", "untidy"):
        sys.modules.pop(f"figures.{name}", None)


def test_the_list_says_what_each_figure_claims(folder, capsys):
    assert main(["list"]) == 0
    assert capsys.readouterr().out.splitlines()[:2] == [
        "tidy                 A claim",
        "                     D01  0.1 s  beamer169, half",
    ]


def test_the_list_ends_quietly_where_nobody_reads_on():
    reader, writer = os.pipe()
    os.close(reader)  # as `head` does, only sooner
    try:
        command = [sys.executable, "-m", "figures", "list"]
        done = subprocess.run(command, cwd=ROOT, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_list_imports_no_figure(folder, capsys):
    (folder / "figures" / "broken.py").write_text(FIGURE.replace("LOOK", "{}") + "\nraise ImportError\n")
    assert main(["list"]) == 0
    assert "broken" in capsys.readouterr().out


def test_a_clean_figure_is_written_and_reported(folder, capsys):
    out = folder / "new" / "out"
    assert main(["tidy", "--format", "pdf,svg,png", "--out", str(out), "--seed", "3"]) == 0
    assert {path.name for path in out.iterdir()} == {"tidy.pdf", "tidy.svg", "tidy.png", "tidy.json"}
    first, *_ = capsys.readouterr().out.splitlines()
    words = first.split("  ")
    assert (words[0], words[1], words[3]) == ("wrote tidy.pdf", "14.0 x 6.8 cm", "lint ok")
    assert "The end is 5.0." in (out / "tidy.json").read_text()


def test_faults_are_listed_and_make_the_exit_code_1(folder, capsys):
    assert main(["all", "--size", "half", "--out", str(folder)]) == 1
    out = capsys.readouterr().out
    assert "wrote tidy_half.pdf  6.8 x 5.8 cm" in out
    assert "lint: 1 faults\n  colour outside the roles: #00ff00" in out


def test_what_matplotlib_warns_of_or_logs_is_a_fault(folder, capsys):
    """A letter that the font lacks is warned of; a font that is not there is only a line in the log."""
    source = (folder / "figures" / "tidy.py").read_text()
    spoilt = source.replace(
        "    return ax\n", '    ax.set_xlabel("\\ue000", fontfamily="No Such Font")\n    return ax\n'
    )
    (folder / "figures" / "tidy.py").write_text(spoilt)
    assert main(["tidy", "--out", str(folder)]) == 1
    out = capsys.readouterr().out
    assert "warning: findfont: Font family 'No Such Font' not found." in out
    assert "warning: Glyph" in out


def test_without_title_the_claim_is_not_in_the_picture(folder):
    assert main(["tidy", "--no-title", "--format", "svg", "--out", str(folder)]) == 0
    assert ">A claim</text>" not in (folder / "tidy.svg").read_text()
    assert main(["tidy", "--format", "svg", "--out", str(folder)]) == 0
    assert ">A claim</text>" in (folder / "tidy.svg").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tydi"], "unknown figure 'tydi'; nearest is 'tidy', known are tidy, untidy, all, list, rebuild, gallery"),
        (["tidy", "--theme", "lihgt"], "unknown theme 'lihgt'; nearest is 'light', known are dark, light"),
        (["tidy", "--size", "haf"], "unknown size 'haf'; nearest is 'half', known are beamer169, half, "),
        (["tidy", "--format", "pdf,giv"], "unknown format 'giv'; nearest is 'gif', known are pdf, svg, png, gif, mp4"),
        (["tidy", "--svg-text", "pth"], "unknown svg text 'pth'; nearest is 'path', known are none, path"),
        (["tidy", "--size", "column"], "tidy can't be read at size column; its sizes: beamer169, half"),
        (["tidy", "--dpi", "0"], "--dpi must be positive, got 0"),
        (["tidy", "--seed", "-1"], "--seed must not be negative, got -1"),
        (["tidy", "list"], "`list` stands alone"),
        (["gallery", "tidy"], "`gallery` stands alone"),
    ],
)
def test_bad_input_is_refused_by_name(folder, capsys, arguments, message):
    assert main([*arguments, "--out", str(folder)]) == 2
    assert message in capsys.readouterr().err
    assert not list(folder.glob("*.*"))


@pytest.mark.parametrize("arguments", [[], ["tidy", "--seed", "x"], ["tidy", "--nonsense"]])
def test_bad_options_exit_with_2(folder, arguments):
    with pytest.raises(SystemExit, match="2"):
        main(arguments)


def test_a_folder_that_cannot_be_written_is_refused_before_any_work(folder, capsys):
    (folder / "figures" / "tidy.py").write_text(
        FIGURE.replace("LOOK", "{}").replace("return {", "raise SystemError; {")
    )
    (folder / "file").write_text("not a folder")
    assert main(["tidy", "--out", str(folder / "file" / "out")]) == 2
    assert str(folder / "file") in capsys.readouterr().err


def test_all_leaves_out_what_is_not_legible_at_the_size(folder, capsys):
    (folder / "figures" / "untidy.py").unlink()
    source = (folder / "figures" / "tidy.py").read_text()
    (folder / "figures" / "wide.py").write_text(source.replace('("beamer169", "half")', '("beamer169",)'))
    assert main(["all", "--size", "half", "--out", str(folder)]) == 0
    assert "left out: wide can't be read at size half; its sizes: beamer169" in capsys.readouterr().out
    assert not list(folder.glob("wide*"))


def test_a_figure_that_lacks_a_literal_is_named(folder):
    (folder / "figures" / "tidy.py").write_text("CLAIM = 'A claim'")
    with pytest.raises(
        ValueError, match="figure tidy does not define CAPTION, ALT, NOTE_IDS, COST_S, SIZES as literals"
    ):
        _registry.describe("tidy")
