"""`mlma digest show | send`: the engineer's page, on demand."""

import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlma.cli.options import (
    STATE,
    STATE_VARIABLE,
    AuthorOption,
    ConfigOption,
    DryRunOption,
    JsonOption,
    StateOption,
    moment,
    opened,
    settings,
)
from mlma.cli.output import Exit, print_json, say
from mlma.core.errors import OperationError

if TYPE_CHECKING:
    from mlma.bootstrap import State
    from mlma.core.digest import Digest

app = typer.Typer(no_args_is_help=True, help="One page on the whole fleet: show it, send it.")

DAY = timedelta(days=1)
DEFAULT_ALPHA = 0.05
DEMO_MARK = ".demo"
"""File in a state that a replay made: nobody misses its daemon, and its present is its newest decision."""

SinceOption = Annotated[
    str | None,
    typer.Option("--since", metavar="TIME", help="Start of the period: a time, or 7d; default: the digest before."),
]


@app.command()
def show(
    since: SinceOption = None,
    stored: Annotated[bool, typer.Option("--stored", help="The last one that was made, as it was sent.")] = False,
    state: StateOption = STATE,
    as_json: JsonOption = False,
) -> None:
    """Print the page of this moment; nothing is stored or sent.

    Exit code 1: --stored, and none was made yet.

    Example: [bold]mlma digest show --since 7d[/bold]
    """
    from mlma.core.digest import render, to_json

    with opened(state) as found:
        if stored:
            text, body = _stored(found)
        else:
            now = _now(found)
            page = _page(found, now, _since(found, since, now))
            text, body = render(page), to_json(page)
    if as_json:
        print_json(json.loads(body))
    else:
        typer.echo(text.rstrip("\n"))


OWN_TRY = timedelta(minutes=2)
"""How long a running daemon leaves a digest to the command that made it, so that it is not sent twice."""


@app.command()
def send(
    config: ConfigOption = None,
    since: SinceOption = None,
    dry_run: DryRunOption = False,
    author: AuthorOption = "",  # noqa: ARG001  every changing command takes one; a digest changes no model
    state: Annotated[
        Path | None,
        typer.Option(
            "--state", metavar="DIR", envvar=STATE_VARIABLE, help="State directory; goes before the settings."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Make a digest now, store it, and send it to the targets of the settings.

    What cannot be delivered is tried again by the daemon. Exit code 1: a delivery failed, or there is no target.

    Example: [bold]mlma digest send --config configs/watch-directory.yaml[/bold]
    """
    from mlma import bootstrap
    from mlma.runtime import digests

    wanted = settings(config, {} if state is None else {"state.path": str(state)})
    notifier = bootstrap.notifier(wanted)
    with opened(wanted.state.path) as found:
        now = bootstrap.clock().now()
        start = _since(found, since, now)
        if dry_run:
            say(f"Dry run, nothing was sent. It would go to: {', '.join(notifier.targets()) or 'nobody'}.")
            return
        if not notifier.targets():
            say("the settings name no target: add one under digest.targets")
            raise typer.Exit(Exit.NO)
        made = digests.issue(
            found.store, now=now, since=start, targets=notifier.targets(), alpha=_alpha(found),
            schedule=found.schedule, not_before=now + OWN_TRY, history=found.history,
        )  # fmt: skip
        digests.deliver(found.store, notifier, now, digest_id=made)
        deliveries = found.store.deliveries(digest_id=made)
    if as_json:
        print_json({"digest": made, "deliveries": deliveries})
    else:
        for delivery in deliveries:
            say(f"{delivery.target}: {'delivered' if delivery.delivered_at else f'failed: {delivery.error}'}")
    if any(delivery.delivered_at is None for delivery in deliveries):
        raise typer.Exit(Exit.NO)


def _stored(found: "State") -> tuple[str, str]:
    digests = found.store.digests(limit=1)
    if not digests:
        say("no digest was made yet; `mlma digest show` prints one of this moment")
        raise typer.Exit(Exit.NO)
    return digests[0].text, digests[0].body_json


def _page(found: "State", now: datetime, since: datetime) -> "Digest":
    from mlma.core.digest import make_digest
    from mlma.runtime.digests import gather

    inputs = gather(
        found.store, now=now, since=since, alpha=_alpha(found), schedule=found.schedule,
        expects_daemon=not (found.path / DEMO_MARK).exists(), history=found.history,
    )  # fmt: skip
    return make_digest(inputs)


def _alpha(found: "State") -> float:
    """Promised false-alarm rate that the daemon wrote down."""
    return float(found.store.meta().get("alpha", DEFAULT_ALPHA))


def _now(found: "State") -> datetime:
    from mlma import bootstrap

    newest = found.store.decisions(limit=1) if (found.path / DEMO_MARK).exists() else []
    return newest[0].decided_at if newest else bootstrap.clock().now()


def _since(found: "State", text: str | None, now: datetime) -> datetime:
    if text is not None:
        since = moment(text, "--since", now=now, sign=-1)
        if since >= now:
            raise OperationError(f"--since {text!r}: expected a time before {now:%Y-%m-%d %H:%M} UTC")
        return since
    made = [digest.made_at for digest in found.store.digests(limit=1) if digest.made_at < now]
    return made[0] if made else now - DAY
