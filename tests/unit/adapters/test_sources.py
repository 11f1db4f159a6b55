"""Files become columns: what can be read is read exactly, what cannot is refused with a sentence or marked."""

import datetime as dt
import decimal
import gzip
import os
from contextlib import nullcontext

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlma.adapters.sources.directory import DirectorySource
from mlma.adapters.sources.files import ColumnMapping, read_file
from mlma.core.admission import NO_TIME, AdmissionState, admit
from mlma.core.decisions import RejectReason
from mlma.core.errors import ConfigError, SourceError
from mlma.core.schedule import Schedule
from mlma.core.settings import AdmissionSettings

US = dt.timedelta(microseconds=1)
EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
PLAIN = ColumnMapping()


def us(*when: int) -> int:
    return (dt.datetime(*when, tzinfo=dt.UTC) - EPOCH) // US


def naive(*when: int) -> dt.datetime:
    return dt.datetime(*when)  # noqa: DTZ001 - a time without a zone is what is tested


def csv(tmp_path, *lines, name="in.csv", encoding="utf-8"):
    path = tmp_path / name
    path.write_bytes(("\n".join(lines) + "\n").encode(encoding))
    return path


def parquet(tmp_path, **columns):
    defaults = {"stream": ["a", "b"], "ts": [naive(2001, 1, 1), naive(2001, 1, 1, 1)], "y": [1.0, 2.0]}
    path = tmp_path / "in.parquet"
    pq.write_table(pa.table({**defaults, **columns}), path)
    return path


def admitted(rows, *, frequency=dt.timedelta(hours=1)):
    schedule = Schedule(
        anchor=dt.datetime(2001, 1, 1, tzinfo=dt.UTC), frequency=frequency, horizon=1, batch=1, train_window=1
    )
    return admit(
        rows, schedule=schedule, streams={}, state=AdmissionState(), settings=AdmissionSettings(),
        now=None, seq=1, path="in",
    )  # fmt: skip


# what can be read


def test_a_csv_is_read_with_names_times_and_values(tmp_path):
    path = csv(tmp_path, "y,stream,other,ts", "1.5,007,x,2001-06-08 18:00", ",IAH,,2001-06-08T18:00:30.25Z")
    rows = read_file(path, PLAIN)
    assert [rows.stream_names[c] for c in rows.stream_code] == ["007", "IAH"]  # not the number 7
    assert rows.time_us.tolist() == [us(2001, 6, 8, 18), us(2001, 6, 8, 18, 0, 30, 250_000)]
    np.testing.assert_array_equal(rows.y, [1.5, np.nan])
    assert rows.row.tolist() == [1, 2]
    assert rows.y_text == {}


def test_a_compressed_csv_and_a_byte_order_mark_are_read(tmp_path):
    path = tmp_path / "in.csv.gz"
    path.write_bytes(gzip.compress("\ufeffstream,ts,y\r\na,2001-01-01,1\r\n".encode()))
    rows = read_file(path, PLAIN)
    assert (rows.stream_names, rows.time_us.tolist(), rows.y.tolist()) == (("a",), [us(2001, 1, 1)], [1.0])


@pytest.mark.parametrize("text", ["", "NaN", "nan", "NA", "n/a", "null", "None", "  "])
def test_an_empty_value_is_missing_and_no_error(tmp_path, text):
    found = admitted(read_file(csv(tmp_path, "stream,ts,y", f"a,2001-01-01,{text}"), PLAIN))
    assert (found.n_missing, found.n_rejected) == (1, 0)


@pytest.mark.parametrize(
    ("text", "value"),
    [("+5", 5), ("-.5", -0.5), ("5.", 5), ("1e3", 1000), (" 7 ", 7), ("inf", np.inf), ("-Infinity", -np.inf)],
)
def test_numbers_as_text_are_read(tmp_path, text, value):
    assert read_file(csv(tmp_path, "stream,ts,y", f"a,2001-01-01,{text}"), PLAIN).y.tolist() == [value]


