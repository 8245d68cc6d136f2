"""The gallery in docs/ is what ``python -m docs.gallery`` makes of today's code, and leaves nothing out."""

import pytest

from docs import gallery
from gpt_jax import registry
from gpt_jax.model.attention.full import full
from tests import documented

NEW = "written_by_a_test"


@pytest.fixture(scope="module")
def made() -> dict[str, str]:
    return gallery.pages({kind: documented.names(f"model.{kind}") for kind in gallery.KINDS})


def test_it_is_up_to_date(made):
    stale = [p for p, text in made.items() if not _same(p, text)]
    left = {f"variants/{file.name}" for file in (gallery.DOCS / "variants").iterdir()} - set(made)
    assert not stale and not left, f"make gallery writes {stale} again and removes {left}"


def _same(path: str, text: str) -> bool:
    file = gallery.DOCS / path
    return file.exists() and file.read_text(encoding="utf-8") == text


@pytest.mark.parametrize("kind", gallery.KINDS)
def test_every_committed_name_is_there_with_a_theory(made, kind):
    for name in documented.names(f"model.{kind}"):
        assert f'"{registry.typical(f"model.{kind}", name)}"' in made["variants.md"], name
        assert len(gallery.theory(f"model.{kind}", name)) > 5, f"{name} has no docstring"
        if kind in ("attention", "block"):
            assert f"(variants/{kind}-{name}.svg)" in made["variants.md"]


def test_a_variant_that_is_being_written_is_drawn_and_not_missed(monkeypatch):
    monkeypatch.setattr(registry, "_variants", dict(registry._variants))
    before = documented.names("model.attention")

    @registry.register("model.attention", NEW, examples=(f"{NEW}(window=64)",))
    def written(config, rngs, *, window: int, **given):
        """Mine (Somebody et al. 2026)."""
        return full(config, rngs, **given)

    assert NEW in registry.names("model.attention") and documented.names("model.attention") == before
    assert gallery.theory("model.attention", NEW).startswith("Mine (Somebody et al. 2026). out(softmax(")
    assert gallery.attention(NEW).boxes
    alone = {kind: [NEW] if kind == "attention" else [] for kind in gallery.KINDS}
    assert f'"{NEW}(window=64)"' in gallery.pages(alone)["variants.md"]
