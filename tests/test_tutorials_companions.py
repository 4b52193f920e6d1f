"""The companions of the main tutorial, each run once: their rows, their output, and how they are set."""

import re
import runpy
from contextlib import redirect_stderr, redirect_stdout
from functools import cache
from io import StringIO
from pathlib import Path

import numpy as np
import pytest

from refode.adjoint import LEAST_KEPT, WAYS
from refode.note import ITEMS

TUTORIALS = Path(__file__).parents[1] / "tutorials"
ROWS = {  # the ids of a companion's rows: items of the note, and words of its own
    "mlp_vjp": {"P21", "P22", "E17", "E18", "layer", "batch", "pairing", "oracle", "mutant", "report", "own"},
    "fitting_data": {"data", "field", "gradient", "fit", "naive", "grow", "tail"},
    "choosing_a_gradient": {
        *("box", "shapes", "back", "depth", "jump", "times", "corners"),
        *("six", "which", "cost", "batch", "fails", "error"),
    },
}
companions = pytest.mark.parametrize("name", ROWS)


@cache
def run(name):
    """What a run leaves behind, with what it printed under "stdout" and "stderr"."""
    out, err = StringIO(), StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        left = runpy.run_path(str(TUTORIALS / f"{name}.py"))
    return left | {"stdout": out.getvalue(), "stderr": err.getvalue()}


def text(name):
    return (TUTORIALS / f"{name}.py").read_text(encoding="utf-8")


def cells(name):
    """(is prose, lines without the empty ones) of each cell."""
    parts = re.split(r"^# %%", text(name), flags=re.MULTILINE)[1:]
    return [(part.startswith(" [markdown]"), [line for line in part.splitlines()[1:] if line]) for part in parts]


# ---- what they compute ----------------------------------------------------------------------------------------------


@companions
def test_no_row_fails_and_none_is_missing(name):
    ledger = run(name)["ledger"]
    assert [str(row) for row in ledger.rows if not row.ok] == []
    assert {id for row in ledger.rows for id in row.id.split()} == ROWS[name]
    assert run(name)["stdout"].splitlines()[-1].startswith("all      ok")


@companions
def test_prints_ascii_and_nothing_to_stderr(name):
    assert run(name)["stdout"].isascii()
    assert run(name)["stderr"] == ""


def test_E17_E18_are_shown_as_printed_and_as_corrected():
    rows = run("mlp_vjp")["ledger"].rows
    for id in ("E17", "E18"):
        first, second = [row for row in rows if id in row.id.split()][:2]
        assert first.claim.startswith("as printed: ")
        assert second.claim.startswith("corrected: ")
        assert first.got > 1.1 * second.got


def test_P22_the_price_is_printed():
    """Two ratios of seconds; how large they are is the benchmark's business."""
    assert len(re.findall(r"(?:VJP|JVP) / f in seconds: \d+\.\d\d \(", run("mlp_vjp")["stdout"])) == 2


def test_the_slip_is_found_where_it_was_planted():
    """c̄ without its factor t: 1/0.7 of the true entry, in the rows of θ that hold a c."""
    out = run("mlp_vjp")["stdout"]
    (where, got, want) = re.search(r"FAIL vjp: a.df/dtheta .*theta\[(\d+)\]: (\S+), expected (\S+)", out).groups()
    assert float(got) / float(want) == pytest.approx(1 / 0.7, rel=1e-4)
    assert int(where) in {9, 10, 11, 20, 21}


def test_progress_is_shown_and_the_loss_falls():
    """One line every so many iterations; between two lines of one stage the loss does not rise."""
    found = re.findall(r"^ +(6|10|15) +(\d+) +(\d+\.\d{4}) +\d+ +\d+\.\d$", run("fitting_data")["stdout"], re.M)
    stages = []
    for years, iteration, loss in found:
        if not stages or stages[-1][-1][0] != int(years) or stages[-1][-1][1] >= int(iteration):
            stages.append([])
        stages[-1].append((int(years), int(iteration), float(loss)))
    assert [stage[0][0] for stage in stages] == [15, 15, 6, 10, 15]  # Lotka-Volterra, all at once, grown in three
    for stage in stages:
        assert np.all(np.diff([loss for _, _, loss in stage]) <= 1e-4)


def test_training_makes_the_solver_work_harder():
    out = run("fitting_data")["stdout"]
    random, fitted = (int(re.search(rf"network, {at} +nfev +(\d+) forward", out)[1]) for at in ("at random", "fitted"))
    assert fitted > 1.5 * random


def test_the_tail_is_held_out():
    """Nothing that is fitted moves if the tail does: scale, objective, first guess."""
    left = run("fitting_data")
    train = np.log(left["pelts"][: left["TRAIN"]])
    assert np.array_equal(left["mean"], train.mean(axis=0))
    assert np.array_equal(left["std"], train.std(axis=0))
    assert left["TRAIN"] == 15
    assert left["year"][left["TRAIN"]] == 1915


