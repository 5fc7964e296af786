"""`python -m docs.generator` writes the pages that are made from the code. Its own PostgreSQL tells the schema."""

from __future__ import annotations

from docs.generator import DOCS, commands_page, http_api_page, schema_page, settings_page

PAGES = {
    "settings.md": settings_page.page,
    "http-api.md": http_api_page.page,
    "commands.md": commands_page.page,
}


def write() -> None:
    for name, page in PAGES.items():
        (DOCS / name).write_text(page())
    from tests.postgresql_fixtures import DatabaseServer, PostgresServer

    server = PostgresServer(settings={"fsync": "off"})
    try:
        server.start()
        (DOCS / "schema.md").write_text(schema_page.page(DatabaseServer(server.dsn()).create()))
    finally:
        server.dispose()


if __name__ == "__main__":
    write()