@pytest.mark.parametrize(
    "y",
    [
        pa.array([1, 2], pa.int16()),
        pa.array([1, 2], pa.uint64()),
        pa.array([1, 2], pa.float32()),
        pa.array([decimal.Decimal("1.00"), decimal.Decimal("2.00")]),
        pa.array(["1", "2"]),
        pa.array(["1", "2"], pa.large_string()),
        pa.array(["1", "2"]).dictionary_encode(),
    ],
    ids=str,
)
def test_every_kind_of_number_column_is_read(tmp_path, y):
    assert read_file(parquet(tmp_path, y=y), PLAIN).y.tolist() == [1.0, 2.0]


def test_truth_values_are_read_as_zero_and_one(tmp_path):
    assert read_file(parquet(tmp_path, y=[True, False]), PLAIN).y.tolist() == [1.0, 0.0]


def test_a_column_of_nulls_is_all_missing(tmp_path):
    found = admitted(read_file(parquet(tmp_path, y=pa.nulls(2)), PLAIN))
    assert found.n_missing == 2


@pytest.mark.parametrize(
    ("stream", "names"),
    [
        (pa.array(["a", "b"]), ["a", "b"]),
        (pa.array(["a", "b"], pa.large_string()), ["a", "b"]),
        (pa.array(["a", "b"]).dictionary_encode(), ["a", "b"]),
        (pa.array([10002, 7]), ["10002", "7"]),
        (pa.array([10002.0, None]), ["10002", None]),
        (pa.array([10002.0, np.nan]), ["10002", None]),
        (pa.array(["a", " "]), ["a", None]),
        (pa.array(["a", None]).dictionary_encode(), ["a", None]),
        (pa.nulls(2), [None, None]),
    ],
    ids=str,
)
def test_every_kind_of_name_column_is_read(tmp_path, stream, names):
    rows = read_file(parquet(tmp_path, stream=stream), PLAIN)
    assert [rows.stream_names[c] if c >= 0 else None for c in rows.stream_code] == names


@pytest.mark.parametrize(
    "ts",
    [pa.array([naive(2001, 1, 1), naive(2001, 1, 2)], pa.timestamp(unit)) for unit in ("s", "ms", "us", "ns")]
    + [
        pa.array([dt.date(2001, 1, 1), dt.date(2001, 1, 2)], pa.date32()),
        pa.array([dt.date(2001, 1, 1), dt.date(2001, 1, 2)], pa.date64()),
        pa.array(["2001-01-01", "2001-01-02 00:00:00"]),
        pa.array(["2001-01-01T00:00", "2001-01-02T01:00+01:00"], pa.large_string()),
        pa.array(["2001-01-01", "2001-01-02"]).dictionary_encode(),
        pa.array([naive(2001, 1, 1), naive(2001, 1, 2)], pa.timestamp("us", "Asia/Tokyo")),
    ],
    ids=lambda ts: str(ts.type),
)
def test_every_kind_of_time_column_is_read(tmp_path, ts):
    rows = read_file(parquet(tmp_path, ts=ts), PLAIN)
    assert rows.time_us.tolist() == [us(2001, 1, 1), us(2001, 1, 2)]


def test_times_with_an_offset_are_converted_and_those_without_are_read_in_the_zone(tmp_path):
    mapping = ColumnMapping(timezone="America/Chicago")
    path = csv(tmp_path, "stream,ts,y", "a,2001-01-01 00:00,1", "a,2001-01-01 00:00+02:00,2", "a,2001-01-01T00:00Z,3")
    rows = read_file(path, mapping)
    assert rows.time_us.tolist() == [us(2001, 1, 1, 6), us(2000, 12, 31, 22), us(2001, 1, 1)]
    local = parquet(tmp_path, ts=[naive(2001, 1, 1), naive(2001, 7, 1)])
    assert read_file(local, mapping).time_us.tolist() == [us(2001, 1, 1, 6), us(2001, 7, 1, 5)]


