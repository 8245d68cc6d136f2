"""mkdocs.yml, without MkDocs: the site's navigation has every document, and nothing else."""

from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
ELSEWHERE = {"README.md", "experiments/README.md"}  # pages that docs/hooks.py makes of files outside docs/


def pages(nav: list | dict | str) -> list[str]:
    """The files that a navigation names."""
    if isinstance(nav, str):
        return [nav]
    return [page for part in (nav.values() if isinstance(nav, dict) else nav) for page in pages(part)]


@pytest.fixture(scope="module")
def site() -> dict:
    return yaml.safe_load((ROOT / "mkdocs.yml").read_text("utf-8"))


def test_the_navigation_has_every_document_once(site):
    docs = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    assert sorted(pages(site["nav"])) == sorted(docs | ELSEWHERE)
    assert all((ROOT / page).exists() for page in ELSEWHERE)


def test_broken_links_are_warnings_of_which_one_fails(site):
    assert set(site["validation"].values()) == {"warn"}
    assert "mkdocs build --strict" in (ROOT / "Makefile").read_text("utf-8")


def test_pages_of_any_depth_are_found():
    assert pages([{"A": "a.md"}, {"B": [{"C": "c.md"}, "d.md"]}]) == ["a.md", "c.md", "d.md"]
