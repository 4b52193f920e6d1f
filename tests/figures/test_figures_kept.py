"""Data that are kept are drawn without computing, rebuilt by one command, and known when they are out of date."""

import json
import sys

import numpy as np
import pytest

from figures import _cache, _kept, _registry
from figures.__main__ import main

FIGURE = """
from functools import partial

import numpy as np

from figures._kept import kept
from figures._roles import role
from figures._text import canvas, title

CLAIM = "A claim"
CAPTION = "The end is {end:.1f}."
ALT = "A line. It ends at {end:.1f}."
NOTE_IDS = ("D01",)
COST_S = 100.0
SIZES = ("beamer169", "half")
KEPT = "measurement"

LENGTH = 3
CALLS = []


def data(seed=0, fast=False):
    CALLS.append((seed, fast))
    return {"line": _line(), "end": 2.0 + seed}


@staticmethod
def _line():
    return np.arange(LENGTH, dtype=np.float32)


compute = partial(kept, "long")


def draw(data=None, *, ax=None):
    data = compute() if data is None else data
    fig = canvas()
    ax = fig.subplots()
    ax.plot(data["line"], **role("forward"))
    title(fig, CLAIM)
    return ax
"""


@pytest.fixture
def long(tmp_path, monkeypatch):
    """A figure `long` whose data are kept; returns its module's path and a function that lists the calls of `data`."""
    source = tmp_path / "long.py"
    source.write_text(FIGURE)
    monkeypatch.setattr(_registry, "FOLDER", tmp_path)
    monkeypatch.setattr("figures.__main__.FOLDER", tmp_path)
    monkeypatch.setattr("figures.__path__", [str(tmp_path)])
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    yield source, lambda: getattr(sys.modules.get("figures.long"), "CALLS", [])
    sys.modules.pop("figures.long", None)


KEPT = [name for name in _registry.names() if _registry.describe(name).kept]


@pytest.mark.parametrize("name", KEPT)
def test_what_is_kept_is_that_of_its_module(name):
    """Whoever changes how such data are made has to make them anew."""
    assert _kept.missing(name) == ""
    assert _kept.is_current(name), f"run: {_kept.command(name)}"
    assert _kept.path_of(name).stat().st_size < 200_000


def test_every_kept_file_has_a_module():
    assert {path.stem.rpartition("-")[0] for path in _kept.folder().glob("*.npz")} <= set(KEPT)


