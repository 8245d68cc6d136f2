"""The gallery in docs/ is what ``python -m docs.gallery`` makes of today's code, and leaves nothing out."""

import pytest

from docs import gallery
from gpt_jax import registry
from gpt_jax.model.attention.full import full

KINDS = ("attention", "position", "norm", "mlp", "block", "init")


@pytest.fixture(scope="module")
def made() -> dict[str, str]:
    return gallery.pages()


def test_it_is_up_to_date(made):
    stale = [p for p, text in made.items() if not _same(p, text)]
    left = {f"variants/{file.name}" for file in (gallery.DOCS / "variants").iterdir()} - set(made)
    assert not stale and not left, f"python -m docs.gallery makes {stale} anew and removes {left}"


def _same(path: str, text: str) -> bool:
    file = gallery.DOCS / path
    return file.exists() and file.read_text(encoding="utf-8") == text


@pytest.mark.parametrize("kind", KINDS)
def test_every_registered_name_is_there_with_a_theory(made, kind):
    for name in registry.names(f"model.{kind}"):
        assert f'"{gallery.call(f"model.{kind}", name)}"' in made["variants.md"], name
        assert len(gallery.theory(f"model.{kind}", name)) > 5, f"{name} has no docstring"
        if kind in ("attention", "block"):
            assert f"(variants/{kind}-{name}.svg)" in made["variants.md"]


def test_a_new_file_appears_by_itself(monkeypatch):
    def mine(config, rngs, *, window: int, **given):
        """Mine (Somebody et al. 2026)."""
        return full(config, rngs, **given)

    monkeypatch.setitem(registry._variants, ("model.attention", "mine"), mine)
    assert gallery.call("model.attention", "mine") == "mine(window=64)"
    assert gallery.theory("model.attention", "mine").startswith("Mine (Somebody et al. 2026). out(softmax(")
    assert gallery.attention("mine").boxes
