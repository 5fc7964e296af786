"""Makes a database that was restored from a dump one that can be followed.

Rows carry the number of the transaction that wrote them, and readers go by those numbers (see `cursor`). A dump brings
the numbers of the old server along; on a new one, which begins at a few hundred, they are numbers of the future: what
was restored would be told again and again, and what happens from then on never.

Guarantee: after `settle` every row of the history, the log and progress is of the past, in the order that it had, so
streams begin after it. Tasks, their histories and all counts are untouched. What bites: where one row of a table is of
the future it writes all of them once, in one transaction, which takes about as long as restoring them did; workers may
write meanwhile.
"""

from __future__ import annotations

import logging

from psycopg import Connection

from oracle_celery.database.sql import statement

__all__ = ["settle"]

logger = logging.getLogger(__name__)

#: Tables with a txid, and what else changes in their rows.
_TABLES = {"task_transition": "is_listed = NULL,", "task_log": "", "task_progress": ""}


def settle(connection: Connection[tuple[object, ...]]) -> int:
    """How many rows have another number now. To be called inside a transaction, under the lock of migrations."""
    row = connection.execute(statement("restored_transaction")).fetchone()
    if row is None:
        return 0
    [upcoming] = row
    logger.warning("This database was restored from a dump: its transactions are numbered anew. That may take a while.")
    parameters = {"from": str(upcoming), "next": upcoming}
    settled = 0
    for table, unlisted in _TABLES.items():
        query = statement("renumber_rows").format(table=table, unlisted=unlisted)
        settled += connection.execute(query, parameters).rowcount
    connection.execute(statement("renumber_floor"), parameters)
    connection.execute(statement("renumber_marks"), parameters)
    return settled
