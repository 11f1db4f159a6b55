"""What `mlma status` says about pools and trainings: who carries what, what is pending, what waits and why."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mlma.core.decisions import EffectStatus, Hold, Phase
from mlma.core.records import Decision
from mlma.core.settings import Serve
from mlma.runtime.digest_counts import pool_summary
from mlma.runtime.pool_counts import price_of
from mlma.runtime.ports import ControlStore, History

NAN = float("nan")

WAITS = {Hold.COOLING_DOWN, Hold.TOO_LITTLE_DATA, Hold.NO_NEW_DATA, Hold.SUSPICIOUS_DATA, Hold.FROZEN}
"""Holds of a proposed training after which it is proposed again, or released."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolStatus:
    """Pools and trainings in numbers.

    Attributes
    ----------
    serve, price
        As the daemon last had them; empty and NaN when the state says nothing.
    n_in_use
        Versions with a seat after the last batch; None while no pool is recorded.
    evergreen_share, versions_share, groups_share
        Median over the streams of what they carry together.
    pending
        Trainings under way, by the reason of their order.
    waiting
        Trainings that wait: by what they wait for, `budget` or the hold of the last batch's proposal.
    """

    serve: str
    price: float
    n_in_use: int | None
    evergreen_share: float
    versions_share: float
    pending: Mapping[str, int]
    waiting: Mapping[str, int]
    groups_share: float = NAN


def pool_status(store: ControlStore, history: History | None, decisions: Sequence[Decision]) -> PoolStatus:
    """Pools after the last batch, and trainings now.

    Parameters
    ----------
    history
        Read for the pools; None leaves them out.
    decisions
        Of the last batch.
    """
    meta, summary = store.meta(), pool_summary(store, history)
    of_groups = [one for one in store.group_trainings() if one.status in (EffectStatus.PENDING, EffectStatus.WAITING)]
    n_queued = len(store.effects(status=EffectStatus.WAITING))
    n_queued += sum(one.status is EffectStatus.WAITING for one in of_groups)
    waiting = Counter({"budget": n_queued} if n_queued else {})
    waiting.update(str(d.held_by) for d in decisions if d.phase is Phase.BATCH and d.held_by in WAITS)
    return PoolStatus(
        serve=meta.get("serve", ""),
        price=price_of(meta),
        n_in_use=None if summary is None else summary.n_in_use,
        evergreen_share=NAN if summary is None else summary.evergreen_share,
        versions_share=NAN if summary is None else summary.versions_share,
        groups_share=NAN if summary is None else summary.groups_share,
        pending=Counter(
            [
                *(str(effect.reason) for effect in store.effects(status=EffectStatus.PENDING)),
                *(str(one.reason) for one in of_groups if one.status is EffectStatus.PENDING),
            ]
        ),
        waiting=waiting,
    )


def serving_words(pools: PoolStatus) -> str:
    """Serving mode, versions in use, and who carries what; empty while the state says nothing.

    Examples
    --------
    >>> serving_words(PoolStatus(serve="blend", price=0.3, n_in_use=188, evergreen_share=0.65, versions_share=0.31,
    ...                          pending={}, waiting={}))
    'blend of the pool; 188 trained versions in use; median weight 31 % versions, 65 % evergreen members'
    """
    if not pools.serve:
        return ""
    mode = {Serve.BLEND: "blend of the pool", Serve.CHAMPION: "one champion", Serve.LATEST: "the latest version"}
    words = mode[Serve(pools.serve)]
    if pools.n_in_use is None:
        return f"{words}; no pool recorded yet"
    words += f"; {pools.n_in_use:,} trained versions in use"
    if pools.serve != Serve.BLEND or math.isnan(pools.versions_share):
        return words
    versions, evergreens = (f"{100 * share:.0f} %" for share in (pools.versions_share, pools.evergreen_share))
    groups = "" if math.isnan(pools.groups_share) else f", {100 * pools.groups_share:.0f} % models of groups"
    return f"{words}; median weight {versions} versions, {evergreens} evergreen members{groups}"


def training_words(pools: PoolStatus) -> str:
    """Trainings under way with the reasons of their orders, and those that wait with what they wait for.

    Examples
    --------
    >>> training_words(PoolStatus(serve="blend", price=0.3, n_in_use=1, evergreen_share=0.5, versions_share=0.5,
    ...                           pending={"debt": 2, "requested": 1}, waiting={"budget": 4}))
    '3 trainings pending (2 debt, 1 requested), 4 waiting (4 budget); price of one 0.30'
    """
    n = sum(pools.pending.values())
    pending = f"{n:,} training{'' if n == 1 else 's'} pending{_counted(pools.pending)}"
    waiting = f", {sum(pools.waiting.values()):,} waiting{_counted(pools.waiting)}" if pools.waiting else ""
    price = "" if math.isnan(pools.price) else f"; price of one {pools.price:.2f}"
    return pending + waiting + price


def _counted(counts: Mapping[str, int]) -> str:
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return f" ({', '.join(f'{n:,} {name}' for name, n in ranked)})" if ranked else ""
