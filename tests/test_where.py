"""Every item of the note is known, and every mention of one leads somewhere.

The completeness tests read the checkout itself: an item of a section whose tutorial stands has a cell and a
test, every id named anywhere is an item, and every "Note:" line can be read.
"""

import io
import pkgutil
import re
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refode import note, where
from refode.note import ITEMS, SMALL_PRINT, concerned
from refode.where import Place, ids_in, main, note_lines, places, survey, table

# The table of items says "1 to 3" where an erratum is everywhere.
SECTIONS = {"1", "2", "2.1", "2.2", "3.1", "3.2", "3.3", "3.4", "1 to 3"}


# ---- the items ----------------------------------------------------------------------------------------------


def test_the_items_are_all_there_in_order():
    numbers = {"D": 63, "P": 51, "E": 55}
    assert list(ITEMS) == [f"{letter}{k:02}" for letter, last in numbers.items() for k in range(1, last + 1)]
    assert all(id == item.id for id, item in ITEMS.items())


def test_statements_fit_a_line_and_errata_say_what_should_be():
    for item in ITEMS.values():
        assert 0 < len(item.statement) <= 100, item.id
        assert (" -> " in item.statement) == (item.id[0] == "E"), item.id


def test_sections_follow_the_note():
    """Displays are numbered in the order of the text, so their sections never go back."""
    sections = [item.section for id, item in ITEMS.items() if id[0] == "D"]
    assert sections == sorted(sections)
    assert {item.section for item in ITEMS.values()} == SECTIONS
    first = {"1": "D01", "2.1": "D03", "2.2": "D09", "3.1": "D36", "3.2": "D42", "3.3": "D55"}
    assert {s: next(id for id, item in ITEMS.items() if item.section == s) for s in first} == first


def test_errata_belong_to_items_and_every_substantial_one_to_some():
    for item in ITEMS.values():
        assert all(erratum[0] == "E" and erratum in ITEMS for erratum in item.errata), item.id
        assert item.id[0] != "E" or not item.errata
    without = {id for id in ITEMS if id[0] == "E" and not concerned(id)}
    assert without == {"E54", "E55"}
    assert set(ITEMS) >= SMALL_PRINT
    assert concerned("E16") == ("D35",)
    assert concerned("E08") == ("D14", "D15", "D33", "P13")


def test_a_malformed_item_is_refused():
    for text in ("§1\nD1  too short", "§1\nD01  one\nD01  twice", "§1\nD01 one space"):
        with pytest.raises(AssertionError):
            note._read(text)


# ---- a small checkout ---------------------------------------------------------------------------------------

TUTORIAL = '''"""A tutorial. Note: D60."""
# %% [markdown]
# # The title names D01
# Not a heading, D02.
# ## What moves      §2.1, D04-D05, E02-03
# Errata met here: E04, E02.
# D06 and D04, and D02 to D03, and
# D06 again.
# %%
# ## A comment in code, D06
check = ledger.check
check("D04 E02", "group law", 0, 0, 0)
ledger.check("D05", "as printed: " + "x", 0, 0, 0)
ledger.text("E03", "a slot")
axes.text(0, 1, "D07")
text("D08 is no id", "claim")


@ledger.step("D05 D03", bound=1)
def residual(problem):
    """Note: D61."""
'''
MODULE = '''"""A module.

Note: D02 (§1).
"""


class Field:
    """A field. Note: D03, E04 (§2.1, §2.2)."""

    def vjp(self):
        """One line.

        Note: D13-D15 (§2.2), E08.
        """

        def inner():
            """Note: E16"""


def plain():
    """Says `Note: D35` and "Note: D36" of others."""
'''
TEST_NOTE = """
def test_item(id): ...


def test_universal(mark): ...
"""
TESTS = """
def test_D35_E16_columns(): ...


class TestClass:
    def test_P05_memory(self): ...


def test_item(id): ...


def test_depth_D09(): ...
"""


