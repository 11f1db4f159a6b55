"""Reads settings from overrides, environment and YAML, in this order of precedence, and explains what is wrong."""

import difflib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import SettingsError

from mlma.config.settings import ENV_DELIMITER, ENV_PREFIX, Settings, environment_of
from mlma.core.errors import ConfigError

Tree = dict[str, object]


def load(path: Path | None = None, overrides: Mapping[str, object] | None = None) -> Settings:
    """Read and check all settings.

    Parameters
    ----------
    path
        YAML file; None for defaults and environment alone.
    overrides
        Nested like the file (``{"schedule": {"horizon": "24h"}}``), or with dotted keys
        (``{"schedule.horizon": "24h"}``); they go before environment and file.

    Raises
    ------
    ConfigError
        With every problem found: where it stands, the key, the value and what is expected. Secrets are not
        printed.
    """
    file = _read(path) if path is not None else {}
    environment = _environment()
    wanted = _nested(overrides or {})
    data = _merged(_merged(file, environment), wanted)
    try:
        return Settings.model_validate(data)
    except ValidationError as error:
        origins = _Origins(path, environment, wanted)
        lines = [origins.explain(problem) for problem in error.errors(include_url=False)]
        raise ConfigError("\n".join(dict.fromkeys(lines))) from None  # the cause would quote the values


def _read(path: Path) -> Tree:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{path}: does not exist; expected a YAML file with settings") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read as UTF-8 text: {error}") from error
    try:
        data = yaml.load(text, Loader=_StrictLoader)  # noqa: S506 - a SafeLoader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f", line {mark.line + 1}, column {mark.column + 1}" if mark is not None else ""
        raise ConfigError(f"{path}{where}: is not YAML: {error.problem}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: is not YAML: {error}") from None
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: holds a {type(data).__name__}; expected sections such as 'schedule:'")
    return data


class _StrictLoader(yaml.SafeLoader):
    """Refuses a key that stands twice, where YAML would silently take the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[object, object]:  # noqa: FBT001, FBT002 - the library's signature
        seen: set[object] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.MarkedYAMLError(problem=f"the key {key!r} stands twice", problem_mark=key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep=deep)


def _environment() -> Tree:
    sections = set(Settings.model_fields)
    for name in os.environ:
        if name.upper().startswith(ENV_PREFIX) and ENV_DELIMITER in name:
            section = name[len(ENV_PREFIX) :].split(ENV_DELIMITER, maxsplit=1)[0].lower()
            if section not in sections:
                raise ConfigError(
                    f"environment variable {name}: unknown section {section!r}{_guess(section, sections)}"
                )
    try:
        return dict(environment_of(Settings)())
    except SettingsError as error:
        names = ", ".join(sorted(name for name in os.environ if name.upper().startswith(ENV_PREFIX)))
        raise ConfigError(f"environment ({names}): {error}; expected JSON for lists and mappings") from None


def _nested(flat: Mapping[str, object]) -> Tree:
    tree: Tree = {}
    for key, value in flat.items():
        head, _, rest = key.partition(".")
        inner = _nested({rest: value}) if rest else (dict(value) if isinstance(value, Mapping) else value)
        tree = _merged(tree, {head: inner})
    return tree


def _merged(base: Tree, over: Tree) -> Tree:
    """Join two trees, the second before the first; lists are replaced as a whole."""
    joined = dict(base)
    for key, value in over.items():
        below = joined.get(key)
        joined[key] = _merged(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return joined


class _Origins:
    """Says where a value came from, so that a message names what to correct."""

    def __init__(self, path: Path | None, environment: Tree, overrides: Tree) -> None:
        self.path = path
        self.environment = environment
        self.overrides = overrides

    def explain(self, problem: ErrorDetails) -> str:
        """One sentence for one problem."""
        keys = [str(part) for part in problem["loc"] if not _is_branch(part)]
        dotted = ".".join(keys)
        if problem["type"] == "extra_forbidden":
            known = list(_known_keys(keys[:-1]))
            return f"{self._where(keys)}: unknown key {dotted!r}{_guess(keys[-1], known)}"
        expected = problem["msg"].removeprefix("Value error, ").replace("Input should be", "expected")
        if problem["type"] == "missing":
            return f"{self._where(keys)}: {dotted!r} is missing; expected a value"
        is_quotable = "targets" not in keys and not isinstance(problem["input"], (dict, BaseModel))
        value = f" = {problem['input']!r}" if is_quotable else ""
        return f"{self._where(keys)}: {dotted or 'settings'}{value}: {expected}"

    def _where(self, keys: list[str]) -> str:
        if _holds(self.overrides, keys):
            return "option"
        if _holds(self.environment, keys):
            return f"environment variable {ENV_PREFIX}{ENV_DELIMITER.join(keys).upper()}"
        return str(self.path) if self.path is not None else "settings"


def _is_branch(part: int | str) -> bool:
    """Whether a step of the path names an alternative of a union rather than a key."""
    return isinstance(part, str) and (part in {"int", "literal['auto']"} or "[" in part)


def _holds(tree: Tree, keys: list[str]) -> bool:
    here: object = tree
    for key in keys:
        if not isinstance(here, dict) or key not in here:
            return isinstance(here, list) and key.isdigit()
        here = here[key]
    return bool(keys)


def _known_keys(keys: list[str]) -> Iterator[str]:
    """Keys that are allowed at a path of the settings."""
    model: type[BaseModel] = Settings
    for key in keys:
        if key.isdigit():
            continue
        annotation = model.model_fields[key].annotation
        inner = [annotation, *getattr(annotation, "__args__", ())]
        model = next((t for t in inner if isinstance(t, type) and issubclass(t, BaseModel)), model)
    return iter(model.model_fields)


def _guess(key: str, known: Iterator[str] | set[str] | list[str]) -> str:
    names = sorted(known)
    close = difflib.get_close_matches(key.lower(), names, n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else f"; expected one of {', '.join(names)}"
