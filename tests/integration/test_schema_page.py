"""docs/schema.md is what a migrated database says of itself, and every SQL block of docs/ runs there."""

from __future__ import annotations

import psycopg
import pytest

from docs.generator import DOCS, schema_page
from tests.pages import Block, blocks

SQL = [each for page in sorted(DOCS.glob("*.md")) for each in blocks(page) if each.language == "sql" and not each.name]


def test_the_page_is_what_the_catalog_says(database: str) -> None:
    """`make docs` writes it."""
    assert (DOCS / "schema.md").read_text() == schema_page.page(database), "run make docs"


@pytest.mark.parametrize("each", SQL, ids=str)
def test_sql_runs(database: str, each: Block) -> None:
    """In a transaction that is taken back."""
    with psycopg.connect(database) as connection:
        connection.execute(each.text)
        connection.rollback()