@pytest.fixture
def checkout(tmp_path):
    for name, text in {
        "setup.cfg": "",
        "tutorials/story.py": TUTORIAL,
        "refode/deep/module.py": MODULE,
        "tests/test_note.py": TEST_NOTE,
        "tests/test_more.py": TESTS,
        "figures/picture.py": 'import os\nNOTE_IDS = ("D24", "E10")\nx, y = 1, 2\nz: int\n',
        "figures/other.py": 'NOTE_IDS: tuple[str, ...] = ("D13-D14",)\n',
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


def test_places_of_every_kind(checkout):
    found = {(place.id, place.kind, place.file, place.line, place.name) for place in survey(checkout)}
    cell = {("D01", 3, "The title names D01"), ("E04", 6, "What moves")}
    cell |= {(id, 5, "What moves") for id in ("D04", "D05", "E02", "E03")}
    prose = {("D02", 4, "The title names D01"), ("D06", 7, "What moves"), ("D03", 7, "What moves")}
    check = {("D04", 12, "group law"), ("E02", 12, "group law"), ("D05", 13, "(computed claim)")}
    check |= {("E03", 14, "a slot"), ("D05", 20, "residual"), ("D03", 20, "residual")}
    function = {("D02", 1, "module"), ("D03", 7, "Field"), ("E04", 7, "Field"), ("E16", 16, "Field.vjp.inner")}
    function |= {(id, 10, "Field.vjp") for id in ("D13", "D14", "D15", "E08")}
    test = {("D35", 2, "test_D35_E16_columns"), ("E16", 2, "test_D35_E16_columns"), ("P05", 6, "test_P05_memory")}
    parametrised = {(id, 2, f"test_item[{id}]") for id in ("D03", "D04", "D05", "E02", "E03")}
    parametrised |= {(id, 5, "test_universal[residual]") for id in ("D03", "D05")}
    picture, other = {("D24", 2, "picture"), ("E10", 2, "picture")}, {("D13", 1, "other"), ("D14", 1, "other")}
    assert found == {
        (id, kind, file, line, name)
        for kind, file, group in [
            ("cell", "tutorials/story.py", cell),
            ("prose", "tutorials/story.py", prose),
            ("check", "tutorials/story.py", check),
            ("function", "refode/deep/module.py", function),
            ("test", "tests/test_more.py", test),
            ("test", "tests/test_note.py", parametrised),
            ("figure", "figures/picture.py", picture),
            ("figure", "figures/other.py", other),
        ]
        for id, line, name in group
    }


def test_places_of_one_item_come_in_the_readers_order(checkout):
    assert [place.kind for place in places("D05", checkout)] == ["cell", "check", "check", "test", "test"]
    assert places("D63", checkout) == []


def test_only_the_functions_of_an_installed_copy(checkout):
    assert where.is_checkout(checkout)
    (checkout / "setup.cfg").unlink()
    assert not where.is_checkout(checkout)
    assert {place.kind for place in survey(checkout)} == {"function"}


def test_the_table_counts(checkout):
    head, *rows = table(survey(checkout)).splitlines()
    assert head.split() == ["item", "section", "cell", "prose", "check", "function", "test", "figure"]
    counted = {row.split()[0]: row.split()[2:] for row in rows}
    assert list(counted) == list(ITEMS)
    assert counted["D05"] == ["1", "-", "2", "-", "2", "-"]
    assert counted["D13"] == ["-", "-", "-", "1", "-", "1"]
    assert counted["D06"] == ["-", "1", "-", "-", "-", "-"]
    assert table([]).endswith("E55   1 to 3   " + 6 * "         -")


@given(
    st.lists(st.tuples(st.sampled_from("DPE"), st.integers(0, 90), st.integers(0, 9), st.integers(0, 2)), max_size=4)
)
def test_ids_and_ranges_are_read_from_text(spans):
    def written(letter, first, more, form):
        until = ("-{1:02}", "-{0}{1:02}", " to {0}{1:02}")[form] if more else ""
        return f"{letter}{first:02}" + until.format(letter, first + more)

    text = "§2.2, " + ", ".join(written(*span) for span in spans) + ", RK45 and DOP853"
    assert ids_in(text) == [f"{a}{k:02}" for a, first, more, _ in spans for k in range(first, first + more + 1)]


@pytest.mark.parametrize(
    ("line", "reads"),
    [
        ("Note: D35", True),
        ("Note: D35 (§2.2), E16.", True),
        ("Note: D13-D15 (§2.2), D27, E08", True),
        ("Note: D02-D05 (§1, §2.1), P03", True),
        ("Note: §2.2.", True),
        ("Note: this matters", False),
        ("Note: D35 §2.2", False),
        ("Note: D35, and more", False),
        ("Note: D5", False),
        ("Note: D13-15", False),
    ],
)
def test_the_form_of_a_note_line(line, reads):
    assert bool(where.NOTE_LINE.fullmatch(line)) == reads


# ---- the command --------------------------------------------------------------------------------------------


def test_the_command_shows_formula_errata_and_places(capsys):
    main(["d35", "E16"])
    first, second = capsys.readouterr().out.split("\n\n")
    assert first.startswith(f"D35  §2.2\n    {ITEMS['D35'].statement}\n    E16  {ITEMS['E16'].statement}\n")
    assert re.search(r"^  function refode/[\w/]+\.py:\d+  \w+", first, re.MULTILINE)
    assert second.startswith("E16  §2.2\n")
    assert "\n    concerns D35\n" in second


def test_an_item_without_a_place_says_so():
    assert where.describe("D63", []).endswith("\n  nowhere yet")
    here = where.describe("D63", [Place("D63", "test", "tests/x.py", 3, "test_D63")])
    assert here.endswith("\n  test     tests/x.py:3  test_D63")


def test_all_prints_the_table(capsys):
    main(["--all"])
    assert len(capsys.readouterr().out.splitlines()) == 1 + len(ITEMS)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["D64"], "unknown item 'D64'; the nearest known are D6"), (["D35", "x"], "'X'"), ([], "name an item")],
)
def test_unknown_items_end_with_code_2(capsys, arguments, message):
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    output = capsys.readouterr()
    assert message in output.err
    assert output.out == ""


