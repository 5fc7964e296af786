"""Whose a task is, and who is believed to say so."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery, _state

from oracle_celery.guest import Guest
from oracle_celery.owner_signature import Signatures
from oracle_celery.ownership import Owners, current_owner, owner
from oracle_celery.settings import Settings

KEY, OTHER_KEY = "k" * 32, "o" * 32


def settings(**values: Any) -> Settings:
    return Settings.from_mapping({f"oracle_{name}": value for name, value in values.items()})


def owners(**values: Any) -> Owners:
    return Owners(settings(**values), Guest(SimpleNamespace(is_recording=True)))  # type: ignore[arg-type]


def sent(named: Any = None, *, task_id: str = "t", by: Owners | None = None) -> dict[str, Any]:
    """The headers of a message that a producer has sent."""
    headers: dict[str, Any] = {"id": task_id} if named is None else {"id": task_id, "user_id": named}
    (by or owners(owner_key=KEY)).stamp(headers, task_id, "shop.pay")
    return headers


@contextmanager
def running(headers: dict[str, Any]) -> Iterator[None]:
    """Inside, the task of that message runs."""
    task = Celery("shop", set_as_current=False).task(name="shop.pay", shared=False)(decide)
    task.push_request(**headers)
    _state._task_stack.push(task)
    try:
        yield
    finally:
        _state._task_stack.pop()


PLAIN = Signatures(settings())


def test_a_block_says_whose_tasks_are() -> None:
    """The inner one counts; after it the outer one does again."""
    with owner("ann"):
        with owner(7):
            assert current_owner(PLAIN) == "7"
        assert current_owner(PLAIN) == "ann"
    assert current_owner(PLAIN) is None


def test_a_block_ends_with_an_error() -> None:
    """The next request of the same thread is somebody else's."""
    with pytest.raises(ValueError), owner("ann"):
        raise ValueError
    assert current_owner(PLAIN) is None


def test_threads_do_not_share_owners() -> None:
    """A web server answers many users at once."""
    seen: list[Any] = []
    with owner("ann"):
        thread = threading.Thread(target=lambda: seen.append(current_owner(PLAIN)))
        thread.start()
        thread.join()
    assert seen == [None]


def test_a_message_that_names_its_owner_keeps_it() -> None:
    """The block is for those that do not."""
    with owner("ann"):
        assert sent("bob", by=owners()) == {"id": "t", "user_id": "bob"}
        assert sent(by=owners()) == {"id": "t", "user_id": "ann"}


def test_without_an_owner_nothing_is_written() -> None:
    """A header that is None would still be a header."""
    assert sent() == {"id": "t"}


def test_children_belong_to_their_sender() -> None:
    """Also those of a task that runs eagerly inside another."""
    with running({"id": "a", "user_id": "ann"}), running({"id": "b"}):
        assert sent(task_id="c", by=owners())["user_id"] == "ann"


# -- signatures ------------------------------------------------------------------------------------------------------


def test_a_signed_owner_is_believed() -> None:
    """By whoever has the key."""
    with owner("ann"):
        headers = sent()
    assert len(headers["user_id_signature"]) == 64
    assert owners(owner_key=KEY).of(headers, "t") == "ann"
    assert owners().of(headers, "t") == "ann"  # who has no key believes everybody


@pytest.mark.parametrize(
    "change",
    [
        {"user_id": "admin"},
        {"user_id_signature": "0" * 64},
        {"user_id_signature": "\u00e9" * 64},
        {"user_id_signature": None},
        {"user_id_signature": 7},
        {"user_id_signature": ""},
        {"user_id_signature": b"0" * 64},
        {"user_id": ["ann"]},
        {"user_id": None},
    ],
    ids=str,
)
def test_forged_owners_are_nobody(change: dict[str, Any]) -> None:
    """Another name, no signature, a wrong one, one of an odd kind."""
    assert owners(owner_key=KEY).of(sent("ann") | change, "t") is None


def test_a_signature_is_of_one_task_by_one_key() -> None:
    """Moved to another task, or made with another key, it proves nothing; task and user do not run into each other."""
    mine = owners(owner_key=KEY)
    assert mine.of(sent("ann"), "u") is None
    assert mine.of(sent("ann", by=owners(owner_key=OTHER_KEY)), "t") is None
    assert mine.of(sent("b", task_id="ta"), "ta") == "b"
    assert mine.of(sent("b", task_id="ta") | {"user_id": "ab"}, "t") is None


def test_keys_are_exchanged_one_after_the_other() -> None:
    """The newest signs, the others are still believed."""
    both = owners(owner_key=[OTHER_KEY, KEY])
    assert both.of(sent("ann"), "t") == "ann"
    assert owners(owner_key=OTHER_KEY).of(sent("ann", by=both), "t") == "ann"


