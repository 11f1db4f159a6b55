"""Which streams an engineer means: globs over names and label selectors, written as one short text.

``IAH``, ``K*,IAH``, ``site=lhr``, ``'K* product!=food'``. Names are OR-ed; every label must hold.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import translate
from functools import lru_cache

from mlma.core.errors import OperationError
from mlma.core.records import Stream

EVERY = "*"
WILDCARDS = frozenset("*?[")

_SEPARATOR = re.compile(r"[\s,]*")
_TOKEN = re.compile(
    r"""(?P<key>[^\W\d][\w./-]*)(?P<operator>!?=)(?:"(?P<quoted_value>[^"]+)"|(?P<value>[^\s,"=!]+))"""
    r"""|"(?P<quoted>[^"]+)"|(?P<glob>[^\s,"=]+)"""
)
_BARE_GLOB = re.compile(r"""[^\s,"=]+""")
_BARE_VALUE = re.compile(r"""[^\s,"=!]+""")


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelSelector:
    """One condition on a label. A stream without the label is not equal to any value."""

    key: str
    value: str
    equal: bool

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether labels fulfil the condition."""
        return (labels.get(self.key) == self.value) is self.equal

    def __str__(self) -> str:
        value = self.value if _BARE_VALUE.fullmatch(self.value) else f'"{self.value}"'
        return f"{self.key}{'=' if self.equal else '!='}{value}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Globs, of which one must match the name, and label selectors, all of which must hold.

    Attributes
    ----------
    globs
        Names or patterns with ``*``, ``?`` and ``[...]``; case matters. Empty: every name.
    labels
        Conditions on the labels. Empty: any labels.
    """

    globs: tuple[str, ...] = ()
    labels: tuple[LabelSelector, ...] = ()

    def matches(self, name: str, labels: Mapping[str, str]) -> bool:
        """Whether a stream of this name and these labels is meant."""
        return _names(self.globs).match(name) and all(label.matches(labels) for label in self.labels)

    def select(self, streams: Iterable[Stream]) -> list[Stream]:
        """Streams that are meant, in the order given."""
        return [stream for stream in streams if self.matches(stream.name, stream.labels)]

    def __str__(self) -> str:
        return ",".join([*(_written(glob) for glob in self.globs), *(str(label) for label in self.labels)])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Names:
    """Globs made ready for many names: exact names as a set, patterns compiled."""

    every: bool
    exact: frozenset[str]
    pattern: re.Pattern[str] | None

    def match(self, name: str) -> bool:
        """Whether one of the globs matches a name."""
        if self.every or name in self.exact:
            return True
        return self.pattern is not None and self.pattern.match(name) is not None


@lru_cache(maxsize=256)
def _names(globs: tuple[str, ...]) -> _Names:
    patterns = [translate(glob) for glob in globs if WILDCARDS & set(glob)]
    return _Names(
        every=not globs or EVERY in globs,
        exact=frozenset(globs),  # a name may hold a "[" of its own
        pattern=re.compile("|".join(patterns)) if patterns else None,
    )


def _written(glob: str) -> str:
    return glob if _BARE_GLOB.fullmatch(glob) else f'"{glob}"'


def parse(text: str) -> Selection:
    """Selection written as a text.

    Parameters
    ----------
    text
        Stream globs and label selectors (``key=value``, ``key!=value``), separated by commas or spaces.
        A name or value with a space, comma or equals sign stands in double quotes.

    Raises
    ------
    OperationError
        The text is empty, or a part of it is neither a glob nor a label selector.

    Examples
    --------
    >>> parse("K* IAH, site=lhr").matches("KJFK", {"site": "lhr"})
    True
    >>> str(parse('"New York"  product!=food'))
    '"New York",product!=food'
    """
    globs: list[str] = []
    labels: list[LabelSelector] = []
    position = _skip(text, 0)
    while position < len(text):
        token = _TOKEN.match(text, position)
        end = token.end() if token else position
        if token is None or (end < len(text) and _skip(text, end) == end):
            odd = text[position:].split(maxsplit=1)[0]
            raise OperationError(
                f"selection {text!r}: cannot read {odd!r}; expected stream names or globs "
                "such as IAH or K*, and labels such as site=lhr or product!=food"
            )
        if token["key"]:
            value = token["quoted_value"] or token["value"]
            labels.append(LabelSelector(key=token["key"], value=value, equal=token["operator"] == "="))
        else:
            globs.append(token["quoted"] or token["glob"])
        position = _skip(text, end)
    if not globs and not labels:
        raise OperationError("the selection is empty; type a stream, a glob such as 'K*', a label, or '*' for all")
    return Selection(globs=tuple(globs), labels=tuple(labels))


def _skip(text: str, position: int) -> int:
    """Position of the next character that separates nothing."""
    found = _SEPARATOR.match(text, position)
    return found.end() if found else position