def test_rebuilding_keeps_what_data_returns_and_what_made_it(long, capsys):
    _, calls = long
    assert main(["rebuild", "long", "--seed", "1"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first == "rebuilding long (measurement, about 100 s)"
    assert second.startswith("kept long-1.npz")
    data, about = _kept.kept("long", 1), _kept.made_by("long", 1)
    assert set(data) == {"line", "end"}
    assert data["line"].dtype == np.float32
    assert data["end"] == 3.0
    assert set(about["versions"]) == {"python", "refode", "numpy", "scipy"}
    assert set(about["machine"]) == {"cpu", "cores", "system", "blas", "threads"}
    assert calls() == [(1, False)]


def test_drawing_computes_nothing_and_says_once_how_to_rebuild(long, capsys, tmp_path):
    _, calls = long
    main(["rebuild", "long"])
    capsys.readouterr()
    assert main(["long", "--format", "pdf,png", "--out", str(tmp_path / "out")]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.endswith("lint ok  kept measurement; anew: python -m figures rebuild long")
    assert second.endswith("lint ok")
    sidecar = json.loads((tmp_path / "out" / "long.json").read_text())
    assert sidecar["caption"] == "The end is 2.0."
    assert sidecar["kept"]["machine"]["cores"] >= 1
    assert _registry.load("long").draw() is not None
    assert calls() == [(0, False)]
    assert _cache.data("long", 0, True)["end"] == 2.0  # the fast version is computed
    assert calls() == [(0, False), (0, True)]


def test_data_of_another_source_are_drawn_and_reported(long, capsys, tmp_path):
    source, _ = long
    main(["rebuild", "long"])
    for change in (
        ("LENGTH = 3", "LENGTH = 4"),
        ("np.arange(LENGTH", "np.arange(LENGTH + 0"),
        ("import numpy", "import  numpy"),
    ):
        source.write_text(FIGURE.replace(*change))
        assert not _kept.is_current("long")
    capsys.readouterr()
    assert main(["long", "--out", str(tmp_path / "out")]) == 1
    assert "the kept data are not of this version of long; python -m figures rebuild long" in capsys.readouterr().out


def test_what_only_draws_makes_nothing_out_of_date(long):
    source, _ = long
    main(["rebuild", "long"])
    source.write_text(FIGURE.replace("The end is", "It ends at").replace('role("forward")', 'role("adjoint")'))
    assert _kept.is_current("long")


def test_what_is_trained_is_kept_and_data_go_on_from_it(long, capsys, tmp_path):
    """Where all of the data would be too much to keep; also the fast ones start from the training then."""
    source, calls = long
    train = "def train(seed=0):\n    return {'end': 5.0 + seed}\n\n\ndef data("
    source.write_text(FIGURE.replace("def data(", train).replace("2.0 + seed", 'kept("long", seed)["end"]'))
    assert main(["long", "--fast", "--out", str(tmp_path)]) == 2
    assert "python -m figures rebuild long" in capsys.readouterr().err
    main(["rebuild", "long"])
    assert _kept.kept("long") == {"end": 5.0}
    for fast in (True, False):
        assert set(_cache.data("long", 0, fast)) == {"line", "end"}
        assert _cache.data("long", 0, fast)["end"] == 5.0
    assert (0, True) in calls()
    assert not (tmp_path / "cache").exists()
    assert main(["long", "--fast", "--out", str(tmp_path)]) == 0
    assert "anew: python -m figures rebuild long" in capsys.readouterr().out
    source.write_text(source.read_text().replace("5.0 + seed", "6.0 + seed"))
    assert not _kept.is_current("long")


def test_rebuilding_gives_the_same_bytes(long):
    files = []
    for _ in range(2):
        main(["rebuild", "long"])
        files.append(_kept.path_of("long").read_bytes())
    assert files[0] == files[1]


@pytest.mark.parametrize("fails", ["raise KeyboardInterrupt", "import signal; signal.raise_signal(signal.SIGINT)"])
def test_an_interruption_leaves_what_was_kept(long, capsys, fails):
    """Also one that `data` catches, as a fit does, to return what it has."""
    source, _ = long
    main(["rebuild", "long"])
    before = _kept.path_of("long").read_bytes()
    sys.modules.pop("figures.long")
    caught = (
        f"try:\n        {fails}\n    except KeyboardInterrupt:\n        {'raise' if 'raise K' in fails else 'pass'}\n"
    )
    source.write_text(FIGURE.replace("CALLS.append((seed, fast))", caught))
    assert main(["rebuild", "long"]) == 130
    assert "interrupted" in capsys.readouterr().err
    assert [path.name for path in _kept.folder().iterdir()] == ["long-0.npz"]
    assert _kept.path_of("long").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["long"], "no data of long are kept for seed 0; make them in about 100 s: python -m figures rebuild long"),
        (["long", "--seed", "3"], "python -m figures rebuild long --seed 3"),
        (["rebuild"], "rebuild what? kept are the data of long"),
        (["rebuild", "lang"], "unknown figure 'lang'; nearest is 'long'"),
        (["rebuild", "quick"], "the data of quick are not kept; kept are those of long"),
        (["long", "rebuild"], "`rebuild` comes first"),
    ],
)
def test_bad_input_is_refused_before_anything_is_computed(long, tmp_path, capsys, arguments, message):
    _, calls = long
    (tmp_path / "quick.py").write_text(FIGURE.replace('KEPT = "measurement"', "").replace('"long"', '"quick"'))
    assert main([*arguments, "--out", str(tmp_path / "out")]) == 2
    assert message in capsys.readouterr().err
    assert calls() == []
    assert not (tmp_path / "out").exists()


def test_all_leaves_out_what_is_not_kept(long, tmp_path, capsys):
    assert main(["all", "--out", str(tmp_path / "out")]) == 0
    assert "left out: no data of long are kept for seed 0" in capsys.readouterr().out


def test_the_list_says_what_is_kept(long, capsys):
    assert main(["list"]) == 0
    assert "D01  100 s, kept (measurement)  beamer169, half" in capsys.readouterr().out


def test_an_unknown_reason_is_named(long):
    source, _ = long
    source.write_text(FIGURE.replace('"measurement"', '"taste"'))
    with pytest.raises(ValueError, match="KEPT of figure long must be one of training, measurement, got 'taste'"):
        _registry.describe("long")
