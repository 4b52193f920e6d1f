"""From an item of the note to the places that explain, implement, test and draw it.

    python -m refode.where D35 E16
    python -m refode.where --all

One key leads everywhere: the item's id stands in the heading of a tutorial cell (or in the line "Errata met
here:" below it), in the prose and the checks that follow, in the docstring of a function (a line such as
`Note: D13-D15 (§2.2), E08`), in the name of a test (`test_D35_...`) and in a figure's NOTE_IDS. Nothing is
registered: the files are read anew each time.
"""

import argparse
import ast
import difflib
import io
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from refode.note import ITEMS, concerned

ROOT = Path(__file__).resolve().parent.parent
KINDS = ("cell", "prose", "check", "function", "test", "figure")

_ID_OR_RANGE = re.compile(r"\b([DPE])(\d\d)(?:(?:-\1?| to \1)(\d\d))?\b")
_SECTION = r"§\d(?:\.\d)?"
_ENTRY = rf"(?:{_SECTION}|[DPE]\d\d(?:-[DPE]\d\d)?(?: \({_SECTION}(?:, {_SECTION})*\))?)"
NOTE_LINE = re.compile(rf"Note: {_ENTRY}(?:, {_ENTRY})*\.?")
_DEFINITIONS = (ast.Module, ast.ClassDef, ast.FunctionDef)


@dataclass(frozen=True)
class Place:
    """One mention of an item: what kind of place, where, and what it is called there."""

    id: str
    kind: str
    file: str  # relative to the checkout, with forward slashes
    line: int
    name: str


def ids_in(text: str) -> list[str]:
    """The ids that a text names, ranges such as D13-D15, D13-15 or "D13 to D15" written out."""
    return [
        f"{letter}{number:02}"
        for letter, first, last in _ID_OR_RANGE.findall(text)
        for number in range(int(first), int(last or first) + 1)
    ]


def places(id: str, root: Path = ROOT) -> list[Place]:
    """Every place of one item, in the reader's order, that of KINDS."""
    return [place for place in survey(root) if place.id == id]


def survey(root: Path = ROOT) -> list[Place]:
    """Every place of every item in a checkout; of an installed copy, the functions."""
    checks = list(_checks(root))
    found = [*_cells(root), *checks, *_functions(root), *_tests(root, checks), *_figures(root)]
    return sorted(found, key=lambda place: (KINDS.index(place.kind), place.file, place.line))


def is_checkout(root: Path = ROOT) -> bool:
    """Whether the package lies beside its tutorials and setup.cfg, and not among other packages."""
    return (root / "tutorials").is_dir() and (root / "setup.cfg").is_file()


def note_lines(root: Path = ROOT) -> Iterator[tuple[str, int, str, str]]:
    """(file, line of the definition, its name, the words from "Note:" on) of every docstring that has them."""
    for file, tree in _trees(root, "refode"):
        for name, node in _definitions(tree, Path(file).stem):
            for line in (ast.get_docstring(node) or "").splitlines():
                if note := re.search(r"(?:^|\s)(Note:.*)", line):
                    yield file, getattr(node, "lineno", 1), name, note[1].rstrip()


def _cells(root: Path) -> Iterator[Place]:
    """Headings of markdown cells in the tutorials, and the first line of each cell whose prose names an item."""
    for path in _sources(root, "tutorials"):
        title, markdown, named = "", False, set[str]()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if line.startswith("# %%"):
                markdown, named = line.startswith("# %% [markdown]"), set()
            elif markdown and line.startswith("#"):
                if heading := re.match(r"# #+ (.*)", line):
                    title = re.split(r"\s{2,}", heading[1])[0]
                kind = "cell" if heading or line.startswith("# Errata met here:") else "prose"
                fresh = [id for id in ids_in(line) if id not in named]
                named.update(fresh)
                yield from (Place(id, kind, _relative(path, root), number, title) for id in fresh)


def _checks(root: Path) -> Iterator[Place]:
    """check("D24 ...", ...), text("E28", ...) and @step("D24", ...) in the tutorials."""
    for file, tree in _trees(root, "tutorials"):
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                for decorator in node.decorator_list:
                    for id in _called(decorator, ("step",)):
                        yield Place(id, "check", file, node.lineno, node.name)
            elif isinstance(node, ast.Call):
                claim = node.args[1] if len(node.args) > 1 else None
                words = str(claim.value) if isinstance(claim, ast.Constant) else "(computed claim)"
                for id in _called(node, ("check", "text")):
                    yield Place(id, "check", file, node.lineno, words)


def _called(node: ast.AST, names: tuple[str, ...]) -> list[str]:
    """The ids in the first argument of a call of one of these names."""
    if not (isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant)):
        return []
    name = getattr(node.func, "id", getattr(node.func, "attr", None))
    text = node.args[0].value
    if name not in names or not isinstance(text, str) or not re.fullmatch(r"[DPE]\d\d( [DPE]\d\d)*", text):
        return []
    return text.split()


