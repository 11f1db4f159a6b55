import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlma.core.errors import OperationError
from mlma.core.records import Stream
from mlma.core.selection import LabelSelector, Selection, parse

NAMES = st.text(st.characters(blacklist_characters='"', blacklist_categories=["Cs", "Cc"]), min_size=1, max_size=12)
KEYS = st.from_regex(r"[A-Za-z_][A-Za-z0-9_.\-]{0,8}", fullmatch=True)
LABELS = st.builds(LabelSelector, key=KEYS, value=NAMES, equal=st.booleans())
SELECTIONS = st.builds(
    Selection,
    globs=st.lists(NAMES, max_size=3).map(tuple),
    labels=st.lists(LABELS, max_size=3).map(tuple),
).filter(lambda selection: selection.globs or selection.labels)


@pytest.mark.parametrize(
    ("text", "name", "labels", "expected"),
    [
        ("IAH", "IAH", {}, True),
        ("IAH", "iah", {}, False),
        ("IAH", "IAH2", {}, False),
        ("K*", "KJFK", {}, True),
        ("K?FK", "KJFK", {}, True),
        ("[KL]*", "LHR", {}, True),
        ("[!K]*", "KJFK", {}, False),
        ("*", "anything at all", {}, True),
        ("IAH,JFK", "JFK", {}, True),
        ("IAH JFK", "JFK", {}, True),
        (" IAH ,  JFK, ", "IAH", {}, True),
        ("IAH,JFK", "LHR", {}, False),
        ("site=lhr", "any", {"site": "lhr"}, True),
        ("site=lhr", "any", {"site": "jfk"}, False),
        ("site=lhr", "any", {}, False),
        ("product!=food", "any", {"product": "toys"}, True),
        ("product!=food", "any", {}, True),
        ("product!=food", "any", {"product": "food"}, False),
        ("site=lhr product!=food", "any", {"site": "lhr", "product": "food"}, False),
        ("K*,site=lhr", "KJFK", {"site": "lhr"}, True),
        ("K*,site=lhr", "KJFK", {"site": "jfk"}, False),
        ("K*,site=lhr", "LHR", {"site": "lhr"}, False),
        ('"New York"', "New York", {}, True),
        ('"New *",IAH', "New York", {}, True),
        ('"a=b"', "a=b", {}, True),
        ('city="New York"', "any", {"city": "New York"}, True),
        ("sku[1]", "sku[1]", {}, True),
        ("sku[1]", "sku1", {}, True),
        ("store.eu/berlin=yes", "any", {"store.eu/berlin": "yes"}, True),
    ],
)
def test_selection_matches(text: str, name: str, labels: dict[str, str], *, expected: bool) -> None:
    assert parse(text).matches(name, labels) is expected


@pytest.mark.parametrize("text", ["", "   ", ",", " , ,"])
def test_empty_selection_is_refused(text: str) -> None:
    with pytest.raises(OperationError, match="selection is empty"):
        parse(text)


@pytest.mark.parametrize(
    ("text", "odd"),
    [
        ("site=", "site="),
        ("IAH =lhr", "=lhr"),
        ("a==b", "a==b"),
        ("site!=", "site!="),
        ('"unclosed', '"unclosed'),
        ('""', '""'),
        ('IAH"x"', 'IAH"x"'),
        ("site=a=b", "site=a=b"),
    ],
)
def test_odd_selection_is_refused_and_the_odd_part_named(text: str, odd: str) -> None:
    with pytest.raises(OperationError) as refused:
        parse(text)
    assert f"cannot read {odd!r}" in str(refused.value)
    assert "site=lhr" in str(refused.value)


@given(SELECTIONS)
def test_selection_written_and_read_is_the_same(selection: Selection) -> None:
    assert parse(str(selection)) == selection


@given(NAMES, NAMES)
def test_name_without_wildcards_selects_itself_alone(name: str, other: str) -> None:
    selection = Selection(globs=(name,))
    assert selection.matches(name, {})
    if other != name and not set("*?[") & set(name):
        assert not selection.matches(other, {})


def test_select_keeps_the_order_of_the_streams() -> None:
    streams = [Stream(id=i, name=name, first_slot=0) for i, name in enumerate(["KB", "L", "KA"])]
    assert [stream.name for stream in parse("KA,K*").select(streams)] == ["KB", "KA"]
