"""The sidecar: composition root, start and stop.

The HTTP side answers from the first moment; ``/readyz`` says 503 until PostgreSQL has been reached and its schema is
right. A database that is away at start is waited for. A schema that this code must not touch ends the start at once.

Stopping closes every stream first: a browser's stream never ends by itself and would hold the server open.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import sys
from typing import Any

from aiohttp import web

from oracle_celery.ending import end
from oracle_celery.errors import ConfigurationError, DatabaseUnavailable
from oracle_celery.settings import Settings, is_loopback
from oracle_celery.sidecar.access_log import ACCESS_LOGGER, AccessLog
from oracle_celery.sidecar.answers import explain_errors
from oracle_celery.sidecar.api import Api
from oracle_celery.sidecar.assets import Assets
from oracle_celery.sidecar.auth import identify
from oracle_celery.sidecar.backend import Backend
from oracle_celery.sidecar.bodies import BODY_LIMIT_BYTES
from oracle_celery.sidecar.body_rules import check_body
from oracle_celery.sidecar.capacity import capacity_for
from oracle_celery.sidecar.commands import Commands
from oracle_celery.sidecar.connections import Connections, GuardedRunner
from oracle_celery.sidecar.failures import Failures
from oracle_celery.sidecar.fleet import Fleet
from oracle_celery.sidecar.headers import secure
from oracle_celery.sidecar.health import Health
from oracle_celery.sidecar.hosts import LOOPBACK_NAMES, names_of, only_hosts
from oracle_celery.sidecar.limits import limit_commands, limit_failed_logins, limit_reads
from oracle_celery.sidecar.log_api import LogApi
from oracle_celery.sidecar.meter import Meter
from oracle_celery.sidecar.metrics import Metrics
from oracle_celery.sidecar.openapi import OpenApi
from oracle_celery.sidecar.origins import refuse_other_sites
from oracle_celery.sidecar.permissions import is_public, permit, require_rules
from oracle_celery.sidecar.retention import RetentionApi
from oracle_celery.sidecar.schedule import ScheduleRoutes
from oracle_celery.sidecar.session import Environment, LoginLink, Session
from oracle_celery.sidecar.session_cookie import SessionCookie
from oracle_celery.sidecar.site import Site
from oracle_celery.sidecar.statistics import Statistics
from oracle_celery.sidecar.telemetry import Telemetry
from oracle_celery.sidecar.tokens import Tokens
from oracle_celery.sidecar.values import Values
from oracle_celery.trace_link import TraceLink

__all__ = ["Sidecar", "run"]

logger = logging.getLogger(__name__)

KEEPALIVE_SECONDS = 75.0
#: Connections to the port of metrics.
METRICS_CONNECTIONS = 64
LOOPBACK = "127.0.0.1"
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
        if not settings.has_token_key:
            _require_loopback(host)
        self._names = names_of(host, settings)
        self._settings = settings
        self._host = host
        self._port = port
        self._backend = Backend(settings, app, migrates=migrates)
        self._runner: web.AppRunner | None = None
        self._metrics_runner: web.AppRunner | None = None
        self._opening: asyncio.Task[None] | None = None
        self._tokens: Tokens | None = None
        self._link: LoginLink | None = None
        self._meter: Meter | None = None
        self._telemetry: Telemetry | None = None

    @property
    def address(self) -> str:
        """Where a browser finds it, once it listens."""
        assert self._runner is not None
        port = self._runner.addresses[0][1]
        return f"http://{f'[{self._host}]' if ':' in self._host else self._host}:{port}/"

    @property
    def login_address(self) -> str | None:
        """Opens the page and logs its first visitor in as admin, where no key is configured; else None."""
        if self._link is None:
            return None
        address = self._settings.public_url or self.address
        return f"{address.rstrip('/')}/#/login/{self._link.token}"

    async def start(self) -> None:
        """Raises what makes a start pointless: keys that will not do, a taken port, a schema that is not this
        version's."""
        self._tokens = Tokens(self._settings)
        self._link = LoginLink() if self._tokens.is_local else None
        capacity = capacity_for(self._settings.streams_limit)
        if capacity.streams < self._settings.streams_limit:
            logger.warning(
                "Only %d of oracle_streams_limit = %d streams: the process may open too few files (ulimit -n).",
                *(capacity.streams, self._settings.streams_limit),
            )
        if not is_loopback(self._host) and not (self._settings.public_url or "").startswith("https:"):
            logger.warning(
                "Tokens and tasks can be read on their way: let a proxy speak https, and set oracle_public_url to its "
                "address."
            )
        connections = Connections(capacity.connections, capacity.waiting)
        self._meter = Meter(self._backend, connections)
        self._telemetry = Telemetry(self._meter)
        metrics = Metrics(self._meter)
        try:
            self._runner = _runner(self._application(metrics, self._tokens), connections)
            await self._listen(self._runner, self._host, self._port, "--port")
            if self._settings.metrics_port is not None:
                few = Connections(METRICS_CONNECTIONS, METRICS_CONNECTIONS)
                self._metrics_runner = _runner(_metrics_application(metrics), few)
                await self._listen(self._metrics_runner, LOOPBACK, self._settings.metrics_port, "oracle_metrics_port")
            try:
                await self._backend.open()
            except DatabaseUnavailable as error:
                logger.warning("%s Oracle goes on trying.", error)
                self._opening = asyncio.create_task(self._open_later(), name="oracle-opening")
            await self._telemetry.start()
        except BaseException:
            await self.stop()
            raise

    async def wait(self) -> None:
        """Returns never, or raises what `start` would have raised had the database been there."""
        if self._opening is not None:
            await asyncio.shield(self._opening)
        await asyncio.Event().wait()

    async def stop(self) -> None:
        await end(self._opening)
        for runner in (self._metrics_runner, self._runner):
            if runner is not None:
                await runner.cleanup()
        if self._telemetry is not None:
            await self._telemetry.stop()
        if self._meter is not None:
            await self._meter.stop()
        if self._tokens is not None:
            await self._tokens.close()
        await self._backend.close()

    def _application(self, metrics: Metrics, tokens: Tokens) -> web.Application:
        cookie = SessionCookie(is_secure=(self._settings.public_url or "").startswith("https:"))
        application = web.Application(
            middlewares=[
                only_hosts(self._names),
                limit_failed_logins(),
                explain_errors,
                refuse_other_sites(self._settings.public_url),
                check_body,
                identify(tokens, cookie, is_public, self._settings.metrics_token),
                permit,
                limit_commands(),
                limit_reads(),
            ],
            client_max_size=BODY_LIMIT_BYTES,
        )
        application.on_response_prepare.append(secure)
        application.on_shutdown.append(self._close_streams)
        application.add_routes(Session(tokens, cookie, self._link, _environment(self._settings)).routes())
        application.add_routes(Commands(self._backend).routes())
        template = self._settings.trace_url
        trace_link = None if template is None else TraceLink(template, "oracle_trace_url")
        application.add_routes(Api(self._backend, trace_link).routes())
        application.add_routes(LogApi(self._backend).routes())
        application.add_routes(Fleet(self._backend).routes())
        application.add_routes(Failures(self._backend).routes())
        application.add_routes(Values(self._backend).routes())
        application.add_routes(Statistics(self._backend).routes())
        application.add_routes(RetentionApi(self._backend).routes())
        application.add_routes(Health(self._backend).routes())
        application.add_routes(metrics.routes())
        application.add_routes(ScheduleRoutes(self._backend).routes())
        application.add_routes(OpenApi(cookie).routes())
        application.add_routes(Assets().routes())
        require_rules(application)
        return application

    async def _close_streams(self, application: web.Application) -> None:  # aiohttp's signal
        self._backend.close_streams()

    async def _listen(self, runner: web.AppRunner, host: str, port: int, setting: str) -> None:
        await runner.setup()
        try:
            await Site(runner, host, port).start()
        except OSError as error:
            raise ConfigurationError(
                setting=setting, value=port, expected=f"choose a port that is free ({error.strerror})"
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


def _environment(settings: Settings) -> Environment | None:
    return None if settings.environment is None else Environment(settings.environment, settings.environment_color)


def _runner(application: web.Application, connections: Connections) -> web.AppRunner:
    return GuardedRunner(
        application,
        connections,
        shutdown_timeout=SHUTDOWN_SECONDS,
        keepalive_timeout=KEEPALIVE_SECONDS,
        auto_decompress=False,
        access_log=ACCESS_LOGGER,
        access_log_class=AccessLog,
    )


def _metrics_application(metrics: Metrics) -> web.Application:
    application = web.Application(middlewares=[only_hosts(LOOPBACK_NAMES), explain_errors])
    application.on_response_prepare.append(secure)
    application.add_routes(metrics.routes())
    return application


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
        await end(working, stopping)
        await sidecar.stop()


async def _work(sidecar: Sidecar) -> None:
    await sidecar.start()
    gc.collect()
    gc.freeze()  # what is there by now stays: it is not to be looked through for garbage again and again
    sys.stdout.write(f"Oracle is at {sidecar.address}\n")
    if sidecar.login_address is not None:
        sys.stdout.write(f"Open {sidecar.login_address} (works once)\n")
    sys.stdout.flush()
    await sidecar.wait()


def _require_loopback(host: str) -> None:
    if not is_loopback(host):
        raise ConfigurationError(
            setting="--host",
            value=host,
            expected="without a key to check tokens by, the sidecar listens on loopback only: 127.0.0.1, ::1 or "
            "localhost. Set oracle_jwt_key, oracle_jwt_key_file or oracle_jwt_jwks_url",
        )
