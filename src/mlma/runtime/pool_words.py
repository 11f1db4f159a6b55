"""The sentences of `mlma explain` about a pool: who carries what, and what age has cost against the price."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mlma.core.account import ALONE_FACTOR, SMALLEST_DEBT, SMALLEST_SHARE, Account
from mlma.core.blocks import Floats
from mlma.core.explanation import Fact, PoolShare
from mlma.core.records import Serving, Stream, Version
from mlma.core.schedule import Schedule
from mlma.core.settings import Serve
from mlma.runtime.pool_counts import price_of
from mlma.runtime.ports import ControlStore, History
from mlma.runtime.seats import seats_of

NAN = float("nan")
SHOWN = 8
"""Members that one line names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolFacts:
    """What is known about the pool of one stream.

    Attributes
    ----------
    shares
        Members, the heaviest first.
    debt
        What age has cost since the last training; NaN when it is not known.
    price
        Of a training; NaN when the state does not say.
    fresh_share
        Weight that fresh versions usually have in what is served.
    """

    shares: tuple[PoolShare, ...] = ()
    debt: float = NAN
    price: float = NAN
    fresh_share: float = NAN
    serve: str = ""

    def facts(self) -> tuple[Fact, ...]:
        """Lines of an explanation; none without a pool."""
        if not self.shares:
            return ()
        lines = [Fact(label="pool", text=shares_in_words(self.shares))]
        if not math.isnan(self.debt) and not math.isnan(self.price) and self.serve in {Serve.BLEND, Serve.CHAMPION}:
            lines.append(Fact(label="debt", text=debt_in_words(self)))
        return tuple(lines)


def pool_facts(
    store: ControlStore,
    history: History | None,
    schedule: Schedule,
    stream: Stream,
    *,
    servings: list[Serving],
    versions: list[Version],
    n_shards: int,
) -> PoolFacts:
    """What is known about the pool of one stream; nothing without a history."""
    cursor, meta = store.cursor(), store.meta()
    if history is None or cursor is None:
        return PoolFacts()
    seats = seats_of(history, schedule, stream, servings, versions, cursor=cursor, shard=stream.id % n_shards)
    block = history.pool(cursor, stream_id=stream.id)
    debt, fresh = (NAN, NAN) if block is None else _debt(block.account, stream.id)
    shares = [
        PoolShare(member=name, weight=weight, recent=seats.relative(name)) for name, weight in seats.weight.items()
    ]
    shares.sort(key=lambda one: -(0.0 if math.isnan(one.weight) else one.weight))
    return PoolFacts(
        shares=tuple(shares), debt=debt, price=price_of(meta, stream), fresh_share=fresh, serve=meta.get("serve", "")
    )


def _debt(account: Mapping[str, Floats], stream_id: int) -> tuple[float, float]:
    """Debt of a stream and the usual share of its fresh versions; NaN for a stream that was born since."""
    known = Account.of(account)
    if stream_id >= len(known.debt):
        return NAN, NAN
    return float(known.debt[stream_id]), float(np.asarray(known.share())[stream_id])


def shares_in_words(shares: tuple[PoolShare, ...]) -> str:
    """Members with their weights, the heaviest first, and those that are only watched.

    Examples
    --------
    >>> shares_in_words((PoolShare(member="median", weight=0.75, recent=1.0),
    ...                  PoolShare(member="3-40-0", weight=0.25, recent=1.125),
    ...                  PoolShare(member="naive", weight=0.0, recent=1.5)))
    'median 75 % (recent loss 1.000 of the best), 3-40-0 25 % (1.125), naive 0 % (1.500)'
    """
    told = []
    for row, one in enumerate(shares[:SHOWN]):
        share = "not weighed yet" if math.isnan(one.weight) else f"{100 * one.weight:.0f} %"
        of_best = " of the best" if not row else ""
        recent = (
            "no loss yet" if math.isnan(one.recent) else f"{'' if row else 'recent loss '}{one.recent:.3f}{of_best}"
        )
        told.append(f"{one.member} {share} ({recent})")
    more = len(shares) - SHOWN
    return ", ".join(told) + (f" and {more} more" if more > 0 else "")


def debt_in_words(known: PoolFacts) -> str:
    """What age has cost against what a training costs.

    Examples
    --------
    >>> debt_in_words(PoolFacts(debt=0.12, price=0.3, fresh_share=0.6, serve="blend"))
    'age has cost 0.12 of the 0.30 that a training costs'
    >>> debt_in_words(PoolFacts(debt=0.12, price=0.3, fresh_share=0.2, serve="blend"))
    'age has cost 0.12 of the 0.30 that a training costs; fresh versions carry 20 % of the blend: none pays'
    >>> debt_in_words(PoolFacts(debt=0.7, price=0.3, fresh_share=1.0, serve="champion"))
    'age has cost 0.70, more than the 0.60 that a training must save (2 times its price of 0.30): one pays'
    """
    alone = known.serve == Serve.CHAMPION
    needed = max(ALONE_FACTOR * known.price, SMALLEST_DEBT) if alone else known.price
    if not alone:
        what = f"{needed:.2f} that a training costs"
    elif needed > ALONE_FACTOR * known.price:
        what = f"{needed:.2f} that a training must save at least where one version serves"
    else:
        what = f"{needed:.2f} that a training must save ({ALONE_FACTOR:.0f} times its price of {known.price:.2f})"
    pays = known.debt > needed
    text = (
        f"age has cost {known.debt:.2f}, more than the {what}"
        if pays
        else f"age has cost {known.debt:.2f} of the {what}"
    )
    if not alone and known.fresh_share <= SMALLEST_SHARE:
        return f"{text}; fresh versions carry {100 * known.fresh_share:.0f} % of the blend: none pays"
    return f"{text}: one pays" if pays else text