def _functions(root: Path) -> Iterator[Place]:
    for file, line, name, text in note_lines(root):
        for id in ids_in(text):
            yield Place(id, "function", file, line, name)


def _tests(root: Path, checks: list[Place]) -> Iterator[Place]:
    """test_D35_..., and the tests in tests/test_note.py that run over the tutorials' checks and steps."""
    for file, tree in _trees(root, "tests"):
        for name, node in _definitions(tree, Path(file).stem):
            function = name.rpartition(".")[2]
            line = getattr(node, "lineno", 1)
            if named := re.match(r"test_((?:[DPE]\d\d_)+)", function):
                for id in ids_in(named[1].replace("_", " ")):
                    yield Place(id, "test", file, line, function)
            elif file == "tests/test_note.py" and function == "test_item":
                for id in sorted({check.id for check in checks}):
                    yield Place(id, "test", file, line, f"test_item[{id}]")
            elif file == "tests/test_note.py" and function == "test_universal":
                for check in checks:
                    if check.name.isidentifier():
                        yield Place(check.id, "test", file, line, f"test_universal[{check.name}]")


def _figures(root: Path) -> Iterator[Place]:
    """NOTE_IDS = ("D35", "E16") at the top of a figure's module."""
    for file, tree in _trees(root, "figures"):
        for node in tree.body:
            if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                if any(isinstance(target, ast.Name) and target.id == "NOTE_IDS" for target in targets):
                    ids = ast.literal_eval(node.value)
                    for id in ids_in(ids if isinstance(ids, str) else " ".join(ids)):
                        yield Place(id, "figure", file, node.lineno, Path(file).stem)


def _definitions(tree: ast.AST, name: str) -> Iterator[tuple[str, ast.Module | ast.ClassDef | ast.FunctionDef]]:
    """The module, its classes and functions at every depth, with dotted names."""
    if isinstance(tree, _DEFINITIONS):
        yield name, tree
    for node in ast.iter_child_nodes(tree):
        inside = name
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            inside = node.name if isinstance(tree, ast.Module) else f"{name}.{node.name}"
        yield from _definitions(node, inside)


def _trees(root: Path, folder: str) -> Iterator[tuple[str, ast.Module]]:
    for path in _sources(root, folder):
        yield _relative(path, root), ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def _sources(root: Path, folder: str) -> list[Path]:
    return sorted((root / folder).rglob("*.py")) if folder == "refode" or is_checkout(root) else []


def _relative(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()


def describe(id: str, found: list[Place]) -> str:
    """Section, corrected formula, errata and places of one item, as text."""
    item = ITEMS[id]
    lines = [f"{id}  §{item.section}", f"    {item.statement}"]
    lines += [f"    {erratum}  {ITEMS[erratum].statement}" for erratum in item.errata]
    if concerned(id):
        lines.append(f"    concerns {', '.join(concerned(id))}")
    here = [place for place in found if place.id == id]
    lines += [f"  {place.kind:<9}{place.file}:{place.line}  {place.name}" for place in here]
    return "\n".join(lines if here else [*lines, "  nowhere yet"])


def table(found: list[Place]) -> str:
    """All items, and how many places of each kind they have."""
    lines = [f"{'item':<6}{'section':<9}" + "".join(f"{kind:>10}" for kind in KINDS)]
    for item in ITEMS.values():
        counts = [sum(place.id == item.id and place.kind == kind for place in found) for kind in KINDS]
        lines.append(f"{item.id:<6}{item.section:<9}" + "".join(f"{count or '-':>10}" for count in counts))
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    """The command line; exit code 2 for an unknown id."""
    parser = argparse.ArgumentParser(prog="python -m refode.where", description="Find an item of the note.")
    parser.add_argument("ids", nargs="*", metavar="id", help="an item: D01-D63, P01-P51, E01-E55")
    parser.add_argument("--all", action="store_true", help="count the places of every item")
    chosen = parser.parse_args(arguments)
    ids = [id.upper() for id in chosen.ids]
    if not ids and not chosen.all:
        parser.error("name an item, such as D35, or ask for --all")
    for id in ids:
        if id not in ITEMS:
            near = difflib.get_close_matches(id, ITEMS, n=3, cutoff=0.0)
            parser.error(f"unknown item {id!r}; the nearest known are {', '.join(near)}")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a code page without ∇ shows ? and does not crash
    found = survey()
    if not is_checkout():
        print("Only an installed copy is at hand, without tutorials, tests and figures: functions only.")
    print("\n\n".join([describe(id, found) for id in ids] + [table(found)] * chosen.all))


if __name__ == "__main__":
    main()
