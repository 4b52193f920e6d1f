"""Files: the page has the size that was asked for, the bytes can be made again, nothing half-written is left behind."""

import json
import re

import numpy as np
import pytest
from matplotlib import rcParams

from figures import _io, _styles
from figures._io import PICTURES, Request, save
from figures._registry import Description
from figures._roles import role
from figures._text import canvas, title, wrap

ABOUT = Description(
    name="made_up",
    claim="A claim",
    caption="Measured: {slope:.2f}.",
    alt="A line of slope {slope:.2f}. It is straight.",
    note_ids=("D01", "E01"),
    cost_s=0.1,
    sizes=_styles.SIZES,
)
CM = {"beamer169": (14.0, 6.8), "half": (6.8, 5.8), "beamer43": (10.8, 6.6), "ppt169": (30.0, 14.5),
      "column": (8.25, 5.6), "text": (13.97, 6.8)}  # fmt: skip
# What takes part in a size, besides these, is in points or, for the pads, proportional to them.
NOT_A_LENGTH = ("pdf.fonttype", "savefig.dpi", "lines.dotted_pattern")


def picture():
    fig = canvas()
    ax = fig.subplots()
    ax.plot([0.0, 1.0], [0.0, 1.0], **role("forward"))
    ax.set(xlabel=r"depth $t$", ylabel=r"state $\theta$")
    title(fig, "A claim")
    return fig


@pytest.mark.parametrize("size", _styles.SIZES)
def test_the_pdf_page_has_the_size_to_a_tenth_of_a_point(tmp_path, size):
    with _styles.style(size=size):
        [path] = save(picture(), tmp_path / "page", ["pdf"], ABOUT, Request(size=size))
    box = re.search(rb"/MediaBox \[ ?0 0 ([\d.]+) ([\d.]+) ?\]", path.read_bytes())
    assert np.allclose([float(side) for side in box.groups()], np.array(CM[size]) / 2.54 * 72, rtol=0, atol=0.1)


def test_the_page_keeps_its_size_under_a_style_that_would_cut_it(tmp_path, light):
    with light.rc_context({"savefig.bbox": "tight"}):
        [path] = save(picture(), tmp_path / "page", ["png"], ABOUT, Request())
    assert light.imread(path).shape[:2] == (535, 1102)  # 6.8 and 14 cm at 200 pixels per inch


def test_a_slide_for_projection_scales_every_length():
    import matplotlib

    folder = _styles._FOLDER
    base = matplotlib.rc_params_from_file(folder / "base.mplstyle", use_default_template=False)
    slide = matplotlib.rc_params_from_file(folder / "ppt169.mplstyle", use_default_template=False)
    lengths = {key: base[key] for key in base if isinstance(base[key], float | int) and not isinstance(base[key], bool)}
    for key, length in lengths.items():
        if key not in NOT_A_LENGTH:
            assert slide[key] == pytest.approx(2.1 * length), key


@pytest.mark.parametrize("kind", PICTURES)
def test_the_same_picture_is_the_same_file(tmp_path, light, kind):
    one, other = (
        next(save(picture(), tmp_path / stem, [kind], ABOUT, Request())).read_bytes() for stem in ("one", "other")
    )
    assert one == other
    assert not re.search(rb"CreationDate|dc:date|Creation Time", one)


def test_text_stays_text_in_svg_and_is_shapes_on_request(tmp_path, light):
    [path] = save(picture(), tmp_path / "text", ["svg"], ABOUT, Request())
    assert "<text" in path.read_text(encoding="utf-8")
    with light.rc_context({"svg.fonttype": "path"}):
        [path] = save(picture(), tmp_path / "path", ["svg"], ABOUT, Request(svg_text="path"))
    assert "<text" not in path.read_text(encoding="utf-8")


def test_the_files_carry_claim_alt_text_and_command(tmp_path, light):
    about = _io.filled(ABOUT, {"slope": np.float64(1.98)})
    request = Request(size="half", seed=3, title=False)
    pdf, svg, png = save(picture(), tmp_path / "made_up", PICTURES, about, request)
    wanted = (
        "A claim",
        "A line of slope 1.98. It is straight.",
        "python -m figures made_up --size half --seed 3 --no-title",
    )
    for path in (pdf, svg, png):
        raw = path.read_bytes()
        assert all(text.encode() in raw for text in wanted), path
    sidecar = json.loads((tmp_path / "made_up.json").read_text(encoding="utf-8"))
    assert (sidecar["claim"], sidecar["alt"], sidecar["command"]) == wanted
    assert sidecar["caption"] == "Measured: 1.98."
    assert sidecar["note_ids"] == ["D01", "E01"]
    assert sidecar["seed"] == 3
    assert set(sidecar["versions"]) == {"python", "refode", "numpy", "scipy", "matplotlib"}


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path, light):
    path = tmp_path / "made_up.pdf"
    path.write_bytes(b"the old one")
    fig = picture()
    fig.axes[0].set_xlabel("$\\nosuchsymbol$")
    with pytest.raises(ValueError, match="nosuchsymbol"):
        list(save(fig, tmp_path / "made_up", ["pdf"], ABOUT, Request()))
    assert path.read_bytes() == b"the old one"
    assert [entry.name for entry in tmp_path.iterdir()] == ["made_up.pdf"]
    list(save(picture(), tmp_path / "made_up", ["pdf"], ABOUT, Request()))
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["made_up.json", "made_up.pdf"]


def test_what_changes_the_picture_is_in_its_name():
    assert Request().stem("made_up") == "made_up"
    assert Request(mono=True, size="half").stem("made_up") == "made_up_half_mono"
    assert Request(theme="night").stem("made_up") == "made_up_night"


def test_a_narrow_title_is_wrapped_to_the_width_there_is(light):
    assert wrap("one two three", 1000, 10) == "one two three"
    lines = wrap("a title of many words that has to be broken", 100, 10).split("\n")
    assert len(lines) > 2
    assert " ".join(lines) == "a title of many words that has to be broken"


def test_a_new_theme_is_one_new_file(tmp_path, monkeypatch):
    assert _styles.themes() == ["dark", "light"]
    for path in _styles._FOLDER.glob("*.mplstyle"):
        (tmp_path / path.name).write_text(path.read_text())
    (tmp_path / "night.mplstyle").write_text("axes.facecolor: 1b1b1b\n")
    monkeypatch.setattr(_styles, "_FOLDER", tmp_path)
    assert _styles.themes() == ["dark", "light", "night"]


def test_the_readers_own_settings_do_not_change_the_picture(light):
    with light.rc_context({"lines.linewidth": 7.0, "axes.grid": True}), _styles.style():
        assert rcParams["lines.linewidth"] == 1.6
        assert not rcParams["axes.grid"]
