"""Which failures are the same one, and which line is to blame."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oracle_celery.fingerprint import (
    MESSAGE_KEPT,
    MESSAGE_READ,
    Frame,
    fingerprint,
    frames_of,
    normalised,
)

SAME = [
    (
        "order 17 was not captured within 3 s",
        "order 90211 was not captured within 0.25 s",
        "order … was not captured within … s",
    ),
    ("left: -5", "left: 1e-07", "left: …"),
    ("ids [1, 2, 3] are gone", "ids [7] are gone", "ids […] are gone"),
    ("no row 6d2c7a43-59f5-4ab0-9a47-0f1f6f2a8d11", "no row 0b8c4f5e-8a1d-4d6a-b1f0-6b2f0a3f9c52", "no row …"),
    ("commit 9fceb02d0ae598e95dc is unknown", "commit 1b4f0e9851971998e73 is unknown", "commit … is unknown"),
    ("<Order object at 0x7f3c2a>", "<Order object at 0x10ff>", "<Order object at …>"),
    ("'tea' is not sold here", '"black coffee" is not sold here', "… is not sold here"),
    ("no mail to ann.b@example.org please", "no mail to x+y@mail.example please", "no mail to … please"),
    ("GET https://a.example/x?y=1 failed", "GET http://b.example failed", "GET … failed"),
    ("no space left: /var/tmp/ab/c.png", "no space left: ~/x", "no space left: …"),
    (r"cannot open C:\shop\a.csv", r"cannot open D:\b.csv", "cannot open …"),
    ("late since 2026-03-14T15:09:26.535Z", "late since 2026-03-14 15:09:26+01:00", "late since …"),
    ("connect to 10.0.0.1:5432 refused", "connect to 192.168.7.20:15432 refused", "connect to … refused"),
    ("customer cus_9sf3k2 is blocked", "customer cus_1aa7b1c9 is blocked", "customer … is blocked"),
    ("timeout after 30s", "timeout after 1.5s", "timeout after …s"),
    ("Worker celery@web-1 fell silent.", "Worker celery@db.example fell silent.", "Worker … fell silent."),
    ("duplicate key\nDETAIL: Key (id)=(5)", "  duplicate   key \nDETAIL: other", "duplicate key"),
    (
        "'NoneType' object has no attribute 'pay2'",
        "'NoneType' object has no attribute 'pay3'",
        "'NoneType' object has no attribute 'pay…'",
    ),
]
DIFFERENT = [
    ("'NoneType' object has no attribute 'pay'", "'NoneType' object has no attribute 'send'"),
    ("No module named 'shop'", "No module named 'bank'"),
    ("the bank is away", "the shop is away"),
    ("don't stop, can't stop", "don't stop, won't stop"),
    ("read and/or write", "read"),
]
TRACEBACK = """Traceback (most recent call last):
  File "/usr/lib/python3/dist-packages/celery/app/trace.py", line 451, in trace_task
    R = retval = fun(*args, **kwargs)
  File "/srv/shop/orders/tasks.py", line 58, in charge_card
    receipt = gateway.capture(order.card, order.total)
              ^^^^^^^^^^^^^^^
  File "/srv/shop/payments/gateway.py", line 131, in capture
  File "/srv/venv/lib/python3.12/site-packages/httpx/_client.py", line 12, in send
    raise exc
  File "/usr/lib/python3.12/socket.py", line 837, in create_connection
  File "<frozen importlib._bootstrap>", line 1, in _find
ConnectionError: nobody there
"""


@pytest.mark.parametrize(("one", "other", "normal"), SAME)
def test_what_varies_is_out_of_sight(one: str, other: str, normal: str) -> None:
    """Two occurrences of one failure have one normal form, which a person can read."""
    assert normalised(one) == normalised(other) == normal


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_what_says_something_stays(one: str, other: str) -> None:
    """Different failures stay apart."""
    assert normalised(one) != normalised(other)


def test_a_fingerprint_is_of_task_type_and_message() -> None:
    """Each of them counts, none runs into the next, and nothing at all is a failure too."""
    found = {
        fingerprint("pay", "ValueError", "x"),
        fingerprint("pay", "ValueError", ""),
        fingerprint("pay", None, "x"),
        fingerprint(None, "ValueError", "x"),
        fingerprint("payV", "alueError", "x"),
        fingerprint(None, None, normalised(None)),
        fingerprint("pay", "ValueError", "\ud800"),
    }
    assert len(found) == 7
    assert {len(one) for one in found} == {16}


_WORDS = st.text(string.ascii_letters + " ,:()", max_size=12)
_NUMBERS = st.one_of(st.integers(), st.floats(allow_nan=False, allow_infinity=False))


@given(st.lists(st.tuples(_WORDS, _NUMBERS, _NUMBERS), max_size=6))
def test_other_numbers_make_no_other_failure(parts: list[tuple[str, float, float]]) -> None:
    """Whatever the words around them are."""
    one, other = ("".join(f"{word} {part[at]} " for word, *part in parts) for at in (0, 1))
    assert normalised(one) == normalised(other)


@given(st.text())
def test_any_text_has_a_short_normal_form(text: str) -> None:
    """In one line, and normalising it again changes nothing that matters: it does not grow."""
    normal = normalised(text)
    assert len(normal) <= MESSAGE_KEPT
    assert len(normal.splitlines()) <= 1


@pytest.mark.parametrize(
    "piece",
    ["'", '"x', "a.", "/a", "~/", "1e", "-1", "0x", "a@", "a1", "\\", "://", "a://", "…", "f0", "12-", " '", "é"],
)
def test_hostile_texts_take_no_time(piece: str) -> None:
    """No more of a text is read than the limit, and the steps grow with its length, not with a power of it."""
    text = piece * 1_000_000
    assert normalised(text) == normalised(text[:MESSAGE_READ])
    frames_of(f'  File "{text}", line {text}, in {text}\n    {text}\n')


def test_the_innermost_frames_of_the_application_are_to_blame() -> None:
    """Not those of Celery, of Python or of libraries."""
    assert frames_of(TRACEBACK) == [
        Frame(
            file="shop/orders/tasks.py",
            line=58,
            function="charge_card",
            code="receipt = gateway.capture(order.card, order.total)",
        ),
        Frame(file="shop/payments/gateway.py", line=131, function="capture", code=None),
    ]
    assert frames_of(None) == frames_of("nothing of the kind") == []
