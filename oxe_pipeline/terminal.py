"""How commands print tables for people: one width and one look, so that two commands' tables stand well together."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_WIDTH_WITHOUT_TERMINAL = 150
"""A pipe or a log file has no width of its own; wide enough for the longest published names."""
_LEAST_TEXT_WIDTH = 8
"""Characters. Without a least width, numbers in a narrow terminal would squeeze the texts out of the table."""


def console() -> "Console":
    """Prints to stdout, in the terminal's width where stdout is one. Text is printed as it is, never read as markup."""
    from rich.console import Console

    found = Console(markup=False, highlight=False, emoji=False)
    if not found.is_terminal:
        found.width = _WIDTH_WITHOUT_TERMINAL
    return found


def table(
    title: str,
    *,
    texts: Sequence[str],
    numbers: Sequence[str] = (),
    numbers_first: Sequence[str] = (),
    ruled: bool = False,
) -> "Table":
    """An empty table: text columns, which may fold, between columns of numbers, which may not; `ruled` rows.

    A heading may hold line breaks: a column of numbers is as wide as the longest line of its heading at least.
    """
    from rich.table import Table
    from rich.text import Text

    made = Table(title=Text(title), title_justify="left", show_lines=ruled)
    for column in numbers_first:
        made.add_column(column, justify="right", no_wrap=True)
    for column in texts:
        made.add_column(column, overflow="fold", min_width=_LEAST_TEXT_WIDTH)
    for column in numbers:
        made.add_column(column, justify="right", no_wrap=True)
    return made