def test_of_an_hour_that_the_clock_repeats_the_first_is_meant_and_one_it_skips_is_rejected(tmp_path):
    london = ColumnMapping(timezone="Europe/London")
    path = csv(tmp_path, "stream,ts,y", "a,2001-10-28 01:00,1", "a,2001-03-25 01:00,2", "a,2001-03-25 02:00,3")
    rows = read_file(path, london)
    assert rows.time_us.tolist() == [us(2001, 10, 28, 0), NO_TIME, us(2001, 3, 25, 1)]
    (rejected,) = admitted(rows).rejected
    assert (rejected.reason, rejected.row, rejected.value) == (RejectReason.BAD_TIME, 2, "2001-03-25 01:00")
    assert "existing" in rejected.expected
    assert "Europe/London" in rejected.expected
    skipped = parquet(tmp_path, ts=[naive(2001, 3, 25, 1), naive(2001, 3, 25, 2)])
    assert list(read_file(skipped, london).time_text) == [0]


def test_labels_are_those_of_the_earliest_time_whatever_the_order_of_rows(tmp_path):
    mapping = ColumnMapping(labels=("site", "tier"))
    lines = ["b,2001-01-02,1,late,1", "b,2001-01-01,1,early,", "a,2001-01-01,1,,2", ",2001-01-01,1,none,9"]
    for order in (lines, lines[::-1]):
        rows = read_file(csv(tmp_path, "stream,ts,y,site,tier", *order), mapping)
        assert rows.labels == {"a": {"tier": "2"}, "b": {"site": "early", "tier": "1"}}
    assert {s.name: s.labels for s in admitted(rows).births} == rows.labels


def test_the_order_of_columns_and_names_are_the_mapping_s(tmp_path):
    path = csv(tmp_path, "units,day,sku", "3,2001-01-01,x")
    rows = read_file(path, ColumnMapping(stream="sku", time="day", value="units"))
    assert (rows.stream_names, rows.y.tolist()) == (("x",), [3.0])
    assert (rows.stream_column, rows.time_column, rows.value_column) == ("sku", "day", "units")


def test_a_header_without_rows_is_an_empty_file_of_rows(tmp_path):
    assert admitted(read_file(csv(tmp_path, "stream,ts,y"), PLAIN)).n_rows == 0
    empty = {name: pa.array([], kind) for name, kind in
             (("stream", pa.string()), ("ts", pa.timestamp("us")), ("y", pa.float64()))}  # fmt: skip
    assert admitted(read_file(parquet(tmp_path, **empty), PLAIN)).n_rows == 0


# bad cells and lines: they alone are rejected


@pytest.mark.parametrize("text", ["n.v.", "1,5", "12 MW", "0x10", "1_000", "--1", "1e", "True"])
def test_text_in_y_rejects_the_row_and_not_the_file(tmp_path, text):
    path = csv(tmp_path, "stream,ts,y", "a,2001-01-01 00:00,1", f'a,2001-01-01 01:00,"{text}"', "b,2001-01-01 00:00,2")
    found = admitted(read_file(path, PLAIN))
    assert found.n_admitted == 2
    (rejected,) = found.rejected
    assert (rejected.reason, rejected.stream, rejected.row, rejected.value) == (
        RejectReason.NOT_A_NUMBER, "a", 2, text,
    )  # fmt: skip


@pytest.mark.parametrize(
    "text", ["soon", "01/02/2001", "2001", "20010101", "2001-13-01", "2001-02-30", "990000000", ""]
)
def test_a_time_that_is_none_rejects_the_row_and_not_the_file(tmp_path, text):
    found = admitted(read_file(csv(tmp_path, "stream,ts,y", f"a,{text},1", "b,2001-01-01,2"), PLAIN))
    assert found.n_admitted == 1
    (rejected,) = found.rejected
    assert (rejected.reason, rejected.field, rejected.value) == (RejectReason.BAD_TIME, "ts", text)
    assert "ISO 8601" in rejected.expected


