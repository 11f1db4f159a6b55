"""What all hooks share: their settings, which say how long to wait before a try."""

from dataclasses import dataclass

from mlma.core.hooks import HookSettings


@dataclass(frozen=True, slots=True)
class SettingsHook:
    """Base of the hooks; each adds its own ``call``."""

    settings: HookSettings

    def wait_before(self, attempt: int) -> float:
        """Seconds before a try, counted from 1."""
        return self.settings.wait_before(attempt)
