"""From an ordered training to what a hook is told about it, by what the fleet knows."""

from mlma.core.decisions import EffectKind
from mlma.core.records import Effect
from mlma.models.external import version_name
from mlma.runtime.control import Control
from mlma.runtime.hook_call import HookCall
from mlma.runtime.shard_parts import Window


def version_id(effect: Effect) -> str:
    """Id of the version that a training makes."""
    return effect.id.removeprefix(f"{EffectKind.TRAIN}-")


def call_of(control: Control, effect: Effect, window: Window) -> HookCall:
    """Call for a training, as it is recorded now."""
    champion = control.fleet.champion(effect.stream_id)
    known = [version_name(version.family) for version in control.store.versions(stream_id=effect.stream_id)]
    return HookCall(
        hook=control.hook,
        id=effect.id,
        attempt=effect.attempts + 1,
        version=version_id(effect),
        reason=effect.reason,
        stream=control.fleet.streams[effect.stream_id],
        serving=(version_name(champion.family) or "") if champion else "",
        known=tuple(name for name in known if name is not None),
        arrived=window.arrived,
        deadline_at=effect.deadline_at,
    )
