"""`mlma doctor`: what is wrong with this installation or state, and what to do."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from mlma.cli.options import STATE, ConfigOption, JsonOption, StateOption, settings
from mlma.cli.output import Exit, print_json, say
from mlma.core.errors import MlmaError

if TYPE_CHECKING:
    from mlma.config import Settings
    from mlma.runtime.doctor import Check


def doctor(state: StateOption = STATE, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Check the installation, the settings and the state; each problem comes with what to do.

    Exit code 1: a problem was found.

    Example: [bold]mlma doctor --state demo-state[/bold]
    """
    from mlma import bootstrap
    from mlma.runtime import doctor as checks

    wanted, said = _config(config)
    found = [*checks.check_installation(), *said]
    try:
        opened = bootstrap.open_state(state)
    except MlmaError as error:
        found.append(checks.missing_state(state, str(error)))
    else:
        try:
            found += checks.check_state(
                opened.path, opened.store, opened.history, opened.schedule, bootstrap.clock().now()
            )
            if wanted is not None:
                found += checks.check_selections(opened.store.streams(), wanted.life.to_core(wanted.schedule))
        finally:
            opened.close()
    found += checks.check_machine(state)
    if as_json:
        print_json({"ok": all(check.ok for check in found), "checks": found})
    else:
        for check in found:
            say(f"{'ok     ' if check.ok else 'PROBLEM'}  {check.name}: {check.message}")
            if not check.ok:
                say(f"         do: {check.remedy}")
    if not all(check.ok for check in found):
        raise typer.Exit(Exit.NO)


def _config(path: Path | None) -> "tuple[Settings | None, list[Check]]":
    """Settings, None where they cannot be read, and what there is to say about them."""
    from mlma.runtime.doctor import Check
    from mlma.runtime.doctor_hook import check_hook

    where = str(path) if path else "defaults and environment"
    try:
        found = settings(path)
    except MlmaError as error:
        remedy = f"correct {where}, then: mlma config check"
        return None, [Check(name="settings", ok=False, message=str(error), remedy=remedy)]
    return found, [Check(name="settings", ok=True, message=where), *check_hook(found.model.hook.to_core())]
