"""docs/schema.md: what of the database has a comment, as the catalog of a migrated database tells it."""

from __future__ import annotations

import psycopg

from docs.generator import heading, table

__all__ = ["page"]

_INTRODUCTION = """
Everything is in the schema `oracle` of your database. You may read it with anything that speaks SQL: reports, alerts,
joins with tables of your own. The tables and columns on this page are the public read model: they keep their names,
types and meanings within a major version, and new ones may come, so name the columns that you select. Whatever else is
there is Oracle's own and changes without notice. **Write nothing**: tasks are changed by facts alone, and commands are
given by [`app.oracle`](app-object.md) or over [HTTP](http-api.md).

A role that may read and no more:

```sql
CREATE ROLE reports;
GRANT USAGE ON SCHEMA oracle TO reports;
GRANT SELECT ON oracle.task_state_record, oracle.task_transition, oracle.worker TO reports;
```

There is no owner's filter in SQL: who may read a table reads everybody's rows. That something has changed is told by
the [channel](channel.md).

## Questions

What failed within the last hour, and how often:

```sql
SELECT name, error_type, count(*), max(finished_at) AS last
FROM oracle.task_state_record
WHERE status = 3 AND created_at > now() - interval '1 day' AND finished_at > now() - interval '1 hour'
GROUP BY name, error_type ORDER BY count(*) DESC;
```

What waits, and how long the oldest has:

```sql
SELECT queue, count(*), now() - min(created_at) AS oldest
FROM oracle.task_state_record WHERE status = 0 GROUP BY queue;
```

One task's life:

```sql
SELECT at, oracle.status_word(status), reason, worker
FROM oracle.task_transition
WHERE task_id = '6d2c7a43-59f5-4ab0-9a47-0f1f6f2a8d11' AND stored_at > now() - interval '7 days'
ORDER BY at, history_id;
```

Ask with a bound on `created_at` (tasks) or `stored_at` (history, log): that is what indexes and partitions go by. One
task's history has no index of its own in SQL; `GET /api/tasks/{task_id}` is quicker.
"""
_TABLES = """
SELECT c.oid, c.relname, obj_description(c.oid, 'pg_class')
FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE n.nspname = 'oracle' AND c.relkind IN ('r', 'p', 'v') AND obj_description(c.oid, 'pg_class') IS NOT NULL
ORDER BY c.relname
"""
_COLUMNS = """
SELECT attname, format_type(atttypid, atttypmod), attnotnull, col_description(attrelid, attnum)
FROM pg_attribute
WHERE attrelid = %s AND attnum > 0 AND NOT attisdropped AND col_description(attrelid, attnum) IS NOT NULL
ORDER BY attname
"""
_FUNCTIONS = """
SELECT p.proname, pg_get_function_identity_arguments(p.oid), obj_description(p.oid, 'pg_proc')
FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace
WHERE n.nspname = 'oracle' AND obj_description(p.oid, 'pg_proc') IS NOT NULL ORDER BY p.proname
"""


def page(url: str) -> str:
    """`url` is that of a migrated database."""
    parts = [heading("The database as a read model", "oracle_celery/database/sql/migrations"), _INTRODUCTION]
    with psycopg.connect(url) as connection:
        for oid, name, meaning in connection.execute(_TABLES).fetchall():
            rows = [
                [f"`{column}`", kind, "" if needed else "yes", told]
                for column, kind, needed, told in connection.execute(_COLUMNS, [oid]).fetchall()
            ]
            parts.append(f"\n## {name}\n\n{meaning}\n\n" + table(["column", "type", "may be null", "meaning"], rows))
        functions = connection.execute(_FUNCTIONS).fetchall()
    rows = [[f"`oracle.{name}({arguments})`", meaning] for name, arguments, meaning in functions]
    parts.append("\n## Functions\n\n" + table(["function", "meaning"], rows))
    return "".join(parts)
