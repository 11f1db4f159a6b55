"""What a state is told about its settings, for the commands that read it without a configuration."""

from datetime import UTC, datetime

import pytest

from mlma.adapters.store import SqlStore
from mlma.bootstrap.engine import _fix_schedule
from mlma.config import load

FIRST = datetime(2001, 3, 1, 9, 30, tzinfo=UTC)


@pytest.mark.parametrize("later", [4, 26])
def test_the_calendar_of_a_test_that_is_not_armed_is_written_down_and_may_change(later):
    with SqlStore("sqlite://", create=True) as store:
        assert _fix_schedule(store, load(), FIRST) is not None
        assert store.meta()["fallback_every"] == "13"
        _fix_schedule(store, load(None, {"life.fallback_every": later}), FIRST)
        assert store.meta()["fallback_every"] == str(later)
