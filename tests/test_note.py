"""The note's items: its tutorials run once each, then each of their universal steps tried on random fields.

A tutorial marks a claim that holds for every smooth field as a step (`ledger.step`). The run leaves its ledger behind;
hypothesis takes the marked functions from it. A claim that is a number is a row of the ledger, judged where it stands.
"""

import ast
import re
import runpy
from contextlib import redirect_stderr, redirect_stdout
from functools import cache
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refode import MLP
from refode.note import ITEMS, SMALL_PRINT
from refode.steps import Ledger

FOLDER = Path(__file__).parents[1] / "tutorials"
MAIN = FOLDER / "adjoint_derivation.py"
# Which tutorial an item belongs to: the first whose pattern is that of the item's section and id.
OWNERS = (
    ("adjoint_derivation", r"(1|2|2\.1|2\.2) [DPE]"),
    ("likelihood_gradient", r"3\.3 (D59|D6\d|P4[6-9]|P50|E4[2-9]|E5[0-2])"),
    ("continuous_flows", r"(3\.[1-4]|1 to 3) "),
)


def owner(id):
    """The name of the tutorial that an item belongs to."""
    return next(name for name, pattern in OWNERS if re.match(pattern, f"{ITEMS[id].section} {id}"))


def steps_of(name):
    """The functions that a tutorial marks, read from its source, so that collecting does not run it."""
    functions = [f for f in ast.parse((FOLDER / f"{name}.py").read_text()).body if isinstance(f, ast.FunctionDef)]
    return [f.name for f in functions if any("step" in ast.dump(decorator) for decorator in f.decorator_list)]


NAMES = [name for name, _ in OWNERS]
FLOWS = ("continuous_flows", "likelihood_gradient")
MARKED = [(name, function) for name in NAMES for function in steps_of(name)]


@pytest.fixture(scope="session")
def run():
    """run(name): what a tutorial's run leaves behind, with what it printed. Each tutorial is run once a session."""

    @cache
    def once(name):
        out, err = StringIO(), StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            left = runpy.run_path(str(FOLDER / f"{name}.py"))
        return left | {"stdout": out.getvalue(), "stderr": err.getvalue()}

    return once


@pytest.mark.parametrize("id", sorted(ITEMS))
def test_item(run, id):
    """Every item has its rows in its tutorial, and they hold; only small print may be text alone."""
    assert run(owner(id))["ledger"].verdict(id) in (("ok", "text") if id in SMALL_PRINT else ("ok",))


@pytest.mark.parametrize("name", NAMES)
def test_a_tutorial_has_its_own_items_and_no_other(run, name):
    named = {id for row in run(name)["ledger"].rows for id in row.id.split()}
    assert named == {id for id in ITEMS if owner(id) == name}


@pytest.mark.parametrize("name", NAMES)
def test_a_tutorial_prints_ascii_and_nothing_to_stderr(run, name):
    assert run(name)["stdout"].isascii()
    assert run(name)["stderr"] == ""
    assert run(name)["stdout"].splitlines()[-1].startswith("all      ok")


@pytest.mark.parametrize("name", NAMES)
def test_marked_steps_are_found_in_the_source(run, name):
    assert set(steps_of(name)) == set(run(name)["ledger"].marked)


def code_cells(text):
    """The lines of code, without the empty ones, of each cell of a tutorial."""
    cells = re.split(r"^# %%", text, flags=re.MULTILINE)[1:]
    return [[line for line in cell.splitlines()[1:] if line.strip()] for cell in cells if "[markdown]" not in cell[:12]]


@pytest.mark.parametrize("name", NAMES)
def test_a_tutorial_is_set_like_a_page(name):
    text = (FOLDER / f"{name}.py").read_text(encoding="utf-8")
    assert [line for line in text.splitlines() if len(line) > 79] == []
    assert max(len(cell) for cell in code_cells(text)) <= 25


def test_the_main_tutorial_is_read_in_an_evening():
    text = MAIN.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 1360
    assert 6 <= np.mean([len(cell) for cell in code_cells(text)]) <= 9


def test_the_tutorial_asks_before_it_answers():
    """Questions stand in prose, before code; exercises have solutions, by number."""
    text = MAIN.read_text(encoding="utf-8")
    assert text.count("Predict first") >= 10
    exercises, solutions = text.split("### Exercises")[1].split("### Solutions")
    numbers = [re.findall(r"^# (\d)\. ", part.split("\n#\n# ###")[0], re.MULTILINE) for part in (exercises, solutions)]
    assert numbers[0] == numbers[1] == [str(k) for k in range(1, 9)]


