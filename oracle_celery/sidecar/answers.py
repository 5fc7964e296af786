"""JSON answers: the one shape of success and the one shape of failure.

No failure carries a traceback, and no header ever repeats what a client sent.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from aiohttp import web

from oracle_celery.errors import (
    AdminsOnly,
    BadBody,
    BadQuery,
    BadTerm,
    BrokerUnavailable,
    BulkNotFound,
    DatabaseUnavailable,
    GroupNotFound,
    KeysUnavailable,
    NotAllowed,
    NotAuthenticated,
    OracleError,
    PublishFailed,
    PublishUnknown,
    QueryTooBroad,
    ReadOnly,
    TaskNotFound,
)

__all__ = ["Failure", "Refused", "explain_errors", "failure", "success"]

logger = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_encode = msgspec.json.Encoder().encode


class Refused(msgspec.Struct, frozen=True, kw_only=True):
    """What is wrong: the code is for programs, the message for people."""

    code: str
    message: str
    parameter: str | msgspec.UnsetType = msgspec.UNSET  # of the query, that will not do, and
    allowed: Any = msgspec.UNSET  # what it may be
    word: str | msgspec.UnsetType = msgspec.UNSET  # of `q`, that is not understood, and
    at: int | msgspec.UnsetType = msgspec.UNSET  # the character that it begins with
    status: str | msgspec.UnsetType | None = msgspec.UNSET  # the task's, where that forbids it


class Failure(msgspec.Struct, frozen=True):
    """Every answer from 400 on."""

    error: Refused


def success(body: object, status: int = 200) -> web.Response:
    return web.Response(status=status, body=_encode(body), content_type="application/json")


def failure(http_status: int, code: str, message: str, **fields: Any) -> web.Response:
    body = _encode(Failure(Refused(code=code, message=message, **fields)))
    return web.Response(status=http_status, body=body, content_type="application/json")


@web.middleware
async def explain_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turns what a handler raises into an answer. Where a part of one is sent already the connection is cut off: so the
    client knows that it has not got everything, and finds no second answer within the first."""
    try:
        return await handler(request)
    except Exception as error:
        if not request.writer.output_size:
            return _explanation(request, error)
        what = (request.method, request.match_info.route.name or "unnamed route")
        if isinstance(error, (OracleError, OSError)):  # of the database's, or of the client's own doing
            logger.warning("An answer is cut off half-way: %s %s: %r", *what, error)
        else:
            logger.exception("An answer failed half-way and is cut off: %s %s", *what)
        if request.transport is not None:
            request.transport.abort()
        raise ConnectionResetError("A part of the answer is sent: there is no way to say that it failed") from error


def _explanation(request: web.Request, raised: Exception) -> web.Response:
    try:
        raise raised  # noqa: TRY301  # to be told apart
    except BadTerm as error:
        fields = {name: error.fields[name] for name in ("parameter", "allowed", "at")}
        return failure(400, "bad_query", str(error), word=error.fields["value"], **fields)
    except BadQuery as error:
        fields = {name: error.fields[name] for name in ("parameter", "allowed")}
        return failure(400, "bad_query", str(error), **fields)
    except BadBody as error:
        return failure(400, "bad_body", str(error))
    except NotAuthenticated as error:
        refused = failure(401, "not_authenticated", str(error))
        refused.headers["WWW-Authenticate"] = "Bearer"
        return refused
    except KeysUnavailable as error:
        return failure(503, "keys_unavailable", str(error))
    except AdminsOnly as error:
        return failure(403, "admins_only", str(error))
    except ReadOnly as error:
        return failure(403, "read_only", str(error))
    except TaskNotFound as error:
        return failure(404, "task_not_found", str(error))
    except BulkNotFound as error:
        return failure(404, "bulk_not_found", str(error))
    except GroupNotFound as error:
        return failure(404, "group_not_found", str(error))
    except NotAllowed as error:
        return failure(409, error.code, str(error), status=error.status)
    except BrokerUnavailable as error:
        return failure(502, "broker_unavailable", str(error))
    except PublishFailed as error:
        return failure(502, "publish_failed", str(error))
    except PublishUnknown as error:
        return failure(502, "publish_unknown", str(error))
    except QueryTooBroad as error:
        return failure(422, "too_broad", str(error))
    except DatabaseUnavailable:
        return failure(503, "database_unavailable", "PostgreSQL does not answer now. Try again in a moment.")
    except OracleError as error:
        return failure(503, "not_ready", str(error))
    except web.HTTPException as error:
        if error.status < 400:
            raise
        answer = failure(error.status, error.reason.lower().replace(" ", "_"), error.reason)
        if "Allow" in error.headers:
            answer.headers["Allow"] = error.headers["Allow"]
        return answer
    except Exception:
        logger.exception("A request failed: %s %s", request.method, request.match_info.route.name or "unnamed route")
        return failure(500, "internal_error", "Something failed here. The sidecar's log says what.")
