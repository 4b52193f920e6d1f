"""The style sheets by name: one theme (colours) and one size (page and type) on the common base.

Each is a file in `figures/styles`, and Matplotlib loads it by its dotted name, so a lecturer's own code can say
`plt.style.context(["figures.styles.base", "figures.styles.light", "figures.styles.half"])`. Whatever is neither the
base, nor a size, nor the print version is a theme: a new theme is one new file.
"""

from contextlib import AbstractContextManager
from pathlib import Path

SIZES = ("beamer169", "half", "beamer43", "ppt169", "column", "text")
_FOLDER = Path(__file__).parent / "styles"


def themes() -> list[str]:
    """Return the names of the themes, in alphabetical order."""
    return sorted({path.stem for path in _FOLDER.glob("*.mplstyle")} - {"base", "mono", *SIZES})


def style(theme: str = "light", size: str = "beamer169", *, mono: bool = False) -> AbstractContextManager[None]:
    """Return the context in which figures are drawn and saved; `mono` puts black lines in the theme's place.

    The reader's own matplotlibrc has no say in it, so that the same command draws the same picture everywhere.
    """
    import matplotlib.pyplot as plt

    sheets = [f"figures.styles.{sheet}" for sheet in ("base", "mono" if mono else theme, size)]
    return plt.style.context(sheets, after_reset=True)
