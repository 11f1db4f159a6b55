"""How much a training could learn from: outcomes in the train window that no exclusion takes out."""

import numpy as np

from mlma.core import overrides
from mlma.core.blocks import Bools, Ints
from mlma.core.decisions import OverrideKind
from mlma.runtime.control import Control


def count(control: Control, stream_ids: Ints) -> Ints:
    """Clean outcomes in the train window before the open batch, shape (streams asked for,); ids ascending."""
    if not len(stream_ids):
        return np.zeros(0, dtype=np.int64)
    schedule, orders = control.settings.schedule, control.store.overrides()
    counts = []
    for window in control.executor.windows(stream_ids):
        stream, end = control.fleet.streams[window.stream_id], window.start + len(window.y)
        skipped = overrides.excluded_slots(orders, stream, schedule, window.start, end)
        counts.append(np.count_nonzero((np.isfinite(window.y) & ~skipped)[-schedule.train_window :]))
    return np.asarray(counts, dtype=np.int64)


def without_excluded(control: Control, n_rows: Ints, wanted: Bools) -> Ints:
    """Outcomes in the train window with the excluded ones taken out, for the streams that want a training.

    Parameters
    ----------
    n_rows
        Shape (streams,), all outcomes in the train window.
    wanted
        Shape (streams,); the others keep their number, which nobody asks for.
    """
    excluded = overrides.held(
        control.store.overrides(), OverrideKind.EXCLUDE, control.fleet.streams, control.clock.now()
    )
    ids = np.flatnonzero(wanted & excluded)
    made = n_rows.copy()
    made[ids] = count(control, ids)
    return made
