"""Replays with many policies: what each runs under, the frontier against always itself, figures, page and command."""

import json
import re
import sys
from copy import copy
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from mlma import bootstrap
from mlma.cli.main import app
from mlma.cli.replay_table import show
from mlma.core.errors import ConfigError
from mlma.core.policy import parse
from mlma.core.settings import LifeSettings, LossTestName, Serve
from mlma.runtime import replay_policies
from mlma.runtime.replay_data import ReplayRequest, life_of
from mlma.runtime.replay_frontier import CURVE, Candidates
from mlma.runtime.replay_page import page
from mlma.runtime.replay_report import ReplayReport
from mlma.runtime.training import TrainingOutcome
from tests.unit.runtime import odd_model
from tests.unit.runtime.memory_fleet import HOURS, ODD, SCHEDULE, TINY, demand, names_of, rows_of, settings_for

DAYS, WINDOW = 40, 28
BATCHES = DAYS - WINDOW
ALL = (
    "never", "always", "calendar:best", "random:3", "test", "welch", "ks", "adwin", "page-hinkley", "debt",
    "mlma-champion", "frontier:1",
)  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "data.csv"
    y = demand(4, DAYS, breaks_on=34)
    rows = rows_of(y, 0, DAYS * HOURS, names=[f"<{name}>" for name in names_of(y)])  # names that HTML must escape
    times = (rows.time_us * 1000).astype("datetime64[ns]").astype("datetime64[s]").astype(str)
    lines = [
        f"{rows.stream_names[code]},{at}Z,{value!r}"
        for code, at, value in zip(rows.stream_code, times, rows.y.tolist(), strict=True)
    ]
    path.write_text("stream,ts,y\n" + "\n".join(lines) + "\n")
    return path


def request(data: Path, *policies: str, model: str = TINY) -> ReplayRequest:
    return ReplayRequest(
        data=data, frequency="1h", horizon="6h", batch="1d", train_window=f"{WINDOW}d", model=model, executor="inline",
        policies=policies, settings={"testing.yardstick": "none"},
    )  # fmt: skip


@pytest.fixture(scope="module")
def report(data: Path) -> ReplayReport:
    return bootstrap.run_replay(request(data, *ALL))


@pytest.fixture(scope="module")
def figures(report: ReplayReport) -> dict:  # type: ignore[type-arg]
    return json.loads(json.dumps(report.to_json()))


# what is run


def test_policies_that_act_alike_are_run_once(data: Path) -> None:
    wanted = request(data, "never", "mlma", "mlma-blend", "mlma-champion", "mlma@0.3", "mlma@0.7", "never+pool")
    found = bootstrap.run_replay(wanted)
    assert dict(found.twins) == {"mlma-blend": "mlma", "mlma@0.3": "mlma"}
    assert [tally.name for tally in found.tallies] == ["never", "mlma", "mlma-champion", "mlma@0.7", "never+pool"]
    rows = found.to_json()["policies"]
    assert isinstance(rows, dict)
    assert [*rows] == ["never", "mlma", "mlma-blend", "mlma-champion", "mlma@0.3", "mlma@0.7", "never+pool"]
    assert rows["mlma-blend"] == {**rows["mlma"], "policy": "mlma"}


def test_the_best_calendar_stands_for_its_cadences_and_brings_always_along() -> None:
    names = [str(policy) for policy in replay_policies.runs_of([parse("calendar:best+pool"), parse("never")], 12)]
    assert names == ["always", "calendar:2+pool", "calendar:4+pool", "calendar:8+pool", "never"]
    assert [str(policy) for policy in replay_policies.runs_of([parse("frontier"), parse("always")], 12)] == ["always"]
    with pytest.raises(ConfigError, match="the replay has 2 batches"):
        replay_policies.runs_of([parse("calendar:best")], 2)


