"""From the settings of a hook to the one that calls it."""

from mlma.adapters.hooks.command import CommandHook
from mlma.adapters.hooks.entry_point import EntryPointHook
from mlma.adapters.hooks.webhook import WebhookHook
from mlma.core.hooks import HookKind, HookSettings


def hook_of(settings: HookSettings) -> CommandHook | WebhookHook | EntryPointHook | None:
    """Make the hook that the settings name; None when trainings run here."""
    match settings.kind:
        case HookKind.NONE:
            return None
        case HookKind.COMMAND:
            return CommandHook(settings)
        case HookKind.WEBHOOK:
            return WebhookHook(settings)
        case HookKind.ENTRY_POINT:
            return EntryPointHook(settings)
