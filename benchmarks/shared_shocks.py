"""Fleets that move together, a simple monitor for them, and shared shocks: the scenarios of benchmarks.incidents.

Batch values are drawn directly, in log units: sqrt(rho) f_t + sqrt(1 - rho) e_it, times `SD`. Each stream is
compared with its newest 8 values, from which what was found to be common is taken out, as `LossMonitor` does.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr, stdtr

from mlma.core.blocks import Bools, Floats
from mlma.core.component_memory import empty_memory
from mlma.core.fleet import alarms
from mlma.core.incidents import Separation, separate
from mlma.core.label_sets import LabelSets, build
from mlma.core.loss_tests import fit_prior
from mlma.core.records import Incident
from mlma.core.settings import FleetRule

ALPHA = 0.05
SD = 0.2  # of a stream's batch value, log units: 1 sd is a rise of 22 %
RHO = 0.6
REFERENCE = 8
WARM_UP = 24
SHOCK = 4  # batches
AFTER = 4
VALUES = {"site": 20, "product": 25, "feed": 4}
SIZES = (1.0, 2.0, 3.0)  # of a shock, in sd


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One batch of a monitor: one-sided p-values (NaN at first) and what was common (None when not looked for)."""

    x: Floats
    p: Floats
    found: Separation | None

    @property
    def incidents(self) -> tuple[Incident, ...]:
        """Under way in the batch."""
        return () if self.found is None else self.found.incidents


class Monitor:
    """A simple prediction t over the newest cleaned values, with or without the removal of what is common."""

    def __init__(self, sets: LabelSets, *, removes: bool = True) -> None:
        self._sets, self._removes = sets, removes
        self._past: list[Floats] = []
        self._memory = empty_memory(sets.n_sets)
        self._batch = 0

    def look(self, x: Floats) -> Look:
        """Test one batch of values, shape (streams,), and change nothing."""
        m = len(self._past)
        if m < 2:
            return Look(x=x, p=np.full(len(x), np.nan), found=None)
        past = np.array(self._past)
        own = past.var(axis=0, ddof=1)
        prior = fit_prior(own, np.full(len(x), m - 1.0))
        df = prior.df + m - 1.0
        if np.isinf(df):
            scale = np.full(len(x), np.sqrt(prior.variance * (1.0 + 1.0 / m)))
        else:
            scale = np.sqrt((prior.df * prior.variance + (m - 1.0) * own) / df * (1.0 + 1.0 / m))
        deviation, found = x - past.mean(axis=0), None
        if self._removes:
            ready = np.ones(len(x), dtype=np.bool_)
            found = separate(deviation, scale, ready, batch=self._batch, sets=self._sets, memory=self._memory)
            deviation = deviation - found.shift
        t = deviation / scale
        return Look(x=x, p=ndtr(-t) if np.isinf(df) else stdtr(df, -t), found=found)

    def keep(self, look: Look) -> None:
        """Take in a batch that was looked at."""
        shift = 0.0 if look.found is None else look.found.shift
        self._memory = self._memory if look.found is None else look.found.memory
        self._past = [*self._past[1 - REFERENCE :], look.x - shift]
        self._batch += 1


def labelled(streams: int, rng: np.random.Generator) -> LabelSets:
    """Candidate sets of streams whose labels are drawn at random."""
    return build(
        {key: [f"{key}{v}" for v in rng.integers(0, values, streams)] for key, values in VALUES.items()}, streams
    )


def healthy(streams: int, rng: np.random.Generator, *, rho: float = RHO, unequal: float = 0.0) -> Iterator[Floats]:
    """Healthy batch values for ever; ``unequal`` is the sd of the log of the streams' own spreads."""
    own = np.sqrt(1.0 - rho) * np.exp(unequal * rng.standard_normal(streams))
    while True:
        yield SD * (np.sqrt(rho) * rng.standard_normal() + own * rng.standard_normal(streams))


def bh(p: Floats) -> Bools:
    return alarms(p, ready=np.ones(len(p), dtype=np.bool_), alpha=ALPHA, rule=FleetRule.BH)


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """Mean and 99th percentile over batches."""

    mean: float
    p99: float