@pytest.mark.parametrize(
    ("name", "serve", "proof"),
    [
        ("never", Serve.LATEST, False), ("test+pool", Serve.BLEND, False), ("mlma", Serve.CHAMPION, True),
        ("mlma-blend", Serve.BLEND, True),
    ],
)  # fmt: skip
def test_a_policy_brings_its_serving_mode_and_its_proof(name: str, serve: Serve, proof: bool) -> None:
    life = life_of(LifeSettings(warmup=0, min_rows=1, serve=Serve.CHAMPION, proof=True), SCHEDULE, parse(name))
    assert (life.serve, life.proof, life.warmup) == (serve, proof, SCHEDULE.train_window)


def test_welch_and_ks_bring_their_test() -> None:
    made = [replay_policies.settings_under(settings_for(), parse(name), None) for name in ("welch", "ks", "test")]
    assert [one.testing.name for one in made] == [
        LossTestName.WELCH, LossTestName.KOLMOGOROV_SMIRNOV, LossTestName.MODERATED,
    ]  # fmt: skip


def test_adwin_without_river_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "river.drift", None)
    with pytest.raises(ConfigError, match=r"mlma\[river\]"):
        replay_policies.watch_of(parse("adwin"), n_batches=10, price=0.3, seed=0)


def test_adwin_sees_a_rise_of_the_loss_and_no_fall() -> None:
    pytest.importorskip("river")
    memory, rng = replay_policies.Adwin(), np.random.default_rng(0)
    seen = np.zeros(3, dtype=bool)
    for batch in range(60):
        level = np.array([1.0, 1.0 if batch < 30 else 3.0, 3.0 if batch < 30 else 1.0])
        loss = level * rng.uniform(0.9, 1.1, 3)
        seen |= memory.step(batch, loss, np.ones(3))
    assert seen.tolist() == [False, True, False]


def test_a_watch_looks_at_a_batch_once() -> None:
    calls: list[int] = []

    class Counting(replay_policies.Chance):
        def step(self, batch: int, loss: np.ndarray, naive: np.ndarray) -> np.ndarray:
            calls.append(batch)
            return super().step(batch, loss, naive)

    class Part:
        stream_id, mean_loss, naive_loss = np.array([1, 0]), np.ones(2), np.ones(2)

    watch = replay_policies.Watch(Counting(seed=0, rate=0.5))
    for batch in (3, 3, 4):
        watch.see([Part()], batch)  # type: ignore[list-item]
    assert calls == [3, 4]


def test_policies_that_start_alike_share_their_first_versions(data: Path) -> None:
    odd_model.FITS.clear()
    bootstrap.run_replay(request(data, "never", "random:1", "debt", "calendar:13", "calendar:26", model=ODD))
    n_first = 4
    made = bootstrap.run_replay(request(data, "never", model=ODD)).to_json()
    assert made["policies"]["never"]["trainings"] == n_first  # type: ignore[index]
    odd_model.FITS.clear()
    bootstrap.run_replay(request(data, "never", "calendar:13", "calendar:26", model=ODD))
    assert len(odd_model.FITS) == n_first


# what is found


def test_every_policy_has_its_row_and_hindsight_its_members(figures: dict) -> None:  # type: ignore[type-arg]
    rows = figures["policies"]
    assert list(rows)[: len(ALL)] == list(ALL)
    assert set(rows) - set(ALL) == {"calendar:2", "calendar:4", "calendar:8"}
    for name, row in rows.items():
        low, high = row["relative_loss_interval"]
        assert low <= row["relative_loss_to_always"]["mean"] <= high, name
        assert row["streams_compared"] == 4
        share = max(row["training_share_of_always"], row["training_cpu_share_of_always"])
        for price, cost in row["total_cost"].items():
            if "by_price" not in row:
                assert cost == pytest.approx(row["relative_loss_to_always"]["mean"] + float(price) * share, abs=2e-5)


def test_the_best_calendar_is_the_cheapest_cadence_at_each_price(figures: dict) -> None:  # type: ignore[type-arg]
    rows = figures["policies"]
    for price, cost in rows["calendar:best"]["total_cost"].items():
        members = {name: rows[name]["total_cost"][price] for name in ("calendar:2", "calendar:4", "calendar:8")}
        assert cost == min(members.values())
        assert members[rows["calendar:best"]["by_price"][price]["policy"]] == cost
    main = rows["calendar:best"]["by_price"]["0.3"]["policy"]
    assert rows["calendar:best"]["mean_loss"] == rows[main]["mean_loss"]


