"""A sample of tests.sample.every_variant: of each kind of cache one, and each check."""

import pytest

from tests.sample import every_variant as table

SAMPLE = [
    ("attention", "sliding(window=5)", table.in_parts),
    ("attention", "latent(rank=6, rope_dim=2)", table.replaced),
    ("attention", "gated_delta", table.in_parts),
    ("attention", "gated_delta", table.beyond_the_context),
    ("position", "t5", table.on_a_mesh),
]


@pytest.mark.every(3)
@pytest.mark.parametrize("kind, call, check", SAMPLE, ids=lambda value: getattr(value, "__name__", value))
def test_a_variant_decodes_alike_however_it_is_read(kind, call, check):
    check(table.config_of(kind, call))


def test_the_table_has_every_variant():
    kinds = [kind for kind, _ in table.VARIANTS]
    assert kinds.count("attention") > 10 and kinds.count("position") > 6