def count_of(values: list[float]) -> Count:
    return Count(mean=float(np.mean(values)), p99=float(np.quantile(values, 0.99)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """What a monitor did on a healthy fleet, per batch."""

    small: Count  # p-values <= ALPHA
    alarms: Count  # under BH
    batches_with_alarm: float
    power: float  # share of p-values <= ALPHA of a single stream that is worse by 3 sd of its own part


@dataclass(frozen=True, slots=True, kw_only=True)
class Healthy:
    """A healthy fleet with and without the removal of what is common."""

    streams: int
    rho: float
    batches: int
    before: Level
    after: Level
    new_incidents: float  # batches with a new incident, share


def healthy_fleet(*, streams: int, rho: float, batches: int, seed: int) -> Healthy:
    """Count what goes wrong in a healthy fleet whose streams are tested at every batch."""
    rng = np.random.default_rng([seed, streams, round(100 * rho)])
    sets = labelled(streams, rng)
    monitors = (Monitor(sets, removes=False), Monitor(sets))
    values = healthy(streams, rng, rho=rho)
    small: tuple[list[float], ...] = ([], [])
    raised: tuple[list[float], ...] = ([], [])
    caught: tuple[list[float], ...] = ([], [])
    known: set[str] = set()
    n_new = 0
    for batch in range(WARM_UP + batches):
        x = next(values)
        worse = int(rng.integers(streams))
        rise = 3.0 * SD * np.sqrt(1.0 - rho) * (np.arange(streams) == worse)
        for i, monitor in enumerate(monitors):
            look = monitor.look(x)
            if batch >= WARM_UP:
                small[i].append(float(np.count_nonzero(look.p <= ALPHA)))
                raised[i].append(float(np.count_nonzero(bh(look.p))))
                caught[i].append(float(monitor.look(x + rise).p[worse] <= ALPHA))
                n_new += bool({incident.id for incident in look.incidents} - known)
            known |= {incident.id for incident in look.incidents}
            monitor.keep(look)
    levels = [
        Level(
            small=count_of(small[i]),
            alarms=count_of(raised[i]),
            batches_with_alarm=float(np.mean(np.array(raised[i]) > 0.0)),
            power=float(np.mean(caught[i])),
        )
        for i in range(2)
    ]
    return Healthy(
        streams=streams, rho=rho, batches=batches, before=levels[0], after=levels[1], new_incidents=n_new / batches
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """A kind of scenario: a shock of random size on a random label set with one of these numbers of labels."""

    name: str
    streams: int = 10_000
    rho: float = RHO
    n_labels: tuple[int, ...] = (1, 2)
    unequal: float = 0.0
    broken: float = 0.0  # share of streams that are worse by 5 sd on their own while the shock lasts


WORLDS = (
    World(name="label set"),
    World(name="label set, rho 0", rho=0.0),
    World(name="label set, unequal streams", unequal=0.5),
    World(name="label set, 1 % broken", broken=0.01),
    World(name="label set, 1,000 streams", streams=1000),
    World(name="fleet, rho 0", rho=0.0, n_labels=(0,)),
    World(name="fleet", n_labels=(0,)),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shock:
    """One shared shock and what was found."""

    labels: str
    n_members: int
    size: float
    is_right: bool  # when anything was first reported, it was one incident with exactly the right labels
    found: tuple[str, ...]  # in each batch of the shock
    n_others: int  # batches of the shock in which another incident was reported
    delay: int  # batches until the right label set is reported, 1 is the first; 0 never
    members_alarmed: float  # share of members with a BH alarm of their own, over the batches of the shock
    broken_alarmed: float  # of the streams broken on their own, in the first batch; NaN without any
    late: int  # batches that the incident outlived the shock


def random_set(sets: LabelSets, n_labels: int, rng: np.random.Generator) -> int:
    lengths = np.array([len(keys) for keys in sets.kinds])[sets.kind]
    return int(rng.choice(np.flatnonzero(lengths == n_labels)))


def shock(world: World, *, seed: int) -> Shock:
    """A healthy fleet, then `SHOCK` batches in which a random label set is worse, then a healthy fleet again."""
    rng = np.random.default_rng([seed, WORLDS.index(world)])
    sets = labelled(world.streams, rng)
    number = random_set(sets, int(rng.choice(world.n_labels)), rng)
    size = float(rng.choice(SIZES))
    name, members = sets.name_of(number), sets.members(number)
    alone = rng.choice(world.streams, round(world.broken * world.streams), replace=False)
    own = np.setdiff1d(members, alone)
    monitor = Monitor(sets)
    values = healthy(world.streams, rng, rho=world.rho, unequal=world.unequal)
    seen: list[list[str]] = []
    alarmed: list[Bools] = []
    for batch in range(WARM_UP + SHOCK + AFTER):
        x = next(values)
        if WARM_UP <= batch < WARM_UP + SHOCK:
            x[members] += size * SD
            x[alone] += 5.0 * SD
        look = monitor.look(x)
        monitor.keep(look)
        if batch >= WARM_UP:
            seen.append([incident.id.partition("-")[2] for incident in look.incidents])
            alarmed.append(bh(look.p))
    during = seen[:SHOCK]
    return Shock(
        labels=name,
        n_members=len(members),
        size=size,
        is_right=next((names for names in during if names), []) == [name],
        found=tuple("+".join(names) for names in during),
        n_others=sum(bool(set(names) - {name}) for names in during),
        delay=next((i + 1 for i, names in enumerate(during) if name in names), 0),
        members_alarmed=float(np.mean([at[own].mean() for at in alarmed[:SHOCK]])),
        broken_alarmed=float(alarmed[0][alone].mean()) if len(alone) else float("nan"),
        late=sum(name in names for names in seen[SHOCK:]),
    )


def few_broken(*, streams: int, seed: int) -> tuple[bool, float]:
    """Whether three broken streams of a pair of labels (50 streams) make an incident, and which share alarms."""
    rng = np.random.default_rng([seed, streams])
    sets = labelled(streams, rng)
    pairs = [number for number in range(sets.n_sets) if sets.kinds[sets.kind[number]] == ("feed", "product")]
    chosen = rng.choice(sets.members(int(rng.choice(pairs))), 3, replace=False)
    monitor, values = Monitor(sets), healthy(streams, rng)
    for _ in range(WARM_UP):
        monitor.keep(monitor.look(next(values)))
    x = next(values)
    before = {incident.id for incident in monitor.look(x).incidents}
    x[chosen] += 5.0 * SD
    look = monitor.look(x)
    return bool({incident.id for incident in look.incidents} - before), float(bh(look.p)[chosen].mean())


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """Milliseconds a call of `separate`, the best of several."""

    streams: int
    n_sets: int
    healthy_ms: float
    shock_ms: float
    bytes_per_set: float


def speed(*, streams: int, values: dict[str, int], seed: int) -> Speed:
    """Time the removal on a healthy batch and on one with a shock."""
    rng = np.random.default_rng([seed, streams])
    sets = build({k: [f"{k}{v}" for v in rng.integers(0, n, streams)] for k, n in values.items()}, streams)
    memory, scale, ready = empty_memory(sets.n_sets), np.full(streams, SD), np.ones(streams, dtype=np.bool_)
    for batch in range(4):
        deviation = SD * rng.standard_normal(streams)
        memory = separate(deviation, scale, ready, batch=batch, sets=sets, memory=memory).memory
    times: list[float] = []
    for rise in (0.0, 2.0 * SD):
        deviation = SD * rng.standard_normal(streams)
        deviation[sets.members(1)] += rise
        taken = []
        for _ in range(7):
            start = time.perf_counter()
            separate(deviation, scale, ready, batch=4, sets=sets, memory=memory)
            taken.append(time.perf_counter() - start)
        times.append(1e3 * min(taken))
    size = sum(array.nbytes for array in memory.arrays().values()) / sets.n_sets
    return Speed(streams=streams, n_sets=sets.n_sets, healthy_ms=times[0], shock_ms=times[1], bytes_per_set=size)
