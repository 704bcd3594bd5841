"""Write RESULTS.md, its appendix and its pictures, whole, from the files in ``results/``.

    python scripts/render_results.py
    python scripts/render_results.py --check

What is not made from numbers is in ``scripts/results_page/texts.toml``.
"""

from __future__ import annotations

import tyro
from results_page import pages, plots


def out_of_date() -> list[str]:
    """Returns the pages and pictures that are not what the files render to."""
    found = [
        path.name
        for path, text in rendered().items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    ]
    return found + [
        plots.image(name).name for name in plots.PLOTS if plots.drawn(name) != plots.digest(name)
    ]


def rendered() -> dict:
    """Returns the text of every page."""
    return {pages.PAGE: pages.page(), pages.APPENDIX: pages.appendix_page()}


def main(check: bool = False) -> None:
    """Renders the pages.

    Args:
        check: Write nothing; complain if a page or a picture is not what the files render to.
    """
    if check:
        if old := out_of_date():
            raise SystemExit(f"{', '.join(old)}: not what the files in results/ render to")
        return
    for path, text in rendered().items():
        path.write_text(text, encoding="utf-8")
    for name in plots.PLOTS:
        plots.draw(name)


if __name__ == "__main__":
    tyro.cli(main)
