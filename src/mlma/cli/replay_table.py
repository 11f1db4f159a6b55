"""The table that `mlma replay` prints, at most 110 columns wide."""

from typing import TYPE_CHECKING, cast

from mlma.cli.output import say, table, tabulate

if TYPE_CHECKING:
    from collections.abc import Mapping


def show(figures: "Mapping[str, object]") -> None:
    """Print the comparison of the policies as a table."""
    policies = cast("dict[str, dict[str, object]]", figures["policies"])
    has_recorded = "recorded" in policies
    beside = "/recorded" if has_recorded else "/naive"
    key = "relative_loss_to_recorded" if has_recorded else "relative_loss_to_naive"
    headings = [
        "loss", "/always", beside, "trained", "share", "cpu", "at .1", "at .3", "at 1", "train s", "pred s", "rest s",
    ]  # fmt: skip
    rows = table(["policy", *headings], right=headings)
    for name, found in policies.items():
        cpu = cast("dict[str, float | None]", found["cpu_s"])
        costs = cast("dict[str, float | None]", found["total_cost"] or {})
        rows.add_row(
            name, _figure(found["mean_loss"]), _mean(found["relative_loss_to_always"]), _mean(found.get(key)),
            _count(found["trainings"]), _share(found["training_share_of_always"]),
            _share(found["training_cpu_share_of_always"]), *(_cost(costs.get(price)) for price in ("0.1", "0.3", "1")),
            *(_seconds(cpu[part]) for part in ("train", "predict", "rest")),
        )  # fmt: skip
    tabulate(rows)
    _best(policies)
    skipped = cast("list[dict[str, object]]", figures["skipped"])
    refused = sum(cast("int", note.get("rows", 0)) for note in skipped)
    say(
        f"{figures['streams']:,} streams, {figures['batches']:,} batches, {len(skipped):,} notes on what was skipped, "
        f"{refused:,} rows refused"
    )
    left_out = max((cast("int", found.get("streams_left_out") or 0) for found in policies.values()), default=0)
    if left_out and has_scores(figures):
        say(f"left out of every comparison, for always has no loss there: {left_out:,} of the streams")
    for note in sorted(skipped, key=lambda note: -cast("int", note.get("rows", 0)))[:5]:
        say("  " + ", ".join(f"{key} {value}" for key, value in note.items()))
    _overhead(cast("dict[str, float | None]", figures["cpu"]))


def has_scores(figures: "Mapping[str, object]") -> bool:
    """Whether some policy's forecasts were scored at all."""
    policies = cast("dict[str, dict[str, object]]", figures["policies"])
    return any(found["mean_loss"] is not None for found in policies.values())


def _best(policies: "Mapping[str, Mapping[str, object]]") -> None:
    """Which calendar was the best depends on the price, and how much the frontier has looked at."""
    for name, found in policies.items():
        by_price = cast("dict[str, dict[str, object]]", found.get("by_price") or {})
        named = [f"{one['policy']} at {price}" for price, one in by_price.items() if "policy" in one]
        if named:
            say(f"{name}: {', '.join(named)}; its row is {found['policy']}, but for the costs")
        elif by_price:
            share = cast("float", found["predict_cpu_share_of_always"])
            say(
                f"{name}: looked at 1 version in {found['every']}, {share:.1%} of the CPU time of always' trainings; "
                "its row is the choice at 0.3, but for the costs"
            )
        elif "policy" in found:
            say(f"{name}: acts as {found['policy']} does, and was run once")


def _overhead(cpu: "Mapping[str, float | None]") -> None:
    beside = "" if cpu["ratio"] is None else f", {cpu['ratio']:.2f} times always alone"
    say(
        f"all policies together: {cpu['all_policies_s']:,.1f} CPU s{beside}; overhead of the engines: "
        f"{cpu['rest_s']:,.1f} CPU s"
    )


def _figure(value: object) -> str:
    return "-" if value is None else f"{cast('float', value):.4g}"


def _cost(value: object) -> str:
    return "-" if value is None else f"{cast('float', value):.3f}"


def _share(value: object) -> str:
    return "-" if value is None else f"{cast('float', value):.3f}".removeprefix("0")


def _count(value: object) -> str:
    return "-" if value is None else f"{cast('int', value):,}"


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def _mean(spread: object) -> str:
    mean = None if spread is None else cast("dict[str, float | None]", spread)["mean"]
    return "-" if mean is None else f"{mean:.3f}"
