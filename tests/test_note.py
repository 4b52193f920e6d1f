"""The note's items: the main tutorial run once, then each of its universal steps tried on random fields.

A tutorial marks a claim that holds for every smooth field as a step (`ledger.step`). The run leaves its ledger behind;
hypothesis takes the marked functions from it. A claim that is a number is a row of the ledger, judged where it stands.
"""

import ast
import re
import runpy
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refode import MLP
from refode.note import ITEMS, SMALL_PRINT
from refode.steps import Ledger

TUTORIAL = Path(__file__).parents[1] / "tutorials" / "adjoint_derivation.py"
SECTIONS = {"1", "2", "2.1", "2.2"}
EXPECTED = sorted(id for id, item in ITEMS.items() if item.section in SECTIONS)


def steps_of(path):
    """The names of the functions that a tutorial marks, read from its source, so that collecting does not run it."""
    functions = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)]
    return [f.name for f in functions if any("step" in ast.dump(decorator) for decorator in f.decorator_list)]


@pytest.fixture(scope="session")
def run():
    """What a run of the tutorial leaves behind, with what it printed under "stdout" and "stderr"."""
    out, err = StringIO(), StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        left = runpy.run_path(str(TUTORIAL))
    return left | {"stdout": out.getvalue(), "stderr": err.getvalue()}


@pytest.mark.parametrize("id", EXPECTED)
def test_item(run, id):
    """Every item has its rows in the tutorial, and they hold; only small print may be text alone."""
    assert run["ledger"].verdict(id) in (("ok", "text") if id in SMALL_PRINT else ("ok",))


def test_the_tutorial_names_no_other_item(run):
    assert {id for row in run["ledger"].rows for id in row.id.split()} == set(EXPECTED)


def test_the_tutorial_prints_ascii_and_nothing_to_stderr(run):
    assert run["stdout"].isascii()
    assert run["stderr"] == ""
    assert run["stdout"].splitlines()[-1].startswith("all      ok")


def test_marked_steps_are_found_in_the_source(run):
    assert set(steps_of(TUTORIAL)) == set(run["ledger"].marked)


def code_cells(text):
    """The lines of code, without the empty ones, of each cell of a tutorial."""
    cells = re.split(r"^# %%", text, flags=re.MULTILINE)[1:]
    return [[line for line in cell.splitlines()[1:] if line.strip()] for cell in cells if "[markdown]" not in cell[:12]]


def test_the_tutorial_is_set_like_a_page():
    text = TUTORIAL.read_text(encoding="utf-8")
    lines, sizes = text.splitlines(), [len(cell) for cell in code_cells(text)]
    assert [line for line in lines if len(line) > 79] == []
    assert len(lines) <= 1360
    assert max(sizes) <= 25
    assert 6 <= np.mean(sizes) <= 9


def test_the_tutorial_asks_before_it_answers():
    """Questions stand in prose, before code; exercises have solutions, by number."""
    text = TUTORIAL.read_text(encoding="utf-8")
    assert text.count("Predict first") >= 10
    exercises, solutions = text.split("### Exercises")[1].split("### Solutions")
    numbers = [re.findall(r"^# (\d)\. ", part.split("\n#\n# ###")[0], re.MULTILINE) for part in (exercises, solutions)]
    assert numbers[0] == numbers[1] == [str(k) for k in range(1, 9)]


def test_every_figure_of_the_tutorial_is_named_where_it_belongs():
    text = TUTORIAL.read_text(encoding="utf-8")
    drawn = re.search(r"for name in \((.*?)\):\n\s+write", text, re.DOTALL)[1]
    assert sorted(re.findall(r'"(\w+)"', drawn)) == sorted(re.findall(r"\(Figure: (\w+)\.\)", text))


@st.composite
def problems(draw, Problem):
    """Nets of one or two hidden layers in one to three dimensions, over spans of up to one, either way."""
    n, *hidden = draw(st.lists(st.integers(1, 3), min_size=2, max_size=3))
    activation = draw(st.sampled_from(["tanh", "softplus", "sine", "sigmoid"]))
    field = MLP([n, *hidden, n], activation, time=draw(st.booleans()))
    span = draw(st.sampled_from([1.0, 0.4, -0.4, -1.0]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    z0, y = rng.normal(size=(2, n))
    t0 = float(rng.uniform(-1, 1))
    return Problem(field, field.init(rng, 1.0), z0, t0, t0 + span, y)


@pytest.mark.parametrize("name", steps_of(TUTORIAL))
def test_universal(run, name):
    """A marked step holds on random fields, not only at the tutorial's numbers."""
    marked = run["ledger"].marked[name]

    @settings(max_examples=max(5, settings().max_examples // 6))
    @given(problem=problems(run["Problem"]))
    def holds(problem):
        row = marked.evaluate(problem)
        assert row.ok, row

    holds()


def test_a_ledger_with_a_false_row_fails(capsys):
    ledger = Ledger("planted")
    ledger.check("D13", "one is two", 1, 2, 0.5)
    with pytest.raises(SystemExit, match="1"):
        ledger.finish()
    assert "FAIL" in capsys.readouterr().out