def test_differences_are_paired_and_antisymmetric(figures: dict) -> None:  # type: ignore[type-arg]
    rows = figures["policies"]
    one, other = rows["never"]["cost_difference"]["always"], rows["always"]["cost_difference"]["never"]
    assert one["difference"] == pytest.approx(-other["difference"], abs=2e-5)
    assert (one["low"], one["high"]) == (
        pytest.approx(-other["high"], abs=2e-5),
        pytest.approx(-other["low"], abs=2e-5),
    )
    assert rows["always"]["relative_loss_interval"] == [1.0, 1.0]


def test_the_list_of_lost_streams_is_what_it_counts(figures: dict) -> None:  # type: ignore[type-arg]
    found = figures["policies"]["never"]["against_calendar"]
    assert found["wins"] + found["ties"] + found["losses"] == 4
    assert len(found["lost_streams"]) == found["losses"] > 0
    for one in found["lost_streams"]:
        assert one["cost"] > one["calendar_cost"]
        assert one["trainings"] == 1
    assert figures["policies"]["calendar:4"]["against_calendar"] is None


def test_losses_of_old_versions_are_those_that_the_engines_saw(report: ReplayReport) -> None:
    tallies = {tally.name: tally for tally in report.tallies}
    assert report.frontier is not None
    loss, batch_of = report.frontier.loss, report.frontier.batch_of
    always, never = tallies["always"].losses(), tallies["never"].losses()
    assert batch_of.shape == (4, BATCHES + 1)
    latest = np.stack([loss[:, j, j + 1] for j in range(BATCHES)], axis=1)
    np.testing.assert_allclose(latest, always[:, 1:], rtol=1e-5)
    np.testing.assert_allclose(loss[:, 0, 1:], never[:, 1:], rtol=1e-5)
    assert np.isinf(loss[:, 5, :6]).all()


def test_keeping_versions_is_charged_to_the_frontier_and_not_to_always(report: ReplayReport) -> None:
    always = copy(next(tally for tally in report.tallies if tally.name == "always"))
    candidates = Candidates(settings=always.engine.settings, n_batches=BATCHES, every=1)
    for stream in range(4):
        key = (stream, always.batches[0], 0)
        blob = np.random.default_rng(stream).bytes(1 << 20)
        candidates.took(TrainingOutcome(key=key, family="lightgbm", blob=blob, cpu_s=1.0))
    before, kept_s = always.cpu_s, candidates.keep_cpu_s
    found = candidates.found(always)
    assert kept_s > 0.0
    assert always.cpu_s == pytest.approx(before - kept_s)
    assert found.search_cpu_s > kept_s


def test_a_small_replay_looks_at_every_version_however_fast_the_machine_is(data: Path, figures: dict) -> None:  # type: ignore[type-arg]
    found = bootstrap.run_replay(request(data, "frontier")).to_json()["policies"]
    assert isinstance(found, dict)
    assert found["frontier"]["every"] == 1
    assert found["frontier"]["mean_loss"] == figures["policies"]["frontier:1"]["mean_loss"]


def test_the_frontier_is_no_dearer_than_any_single_version_policy(figures: dict) -> None:  # type: ignore[type-arg]
    rows = figures["policies"]
    frontier = rows["frontier:1"]
    assert (frontier["every"], set(frontier["by_price"])) == (1, {f"{price:g}" for price in CURVE})
    for price in ("0.1", "0.3", "1"):
        best = frontier["by_price"][price]
        for name in ("never", "always", "calendar:2", "calendar:4", "calendar:8", "random:3", "test", "debt"):
            row = rows[name]
            cost = row["relative_loss_to_always"]["mean"] + float(price) * row["training_share_of_always"]
            assert best["relative_loss"] + float(price) * best["training_share"] <= cost + 1e-4, (price, name)


def test_without_always_nothing_is_compared(data: Path) -> None:
    row = bootstrap.run_replay(request(data, "never")).to_json()["policies"]["never"]  # type: ignore[index]
    assert row["relative_loss_to_always"] is row["total_cost"] is row["relative_loss_interval"] is None


