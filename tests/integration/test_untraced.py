"""An application that traces its queries does not trace Oracle's."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
from opentelemetry.instrumentation.psycopg import PsycopgInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from oracle_celery.database.control import ControlStore
from oracle_celery.database.opening import blocking_pool, open_pool
from oracle_celery.database.store import Store
from oracle_celery.database.upkeep import Upkeep
from oracle_celery.viewer import LOCAL_ADMIN, Actor
from tests.ledger import Source, life


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    """What psycopg, instrumented in this process, makes of queries."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    instrumentor = PsycopgInstrumentor()
    instrumentor.instrument(tracer_provider=provider)
    yield exporter
    instrumentor.uninstrument()
    provider.shutdown()


def test_the_recorder_is_not_in_the_applications_traces(database: str, spans: InMemorySpanExporter) -> None:
    """Batches make no spans, while the application's own query on the same database makes one."""
    store = Store(database)
    try:
        assert store.ingest([Source("w@h").slice(life("a", 0))]).applied
    finally:
        store.close()
    assert spans.get_finished_spans() == ()
    with psycopg.connect(database) as connection:
        connection.execute("SELECT 1")
    assert [span.name for span in spans.get_finished_spans()] == ["SELECT"]


async def test_the_sidecar_is_not_in_its_operators_traces(database: str, spans: InMemorySpanExporter) -> None:
    """Neither what its readers ask nor its upkeep, where somebody instruments the whole program."""
    pool, upkeep = await open_pool(database), Upkeep(database)
    try:
        async with pool.connection() as connection:
            await connection.execute("SELECT 1")
        assert await upkeep.try_lead()
    finally:
        await upkeep.close()
        await pool.close()
    assert spans.get_finished_spans() == ()


def test_commands_work_where_psycopg_is_traced(database: str, spans: InMemorySpanExporter) -> None:
    """The instrumentation makes connections of another class than the one that was asked for, to some."""
    pool = blocking_pool(database)
    pool.connection_class = psycopg.Connection
    with ControlStore(database) as store:
        store._pool = pool
        assert store.pause(Actor(viewer=LOCAL_ADMIN, via="app"), ["mail"], None, None)