def test_the_printed_errors_are_those_of_the_forecasts():
    left = run("fitting_data")
    number = r"(\d+\.\d+)"
    for name in ("network", "Lotka-Volterra"):
        printed = re.search(rf"^    {name} +{number} +{number} +{number} +{number}$", left["stdout"], re.M).groups()
        for part, (log, plain) in ((slice(None, 15), printed[:2]), (slice(15, None), printed[2:])):
            p, q = left["forecasts"][name][part], left["pelts"][part]
            assert np.sqrt(np.mean(np.log(p / q) ** 2)) == pytest.approx(float(log), abs=6e-4)
            assert np.sqrt(np.mean((p - q) ** 2)) == pytest.approx(float(plain), abs=0.06)


def of_six(pattern):
    """What the pattern finds behind each way's name in the last table that has it, as numbers."""
    rows = dict(re.findall(rf"^    (\w+) +{pattern}$", run("choosing_a_gradient")["stdout"], re.M))
    assert list(rows)[-6:] == list(WAYS)
    return {way: [float(word) for word in rows[way].split()] for way in WAYS}


def test_the_box_is_opened_where_the_field_is_fast():
    """Two rows of sixty digits: the columns in which f is fast are those in which it is called most."""
    out = run("choosing_a_gradient")["stdout"]
    speed, calls = (
        np.array(list(map(int, re.search(rf"^    {name} +(\d{{60}})  9 = ", out, re.M)[1])))
        for name in (r"\|f\|", "calls")
    )
    assert calls[speed >= 2].min() > np.median(calls)


def test_the_table_to_choose_from_is_that_of_the_six():
    """Error at rtol 1e-6, evaluations for one observation and for forty, states a step, error on Van der Pol."""
    table, left = of_six(r"(\S+ +\d+ +\d+ +\d+\.\d +\S+)"), run("choosing_a_gradient")
    for way, (error, one, forty, states, contracting) in table.items():
        again = left["truly_off"](left["gradient"](way)[1])
        assert error == pytest.approx(again, rel=0.5)  # it is printed with one digit
        assert error < 1e-5
        assert (contracting < 1e-3) == (way != "backsolve")
        assert states == pytest.approx(0, abs=0.3) if way in ("backsolve", "forward") else states > 0.7
        assert forty > (1.1 if way == "discrete" else 3) * one
    cheapest = min(table, key=lambda way: table[way][2])
    assert cheapest == "discrete"


def test_a_lost_gradient_is_called_lost():
    """True error, the free estimate and the witness's, printed in this order for three ways and five spans."""
    out = run("choosing_a_gradient")["stdout"]
    rows = re.findall(r"^    [1-5] +\w+ +(\S+) +(\S+) +(\S+) +\d+ \+ \d+$", out, re.M)
    true, *estimates = np.array(rows, dtype=float).T
    assert len(true) == 15
    assert true.min() < 1e-6
    assert true.max() > 0.5
    for estimate in estimates:
        assert estimate[true > 0.5].min() > 0.05
        assert estimate[true < 1e-5].max() < 1e-4


def test_every_way_that_is_handed_too_little_says_what_it_wants():
    said = re.findall(r'^    method "(\w+)" .*?keep="(\w+)"', run("choosing_a_gradient")["stdout"], re.M)
    assert dict(said) == {way: keep for way, keep in LEAST_KEPT.items() if keep != "observations"}


# ---- how they are set -----------------------------------------------------------------------------------------------


@companions
def test_is_set_like_a_page(name):
    lines = text(name).splitlines()
    sizes = [len(lines) for prose, lines in cells(name) if not prose]
    assert [line for line in lines if len(line) > 79] == []
    assert 200 <= len(lines) <= 700
    assert max(sizes) <= 25
    assert 6 <= np.mean(sizes) <= 9


@companions
def test_begins_with_what_is_needed_and_ends_with_three_questions(name):
    prose = ["\n".join(lines) for is_prose, lines in cells(name) if is_prose]
    assert all(word in prose[0] for word in ("# You need:", "# You get:", "# Seconds:"))
    assert "## Three questions, answered by a number" in prose[-1]
    asked, answered = prose[-1].split("# Answers:")
    for number in ("1. ", "2. ", "3. "):
        assert number in asked
        assert re.search(re.escape(number) + r"[^?]*", answered)
    assert len(re.findall(r"Predict", text(name))) >= 5


@companions
def test_headings_name_items_that_exist(name):
    headings = [line for is_prose, lines in cells(name) if is_prose for line in lines if re.match(r"# #+ ", line)]
    named = set(re.findall(r"\b[DPE]\d\d\b", " ".join(headings)))
    assert named <= set(ITEMS)
    assert named == {id for id in ROWS[name] if re.fullmatch(r"[DPE]\d\d", id)}