def test_lines_that_cannot_be_split_are_counted_and_rows_keep_their_numbers(tmp_path):
    path = csv(tmp_path, "stream,ts,y", "a,2001-01-01,1", "a,2001", "a,2001-01-02,x", "b,2001-01-02,2,3", "c,2001-01-0")
    found = admitted(read_file(path, PLAIN))
    assert (found.n_rows, found.n_admitted, found.n_rejected) == (5, 1, 4)
    told = [(r.stream, r.reason.value, r.count, r.row, r.value) for r in found.rejected]
    assert told == [("", "unreadable", 3, 2, "a,2001"), ("a", "not_a_number", 1, 3, "x")]


def test_times_out_of_any_calendar_are_rejected(tmp_path):
    ts = pa.array([2**62, 0], pa.int64()).cast(pa.timestamp("ms"))
    rows = read_file(parquet(tmp_path, ts=ts), PLAIN)
    assert rows.time_us.tolist() == [NO_TIME, 0]
    assert "ms since 1970" in rows.time_text[0]


# files that are refused as a whole


def test_a_missing_column_is_named_with_what_was_found(tmp_path):
    with pytest.raises(SourceError, match=r"in\.csv: column 'y' is missing; .*found 'stream', 'ts', 'value'"):
        read_file(csv(tmp_path, "stream,ts,value", "a,2001-01-01,1"), PLAIN)
    with pytest.raises(SourceError, match=r"in\.parquet: column 'site' is missing"):
        read_file(parquet(tmp_path), ColumnMapping(labels=("site",)))


def test_another_separator_is_suspected(tmp_path):
    with pytest.raises(SourceError, match="separated by something else than commas"):
        read_file(csv(tmp_path, "stream;ts;y", "a;2001-01-01;1"), PLAIN)


def test_a_column_that_stands_twice_is_refused(tmp_path):
    with pytest.raises(SourceError, match="column 'y' exists more than once"):
        read_file(csv(tmp_path, "stream,ts,y,y", "a,2001-01-01,1,2"), PLAIN)


def test_a_truncated_parquet_is_refused(tmp_path):
    path = parquet(tmp_path)
    content = path.read_bytes()
    for size in (1, 7, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:size])
        with pytest.raises(SourceError, match=r"in\.parquet: cannot be read as Parquet, truncated"):
            read_file(path, PLAIN)


def test_a_damaged_parquet_is_refused(tmp_path):
    path = parquet(tmp_path, y=pa.array(np.arange(2.0)))
    content = bytearray(path.read_bytes())
    content[4:60] = b"\xff" * 56
    path.write_bytes(bytes(content))
    with pytest.raises(SourceError, match="cannot be read as Parquet"):
        read_file(path, PLAIN)


def test_an_empty_file_is_refused(tmp_path):
    for name in ("in.csv", "in.parquet"):
        (tmp_path / name).write_bytes(b"")
        with pytest.raises(SourceError, match="is empty"):
            read_file(tmp_path / name, PLAIN)


def test_a_truncated_archive_is_refused(tmp_path):
    path = tmp_path / "in.csv.gz"
    path.write_bytes(gzip.compress(b"stream,ts,y\n" + b"a,2001-01-01,1\n" * 999)[:60])
    with pytest.raises(SourceError, match=r"in\.csv\.gz"):
        read_file(path, PLAIN)


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
def test_another_encoding_is_refused_with_its_line(tmp_path, encoding):
    lines = ["stream,ts,y", "Zurich,2001-01-01,1", "Zürich,2001"]
    with pytest.raises(SourceError, match=rf"in\.csv, line {3 if encoding == 'latin-1' else 1}: is not UTF-8"):
        read_file(csv(tmp_path, *lines, encoding=encoding), PLAIN)


