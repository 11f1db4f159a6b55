"""How much the loss of each stream counts against the price of a training, by the engineer's word."""

from collections.abc import Sequence

import numpy as np

from mlma.core import selection
from mlma.core.blocks import Floats
from mlma.core.records import Stream
from mlma.core.settings import StreamWeight

USUAL = 1.0
"""Weight of a stream that no rule names."""


def weights_of(streams: Sequence[Stream], rules: Sequence[StreamWeight]) -> Floats:
    """Weight of each stream, shape (streams,): that of the first rule whose selection matches it.

    Raises
    ------
    OperationError
        A selection that cannot be parsed.

    Examples
    --------
    >>> streams = [Stream(id=0, name="IAH", first_slot=0), Stream(id=1, name="ATL", first_slot=0)]
    >>> weights_of(streams, [StreamWeight(select="A*", weight=3.0)]).tolist()
    [1.0, 3.0]
    """
    made = np.full(len(streams), USUAL)
    for rule in reversed(rules):
        wanted = selection.parse(rule.select)
        made[[wanted.matches(stream.name, stream.labels) for stream in streams]] = rule.weight
    return made
