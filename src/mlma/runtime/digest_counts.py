"""Counts that a digest is made from: rows that were not admitted, losses against naive, who carries the pools."""

from collections import Counter
from collections.abc import Iterable

import numpy as np

from mlma.core.blocks import Floats, PeriodTotals
from mlma.core.decisions import RejectReason
from mlma.core.digest_parts import PoolSummary, RejectedCount
from mlma.core.records import Rejected
from mlma.core.settings import Serve
from mlma.runtime.pool_counts import carried
from mlma.runtime.pool_view import Kind, kind_of
from mlma.runtime.ports import ControlStore, History


def pool_summary(store: ControlStore, history: History | None) -> PoolSummary | None:
    """Pools of the fleet after the last batch; None when none is recorded, or no history is at hand."""
    cursor = store.cursor()
    block = None if history is None or cursor is None else history.pool(cursor)
    if block is None:
        return None
    has_group = any(kind_of(name) is Kind.GROUP for name in block.members)
    return PoolSummary(
        is_blend=store.meta().get("serve", Serve.BLEND) == Serve.BLEND,
        evergreen_share=carried(block, Kind.EVERGREEN),
        versions_share=carried(block, Kind.VERSION),
        groups_share=carried(block, Kind.GROUP) if has_group else float("nan"),
        n_in_use=sum(kind_of(block.members[code]) is Kind.VERSION for code in np.unique(block.member).tolist()),
    )


def rejected_counts(rows: Iterable[Rejected], seqs: set[int]) -> list[RejectedCount]:
    """Rows of some files that were not admitted, by reason, the most frequent first."""
    counts: Counter[tuple[RejectReason, str]] = Counter()
    for row in rows:
        if row.seq in seqs:
            counts[row.reason, row.stream] += row.count
    totals: Counter[RejectReason] = Counter()
    worst: dict[RejectReason, str] = {}
    for (reason, stream), count in counts.most_common():
        totals[reason] += count
        worst.setdefault(reason, stream)
    return [RejectedCount(reason=reason, count=n, worst_stream=worst[reason]) for reason, n in totals.most_common()]


def loss_ratios(totals: PeriodTotals) -> Floats:
    """Loss served / loss of naive of the streams where both exist, shape (scored streams,)."""
    scored = np.isfinite(totals.loss) & (totals.naive_loss > 0.0)
    return totals.loss[scored] / totals.naive_loss[scored]
