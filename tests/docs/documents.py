"""The documents and what is in them: pages, fenced blocks, links, headings."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
README = REPOSITORY / "README.md"
CONTRIBUTING = REPOSITORY / "CONTRIBUTING.md"
MANUAL = REPOSITORY / "docs" / "manual"
ADRS = REPOSITORY / "docs" / "adr"
GLOSSARY = REPOSITORY / "docs" / "glossary.md"

FENCE = re.compile(r"^(?P<fence>```+)(?P<language>[^\n`]*)\n(?P<body>.*?)^(?P=fence)[ ]*$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"!?\[[^\]]*\]\((?P<target>[^)\s]+)\)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A fenced block of a document."""

    document: Path
    line: int  # of the opening fence, from 1
    language: str
    body: str

    def __str__(self) -> str:
        return f"{self.document.relative_to(REPOSITORY)}:{self.line}"


@cache
def text_of(path: Path) -> str:
    """Content of a document."""
    return path.read_text(encoding="utf-8")


def manual_pages() -> list[Path]:
    """Pages of the manual."""
    return sorted(MANUAL.glob("*.md"))


def documents() -> list[Path]:
    """Every document of the project."""
    return [
        *sorted(REPOSITORY.glob("*.md")),
        *sorted((REPOSITORY / "docs").rglob("*.md")),
        *sorted((REPOSITORY / "simulations").rglob("*.md")),
    ]


def blocks(*languages: str) -> list[Block]:
    """Fenced blocks in these languages, of what a reader may copy from."""
    return [
        block
        for path in [README, CONTRIBUTING, *manual_pages()]
        for block in _blocks(path)
        if block.language in languages
    ]


def _blocks(path: Path) -> Iterator[Block]:
    text = text_of(path)
    for found in FENCE.finditer(text):
        line = text.count("\n", 0, found.start()) + 1
        yield Block(document=path, line=line, language=found["language"].strip(), body=found["body"])


def prose(path: Path) -> str:
    """A document without its fenced blocks."""
    return FENCE.sub("", text_of(path))


def links(path: Path) -> list[str]:
    """Targets of the links and images of a document."""
    return [found["target"] for found in LINK.finditer(prose(path))]


def headings(path: Path) -> list[str]:
    """Headings of a document, without their number signs."""
    return re.findall(r"^#+ +(.+?) *$", prose(path), re.MULTILINE)


def anchor(heading: str) -> str:
    """The fragment by which a heading is linked to."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
