"""What a monitor says about one batch."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mlma.core.blocks import REASONS, Bools, Floats, Ints
from mlma.core.records import Certificate, Incident


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdicts:
    """One batch of a fleet, all arrays of shape (streams,); NaN where a number does not exist.

    Attributes
    ----------
    p_value
        One-sided, of both references together ; small when the loss got worse.
    p_adaptive, p_anchored
        Of each reference alone.
    effect
        Relative rise of the tested loss over the reference that speaks louder: 0.2 is 20 % worse.
    ready
        Whether there was enough to test.
    alarm
        Significant under the fleet's rule, and a rise of at least the effect floor.
    reason_code
        Positions in `mlma.core.blocks.REASONS`; `reason` has the words.
    incident
        Position of the stream's incident in ``incidents``, -1 for none.
    incidents
        Streams that got worse together.
    certificate
        What the test was seen to do on sham streams so far.
    mean_loss, tested
        Mean loss of the batch, and the number that was tested, cleaned (logs).
    n
        Scored targets.
    n_reference
        Batches in the adaptive reference.
    p_accumulated
        Of what the newest batches add up to against the anchored reference; None unless ``accumulate``.
    """

    batch: int
    p_value: Floats
    p_adaptive: Floats
    p_anchored: Floats
    effect: Floats
    ready: Bools
    alarm: Bools
    reason_code: NDArray[np.int8]
    incident: Ints
    incidents: tuple[Incident, ...]
    certificate: Certificate
    mean_loss: Floats
    tested: Floats
    n: Ints
    n_reference: Ints
    p_accumulated: Floats | None = None

    @property
    def reason(self) -> NDArray[np.object_]:
        """Why, as `mlma.core.decisions.Reason` members."""
        return np.array(REASONS, dtype=object)[self.reason_code]
