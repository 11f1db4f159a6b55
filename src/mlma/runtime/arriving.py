"""Files with forecasts that were made elsewhere: what of them is taken, and until when."""

import numpy as np

from mlma.core.blocks import Floats
from mlma.core.forecast_admission import AdmittedForecasts, ForecastState, admit_forecasts
from mlma.core.rows import Rows
from mlma.runtime.control import Control


def admitted(
    control: Control, rows: Rows, *, seq: int, path: str, settled: int, center: Floats, scale: Floats
) -> AdmittedForecasts:
    """Admit a file and store what it brought; it counts once the file is recorded.

    Parameters
    ----------
    seq, path
        Of the file.
    settled
        See `settled_until`.
    center, scale
        Shape (streams,), of the recent outcomes.
    """
    found = admit_forecasts(
        rows,
        schedule=control.settings.schedule,
        streams=control.fleet.ids,
        state=ForecastState(
            settled=settled,
            known=control.executor.known,
            arrived=control.executor.has_arrived,
            center=center,
            scale=scale,
        ),
        settings=control.settings.admission,
        seq=seq,
        path=path,
    )
    home = found.block.stream_id % control.executor.n_shards
    for shard in np.unique(home).tolist():
        control.history.append_arrived(seq, shard, found.block.part(home == shard))
    return found


def settled_until(control: Control, complete_until: int) -> int:
    """First slot whose forecasts are not settled yet.

    It follows from what has come in, and not only from what was issued: so it does not matter how many files a pass
    takes, and what is late in one run is late in every run.

    Parameters
    ----------
    complete_until
        First slot that is not complete.
    """
    horizon = control.settings.schedule.horizon
    due = (complete_until - control.settings.admission.forecast_wait) // horizon * horizon
    return max(due + horizon if due >= 0 else 0, control.issued_until if control.is_warm() else 0)
