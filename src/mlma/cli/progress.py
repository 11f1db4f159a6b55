"""A progress bar for replays on standard error; a line every tenth where no terminal is."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mlma.cli.output import console

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from mlma.runtime.replay import ReplayProgress

TENTHS = 10


@contextmanager
def progress_bar() -> "Iterator[Callable[[ReplayProgress], None]]":
    """Shows batches, retrainings and the time left while its body runs."""
    page = console(stderr=True)
    if not page.is_terminal:
        yield _Lines(page.print)
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:.0f}/{task.total:.0f} batches"),
        TextColumn("{task.fields[words]}"),
        TimeElapsedColumn(),
        console=page,
        transient=True,
    ) as bar:
        yield _Bar(bar, bar.add_task("reading", total=1, words=""))


def words(at: "ReplayProgress") -> str:
    """Streams, retrainings and the time left, as far as they are known."""
    streams = getattr(at, "streams", None)
    told = [] if streams is None else [f"{streams:,} streams"]
    told.append(f"{at.trainings:,} trainings")
    if at.eta_s is not None:
        told.append(f"{int(at.eta_s) // 60}:{int(at.eta_s) % 60:02d} left")
    return ", ".join(told)


class _Bar:
    def __init__(self, bar: "Progress", task: "TaskID") -> None:
        self._bar, self._task = bar, task

    def __call__(self, at: "ReplayProgress") -> None:
        self._bar.update(
            self._task, completed=at.batch, total=max(1, at.n_batches), description=at.policy, words=words(at)
        )


class _Lines:
    def __init__(self, write: Callable[[str], None]) -> None:
        self._write, self._told = write, -1

    def __call__(self, at: "ReplayProgress") -> None:
        tenth = TENTHS * at.batch // max(1, at.n_batches)
        if tenth > self._told:
            self._told = tenth
            self._write(f"{at.batch}/{at.n_batches} batches, {words(at)}")