# what is shown


class Tags(HTMLParser):
    """Checks that tags are closed in order, and keeps what could load something."""

    VOID = ("meta",)

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loads: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.VOID:
            self.open.append(tag)
        self.loads += [name for name, _ in attrs if name in {"src", "href"}] + ([tag] if tag == "script" else [])

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_whole_and_loads_nothing(report: ReplayReport, figures: dict) -> None:  # type: ignore[type-arg]
    made = page(report, figures, "mlma replay 'a & b.csv'")
    tags = Tags()
    tags.feed(made)
    assert (tags.open, tags.loads) == ([], [])
    assert "url(" not in made
    assert "http" not in made.replace("http://www.w3.org/2000/svg", "")
    assert "prefers-color-scheme: dark" in made
    assert "mlma replay &#x27;a &amp; b.csv&#x27;" in made
    assert "&lt;s00" in made
    assert "<s00" not in made
    first, second = re.findall(r"<svg.*?</svg>", made, re.DOTALL)
    assert "frontier" in first
    for name in ("never", "debt", "mlma-champion", "calendar:8"):
        assert f">{name}<" in first
        assert f">{name}<" in second


def test_a_page_without_always_says_what_is_missing(data: Path) -> None:
    made = bootstrap.run_replay(request(data, "never"))
    assert "nothing to compare with" in page(made, made.to_json(), "mlma replay")


def test_the_table_of_many_policies_fits_a_terminal(
    figures: dict,  # type: ignore[type-arg]
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "110")
    large = {"mean_loss": 12345.6, "trainings": 57_762, "cpu_s": {"train": 854.3, "predict": 75.4, "rest": 80.1}}
    rows = {f"{name:-<17}"[:17]: {**row, **large} for name, row in figures["policies"].items()}
    wide = {**figures, "policies": rows}
    show(wide)
    lines = [line for line in capsys.readouterr().out.splitlines() if "57,762" in line]  # not folded
    assert len(lines) == len(wide["policies"]) >= 15
    assert max(map(len, lines)) <= 110


def invoke(*arguments: str) -> tuple[int, str]:
    made = CliRunner().invoke(app, ["replay", *arguments])
    return made.exit_code, made.output


def test_the_command_writes_a_page_that_names_the_command(data: Path, tmp_path: Path) -> None:
    options = (
        f"--horizon 6h --batch 1d --train-window 28d --model {TINY} --executor inline --policy always --policy never"
    )
    code, output = invoke(str(data), *options.split(), "--report", str(tmp_path / "out.html"))
    assert code == 0, output
    assert f"report: {tmp_path / 'out.html'}" in output
    assert f"<pre>mlma replay {data} {options} --report {tmp_path / 'out.html'}</pre>" in re.sub(
        r"<pre>mlma replay (.*?)</pre>", _sorted_like(data, options, tmp_path), (tmp_path / "out.html").read_text()
    )


def _sorted_like(data: Path, options: str, folder: Path):  # type: ignore[no-untyped-def]
    """The order of options does not matter: compare words."""
    wanted = f"{data} {options} --report {folder / 'out.html'}"

    def compare(found: re.Match[str]) -> str:
        assert sorted(found[1].split()) == sorted(wanted.split())
        return f"<pre>mlma replay {wanted}</pre>"

    return compare


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "DATA is missing"),
        (("DATA", "--from-state", "state"), "expected one of them"),
        (("--from-state", "state", "--batch", "7d"), "--batch: a state has its own"),
        (("DATA", "--since", "7d"), "--since: it needs --from-state"),
        (("DATA", "--report", "-"), "expected a file"),
        (("DATA", "--report", "nowhere/out.html"), "expected a file in a folder that exists"),
        (("--from-state", "nowhere"), "nowhere"),
        (("DATA", "--policy", "sometimes"), "policy 'sometimes'"),
    ],
)
def test_what_cannot_be_is_refused_in_words(data: Path, arguments: tuple[str, ...], message: str) -> None:
    code, output = invoke(*(str(data) if word == "DATA" else word for word in arguments))
    assert code in {2, 3}
    assert message in output
