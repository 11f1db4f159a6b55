"""Streams that count more or less than usual: when their trainings pay, who goes first, and what is shown."""

import json
from dataclasses import replace

import numpy as np
import pytest

from mlma.core.records import Stream
from mlma.core.settings import GroupSettings, LifeSettings, StreamWeight
from mlma.core.stream_weights import weights_of
from mlma.runtime.pool_counts import price_of
from mlma.runtime.pools import Pools

RULES = (StreamWeight(select="a*", weight=4.0), StreamWeight(select="* class=low", weight=0.25))
STREAMS = [
    Stream(id=0, name="a1", first_slot=0, labels={"class": "low"}), Stream(id=1, name="b1", first_slot=0),
    Stream(id=2, name="b2", first_slot=0, labels={"class": "low"}),
]  # fmt: skip


def test_the_first_rule_that_matches_counts():
    assert weights_of(STREAMS, RULES).tolist() == [4.0, 1.0, 0.25]


def pools_of(**life) -> Pools:
    made = Pools(LifeSettings(warmup=0, min_rows=1, weights=RULES, **life))
    made.grow(len(STREAMS))
    made.groups.grow(STREAMS)
    made.weigh(STREAMS)
    return made


def owing(made: Pools, debt: float) -> Pools:
    ones = np.ones(len(STREAMS))
    made.account = replace(made.account, debt=debt * ones, share_sum=8.0 * ones, share_n=8.0 * ones)
    return made


@pytest.mark.parametrize(
    ("debt", "pays"),
    [(0.07, [False, False, False]), (0.1, [True, False, False]), (0.4, [True, True, False]), (1.3, [True, True, True])],
)
def test_a_training_of_a_stream_of_weight_four_pays_at_a_quarter_of_the_debt(debt, pays):
    assert owing(pools_of(price=0.3), debt).pays().tolist() == pays


def test_trainings_in_vain_double_the_price_of_each_weight():
    made = owing(pools_of(price=0.3), 0.4)
    assert made.pays(vain=np.array([2, 0, 0])).tolist() == [True, True, False]
    assert made.pays(vain=np.array([3, 1, 0])).tolist() == [False, False, False]


def test_born_streams_are_weighed_and_known_ones_keep_their_weight():
    made = pools_of()
    more = [*STREAMS, Stream(id=3, name="a2", first_slot=9)]
    made.grow(4)
    made.groups.grow(more)
    made.weigh(more)
    assert made.worth.tolist() == [4.0, 1.0, 0.25, 4.0]


def test_a_group_counts_as_its_streams_do_in_the_mean():
    made = pools_of(groups=(GroupSettings(name="b", select="b*"), GroupSettings(name="none", select="zz")))
    assert [group.worth for group in made.groups.each] == [0.625, 1.0]


def test_the_price_that_is_shown_is_that_of_the_stream():
    meta = {"price": "0.3", "weights": json.dumps([[rule.select, rule.weight] for rule in RULES])}
    assert [price_of(meta, stream) for stream in STREAMS] == pytest.approx([0.075, 0.3, 1.2])
    assert price_of(meta) == 0.3
    assert price_of({"price": "0.3"}, STREAMS[0]) == 0.3
