"""Tables that drop columns where a terminal is too narrow for them, and keep their numbers."""

from __future__ import annotations

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Column, Table
from rich.text import Text

_MAIN = "±95 %"  # in the heading of what a table is there for
_SHORT = 12  # of a name, which may go on in the next line


class FittingTable(Table):
    """A table that leaves columns out, and says which, rather than cut what is in them.

    What may be left out is what has no line breaks (``no_wrap``) and is not the first column: from
    right to left, those without an interval first. The first of those with one stays.
    """

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        kept = self._fitting(options.max_width)
        if len(kept) == len(self.columns) and self._needed(kept) <= options.max_width:
            yield from super().__rich_console__(console, options)
            return
        yield from super(FittingTable, self._with(kept)).__rich_console__(console, options)

    def _fitting(self, width: int) -> list[Column]:
        """Returns the columns for which there is room."""
        kept = list(self.columns)
        free = [column for column in self.columns[:0:-1] if column.no_wrap]
        main = [_MAIN in _plain(column.header) for column in free]
        order = [column for column, is_main in zip(free, main, strict=True) if not is_main]
        order += [column for column, is_main in zip(free, main, strict=True) if is_main][:-1]
        for expendable in order:
            if self._needed(kept) <= width:
                break
            kept = [column for column in kept if column is not expendable]  # equal ones stay
        return kept

    def _needed(self, columns: list[Column]) -> int:
        """Returns the characters that columns take, two spaces between them."""
        return sum(_width(column) + 2 for column in columns) - 2

    def _with(self, kept: list[Column]) -> FittingTable:
        """Returns the table with these columns only; names may go on in the next line."""
        left = {id(column) for column in kept}
        gone = [" ".join(_plain(c.header).split()) for c in self.columns if id(c) not in left]
        names = ", ".join(dict.fromkeys(filter(None, gone)))
        said = [f"for want of width without: {names}"] if gone else []
        caption = "\n".join([str(self.caption), *said])
        table = FittingTable(title=self.title, caption=caption, box=self.box)
        table.padding, table.pad_edge, table.show_edge = self.padding, self.pad_edge, self.show_edge
        for i, column in enumerate(kept):
            how = {"no_wrap": column.no_wrap and i > 0, "overflow": column.overflow}
            how |= {} if i else {"overflow": "fold"}
            table.add_column(column.header, justify=column.justify, **how)
        cells = [list(column.cells) for column in kept]
        for i, row in enumerate(self.rows):
            line = (column[i] for column in cells)
            table.add_row(*line, style=row.style, end_section=row.end_section)
        return table


def _width(column: Column) -> int:
    """Returns the characters that a column needs to show what is in it."""
    lines = [line for cell in (column.header, *column.cells) for line in _plain(cell).split("\n")]
    if column.no_wrap:
        return max(map(cell_len, lines))
    longest = max((cell_len(word) for line in lines for word in line.split()), default=0)
    return min(longest, _SHORT) if column.overflow == "fold" else longest


def _plain(cell: object) -> str:
    return Text.from_markup(cell).plain if isinstance(cell, str) else str(cell)