def test_text_in_parquet_that_is_not_utf_8_is_refused(tmp_path):
    broken = pa.array([b"Z\xfcrich", b"b"]).view(pa.string())
    with pytest.raises(SourceError, match="not UTF-8"):
        read_file(parquet(tmp_path, stream=broken), PLAIN)


@pytest.mark.parametrize("name", ["in.csv", "in.csv.gz", "in.parquet"])
def test_damaged_bytes_are_refused_or_read_and_nothing_else(tmp_path, name):
    text = "stream,ts,y\n" + "".join(f"a{i % 3},2001-01-01 {i % 24:02d}:00,{i}.5\n" for i in range(60))
    whole = {"in.csv": text.encode(), "in.csv.gz": gzip.compress(text.encode(), mtime=0),
             "in.parquet": parquet(tmp_path).read_bytes()}[name]  # fmt: skip
    rng = np.random.default_rng(7)
    for _ in range(150):
        damaged = bytearray(whole)
        for at in rng.integers(len(whole), size=3):
            damaged[at] = rng.integers(256)
        (tmp_path / name).write_bytes(damaged[: rng.integers(len(whole) // 2, len(whole) + 1)])
        try:
            rows = read_file(tmp_path / name, PLAIN)
        except SourceError:
            continue
        found = admitted(rows)
        assert found.n_admitted + found.n_rejected + found.n_missing == len(rows)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"ts": pa.array([0, 3600])}, "column 'ts': holds int64; expected timestamps, dates or ISO 8601 text"),
        ({"ts": pa.array([0.5, 1.5])}, "column 'ts': holds double"),
        ({"y": pa.array([dt.date(2001, 1, 1)] * 2)}, "column 'y': holds date32"),
        ({"y": pa.array([[1.0], [2.0]])}, "column 'y': holds list"),
        ({"stream": pa.array([1.5, 2.5])}, "column 'stream': holds fractions"),
        ({"stream": pa.array([dt.date(2001, 1, 1)] * 2)}, "column 'stream': holds date32"),
    ],
)
def test_a_column_of_another_kind_is_refused(tmp_path, columns, message):
    with pytest.raises(SourceError, match=r"in\.parquet") as error:
        read_file(parquet(tmp_path, **columns), PLAIN)
    assert message in str(error.value)


def test_what_is_no_data_file_is_refused(tmp_path):
    with pytest.raises(SourceError, match="is a directory"):
        read_file(tmp_path, PLAIN)
    with pytest.raises(SourceError, match="does not exist"):
        read_file(tmp_path / "gone.csv", PLAIN)
    with pytest.raises(SourceError, match=r"expected a name that ends in \.parquet"):
        read_file(csv(tmp_path, "x", name="in.xlsx"), PLAIN)


def test_an_unknown_time_zone_is_a_wrong_setting():
    with pytest.raises(ConfigError, match="Mars/Base"):
        ColumnMapping(timezone="Mars/Base")


# the directory

NOW_S = 1_000_000_000.0


def drop(root, name, text="stream,ts,y\na,2001-01-01,1\n", *, age_s=60.0):
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    os.utime(path, (NOW_S - age_s, NOW_S - age_s))
    return path


@pytest.fixture
def source(tmp_path):
    root = tmp_path / "inbox"
    root.mkdir()
    return DirectorySource(root, ("*.csv", "**/*.parquet"), PLAIN, settle_s=2.0, now_s=lambda: NOW_S)


def names(found):
    return [file.path for file in found]


def test_new_files_come_in_order_of_name_and_match_the_patterns(source):
    for name in ("b.csv", "a.csv", "deep/er/c.parquet", "readme.txt", "deep/d.csv"):
        drop(source.root, name)
    assert names(source.new_files({})) == ["a.csv", "b.csv", "deep/er/c.parquet"]


