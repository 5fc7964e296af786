"""What a task has logged, over HTTP: page by page, as it arrives (see `log_stream`), and as a text file.

A file is sent page by page while it is read, so a log of any length takes no memory here. What bites: its name is made
of the task's id, which may hold anything: only plain characters of it come into the header.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from aiohttp import web

from oracle_celery.database.facts import LogPage, TaskLogLine
from oracle_celery.sidecar.answers import success
from oracle_celery.sidecar.auth import viewer_of
from oracle_celery.sidecar.backend import Backend
from oracle_celery.sidecar.parameters import LAST_BIGINT, Parameters, bad, task_id_of
from oracle_celery.sidecar.stream import write

__all__ = ["LogApi"]

LINES_LIMIT = 1_000
LINES_DEFAULT = 200
LEVEL_LIMIT = 1_000
#: Lines of a file that are read at once.
FILE_LINES = 1_000
#: Characters of a task's id in the name of its file.
FILE_NAME_LIMIT = 80
WITHHELD = "The log of this task is not for you to see.\n"

_LEVELS = {10: "DEBUG", 20: "INFO", 30: "WARNING", 40: "ERROR", 50: "CRITICAL"}


class LogApi:
    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def routes(self) -> list[web.RouteDef]:
        path = "/api/tasks/{task_id:[^/]+}/logs"
        return [
            web.get(path, self._page, name="logs"),
            web.get(f"{path}/subscribe", self._follow, name="follow_logs", allow_head=False),
            web.get(f"{path}/download", self._download, name="download_logs", allow_head=False),
            web.get("/api/progress", self._progress, name="progress"),
        ]

    async def _page(self, request: web.Request) -> web.Response:
        parameters = Parameters(request, ("after", "before", "run", "level", "limit"))
        after = parameters.number("after", 0, LAST_BIGINT, 0)
        before = parameters.number("before", 0, LAST_BIGINT, -1)
        if before >= 0 and after > 0:
            raise bad("before", str(before), "either after or before")
        page = await self._backend.parts.logs.page(
            viewer_of(request),
            task_id_of(request),
            after=after,
            before=before if before >= 0 else None,
            run_id=parameters.one("run"),
            level=parameters.number("level", 0, LEVEL_LIMIT, 0),
            limit=parameters.number("limit", 1, LINES_LIMIT, LINES_DEFAULT),
        )
        return success(page)

    async def _progress(self, request: web.Request) -> web.Response:
        return await self._backend.parts.progress.answer(request)

    async def _follow(self, request: web.Request) -> web.StreamResponse:
        return await self._backend.parts.log_streams.subscribe(request)

    async def _download(self, request: web.Request) -> web.StreamResponse:
        run_id = Parameters(request, ("run",)).one("run")
        viewer, task_id, logs = viewer_of(request), task_id_of(request), self._backend.parts.logs
        page = await logs.page(viewer, task_id, run_id=run_id, limit=FILE_LINES)  # raises before anything is sent
        attempts = {run.run_id: run.attempt for run in page.runs}
        response = web.StreamResponse(headers={"Content-Disposition": f'attachment; filename="{_file_name(task_id)}"'})
        response.content_type, response.charset = "text/plain", "utf-8"
        await response.prepare(request)
        if page.payloads_withheld:
            await write(response, WITHHELD.encode())
        numbers: dict[str | None, int] = {}
        while page.lines:
            await write(response, "".join(_text(page, attempts, numbers)).encode())
            if page.next is None:
                break
            page = await logs.page(viewer, task_id, after=page.next, run_id=run_id, limit=FILE_LINES, counts=False)
        await response.write_eof()
        return response


def _file_name(task_id: str) -> str:
    return f"task-{re.sub(r'[^A-Za-z0-9_-]', '_', task_id)[:FILE_NAME_LIMIT]}.log"


def _text(page: LogPage, attempts: Mapping[str, int], numbers: dict[str | None, int]) -> Iterator[str]:
    """Lines as text, with what is missing between them; `numbers` are those that the runs' next lines should have."""
    for line in page.lines:
        missing = line.number - numbers.get(line.run_id, 0) + (line.message is None)
        numbers[line.run_id] = max(numbers.get(line.run_id, 0), line.number + 1)
        if missing > 0:
            yield f"{_head(line, attempts)}-- {missing} lines not kept --\n"
        if line.message is not None:
            yield f"{_head(line, attempts)}{_LEVELS.get(line.level, line.level)} {line.logger or ''}: {line.message}\n"


def _head(line: TaskLogLine, attempts: Mapping[str, int]) -> str:
    attempt = attempts.get(line.run_id or "") if len(attempts) > 1 else None
    return f"{line.at} " if attempt is None else f"{line.at} [{attempt}] "
