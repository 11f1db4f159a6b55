"""Settings: YAML and environment in, validated values out. The only reader of configuration."""

from mlma.config.loading import load
from mlma.config.settings import Settings

__all__ = ["Settings", "load"]
