"""Pools as they are written down after a batch, and which seats were meant when they are read again."""

from collections.abc import Mapping, Sequence

import numpy as np

from mlma.core.blocks import Bools, Floats, Ints, PoolBlock
from mlma.runtime.pool_members import is_fixed
from mlma.runtime.seating import Seating

FIXED = "fixed_seats"
"""Column of what is recorded: seats that no version takes, also where nobody sits on one yet."""


def written(
    seating: Seating,
    seated: Bools,
    fixed: Sequence[str],
    *,
    batch: int,
    loss: Floats,
    recent: Floats,
    mass: Floats,
    weight: Floats,
    recalibration: Floats,
    comparison: Floats,
    account: Mapping[str, Floats],
) -> PoolBlock:
    """Pools after a batch, one row for each seat that is taken: fixed members first, then versions in order.

    Parameters
    ----------
    seated
        Shape (streams, seats), as are the numbers of the members; ``recalibration`` and ``comparison`` have a third
        axis.
    fixed
        Names of the members on the first seats.
    account
        Columns with an entry a stream.
    """
    rows = [(i, seat, name) for i in range(len(loss)) for seat, name in enumerate(fixed) if seated[i, seat]]
    rows += [(i, seat, sits.version_id) for i, seat, sits in seating.in_order()]
    code = {name: k for k, name in enumerate(dict.fromkeys(name for _, _, name in rows))}
    stream_id, seat = (np.asarray([row[k] for row in rows], dtype=np.int64) for k in (0, 1))
    return PoolBlock(
        batch=batch,
        stream_id=stream_id,
        seat=seat,
        member=np.asarray([code[name] for _, _, name in rows], dtype=np.int64),
        members=tuple(code),
        loss=loss[stream_id, seat],
        recent=recent[stream_id, seat],
        mass=mass[stream_id, seat],
        weight=weight[stream_id, seat],
        recalibration=recalibration[stream_id, seat],
        comparison=comparison[stream_id, seat],
        account={FIXED: np.full(len(loss), float(len(fixed))), **account},
    )


def seats_now(block: PoolBlock, fixed: Sequence[str]) -> Ints:
    """Seats of what was recorded, under the present settings; -1 for a member that there is no more.

    A daemon may be restarted with another family of evergreen members, or with a group more.
    """
    is_version = np.asarray([not is_fixed(name) for name in block.members], dtype=np.bool_)[block.member]
    before = int(block.seat[~is_version].max(initial=-1)) + 1  # of a state that does not say: all were seated
    said = block.account.get(FIXED)
    if said is not None and len(said):
        before = int(said[0])
    by_name = np.asarray([fixed.index(name) if name in fixed else -1 for name in block.members], dtype=np.int64)
    return np.where(is_version, block.seat - before + len(fixed), by_name[block.member])
