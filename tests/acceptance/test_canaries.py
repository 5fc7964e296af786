"""Secrets are planted everywhere, and searched for everywhere: a worker, a sidecar, all that they write and answer."""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from tests.acceptance import canary_app
from tests.local_processes import LocalSidecar, LocalWorker
from tests.polling import eventually
from tests.tokens import local_bearer

MODULE = "tests.acceptance.canary_app"
#: What every secret planted here begins with; the two halves are put together only while the test runs.
CANARY = "Canary" + "7Qz"
#: The key under which one is planted that nobody can know for a secret: it must be found.
INNOCENT = "note"

#: Keys, and texts around a secret.
KEYS = (
    *("password", "dbPassword", "PASSWD", "api_key", "X-Api-Key", "clientSecret", "access_token", "refreshToken"),
    *("authorization", "Set-Cookie", "session_id", "csrf_token", "private_key", "aws_secret_access_key", "passphrase"),
    *("credit_card", "cvv", "pin", "otp", "iban", "connection_string", "jwt"),
)
TEXTS = (
    *("password={}", "login: 'api_key': '{}', ok", '{{"token": "{}", "n": 1}}', "Authorization: Bearer {}"),
    *(
        "Cookie: sid={}; a=b",
        "postgresql://shop:{}@db:5432/shop",
        "https://a.b/?access_token={}&c=1",
        "redis://:{}@h/0",
    ),
    *("run --api-key {} now", "<password>{}</password>", "Server=db;Password={};Database=x", "API key: {}"),
    *("Key (token)=({}) already exists.", "[('Authorization', '{}')]", "sent bearer {}", "secret: {{'a': ['{}']}}"),
    "-----BEGIN RSA PRIVATE KEY-----\n{}\n-----END RSA PRIVATE KEY-----",
)


class Planter:
    """Gives every secret a number, so that one that is found says where it was planted."""

    def __init__(self) -> None:
        self.planted: dict[str, str] = {}

    def secret(self, where: str) -> str:
        made = f"{CANARY}{len(self.planted):04d}"
        self.planted[made] = where
        return made

    def values(self, where: str) -> dict[str, Any]:
        """Under every key, at two depths, and in lists of pairs."""
        plain = {key: self.secret(f"{where}, under {key}") for key in KEYS}
        nested = {key: [{"deep": self.secret(f"{where}, below {key}")}] for key in KEYS}
        pairs = [(key, self.secret(f"{where}, paired with {key}")) for key in KEYS]
        return {**plain, "config": {"list": [nested]}, "headers": pairs}

    def texts(self, where: str) -> list[str]:
        return [text.format(self.secret(f"{where}, in {text}")) for text in TEXTS]

    def found_in(self, haystack: str) -> set[str]:
        if CANARY not in haystack:
            return set()
        return {where for secret, where in self.planted.items() if secret in haystack}


class Collector(threading.Thread):
    """Keeps whatever is ever written below a folder: what is appended to a file, and files that are gone again."""

    def __init__(self, folder: Path, kept: Path) -> None:
        super().__init__(daemon=True)
        self.folder, self.kept = folder, kept
        kept.mkdir()
        self.stopped = threading.Event()

    def run(self) -> None:
        while not self.stopped.wait(0.002):
            with contextlib.suppress(OSError):  # a folder is gone that was to be looked into
                for path in self.folder.rglob("*"):
                    self._keep(path)

    def _keep(self, path: Path) -> None:
        link = self.kept / f"{path.parent.name}-{path.name}"
        with contextlib.suppress(OSError):  # it is gone, and was empty
            if path.is_file() and not link.exists():
                link.hardlink_to(path)

    def texts(self) -> dict[str, str]:
        self.stopped.set()
        self.join()
        return {path.name: path.read_text(errors="replace") for path in self.kept.iterdir()}


def dump(connection: psycopg.Connection[Any]) -> dict[str, str]:
    """Every row of every table of the database, as text, by the table's name."""
    tables = connection.execute(
        "SELECT schemaname, tablename FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
    ).fetchall()
    dumped = {}
    for schema, table in tables:
        query = sql.SQL("SELECT coalesce(string_agg(t::text, E'\\n'), '') FROM {} AS t")
        row = connection.execute(query.format(sql.Identifier(schema, table))).fetchone()
        dumped[f"{schema}.{table}"] = str(row and row[0])
    return dumped


@pytest.fixture
def planter() -> Planter:
    return Planter()


@pytest.fixture
def collector(tmp_path: Path) -> Iterator[Collector]:
    (tmp_path / "state").mkdir(mode=0o700)
    collector = Collector(tmp_path / "state" / "canary" / "journal", tmp_path / "kept")
    collector.start()
    yield collector
    collector.stopped.set()


def listen(
    connection: http.client.HTTPConnection, headers: dict[str, str], heard: list[bytes], is_open: threading.Event
) -> None:
    connection.request("GET", "/api/tasks/subscribe", headers=headers)
    with connection.getresponse() as answer, contextlib.suppress(OSError, http.client.HTTPException):
        is_open.set()
        while line := answer.readline():
            heard.append(line)
    connection.close()  # the sidecar has stopped


