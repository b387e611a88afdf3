"""Tables for people at a terminal: they fit its width, or 80 columns where the output is piped."""

from collections.abc import Collection

from rich.console import Console
from rich.table import Table


def make_console() -> Console:
    """It prints texts as they are, in colour on a terminal only, and never if NO_COLOR is set."""
    return Console(highlight=False, markup=False, emoji=False)


def make_table(*heads: str, numbers: Collection[str] = ()) -> Table:
    """A table without lines.

    Args:
        heads: of the columns.
        numbers: those of them that are aligned on the right and never broken.
    """
    table = Table(box=None, padding=(0, 1), pad_edge=False, header_style="dim")
    for head in heads:
        of_numbers = head in numbers
        table.add_column(head, justify="right" if of_numbers else "left", no_wrap=of_numbers, overflow="fold")
    return table