@pytest.mark.parametrize("name", [".x.csv", "x.csv.tmp", "x.csv.part", "~.csv~", ".hidden/x.parquet"])
def test_hidden_and_temporary_names_are_not_files_yet(source, name):
    drop(source.root, name)
    assert source.new_files({}) == []


def test_a_known_file_is_not_new_and_a_rewritten_one_is(source):
    path = drop(source.root, "a.csv")
    (found,) = source.new_files({})
    known = {found.path: found.fingerprint}
    assert source.new_files(known) == []
    os.utime(path, (NOW_S - 30, NOW_S - 30))  # touched, same content
    assert source.new_files(known) == []
    drop(source.root, "a.csv", "stream,ts,y\na,2001-01-01,1\na,2001-01-02,2\n")
    (again,) = source.new_files(known)
    assert again.fingerprint != found.fingerprint
    assert len(source.read(again)) == 2


def test_a_fingerprint_is_the_content_s_and_outlives_the_process(source):
    drop(source.root, "a.csv")
    (found,) = source.new_files({})
    other = DirectorySource(source.root, source.patterns, PLAIN, now_s=lambda: NOW_S)
    assert other.new_files({"a.csv": found.fingerprint}) == []
    assert found.fingerprint.startswith(f"{found.size_bytes}-")


def test_a_file_that_is_still_being_written_waits_until_it_rests(source):
    drop(source.root, "a.csv", "stream,ts", age_s=0.5)
    assert source.new_files({}) == []
    drop(source.root, "a.csv", "stream,ts,y\na,2001-01-01,1\n", age_s=0.2)
    assert source.new_files({}) == []
    assert names(source.new_files({})) == ["a.csv"]  # unchanged since the look before


def test_a_file_that_was_renamed_into_place_is_taken_at_the_second_look(source):
    drop(source.root, "a.csv.tmp", age_s=0.1).rename(source.root / "a.csv")
    assert source.new_files({}) == []
    assert names(source.new_files({})) == ["a.csv"]


def test_an_old_file_is_taken_at_the_first_look(source):
    drop(source.root, "a.csv", age_s=2.1)
    assert names(source.new_files({})) == ["a.csv"]


def test_a_file_that_goes_away_is_forgotten(source):
    drop(source.root, "a.csv").unlink()
    (source.root / "loose.csv").symlink_to(source.root / "nowhere")
    (source.root / "loop.csv").symlink_to(source.root / "loop.csv")
    assert source.new_files({}) == []


def test_a_file_that_is_moved_away_during_a_look_costs_no_other_its_turn(source, monkeypatch):
    for name in ("a.csv", "b.csv", "c.csv"):
        drop(source.root, name)
    listed = os.scandir

    def moving(path):
        with listed(path) as entries:
            found = list(entries)
        (source.root / "b.csv").unlink()
        return nullcontext(iter(found))

    monkeypatch.setattr(os, "scandir", moving)
    assert names(source.new_files({})) == ["a.csv", "c.csv"]


def test_a_missing_directory_is_named(tmp_path):
    with pytest.raises(SourceError, match="inbox: does not exist"):
        DirectorySource(tmp_path / "inbox", ("*.csv",), PLAIN).new_files({})


def test_a_rewritten_file_brings_only_what_is_new(source):
    drop(source.root, "a.csv", "stream,ts,y\na,2001-01-01 00:00,1\na,2001-01-01 01:00,2\n")
    (found,) = source.new_files({})
    schedule = Schedule(
        anchor=dt.datetime(2001, 1, 1, tzinfo=dt.UTC), frequency=dt.timedelta(hours=1),
        horizon=1, batch=1, train_window=1,
    )  # fmt: skip
    state = AdmissionState(known=lambda _, slot: slot < 1)
    result = admit(
        source.read(found), schedule=schedule, streams={"a": 0}, state=state, settings=AdmissionSettings(),
        now=None, seq=2, path=found.path,
    )  # fmt: skip
    assert (result.n_admitted, result.n_rejected) == (1, 1)