def test_no_secret_gets_out(
    redis_url: str, database: str, tmp_path: Path, planter: Planter, collector: Collector
) -> None:
    """Not into a table, a stream, an answer, a journal or a log; but for the kept message, which a retry needs."""
    owner_key = planter.secret("oracle_owner_key") * 3
    dsn_password = planter.secret("password of oracle_url")
    address = f"{database} password={dsn_password}" if "://" not in database else database
    environment = {
        "CANARY_BROKER_URL": redis_url,
        "CANARY_DATABASE_URL": address,
        "CANARY_FOLDER": str(tmp_path),
        "CANARY_OWNER_KEY": owner_key,
        "C_FORCE_ROOT": "1",
    }
    app = canary_app.make_app(redis_url, address, str(tmp_path), owner_key)
    worker = LocalWorker(MODULE, tmp_path / "worker.log", env=environment)
    sidecar = LocalSidecar(MODULE, tmp_path / "sidecar.log", env=environment)
    heard: list[bytes] = []
    answers: dict[str, str] = {}
    try:
        worker.start()
        sidecar.start()
        headers = local_bearer(app.oracle.settings)
        streaming = http.client.HTTPConnection("127.0.0.1", sidecar.port, timeout=60)
        is_open = threading.Event()
        listener = threading.Thread(target=listen, args=(streaming, headers, heard, is_open), daemon=True)
        listener.start()
        assert is_open.wait(60)  # what comes before is not told

        def ask(method: str, path: str, body: Any = None) -> str:
            connection = http.client.HTTPConnection("127.0.0.1", sidecar.port, timeout=60)
            try:
                content = None if body is None else json.dumps(body)
                connection.request(method, path, content, {**headers, "Content-Type": "application/json"})
                answers[f"{method} {path}"] = said = connection.getresponse().read().decode()
                return said
            finally:
                connection.close()

        innocent = planter.secret("innocent")
        tasks = app.tasks
        sent = [
            tasks["canary.leak"].apply_async(planter.texts("args"), planter.values("kwargs"), **planted)
            for planted in ({}, {"headers": {"x_api_key": planter.secret("a header of the message")}})
        ]
        sent.append(
            tasks["canary.give"].delay([planter.values("result"), planter.texts("result")], **{INNOCENT: innocent})
        )
        sent += [tasks["canary.spill"].delay(text) for text in planter.texts("error")]
        sent += [tasks["canary.stumble"].delay(text) for text in planter.texts("a retry's error")]
        ids = [result.id for result in sent]

        connection = psycopg.connect(database, autocommit=True)
        count = "SELECT count(*) FROM oracle.task_state_record WHERE status >= 2"
        eventually(lambda: connection.execute(count).fetchone() == (len(ids),), "all have ended")
        # that of the good one is kept too if it took long
        kept = "SELECT count(*) FROM oracle.task_message JOIN oracle.task_state_record USING (task_id) WHERE status = 3"
        eventually(lambda: connection.execute(kept).fetchone() == (len(ids) - 1,), "the failed ones' messages are kept")

        retried = ask("POST", f"/api/tasks/{ids[0]}/retry", {"kwargs": planter.values("a change"), "args": []})
        assert "new_task_id" in retried, retried
        eventually(lambda: connection.execute(count).fetchone() == (len(ids) + 1,), "the retry has ended")
        for path in ("", "/workers", "/queues", "/summary", "/openapi.json", "/admin/audit", "/bulks"):
            ask("GET", f"/api{path or '/tasks'}")
        for task_id in [*ids, json.loads(retried)["new_task_id"]]:
            quoted = urllib.parse.quote(task_id)
            ask("GET", f"/api/tasks/{quoted}")
            ask("GET", f"/api/tasks/{quoted}/logs")
        lines = "SELECT count(*) FROM oracle.task_log"
        eventually(lambda: (connection.execute(lines).fetchone() or [0])[0] > len(TEXTS), "log lines have come")
        eventually(lambda: json.loads(retried)["new_task_id"].encode() in b"".join(heard), "the stream tells of all")
        time.sleep(0.2)  # for what nobody waits for
    finally:
        worker.stop()
        sidecar.stop()
        listener.join(30)
        app.oracle.stop()
        app.close()

    tables = dump(connection)
    connection.close()
    searched = {
        **{f"table {name}": text for name, text in tables.items() if name != "oracle.task_message"},
        **{f"answer to {name}": text for name, text in answers.items()},
        **{f"journal {name}": text for name, text in collector.texts().items()},
        "stream": b"".join(heard).decode(),
        "worker's log": (tmp_path / "worker.log").read_text(),
        "sidecar's log": (tmp_path / "sidecar.log").read_text(),
    }
    found = {where: planter.found_in(text) for where, text in searched.items()}
    leaks = {where: what - {"innocent"} for where, what in found.items() if what - {"innocent"}}
    assert not leaks, json.dumps({where: sorted(what)[:5] for where, what in leaks.items()}, indent=1)

    assert len(planter.planted) >= 30  # kinds: of keys, of texts, in arguments, results, errors, logs, headers, DSN
    innocently = {where.split()[0] for where, what in found.items() if what == {"innocent"}}
    assert innocently >= {"table", "answer", "journal"}, innocently  # the search finds what is there to be found
    assert tables["oracle.task_message"]
