"""Everything that a monitor remembers from batch to batch, and how it is written down and changed."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlma.core import fleet
from mlma.core.batch_summary import Detail
from mlma.core.blocks import Bools, Ints
from mlma.core.incidents import SeparationRules
from mlma.core.records import Certificate
from mlma.core.settings import LossTestName, TestingSettings
from mlma.monitor import accepted
from mlma.monitor.accumulation import REFERENCE, Accumulation
from mlma.monitor.batch_moments import BatchMoments
from mlma.monitor.common import Common
from mlma.monitor.dependence import DependenceMemory
from mlma.monitor.evidence import Evidence
from mlma.monitor.prior_memory import PriorMemory
from mlma.monitor.references import References
from mlma.monitor.sham import Sham
from mlma.monitor.single_losses import SingleLosses, SingleLossTest
from mlma.monitor.yardsticks import Coefficients

FORMAT = 3
"""Raised whenever saved states change their meaning."""

ONLINE = "online_"


class Memory:
    """State of the loss tests of a fleet.

    Attributes
    ----------
    references
        Past batches.
    coefficients
        How much the yardsticks explain.
    dependence
        How much batches depend on each other.
    priors
        What the fleet says about the variance between batches.
    sham, certificate
        What the test was seen to do on sham streams.
    common
        What the streams had in common so far.
    single
        Test on the losses of single targets, with what it remembers of them; else None.
    evidence
        The e-processes, for that test; else None.
    accumulation
        The scores of the newest batches, where evidence is added up; else None.
    online
        What the online fleet rule remembers.
    """

    def __init__(
        self, settings: TestingSettings, n_streams: int, labels: Mapping[str, Sequence[str]], *, seed: int
    ) -> None:
        accepted.check(settings, n_streams, labels)
        if settings.accumulate:
            settings = replace(settings, anchored_size=max(settings.anchored_size, REFERENCE, 2 * settings.season))
        self.settings, self.seed = settings, seed
        self.n_streams = n_streams
        self.labels = {key: list(values) for key, values in labels.items()}
        self.references = References(settings, n_streams, 0)
        self.coefficients = Coefficients(0)
        self.dependence = DependenceMemory(settings.season)
        self.priors = PriorMemory()
        self.sham = Sham()
        rules = SeparationRules(alpha=settings.alpha, least_rise=settings.effect_floor)
        self.common = Common(self.labels, n_streams, rules)
        self.single = self._nothing_single()
        self.evidence = self._no_evidence()
        self.accumulation = Accumulation(n_streams) if settings.accumulate else None
        self.online = fleet.OnlineFdr()
        self.certificate: Certificate = self.certify(-1)

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays that are kept from batch to batch; labels are not counted."""
        references = self.references
        more = (self.common.sets.code, references.n_first, references.excluded, references.first_excluded)
        arrays = (*self.arrays().values(), *(array for array in more if array is not None))
        return sum(array.nbytes for array in arrays) + (references.kept.nbytes if references.kept is not None else 0)

    def certify(self, batch: int) -> Certificate:
        """What the sham streams say after a batch."""
        settings = self.settings
        return self.sham.certificate(batch=batch, test=settings.name, alpha=settings.alpha, rise=settings.sham_rise)

    def fix_yardsticks(self, k: int) -> None:
        """Take in that there are k yardsticks, which only the first batch may say.

        Raises
        ------
        ValueError
            There was another number before.
        """
        if k == self.coefficients.k:
            return
        if self.references.batch >= 0:
            raise ValueError(f"{k} yardsticks, expected {self.coefficients.k} as in the batches before")
        self.coefficients = Coefficients(k)
        self.references = References(self.settings, self.n_streams, k)
        self.evidence = self._no_evidence()

    def _nothing_single(self) -> SingleLossTest | None:
        detail = Detail.of(self.settings.name)
        if detail is Detail.MOMENTS:
            return BatchMoments(self.references)
        return SingleLosses(self.settings.name, self.references) if detail is Detail.SINGLE else None

    def _no_evidence(self) -> Evidence | None:
        if self.settings.name is not LossTestName.E_PROCESS:
            return None
        return Evidence(self.n_streams, self.references.n_yardsticks, self.references.n_rows)

    # change

    def forget(self, streams: Ints) -> None:
        """Forget the past of streams."""
        self.references.reset(streams)
        if self.evidence is not None:
            self.evidence.reset(streams)
        if self.accumulation is not None:
            self.accumulation.reset(streams)
        if self.single is not None:
            self.single.past.reset(streams)

    def leave_out(self, batches: Ints, mask: Bools) -> None:
        """Leave batches of streams out; ``mask`` is (streams, batches)."""
        self.references.exclude(batches, mask)
        if self.evidence is not None:
            self.evidence.exclude(self.references.excluded)
        if self.accumulation is not None:
            self.accumulation.exclude(batches, mask)

    def add_streams(self, labels: Mapping[str, Sequence[str]], more: int) -> None:
        """Add streams at the end."""
        unknown, missing = [""] * self.n_streams, [""] * more
        self.labels = {
            key: [*self.labels.get(key, unknown), *labels.get(key, missing)] for key in sorted({*self.labels, *labels})
        }
        self.n_streams += more
        self.references.grow(more)
        if self.evidence is not None:
            self.evidence.grow(more)
        if self.accumulation is not None:
            self.accumulation.grow(more)
        if self.single is not None:
            self.single.past.grow(more)
        self.common.grow(self.labels, self.n_streams)

    # state

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Everything that the monitor knows, by name; `restore` takes it up."""
        made: dict[str, NDArray[Any]] = {"format": np.asarray(FORMAT), "made_for": np.asarray(self.made_for())}
        for part in self._parts():
            made |= part.arrays()
        return made | {ONLINE + name: value for name, value in self.online.arrays().items()}

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take up what `arrays` gave.

        Raises
        ------
        ValueError
            It was made with other settings or another number of streams, or something is missing.
        """
        if int(arrays["format"]) != FORMAT or str(arrays["made_for"]) != self.made_for():
            raise ValueError("the state was saved by a monitor with other settings")
        self.fix_yardsticks(len(arrays["yard_products"]))
        for part in self._parts():
            part.restore(arrays)
        mine = {name.removeprefix(ONLINE): value for name, value in arrays.items() if name.startswith(ONLINE)}
        self.online = fleet.OnlineFdr.from_arrays(mine)
        self.certificate = self.certify(self.references.batch)

    def made_for(self) -> str:
        """What saved arrays depend on, as one line of JSON."""
        return json.dumps({**asdict(self.settings), "n_streams": self.n_streams, "seed": self.seed}, sort_keys=True)

    def _parts(self) -> tuple[Any, ...]:
        parts = (self.references, self.coefficients, self.dependence, self.priors, self.sham, self.common)
        single = None if self.single is None else self.single.past
        return (*parts, *(part for part in (single, self.evidence, self.accumulation) if part is not None))
