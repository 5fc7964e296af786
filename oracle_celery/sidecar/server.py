"""The sidecar: composition root, start and stop.

The HTTP side answers from the first moment; ``/readyz`` says 503 until PostgreSQL has been reached and its schema is
right. A database that is away at start is waited for. A schema that this code must not touch ends the start at once.

Stopping closes every stream first: a browser's stream never ends by itself and would hold the server open.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import signal
import sys
from typing import Any

from aiohttp import web

from oracle_celery.errors import ConfigurationError, DatabaseUnavailable
from oracle_celery.settings import Settings
from oracle_celery.sidecar.answers import explain_errors
from oracle_celery.sidecar.api import Api
from oracle_celery.sidecar.assets import Assets
from oracle_celery.sidecar.auth import identify, refuse_other_sites
from oracle_celery.sidecar.backend import Backend
from oracle_celery.sidecar.bodies import BODY_LIMIT_BYTES
from oracle_celery.sidecar.commands import Commands
from oracle_celery.sidecar.fleet import Fleet
from oracle_celery.sidecar.headers import secure
from oracle_celery.sidecar.health import Health
from oracle_celery.sidecar.hosts import LOOPBACK_NAMES, only_hosts
from oracle_celery.sidecar.permissions import permit, require_rules

__all__ = ["Sidecar", "run"]

logger = logging.getLogger(__name__)

KEEPALIVE_SECONDS = 75.0
#: What open requests get to end by themselves when the server stops.
SHUTDOWN_SECONDS = 1.0
DATABASE_RETRY_SECONDS = 1.0
#: Between two lines that say the database is still away.
REMINDER_SECONDS = 30.0


class Sidecar:
    """`start` returns when the server listens; `stop` when everything is closed (safe twice)."""

    def __init__(
        self, settings: Settings, host: str = "127.0.0.1", port: int = 5556, app: Any = None, *, migrates: bool = True
    ) -> None:
        _require_loopback(host)
        self._host = host
        self._port = port
        self._backend = Backend(settings, app, migrates=migrates)
        self._runner: web.AppRunner | None = None
        self._opening: asyncio.Task[None] | None = None

    @property
    def address(self) -> str:
        """Where a browser finds it, once it listens."""
        assert self._runner is not None
        port = self._runner.addresses[0][1]
        return f"http://{f'[{self._host}]' if ':' in self._host else self._host}:{port}/"

    async def start(self) -> None:
        """Raises what makes a start pointless: a taken port, a schema that is not this version's."""
        self._runner = web.AppRunner(
            self._application(),
            handler_cancellation=True,
            keepalive_timeout=KEEPALIVE_SECONDS,
            shutdown_timeout=SHUTDOWN_SECONDS,
            access_log=None,
        )
        try:
            await self._runner.setup()
            await self._listen()
            try:
                await self._backend.open()
            except DatabaseUnavailable as error:
                logger.warning("%s Oracle goes on trying.", error)
                self._opening = asyncio.create_task(self._open_later(), name="oracle-opening")
        except BaseException:
            await self.stop()
            raise

    async def wait(self) -> None:
        """Returns never, or raises what `start` would have raised had the database been there."""
        if self._opening is not None:
            await asyncio.shield(self._opening)
        await asyncio.Event().wait()

    async def stop(self) -> None:
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.gather(self._opening, return_exceptions=True)
        if self._runner is not None:
            await self._runner.cleanup()
        await self._backend.close()

    def _application(self) -> web.Application:
        names = LOOPBACK_NAMES | {f"[{self._host}]" if ":" in self._host else self._host}
        application = web.Application(
            middlewares=[only_hosts(names), explain_errors, refuse_other_sites, identify, permit],
            client_max_size=BODY_LIMIT_BYTES,
        )
        application.on_response_prepare.append(secure)
        application.on_shutdown.append(self._close_streams)
        application.add_routes(Commands(self._backend).routes())
        application.add_routes(Api(self._backend).routes())
        application.add_routes(Fleet(self._backend).routes())
        application.add_routes(Health(self._backend).routes())
        application.add_routes(Assets().routes())
        require_rules(application)
        return application

    async def _close_streams(self, application: web.Application) -> None:  # aiohttp's signal
        self._backend.close_streams()

    async def _listen(self) -> None:
        assert self._runner is not None
        try:
            await web.TCPSite(self._runner, self._host, self._port).start()
        except OSError as error:
            raise ConfigurationError(
                setting="--port", value=self._port, expected=f"choose a port that is free ({error.strerror})"
            ) from error

    async def _open_later(self) -> None:
        loop = asyncio.get_running_loop()
        reminded_at = loop.time()
        while True:
            await asyncio.sleep(DATABASE_RETRY_SECONDS)
            try:
                await self._backend.open()
            except DatabaseUnavailable as error:
                if loop.time() - reminded_at > REMINDER_SECONDS:
                    reminded_at = loop.time()
                    logger.warning("%s Oracle goes on trying.", error)
            else:
                logger.warning("PostgreSQL answers now.")
                return


def run(sidecar: Sidecar) -> None:
    """Blocks until SIGTERM or SIGINT. Raises what ended the sidecar otherwise."""
    if not logging.getLogger().handlers:
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    asyncio.run(_run(sidecar))


async def _run(sidecar: Sidecar) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    working = asyncio.create_task(_work(sidecar))
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            working.result()
    finally:
        for task in (working, stopping):
            task.cancel()
        await asyncio.gather(working, stopping, return_exceptions=True)
        await sidecar.stop()


async def _work(sidecar: Sidecar) -> None:
    await sidecar.start()
    sys.stdout.write(f"Oracle is at {sidecar.address}\n")
    sys.stdout.flush()
    await sidecar.wait()


def _require_loopback(host: str) -> None:
    is_loopback = host == "localhost"
    with contextlib.suppress(ValueError):
        is_loopback = ipaddress.ip_address(host).is_loopback
    if not is_loopback:
        raise ConfigurationError(
            setting="--host",
            value=host,
            expected="everybody who reaches the sidecar is its admin until tokens are checked (oracle_jwt_key), "
            "so it listens on loopback only: 127.0.0.1, ::1 or localhost",
        )
