"""The pools of a whole fleet in numbers: versions by state, and what each kind of member carries. Pure reading."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mlma.core.blocks import Bools, Floats, PoolBlock
from mlma.core.decisions import EffectStatus, Hold, Phase, Reason
from mlma.core.life_table import State
from mlma.core.records import NAIVE, Stream
from mlma.core.settings import StreamWeight
from mlma.core.stream_weights import USUAL, weights_of
from mlma.core.version_state import state_of
from mlma.runtime.group_view import GroupRow, group_rows
from mlma.runtime.pool_view import Kind, is_on_probation, kind_of
from mlma.runtime.ports import ControlStore, History

VERSIONS = "versions"
"""Row of the trained versions, all of a stream together."""

NAN = float("nan")


@dataclass(frozen=True, slots=True, kw_only=True)
class KindRow:
    """One kind of member over the fleet; medians over the streams that have it, NaN where nothing is known.

    Attributes
    ----------
    name
        `naive`, an evergreen member, the model of a group, or `versions`.
    weight
        Of all its members of a stream together, after the last batch.
    recent
        Recent loss of the best of them, relative to that of the best member of the pool.
    """

    name: str
    kind: Kind
    n_streams: int
    n_members: int
    weight: float
    recent: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetPools:
    """The pools of a fleet.

    Attributes
    ----------
    serve, price
        Serving mode and price of a training as the daemon last had them; empty and NaN when the state says nothing.
    states
        Versions by state, every state; candidates include trainings under way.
    n_in_use
        Versions with a seat.
    versions_share, evergreen_share
        Median over the streams of what all trained versions, and all evergreen members, carry together.
    """

    serve: str
    price: float
    n_streams: int
    batch: int | None
    states: Mapping[State, int]
    kinds: tuple[KindRow, ...]
    n_in_use: int
    versions_share: float
    evergreen_share: float
    groups: tuple[GroupRow, ...] = ()


def price_of(meta: Mapping[str, str], stream: Stream | None = None) -> float:
    """Price of a training as the daemon last had it, of one stream by its weight; NaN when the state does not say."""
    rules = [StreamWeight(select=select, weight=weight) for select, weight in json.loads(meta.get("weights", "[]"))]
    worth = USUAL if stream is None else float(weights_of([stream], rules)[0])
    return float(meta.get("price", "nan")) / worth


def fleet_pools(store: ControlStore, history: History | None) -> FleetPools:
    """Pools of the fleet after the last closed batch; without a history what the control plane alone knows."""
    cursor, meta = store.cursor(), store.meta()
    block = history.pool(cursor) if history is not None and cursor is not None else None
    kinds = () if block is None else kind_rows(block)
    totals = {row.name: row.weight for row in kinds}
    seated = set() if block is None else {block.members[code] for code in np.unique(block.member).tolist()}
    return FleetPools(
        serve=meta.get("serve", ""),
        price=price_of(meta),
        n_streams=len(store.streams()),
        batch=cursor,
        states=_states(store, seated),
        kinds=kinds,
        n_in_use=sum(kind_of(name) is Kind.VERSION for name in seated),
        versions_share=totals.get(VERSIONS, NAN),
        evergreen_share=NAN if block is None else carried(block, Kind.EVERGREEN),
        groups=group_rows(store.group_trainings(), block, cursor),
    )


def _states(store: ControlStore, seated: set[str]) -> Mapping[State, int]:
    last = {serving.stream_id: serving for serving in store.servings()}
    serves = {stream_id: serving.version_id for stream_id, serving in last.items()}
    cursor, meta = store.cursor(), store.meta()
    watched = {serving.version_id for serving in last.values() if is_on_probation(serving, cursor, meta)}
    waiting = {
        d.version_id
        for d in store.decisions(phase=Phase.PROMOTION, exceptions_only=True)
        if d.held_by is not Hold.NOTHING
    }
    counts = Counter(
        state_of(
            v,
            serves=serves.get(v.stream_id, NAIVE),
            seated=v.id in seated,
            waits=v.id in waiting,
            on_probation=v.id in watched,
        )
        for v in store.versions()
    )
    for status in (EffectStatus.PENDING, EffectStatus.WAITING):
        counts[State.CANDIDATE] += len(store.effects(status=status))
    counts[State.FAILED] += sum(
        d.reason is Reason.TRAINING_FAILED for d in store.decisions(phase=Phase.PROMOTION, exceptions_only=True)
    )
    return {state: counts[state] for state in State}


def carried(block: PoolBlock, kind: Kind) -> float:
    """Median over the streams of the weight that all members of a kind have together; NaN without a stream."""
    of_kind = np.array([kind_of(name) is kind for name in block.members], dtype=np.bool_)[block.member]
    streams, row = np.unique(block.stream_id, return_inverse=True)
    total = np.zeros(len(streams))
    np.add.at(total, row, np.where(of_kind, block.weight, 0.0))
    return float(np.median(total)) if len(total) else NAN


def kind_rows(block: PoolBlock) -> tuple[KindRow, ...]:
    """Rows of the kinds in order of their seats, the trained versions last."""
    labels = [VERSIONS if kind_of(name) is Kind.VERSION else name for name in block.members]
    names = [*dict.fromkeys(label for label in labels if label != VERSIONS)]
    names += [VERSIONS] if VERSIONS in labels else []
    code = np.array([names.index(label) for label in labels], dtype=np.int64)[block.member]
    streams, row = np.unique(block.stream_id, return_inverse=True)
    recent = np.where(block.recent > 0, block.recent, np.inf)
    best = np.full(len(streams), np.inf)
    np.minimum.at(best, row, recent)
    return tuple(_kind_row(name, code == at, block, row, recent, best) for at, name in enumerate(names))


def _kind_row(name: str, mine: Bools, block: PoolBlock, row: np.ndarray, recent: Floats, best: Floats) -> KindRow:
    weight, lowest = np.zeros(len(best)), np.full(len(best), np.inf)
    np.add.at(weight, row[mine], block.weight[mine])
    np.minimum.at(lowest, row[mine], recent[mine])
    has = np.zeros(len(best), dtype=np.bool_)
    has[row[mine]] = True
    known = np.isfinite(lowest) & np.isfinite(best)
    ratio = lowest[known] / best[known]
    return KindRow(
        name=name,
        kind=Kind.VERSION if name == VERSIONS else kind_of(name),
        n_streams=int(has.sum()),
        n_members=int(mine.sum()),
        weight=float(np.median(weight[has])) if has.any() else NAN,
        recent=float(np.median(ratio)) if len(ratio) else NAN,
    )
