"""What an order must bring along: who stands for it, why, and until when."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from mlma.core.errors import OperationError
from mlma.core.overrides import is_active, require_liftable
from mlma.core.records import Override, Stream
from mlma.core.selection import parse
from mlma.runtime.answers import described, in_words


def signed(author: str, reason: str) -> tuple[str, str]:
    """Author and reason without surrounding space. Raises OperationError when one is empty."""
    if not author.strip():
        raise OperationError("an order needs an author: who stands for it")
    if not reason.strip():
        raise OperationError("an order needs a reason: the next engineer will ask for it")
    return author.strip(), reason.strip()


def require_aware(*times: datetime) -> None:
    """Accept times with a zone. Raises OperationError for one without."""
    for time in times:
        if time.tzinfo is None:
            raise OperationError(f"time {time.isoformat(sep=' ')} has no time zone; add one, for example Z for UTC")


def end_of(until: datetime | None, now: datetime, *, forever: bool) -> datetime | None:
    """End of a freeze or pin; None means for ever, which must be said.

    Raises
    ------
    OperationError
        The end is missing, contradicts ``forever``, has no time zone, or has passed.
    """
    if forever and until is not None:
        raise OperationError("an order either ends or lasts for ever; leave one of the two out")
    if forever:
        return None
    if until is None:
        raise OperationError("an order needs an end: a time, a duration such as 3d, or for ever in so many words")
    require_aware(until)
    if until <= now:
        raise OperationError(f"the end {in_words(until)} has passed, it is {in_words(now)}")
    return until


def liftable(known: Mapping[int, Override], override_id: int, now: datetime) -> Override:
    """Override of an id that can be lifted. Raises OperationError when it does not exist or has ended."""
    if override_id not in known:
        raise OperationError(f"there is no override {override_id}; `mlma overrides` lists them")
    require_liftable(known[override_id], now)
    return known[override_id]


def is_over(override: Override, stream: Stream) -> bool:
    """Whether an override is about a stream."""
    return parse(override.selection).matches(stream.name, stream.labels)


def remaining(
    known: Mapping[int, Override], lifted: Sequence[Override], streams: Sequence[Stream], now: datetime
) -> str:
    """Sentence on what still holds the streams of the lifted overrides; empty when nothing does."""
    others = [o for o in known.values() if o not in lifted and is_active(o, now)]
    still = [described(o) for o in others if any(is_over(o, stream) for stream in streams)]
    return f" Still in force there: {', '.join(still)}." if still else ""
