"""Trainings that mostly wait for somebody else, on threads of this process, so that the loop goes on meanwhile."""

import queue
import threading

from mlma.runtime.elsewhere import carried_out
from mlma.runtime.training import TrainingJob, TrainingOutcome


class Background:
    """Threads that carry out trainings in the order in which they were submitted.

    Parameters
    ----------
    n_threads
        Trainings at the same time.

    Notes
    -----
    The threads are daemons: a process that ends does not wait for an answer. Whoever was asked is asked again after the
    restart, under the same id.
    """

    def __init__(self, n_threads: int) -> None:
        self._n_threads = n_threads
        self._asked: queue.SimpleQueue[TrainingJob | None] = queue.SimpleQueue()
        self._made: queue.SimpleQueue[TrainingOutcome] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._n_open = 0

    def submit(self, job: TrainingJob) -> None:
        """Queue a training."""
        if len(self._threads) < self._n_threads:
            thread = threading.Thread(target=self._work, name="hook", daemon=True)
            thread.start()
            self._threads.append(thread)
        self._n_open += 1
        self._asked.put(job)

    def collect(self, *, wait: bool) -> list[TrainingOutcome]:
        """Outcomes since the last call; with ``wait`` at least one, if any training is open."""
        found: list[TrainingOutcome] = []
        while self._n_open:
            try:
                found.append(self._made.get(block=wait and not found))
            except queue.Empty:
                break
            self._n_open -= 1
        return found

    def close(self) -> None:
        """End the threads when they are done; what is still queued is not begun."""
        while not self._asked.empty():
            self._asked.get()
        for _ in self._threads:
            self._asked.put(None)

    def _work(self) -> None:
        while (job := self._asked.get()) is not None:
            self._made.put(carried_out(job))
