"""Revision 0004: what trainings cost, which of them wait, and what is left of their budget."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from alembic import command
from sqlalchemy import create_engine, inspect, text

from mlma.adapters.store import SqlStore
from mlma.adapters.store_open import migration_config
from mlma.core.commit import Commit
from mlma.core.decisions import EffectKind, EffectStatus, Reason
from mlma.core.records import Effect
from mlma.core.training_queue import Bucket

NOW = datetime(2001, 3, 4, 5, 6, 7, 890123, tzinfo=UTC)
AT = "'2001-03-04 05:06:07.890123'"

ROWS_OF_0003 = (
    (
        "INSERT INTO effects VALUES "
        f"('train-0-7-0', 'train', 0, 7, 'debt', 'done', 1, {AT}, {AT}, {AT}, ''), "
        f"('train-0-9-0', 'train', 0, 9, 'debt', 'pending', 0, {AT}, {AT}, NULL, ''), "
        f"('train-1-7-0', 'train', 1, 7, 'debt', 'failed', 3, {AT}, {AT}, {AT}, 'no outcome')"
    ),
    f"INSERT INTO versions VALUES ('0-7-0', 0, 7, 'champion', 'lightgbm', 'ab', 9, 99, 2.5, {AT})",
)


@pytest.fixture
def third_revision(tmp_path: Path) -> str:
    """A state of revision 0003 with trainings that succeeded, failed and go on."""
    url = f"sqlite:///{tmp_path}/third.db"
    engine = create_engine(url)
    with engine.begin() as connection:
        command.upgrade(migration_config(connection), "0003")
        for statement in ROWS_OF_0003:
            connection.exec_driver_sql(statement)
    engine.dispose()
    return url


def test_trainings_of_revision_0003_stay_and_cost_what_their_versions_cost(third_revision: str) -> None:
    with SqlStore(third_revision, create=True) as store:
        found = {effect.id: effect for effect in store.effects()}
        assert {name: effect.cpu_s for name, effect in found.items()} == {
            "train-0-7-0": 2.5,
            "train-0-9-0": None,
            "train-1-7-0": None,
        }
        assert {effect.status for effect in found.values()} == {
            EffectStatus.DONE,
            EffectStatus.PENDING,
            EffectStatus.FAILED,
        }
        assert {(effect.expected_cpu_s, effect.starts_at) for effect in found.values()} == {(None, None)}
        assert store.bucket() is None


def test_a_migrated_state_takes_what_waits_and_what_is_left(third_revision: str) -> None:
    waits = Effect(
        id="train-2-9-0", kind=EffectKind.TRAIN, stream_id=2, batch=9, reason=Reason.DEBT, ordered_at=NOW,
        status=EffectStatus.WAITING, deadline_at=NOW, starts_at=NOW + timedelta(days=7),
    )  # fmt: skip
    with SqlStore(third_revision, create=True) as store:
        store.record(Commit(effects=[waits], bucket=Bucket(saved_s=12.5, at=NOW)))
        store.record(Commit(bucket=Bucket(saved_s=-0.1, at=NOW + timedelta(days=7))))
    with SqlStore(third_revision) as store:
        assert store.effects(status=EffectStatus.WAITING) == [waits]
        assert store.bucket() == Bucket(saved_s=-0.1, at=NOW + timedelta(days=7))


def test_downgrade_to_0003_keeps_the_trainings(third_revision: str) -> None:
    with SqlStore(third_revision, create=True):
        pass
    engine = create_engine(third_revision)
    with engine.begin() as connection:
        command.downgrade(migration_config(connection), "0003")
        assert connection.execute(text("SELECT count(*) FROM effects")).scalar() == 3
        assert "cpu_s" not in {column["name"] for column in inspect(connection).get_columns("effects")}
        assert not inspect(connection).has_table("buckets")
    engine.dispose()
