"""Streams whose trainings do not help, told once: what a person should look at while the agent backs off."""

from datetime import datetime

import numpy as np

from mlma.core.backoff import TELL
from mlma.core.blocks import Bools, Ints
from mlma.core.records import Finding
from mlma.runtime.control import Control
from mlma.runtime.findings import OpenFindings

KIND = "training_in_vain"


def findings(control: Control, vain: Ints, backing_off: Bools, now: datetime) -> list[Finding]:
    """Findings of the streams that back off after `TELL` trainings in vain, closed ones of those that a version helped.

    Parameters
    ----------
    vain, backing_off
        Shape (streams,), newest versions in a row that are no better, and whether a training was wanted all the same.
    """
    fleet, known, found = control.fleet, OpenFindings(control.store, now), []
    for stream_id in np.flatnonzero(backing_off & (vain >= TELL)).tolist():
        n = int(vain[stream_id])
        message = f"the last {n} versions are no better than an older one; the next must save {2**n} times its price"
        found.append(known.seen(KIND, fleet.streams[stream_id].name, message))
    for name in known.subjects(KIND):
        if vain[fleet.ids[name]] < TELL:
            found += known.healed(KIND, name)
    return found
