"""What `--figures DIR` does before a tutorial computes: the folder is made, or refused."""

import runpy
import sys
from pathlib import Path

import pytest

import refode.steps

TUTORIALS = Path(__file__).parents[1] / "tutorials"
DRAWING = sorted(path.stem for path in TUTORIALS.glob("*.py") if "--figures" in path.read_text(encoding="utf-8"))


class Begun(Exception):
    """The ledger is opened: from here on a tutorial computes."""


@pytest.fixture
def begin(monkeypatch):
    """Run a tutorial with `--figures folder` up to its ledger."""

    def ledger(title):
        raise Begun

    def run(name, folder):
        monkeypatch.setattr(sys, "argv", [f"{name}.py", "--figures", str(folder)])
        monkeypatch.setattr(refode.steps, "Ledger", ledger)
        runpy.run_path(str(TUTORIALS / f"{name}.py"), run_name="__main__")

    return run


def test_the_drawing_tutorials_are_found():
    assert DRAWING == ["adjoint_derivation", "choosing_a_gradient", "fitting_data", "likelihood_gradient"]


@pytest.mark.parametrize("name", DRAWING)
def test_a_new_folder_is_made_before_the_work(name, begin, tmp_path):
    folder = tmp_path / "new" / "pictures"
    with pytest.raises(Begun):
        begin(name, folder)
    assert folder.is_dir()


@pytest.mark.parametrize("name", DRAWING)
def test_what_is_no_folder_is_refused_before_the_work(name, begin, tmp_path):
    (tmp_path / "a_file").write_text("")
    with pytest.raises(OSError, match="a_file"):
        begin(name, tmp_path / "a_file")
