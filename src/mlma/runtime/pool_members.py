"""Which members every pool has by the settings, and on which seats: the first ones need no trained version."""

from mlma.core.records import NAIVE
from mlma.core.settings import GROUP_PREFIX, Evergreen, LifeSettings, Serve
from mlma.runtime.groups import groups_of

YARDSTICK = (Evergreen.MEDIAN, Evergreen.LAD)
"""Members that are enough where they serve nobody: a regression for each hour costs twice as much as these."""


def evergreens(life: LifeSettings) -> tuple[Evergreen, ...]:
    """Evergreen members of every pool, in the order of their seats; beside a champion they are only a yardstick."""
    if life.serve is Serve.LATEST:
        return ()
    if life.serve is Serve.BLEND:
        return life.evergreen
    return tuple(member for member in life.evergreen if member in YARDSTICK)


def ageless_members(life: LifeSettings) -> tuple[str, ...]:
    """Members that every pool has without a training, in the order of their seats."""
    return (NAIVE, *evergreens(life))


def fixed_members(life: LifeSettings) -> tuple[str, ...]:
    """Members with a seat of their own in every pool: those without a training, and the models of groups."""
    return (*ageless_members(life), *(group.member for group in groups_of(life)))


def is_fixed(member: str) -> bool:
    """Whether a member of a pool is no trained version of one stream, by its name."""
    return member == NAIVE or member in set(Evergreen) or member.startswith(GROUP_PREFIX)


def recalibrates(life: LifeSettings) -> bool:
    """Whether the versions' forecasts are recalibrated: those of one champion; a blend gains nothing by it."""
    return life.serve is Serve.CHAMPION and life.recalibrate


def n_seats(life: LifeSettings) -> int:
    """Seats of every pool."""
    return len(fixed_members(life)) + (1 if life.serve is Serve.LATEST else life.pool_size)
