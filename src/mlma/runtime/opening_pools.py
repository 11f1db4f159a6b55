"""The pools of a fleet as they were when its engine stopped: the last record, and what came after it."""

from datetime import datetime

import numpy as np

from mlma.core.account import fresh_batches
from mlma.core.decisions import Reason, Role
from mlma.core.records import Serving, Version
from mlma.runtime.control import Control
from mlma.runtime.pools import Pools


def opened(control: Control) -> Pools:
    """Pools as they were recorded after the last closed batch, and who came since."""
    pools = Pools(control.settings.life, fresh_for=fresh_batches(control.settings.schedule))
    cursor = control.store.cursor()
    pools.grow(control.fleet.n_streams)
    pools.groups.grow(control.fleet.streams)
    pools.weigh(control.fleet.streams)
    block = None if cursor is None else control.history.pool(cursor)
    opened = -1 if cursor is None else control.settings.schedule.origin_after(cursor)
    servings = control.store.servings()
    if block is not None:
        leaders = {serving.stream_id: serving.version_id for serving in servings if serving.origin < opened}
        pools.restore(block, control.fleet.versions, leaders)
        pools.paid(np.flatnonzero(control.fleet.trained == cursor).tolist())
    if len(pools.groups):
        columns = {} if block is None else block.account
        pools.groups.restore(columns, control.store.group_trainings(), -1 if cursor is None else cursor)
    waiting = {decision.version_id for decision in control.fleet.waiting.values()}  # an override holds them
    joined: list[tuple[datetime, int, Version | Serving]] = [
        (version.trained_at, 1, version)
        for version in control.store.versions()
        if version.role is Role.CHALLENGER and version.id not in waiting and version.batch == cursor
    ]
    # Who was recalled as the batch was closed led before those came who were trained then.
    led: list[tuple[datetime, int, Version | Serving]] = [
        (serving.at, 0 if serving.reason is Reason.DID_BETTER else 2, serving)
        for serving in servings
        if block is None or serving.origin >= opened
    ]
    for _, _, came in sorted([*joined, *led], key=lambda entry: entry[:2]):
        if isinstance(came, Version):
            pools.join(came)
            continue
        if came.reason is Reason.BACK_TO_TIME:
            pools.leave(came.stream_id, _taken_back(control, pools, came.stream_id))
        pools.lead(control.fleet.versions[came.version_id])
    for stream_id, line in control.fleet.lines.items():
        seated = [sits.version_id for sits in pools.seating.of(stream_id).values()]
        taken_back = [name for name in seated if control.fleet.versions[name].role is Role.FORMER and name not in line]
        pools.leave(stream_id, taken_back + _taken_back(control, pools, stream_id))
    return pools


def _taken_back(control: Control, pools: Pools, stream_id: int) -> list[str]:
    """Versions in a pool that came after the time to which an engineer went back."""
    seated = [sits.version_id for sits in pools.seating.of(stream_id).values()]
    return [name for name in seated if control.fleet.versions[name].role is Role.TAKEN_BACK]