def test_a_code_page_without_nabla_does_not_crash(monkeypatch):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="cp1252"))
    main(["D14"])
    sys.stdout.flush()
    assert raw.getvalue().decode("cp1252").splitlines()[1] == "    da?/dt = ?a? ??f, and likewise da?/dt = ?a? ??f"


def test_an_installed_copy_says_what_it_lacks(monkeypatch, capsys):
    monkeypatch.setattr(where, "is_checkout", lambda root=where.ROOT: False)
    main(["D35"])
    assert capsys.readouterr().out.startswith("Only an installed copy is at hand")


# ---- this checkout ------------------------------------------------------------------------------------------


def test_every_id_named_anywhere_is_an_item():
    assert [place for place in survey() if place.id not in ITEMS] == []


def test_every_note_line_can_be_read():
    lines = list(note_lines())
    assert lines
    assert [line for line in lines if not where.NOTE_LINE.fullmatch(line[-1])] == []


@pytest.mark.parametrize("kind", ["cell", "check", "test"])
def test_every_item_has_a(kind):
    there = {place.id for place in survey() if place.kind == kind}
    assert [id for id in ITEMS if id not in there] == []


def test_every_name_of_the_library_in_a_tutorial_exists():
    for path in sorted((where.ROOT / "tutorials").glob("*.py")):
        for name in re.findall(r"`(refode(?:\.\w+)+)(?:\(.*?\))?`", Path(path).read_text(encoding="utf-8")):
            pkgutil.resolve_name(name)
