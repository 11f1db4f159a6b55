"""The members themselves: a median, a robust regression of logarithms, one regression a part of the day, quick ones.

Those that learn look at values that were pulled in to robust bounds, and none forecasts beyond these: a wild value
neither teaches nor is served. The regressions also stay near what the stream showed of late.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlma.core.blocks import Bools, Floats
from mlma.core.settings import QUICK, Evergreen
from mlma.models.evergreen import gram
from mlma.models.evergreen.design import WEEKDAYS, Design, Designer, bounds, cleaned
from mlma.models.evergreen.lessons import Lesson, in_units, log_features, signed_exp, slot_features
from mlma.models.evergreen.quick import LastDay, quick, reach

LOG_PENALTY = 1.0
SLOT_PENALTY = 3.0
"""Of standardised coefficients; chosen on EIA, retail and Uber, confirmed on flights and bike share (ADR 0016)."""

SMALLEST_RESIDUAL = 0.1
"""Of the median residual; floor of the residuals whose inverse weighs a row."""

SWEEPS = 3
"""Passes over the past when a shard starts: each weighs the rows by the residuals of the pass before."""

SOLVES_PER_WINDOW = 28
"""How often the regressions by part of the day are solved within a train window; a solve costs more than the rest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Learned:
    """What the members of S streams know; arrays only, so that it can be written down as it is."""

    limits: Floats  # (S, 2) bounds of the values
    unit: Floats  # (S, 2) shift and scale of the regressions by part of the day, fixed at the first value
    log_sums: Floats  # (S, p + 2, p + 2)
    log_rows: Floats  # (S,) rows behind them, forgotten at the same rate
    log_solution: Floats  # (S, p + 1)
    slot_sums: NDArray[np.float32]  # (S, groups, q + 2, q + 2)
    slot_solution: Floats  # (S, groups, q + 1)
    solved: Floats  # (1,) batch of the last solution by part of the day

    @property
    def n_streams(self) -> int:
        """Streams."""
        return len(self.limits)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Everything by name."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    @classmethod
    def of(cls, arrays: Mapping[str, NDArray[Any]]) -> "Learned":
        """Take up what `arrays` gave. Raises KeyError."""
        return cls(**{name: arrays[name] for name in cls.__dataclass_fields__})