def words_of_prose(text):
    """The words in the markdown cells of a tutorial, formulas read too: what holds a letter."""
    cells = re.split(r"^# %%", text, flags=re.MULTILINE)[1:]
    prose = "".join(cell.removeprefix(" [markdown]") for cell in cells if cell.startswith(" [markdown]"))
    return sum(any(letter.isalpha() for letter in word) for word in prose.split())


@pytest.mark.parametrize("name", FLOWS)
def test_a_tutorial_on_flows_has_more_prose_than_code(name):
    """Eight to twelve words for a line of code, in cells of six to nine lines."""
    text = (FOLDER / f"{name}.py").read_text(encoding="utf-8")
    sizes = [len(cell) for cell in code_cells(text)]
    assert 8 <= words_of_prose(text) / sum(sizes) <= 12
    assert 6 <= np.mean(sizes) <= 9


@pytest.mark.parametrize("name", FLOWS)
def test_a_tutorial_on_flows_asks_runs_and_explains(name):
    """Ten questions at least, one or more a section: each ends its prose, then code runs, then prose takes it up."""
    text = (FOLDER / f"{name}.py").read_text(encoding="utf-8")
    cells = re.split(r"^# %%", text, flags=re.MULTILINE)[1:]
    asking = [i for i, cell in enumerate(cells) if "Predict first" in cell]
    assert len(asking) >= 10
    for i in asking:
        assert cells[i].count("Predict first") == 1
        question = cells[i].split("# Predict first")[1]
        assert question.rstrip().endswith("?")
        assert "#\n" not in question
        kinds = ["markdown" if cell.startswith(" [markdown]") else "code" for cell in cells[i:]]
        assert kinds[:2] == ["markdown", "code"]
        assert "markdown" in kinds[2:6]
    sections = text.split("\n# ## ")[2:]  # after the heading and section 0
    assert [section.splitlines()[0] for section in sections if "Predict first" not in section] == []


@pytest.mark.parametrize("name", FLOWS)
def test_a_tutorial_on_flows_says_what_it_takes_and_ends_with_answers(name):
    text = (FOLDER / f"{name}.py").read_text(encoding="utf-8")
    opening = text.split("# %%")[1]
    assert all(word in opening for word in ("# You need:", "# You get:", "# Seconds:"))
    exercises, rest = text.split("### Exercises")[1].split("### Solutions")
    solutions, questions = rest.split("### Three questions, answered by number")
    for part, count in ((exercises, 4), (solutions, 4), (questions, 3)):
        assert re.findall(r"^# (\d)\. ", part, re.MULTILINE) == [str(k) for k in range(1, count + 1)]
    for question in re.split(r"^# \d\. ", questions, flags=re.MULTILINE)[1:]:
        asked, answered = question.split("?", 1)
        assert re.search(r"\d", answered.split("(section")[0]), asked


def test_every_figure_of_the_tutorial_is_named_where_it_belongs():
    text = MAIN.read_text(encoding="utf-8")
    drawn = re.search(r"for name in \((.*?)\):\n\s+write", text, re.DOTALL)[1]
    assert sorted(re.findall(r'"(\w+)"', drawn)) == sorted(re.findall(r"\(Figure: (\w+)\.\)", text))


@st.composite
def problems(draw, Problem):
    """A tutorial's Problem: a net of one or two hidden layers in one to three dimensions, and what else it asks for.

    Spans are of up to one, either way, where the tutorial leaves them open.
    """
    n, *hidden = draw(st.lists(st.integers(1, 3), min_size=2, max_size=3))
    activation = draw(st.sampled_from(["tanh", "softplus", "sine", "sigmoid"]))
    f = MLP([n, *hidden, n], activation, time=draw(st.booleans()))
    span = draw(st.sampled_from([1.0, 0.4, -0.4, -1.0]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    t0 = float(rng.uniform(-1, 1))
    z0, y, x = rng.normal(size=(3, n))
    known = {"f": f, "theta": f.init(rng, 1.0), "z0": z0, "t0": t0, "t1": t0 + span, "y": y, "x": x}
    return Problem(**{name: known[name] for name in Problem._fields})


@pytest.mark.parametrize(("name", "function"), MARKED, ids=[function for _, function in MARKED])
def test_universal(run, name, function):
    """A marked step holds on random fields, not only at the tutorial's numbers."""
    marked = run(name)["ledger"].marked[function]

    @settings(max_examples=max(5, settings().max_examples // 6))
    @given(problem=problems(run(name)["Problem"]))
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
