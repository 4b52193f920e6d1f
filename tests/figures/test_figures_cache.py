"""Data that took long are kept until something they depend on changes; all others are computed anew."""

import sys

import numpy as np
import pytest

from figures import _cache, _registry

FIGURE = """
import numpy as np

CLAIM = "A claim"
CAPTION = "."
ALT = "."
NOTE_IDS = ()
COST_S = 6.0
SIZES = ()
CALLS = []


def data(seed=0, fast=False):
    CALLS.append((seed, fast))
    return {"array": np.arange(3.0), "number": 0.5 + seed}
"""


@pytest.fixture
def slow(tmp_path, monkeypatch):
    """A figure `slow` and a cache of its own; returns the path of its source and a function that lists its calls."""
    (tmp_path / "slow.py").write_text(FIGURE)
    monkeypatch.setattr(_registry, "FOLDER", tmp_path)
    monkeypatch.setattr(_cache, "FOLDER", tmp_path)
    monkeypatch.setattr("figures.__path__", [str(tmp_path)])
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    yield tmp_path / "slow.py", lambda: sys.modules["figures.slow"].CALLS
    sys.modules.pop("figures.slow", None)


def test_what_took_long_is_computed_once_for_each_seed_and_version(slow):
    _, calls = slow
    for seed, fast in ((0, False), (0, False), (1, False), (0, True), (1, False), (0, True)):
        kept = _cache.data("slow", seed, fast)
        assert np.array_equal(kept["array"], np.arange(3.0))
        assert f"{kept['number']:.1f}" == f"{0.5 + seed}"  # a caption can be filled from it
    assert calls() == [(0, False), (1, False), (0, True)]


def test_a_changed_source_makes_a_new_entry_in_the_place_of_the_old_one(slow):
    source, calls = slow
    _cache.data("slow", 0, False)
    source.write_text(source.read_text() + "\n# changed\n")
    _cache.data("slow", 0, False)
    assert calls() == [(0, False), (0, False)]
    assert len(list(_cache.folder().iterdir())) == 1


def test_what_is_quick_is_not_kept(slow):
    source, calls = slow
    source.write_text(FIGURE.replace("6.0", "4.0"))
    _cache.data("slow", 0, False)
    _cache.data("slow", 0, False)
    assert len(calls()) == 2
    assert not _cache.folder().exists()


def test_a_cache_that_cannot_be_written_does_no_harm(slow, tmp_path):
    (tmp_path / "cache").write_text("not a folder")
    assert _cache.data("slow", 0, False)["number"] == 0.5