@dataclass(frozen=True, slots=True)
class Members:
    """The evergreen members of every stream of a shard."""

    designer: Designer
    families: tuple[Evergreen, ...]

    @property
    def _p(self) -> int:
        return self.designer.n_numeric + self.designer.n_calendar

    @property
    def _q(self) -> int:
        return self.designer.n_numeric + 6 + WEEKDAYS  # values before the origin

    @property
    def _decay(self) -> float:
        """Of the past, a batch: what is a train window old has half its say."""
        schedule = self.designer.schedule
        return float(0.5 ** (schedule.batch / schedule.train_window))

    def nothing(self, n_streams: int) -> Learned:
        """State of streams of which nothing is known."""
        groups = self.designer.n_groups if Evergreen.SLOT_RIDGE in self.families else 0
        return Learned(
            limits=np.tile([-np.inf, np.inf], (n_streams, 1)),
            unit=np.tile([0.0, np.nan], (n_streams, 1)),
            log_sums=np.zeros((n_streams, self._p + 2, self._p + 2)),
            log_rows=np.zeros(n_streams),
            log_solution=np.full((n_streams, self._p + 1), np.nan),
            slot_sums=np.zeros((n_streams, groups, self._q + 2, self._q + 2), dtype=np.float32),
            slot_solution=np.full((n_streams, groups, self._q + 1), np.nan),
            solved=np.full(1, -np.inf),
        )

    def grown(self, known: Learned, n_streams: int) -> Learned:
        """The same with born streams."""
        if n_streams == known.n_streams:
            return known
        new = self.nothing(n_streams - known.n_streams).arrays()
        old = known.arrays()
        kept = {name: np.concatenate([old[name], new[name]]) for name in new if name != "solved"}
        return Learned(**kept, solved=known.solved)

    # learning

    def started(self, y: Floats, *, start: int, batches: Iterable[int], usable: Bools) -> Learned:
        """Learn from a past as a whole: several passes over its batches.

        Parameters
        ----------
        y
            Shape (S, T), values by slot from ``start`` to the end of the last batch.
        batches
            To learn from, one after the other without a gap.
        usable
            Shape (S, T): slots that may be learned from.
        """
        order = list(batches)
        known = replace(self.nothing(len(y)), limits=bounds(y))
        if not order:
            return self._solved(known, 0, by_slot=True)
        first, last = self.designer.schedule.first_slot(order[0]), self.designer.schedule.origin_after(order[-1])
        clean = cleaned(y[:, : last - start], known.limits)
        for batch in order:
            known = self._with_units(known, clean, start, batch)
        lesson = self._lesson(
            clean, start=start, first=first, last=last, usable=usable[:, first - start : last - start]
        )
        if Evergreen.LAD in self.families:
            rows, nothing = lesson.log_rows(), known
            for _ in range(SWEEPS):  # the solution of the pass before weighs every row
                fresh = replace(nothing, log_solution=known.log_solution)
                known = self._log_taught(fresh, rows, lesson.fit, len(order))
                known = replace(known, log_solution=_log_solved(known))
        known = self._slot_taught(known, lesson, n_batches=len(order))
        return self._solved(known, order[-1], by_slot=True)

    def updated(
        self, known: Learned, y: Floats, *, start: int, batch: int, usable: Bools, overwrite: bool = False
    ) -> Learned:
        """Learn from one more batch; ``y`` reaches back a train window from its end, or further.

        With ``overwrite`` the sums by part of the day are written over those of ``known``, which is then used up.
        """
        schedule, window = self.designer.schedule, self.designer.schedule.train_window
        is_new = np.isinf(known.limits).any(axis=1, keepdims=True)  # born since: its first values teach already
        if is_new.any():
            known = replace(known, limits=np.where(is_new, bounds(y[:, -window:]), known.limits))
        first, last = schedule.first_slot(batch), schedule.origin_after(batch)
        begin = max(start, first - self.designer.lookback)
        clean = cleaned(y[:, begin - start : last - start], known.limits)
        known = self._with_units(known, clean, begin, batch)
        lesson = self._lesson(
            clean, start=begin, first=first, last=last, usable=usable[:, first - start : last - start]
        )
        if Evergreen.LAD in self.families:
            known = self._log_taught(known, lesson.log_rows(), lesson.fit, 1)
        known = self._slot_taught(known, lesson, n_batches=1, overwrite=overwrite)
        known = self._solved(known, batch, by_slot=False)
        return replace(known, limits=bounds(y[:, -window:])) if known.solved[0] == batch else known

    def _with_units(self, known: Learned, clean: Floats, start: int, batch: int) -> Learned:
        """Fix the units of streams without one by what a batch and the time before it show."""
        schedule = self.designer.schedule
        if not np.isnan(known.unit[:, 1]).any():
            return known
        begin = max(start, schedule.first_slot(batch) - self.designer.lookback)
        return replace(known, unit=_units(known.unit, clean[:, begin - start : schedule.origin_after(batch) - start]))

    def _lesson(self, clean: Floats, *, start: int, first: int, last: int, usable: Bools) -> Lesson:
        design = self.designer.build(clean, start=start, first=first, last=last)
        target = clean[:, first - start : last - start]
        return Lesson(design=design, target=np.nan_to_num(target), fit=usable & np.isfinite(target) & design.usable)

    def _log_taught(self, known: Learned, rows: Floats, fit: Bools, n_batches: int) -> Learned:
        """Add the sums of some batches, whose rows (see `Lesson.log_rows`) are all weighed by one solution."""
        n, n_slots = len(rows), rows.shape[1] // n_batches
        residual = rows[:, :, -1] - gram.applied(known.log_solution, rows[:, :, 1:-1])
        weight = _row_weights(residual.reshape(-1, n_slots), fit.reshape(-1, n_slots))
        added = gram.sums(rows.reshape(-1, n_slots, rows.shape[2]), weight)
        added = added.reshape(n, n_batches, *added.shape[1:])
        n_fit = fit.reshape(n, n_batches, n_slots).sum(axis=2)
        decay = self._decay**2  # half the half-life: twice as fast
        sums, total = known.log_sums, known.log_rows
        for j in range(n_batches):
            sums, total = decay * sums + added[:, j], decay * total + n_fit[:, j]
        return replace(known, log_sums=sums, log_rows=total)

    def _slot_taught(self, known: Learned, lesson: Lesson, *, n_batches: int, overwrite: bool = False) -> Learned:
        """Add the sums of some batches; a row of an earlier one weighs what would be left of it by the last."""
        if Evergreen.SLOT_RIDGE not in self.families:
            return known
        features = slot_features(lesson.design, known.unit)
        rows = gram.rows_of(features, in_units(lesson.target, known.unit), lesson.fit)
        if n_batches > 1:
            weight = self._decay ** np.arange(n_batches - 1, -1, -1.0)
            rows *= np.repeat(np.sqrt(weight), rows.shape[1] // n_batches)[:, None]  # sums are of products
        decay = self._decay**n_batches
        sums = gram.accumulated(known.slot_sums, rows, lesson.design.group, decay=decay, overwrite=overwrite)
        return replace(known, slot_sums=sums)

    def _solved(self, known: Learned, batch: int, *, by_slot: bool) -> Learned:
        known = replace(known, log_solution=_log_solved(known))
        schedule = self.designer.schedule
        due = (batch - known.solved[0]) * schedule.batch * SOLVES_PER_WINDOW >= schedule.train_window
        if not (by_slot or due):
            return known
        n_rows = known.slot_sums[..., 0, 0].astype(np.float64)
        solution = gram.solved(known.slot_sums, penalty=SLOT_PENALTY, n_rows=n_rows, n_indicators=WEEKDAYS)
        return replace(known, slot_solution=solution, solved=np.full(1, float(batch)))

    # forecasting

    def parameters(self, known: Learned) -> Floats:
        """What `forecasts` needs of it, shape (S, parameters)."""
        slot = known.slot_solution.reshape(known.n_streams, int(np.prod(known.slot_solution.shape[1:])))
        return np.concatenate([known.limits, known.unit, known.log_solution, slot], axis=1)

    def forecasts(self, parameters: Floats, y: Floats, *, start: int, first: int, last: int) -> Floats:
        """Forecasts of every member for the targets ``first .. last - 1``.

        Parameters
        ----------
        parameters
            Shape (S, parameters).
        y
            Shape (S, T), values by slot from ``start``; only those before a target's origin are looked at.

        Returns
        -------
        Floats
            Shape (S, families, targets); NaN where a member knows too little.
        """
        limits, *solutions = np.split(parameters, [2, 4, 4 + self._p + 1], axis=1)
        clean, schedule = cleaned(y, limits), self.designer.schedule
        span = {"start": start, "first": first, "last": last}
        design = self.designer.build(clean, **span)
        usual = self.designer.same_slots(clean, **span)
        low, high = reach(clean, schedule, **span, lookback=self.designer.lookback)
        low, high = np.maximum(low, limits[:, :1]), np.minimum(high, limits[:, 1:])
        day = LastDay.of(y, schedule, **span)
        made = []
        for family in self.families:
            if family is Evergreen.MEDIAN:
                made.append(np.clip(usual, limits[:, :1], limits[:, 1:]))
            elif family in QUICK:
                made.append(quick(family, y, usual, clean, limits, schedule, **span, day=day))
            else:
                made.append(np.clip(self._regressed(family, design, *solutions), low, high))
        return np.stack(made, axis=1)

    def _regressed(self, family: Evergreen, design: Design, unit: Floats, log_solution: Floats, slot: Floats) -> Floats:
        """Forecasts of a member that is a regression, shape (S, targets)."""
        if family is Evergreen.LAD:
            made = signed_exp(gram.applied(log_solution, log_features(design)))
        else:
            solution = slot.reshape(len(unit), self.designer.n_groups, self._q + 1)[:, design.group]
            made = unit[:, :1] + unit[:, 1:] * gram.applied(solution, slot_features(design, unit))
        return np.where(design.usable, made, np.nan)


def _log_solved(known: Learned) -> Floats:
    return gram.solved(known.log_sums, penalty=LOG_PENALTY, n_rows=known.log_rows)


def _units(unit: Floats, y: Floats) -> Floats:
    """Shift and scale of streams that have none yet: mean and spread of their first values, shape (streams, n)."""
    fit = np.isfinite(y)
    n = fit.sum(axis=1)
    new = np.isnan(unit[:, 1]) & (n > 0)
    if not new.any():
        return unit
    mean = np.where(fit, y, 0.0).sum(axis=1) / np.maximum(n, 1)
    spread = np.sqrt(np.where(fit, (y - mean[:, None]) ** 2, 0.0).sum(axis=1) / np.maximum(n, 1))
    scale = np.where(spread > 0, spread, np.where(mean != 0, np.abs(mean), 1.0))
    return np.where(new[:, None], np.stack([mean, scale], axis=1), unit)


def _row_weights(residual: Floats, fit: Bools) -> Floats:
    """Weights that make least squares one step of least absolute deviations (Schlossmacher, 1973); (streams, rows).

    A row weighs the inverse of its residual, in units of the stream's median one; 1 before there is a solution.
    """
    size = np.where(fit, np.abs(residual), np.nan)
    known = np.isfinite(size)
    ordered = np.sort(size, axis=1)
    middle = ordered[np.arange(len(size)), np.maximum(known.sum(axis=1) - 1, 0) // 2][:, None]
    middle = np.where(np.isfinite(middle) & (middle > 0), middle, 1.0)
    weight = middle / np.maximum(size, SMALLEST_RESIDUAL * middle)
    return np.where(known, weight, np.where(fit, 1.0, 0.0))
