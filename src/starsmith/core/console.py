"""What a person sees: results on stdout, progress and notes on stderr. Set up here and nowhere else.

On a terminal progress is a live bar; elsewhere (a log, CI) it is a plain line every few seconds.
"""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

LOG_EVERY_S = 10.0

Advance = Callable[..., None]  # advance(number=1, note="")


def note(message: str) -> None:
    """One line on stderr for the person who waits."""
    sys.stderr.write(message + "\n")
    sys.stderr.flush()


@contextmanager
def progress(what: str, *, total: float | None = None, unit: str = "") -> Iterator[Advance]:
    """Show how far long work is; yields `advance(number=1, note="")`."""
    reporter = _bar(what, total) if sys.stderr.isatty() else _lines(what, total, unit)
    with reporter as advance:
        yield advance


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]], *, right: Sequence[str] = ()) -> None:
    """Print a table on stdout; the columns named in `right` are aligned to the right."""
    from rich.table import Table

    drawn = Table(title=title, title_justify="left", title_style="bold", header_style="bold")
    for column in columns:
        drawn.add_column(column, justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        drawn.add_row(*(str(cell) for cell in row))
    stdout_console().print(drawn)


def stdout_console() -> "Console":
    """The rich console of results; plain text when stdout is a file or a pipe."""
    from rich.console import Console

    return Console(highlight=False, markup=False, soft_wrap=not sys.stdout.isatty())


@contextmanager
def _bar(what: str, total: float | None) -> Iterator[Advance]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )

    class Bar(Progress):
        """With the note on a line of its own: beside the bar a long one would leave no room for either."""

        def get_renderables(self) -> Iterator["RenderableType"]:
            yield self.make_tasks_table(self.tasks)
            for task in self.tasks:
                if task.fields["note"]:
                    yield Text("  " + task.fields["note"], no_wrap=True, overflow="ellipsis")

    with Bar(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(what, total=total, note="")

        def advance(number: float = 1, note: str = "") -> None:
            bar.update(task, advance=number)
            if note:
                bar.update(task, note=note)

        yield advance


@contextmanager
def _lines(what: str, total: float | None, unit: str) -> Iterator[Advance]:
    done, started = 0.0, time.monotonic()
    last = started

    def advance(number: float = 1, note: str = "") -> None:
        nonlocal done, last
        done += number
        if (now := time.monotonic()) - last >= LOG_EVERY_S:
            last = now
            of = f" of {total:,.0f}" if total is not None else ""
            _write_line(f"{what}: {done:,.0f}{of} {unit}".rstrip(), now - started, note)

    yield advance
    _write_line(f"{what}: {done:,.0f} {unit}".rstrip() + ", done", time.monotonic() - started, "")


def _write_line(text: str, elapsed_s: float, extra: str) -> None:
    note(f"  {text}, {elapsed_s:.0f} s" + (f", {extra}" if extra else ""))
