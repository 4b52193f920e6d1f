"""What the README promises: its example prints what stands below it, its commands and files exist."""

import re
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import refode

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def output_of(section):
    """What the first block of Python under a heading prints."""
    code = re.search(rf"## {section}\n.*?```python\n(.*?)```", README, re.DOTALL).group(1)
    out = StringIO()
    with redirect_stdout(out):
        exec(compile(code, "README.md", "exec"), {})
    return out.getvalue()


def test_the_example_prints_what_the_readme_says():
    assert output_of("An example") == re.search(r"It prints\n\n```\n(.*?)```", README, re.DOTALL).group(1)


def test_the_density_is_fitted():
    assert output_of("A density from a flow") == "True\n"


def test_every_file_the_readme_names_is_there():
    named = set(re.findall(r"(?:tutorials|tests/benchmarks|figures/gallery)/\w+\.(?:py|png)", README))
    assert len(named) >= 5
    assert [name for name in sorted(named) if not (ROOT / name).is_file()] == []


def test_one_version():
    assert f"version: {refode.__version__}" in (ROOT / "CITATION.cff").read_text()
    assert f"## {refode.__version__}" in (ROOT / "CHANGELOG.md").read_text()