@pytest.mark.parametrize("name", [7, "ä" * 300, "\ud800", "a\x00b"])
def test_odd_names_are_signed_as_they_are_shown(name: Any) -> None:
    """Numbers, long ones, and those that cannot be stored."""
    assert owners(owner_key=KEY).of(sent(name), "t") is not None


def test_only_a_proven_owner_is_inherited() -> None:
    """A task whose owner is forged has children of nobody."""
    mine = owners(owner_key=KEY)
    with running(sent("ann", task_id="a")):
        assert mine.of(sent(task_id="b"), "b") == "ann"
    with running({"id": "a", "user_id": "ann"}):
        assert sent(task_id="b") == {"id": "b"}


def test_an_unproven_name_is_not_laundered() -> None:
    """Celery copies the headers of a run into its retry, and so may a task into its children."""
    mine = owners(owner_key=KEY)
    forged = {"id": "a", "user_id": "ann", "user_id_signature": "0" * 64}
    for copied in (forged, {"id": "a", "user_id": "ann"}):
        with running(copied):
            for task_id in ("a", "b"):
                headers = {**copied, "id": task_id}
                mine.stamp(headers, task_id, "shop.pay")
                assert mine.of(headers, task_id) is None


def test_copied_headers_of_a_proven_run_are_signed_for_the_child() -> None:
    """The name is right, the signature another task's."""
    mine = owners(owner_key=KEY)
    with running(sent("ann", task_id="a")):
        headers = {**sent("ann", task_id="a"), "id": "b"}
        mine.stamp(headers, "b", "shop.pay")
    assert mine.of(headers, "b") == "ann"


def test_a_stranger_s_signed_headers_are_not_signed_again() -> None:
    """Passing on what somebody else has signed for another task is not vouching for it."""
    mine = owners(owner_key=KEY)
    headers = {**sent("ann", task_id="a"), "id": "b"}
    mine.stamp(headers, "b", "shop.pay")
    assert mine.of(headers, "b") is None


def test_a_retry_is_signed_for_its_new_id() -> None:
    """What was not proven before is not afterwards."""
    signatures = Signatures(settings(owner_key=KEY))
    right, forged = sent("ann", task_id="old"), {"user_id": "ann", "user_id_signature": "0" * 64}
    for headers in (right, forged):
        signatures.sign_anew(headers, "old", "new")
    assert signatures.proven(right, "new") == "ann"
    assert signatures.proven(forged, "new") is None
    assert "user_id_signature" not in forged


def test_refused_owners_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    """And told, but not each of them."""
    mine = owners(owner_key=KEY)
    with caplog.at_level(logging.WARNING):
        for _ in range(25):
            mine.note({"user_id": "ann"}, "t")
        mine.note(sent("ann"), "t")
        mine.note({}, "t")
    assert mine.refused == 25
    assert caplog.text.count("is not signed") == 2


def test_eager_runs_are_stamped_in_place() -> None:
    """No message brings them, so what they send finds their owner, and its proof, on the run itself."""
    mine = owners(owner_key=KEY)
    fields: dict[str, Any] = {"id": "e", "headers": {"user_id": "ann"}}
    mine.stamp_eager(fields, "e", "shop.pay")
    assert mine.of(fields, "e") == "ann"
    with running(fields):
        assert mine.of(sent(task_id="c"), "c") == "ann"


# -- the user's function ---------------------------------------------------------------------------------------------


def decide(task_name: str, headers: Any) -> Any:
    """Whose a task is that nobody has named an owner of."""
    assert "argsrepr" not in headers
    return f"owner of {task_name}" if headers["id"] == "t" else None


@pytest.mark.parametrize("function", [decide, f"{__name__}.decide", f"{__name__}:decide"], ids=["object", ".", ":"])
def test_a_function_decides_last(function: Any) -> None:
    """Only where neither a block nor a running task nor a header names somebody; its word is signed."""
    mine = owners(owner=function, owner_key=KEY)
    headers = {"id": "t", "argsrepr": "(1,)"}
    mine.stamp(headers, "t", "shop.pay")
    assert mine.of(headers, "t") == "owner of shop.pay"
    assert "user_id" not in sent(task_id="u", by=mine)
    assert sent("bob", by=mine)["user_id"] == "bob"
    with owner("ann"):
        assert sent(by=mine)["user_id"] == "ann"
    with running({"id": "a", "user_id": "cid"}):
        assert sent(by=owners(owner=function))["user_id"] == "cid"


def fail(task_name: str, headers: Any) -> Any:
    raise RuntimeError(task_name)


def meddle(task_name: str, headers: Any) -> Any:
    headers["task"] = "other"


@pytest.mark.parametrize("function", [fail, meddle, "no.such.module.f", f"{__name__}.KEY", "celery.states.PENDING"])
def test_a_mistake_in_it_hurts_nobody(function: Any) -> None:
    """The message goes out, unowned; it is counted."""
    mine = owners(owner=function)
    assert sent(by=mine) == {"id": "t"}
    assert sent(by=mine) == {"id": "t"}
    assert mine._guest.failures >= 1
