"""Every error that mlma raises on purpose.

The type says what the caller may do: correct the input, retry later, give up on one effect, or stop.
"""


class MlmaError(Exception):
    """Base of all errors that mlma raises; its message is written for the engineer."""


class ConfigError(MlmaError):
    """A setting is unknown, missing or out of range."""


class SourceError(MlmaError):
    """A source as a whole cannot be read (missing column, truncated file, unknown frequency)."""


class StoreError(MlmaError):
    """The control plane's database is missing, locked, or of another version."""


class ArtifactError(MlmaError):
    """A stored model version is missing, or its content does not match its hash."""


class ModelError(MlmaError):
    """A model cannot be made, fitted or asked for a forecast."""


class HookError(MlmaError):
    """A hook could not be called, failed, took too long, or answered with something that cannot be used."""


class UnknownStreamError(MlmaError):
    """A selection names no known stream."""


class OperationError(MlmaError):
    """What an engineer asked for cannot be done; the message says why and what can."""


class RetryLaterError(MlmaError):
    """The work may succeed when tried again (a lost worker, a busy store)."""


class GiveUpError(MlmaError):
    """An effect cannot succeed however often it is tried; the rest goes on."""


class StopDaemonError(MlmaError):
    """The daemon must not go on (a second daemon, a state that contradicts the configuration)."""
