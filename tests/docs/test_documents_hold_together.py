"""Links lead somewhere, decision records have their shape, words are used, and nothing private is told."""

import re
import tomllib
from pathlib import Path

import pytest

from tests.docs.documents import ADRS, GLOSSARY, README, REPOSITORY, anchor, documents, headings, links, text_of

OUTSIDE = ("http://", "https://", "mailto:")
PRIVATE = re.compile(
    r"""(?<![\w.])/(work|root|home|Users|mnt|tmp)/   # a path of some machine
      | index[-]url | find[-]links | trusted[-]host  # where packages come from is everyone's own affair
      | \bpypi\. | /simple/ | artifactory | nexus
    """,
    re.VERBOSE | re.IGNORECASE,
)


def relative(path: Path) -> str:
    return str(path.relative_to(REPOSITORY))


@pytest.mark.parametrize("document", documents(), ids=relative)
def test_every_relative_link_and_image_resolves(document: Path) -> None:
    broken = []
    for link in links(document):
        if link.startswith(OUTSIDE):
            continue
        path, _, fragment = link.partition("#")
        target = (document.parent / path).resolve() if path else document
        is_found = target.exists() and target.is_relative_to(REPOSITORY)
        if is_found and fragment:
            is_found = fragment in {anchor(heading) for heading in headings(target)}
        if not is_found:
            broken.append(link)
    assert broken == []


@pytest.mark.parametrize(
    "document", [*documents(), REPOSITORY / "NOTICE", *(REPOSITORY / "configs").glob("*.yaml")], ids=relative
)
def test_no_document_tells_where_it_was_written(document: Path) -> None:
    assert [found[0] for found in PRIVATE.finditer(text_of(document))] == []


@pytest.mark.parametrize("document", documents(), ids=relative)
def test_every_document_has_one_title_and_no_placeholder(document: Path) -> None:
    text = text_of(document)
    assert re.match(r"# \S", text)
    assert not re.search(r"\b(TODO|TBD|FIXME|XXX|lorem)\b|<!--", text, re.IGNORECASE)


RECORDS = sorted(ADRS.glob("[0-9]*.md"))


@pytest.mark.parametrize("record", RECORDS, ids=relative)
def test_a_decision_record_has_context_choice_and_consequence(record: Path) -> None:
    title, *sections = headings(record)
    assert title.startswith(f"{record.name[:4]} ")
    assert [section for section in sections if section in {"Context", "Choice", "Consequence"}] == [
        "Context",
        "Choice",
        "Consequence",
    ]


def test_decision_records_are_numbered_without_a_gap_and_listed() -> None:
    assert [int(record.name[:4]) for record in RECORDS] == list(range(1, len(RECORDS) + 1))
    assert [record.name for record in RECORDS if f"({record.name})" not in text_of(ADRS / "README.md")] == []


def project() -> dict[str, object]:
    with (REPOSITORY / "pyproject.toml").open("rb") as file:
        return tomllib.load(file)


def test_every_dependency_has_a_line_that_says_who_keeps_it() -> None:
    record = text_of(ADRS / "0008-dependencies.md")
    found = project()
    wanted = [re.split(r"[<>=!~\[ ;]", text)[0] for text in found["project"]["dependencies"]]  # type: ignore[index]
    assert [name for name in wanted if not re.search(rf"^\| {name} \|( [^|]+ \|){{4}}$", record, re.MULTILINE)] == []
    groups = found["dependency-groups"]
    others = [re.split(r"[<>=!~\[ ;]", text)[0] for group in groups.values() for text in group]  # type: ignore[attr-defined]
    assert [name for name in others if name not in record] == []


def glossary(*, with_later: bool = True) -> list[str]:
    """Words of the glossary, in order."""
    text = text_of(GLOSSARY) if with_later else text_of(GLOSSARY).split("## Words for later")[0]
    rows = re.findall(r"^\| ([a-z][^|]*?) \| [^|]+ \|$", text, re.MULTILINE)
    return [word for word in rows if word != "word"]


def test_every_word_of_the_glossary_has_one_meaning() -> None:
    words = glossary()
    assert len(words) > 50
    assert len(set(words)) == len(words)


def test_every_word_of_the_glossary_is_used() -> None:
    sources = [*(REPOSITORY / "src").rglob("*.py"), *(d for d in documents() if d != GLOSSARY)]
    everything = "\n".join(path.read_text(encoding="utf-8") for path in sources).lower()
    assert [word for word in glossary(with_later=False) if not re.search(rf"\b{re.escape(word)}", everything)] == []


def test_the_changelog_speaks_of_the_version_of_the_package() -> None:
    version = project()["project"]["version"]  # type: ignore[index]
    assert f"## [{version}]" in text_of(REPOSITORY / "CHANGELOG.md")


def test_the_notice_names_the_origin_of_the_data() -> None:
    for path in (REPOSITORY / "NOTICE", REPOSITORY / "simulations" / "README.md"):
        assert "vega-datasets 3.2.1" in text_of(path)
        assert "public domain" in text_of(path)
    assert "public domain" in text_of(README)
