"""Which failures are the same one: a name for "this task fails in this way", and the line of code to blame.

A fingerprint is made of the task's name, the type of its error and the first line of its message with everything that
varies from one occurrence to the next put out of sight: numbers, ids, quoted values, paths, addresses. The traceback
has no part in it: the history does not keep one for every failure, and a line's number changes with every release.

Guarantee: pure, the same on every machine, and linear in what it reads; it reads no more than `MESSAGE_READ`
characters, and no pattern here can run back over more than a bounded part of them. What bites: `VERSION` is part of a
fingerprint; change it with the rules, and known failures become new ones.
"""

from __future__ import annotations

import hashlib
import re

import msgspec

__all__ = ["BLANK", "FINGERPRINT_PATTERN", "Frame", "fingerprint", "frames_of", "normalised"]

VERSION = 1
#: What stands for something that varies.
BLANK = "…"
#: Characters of a message that are looked at, and of its normal form that are kept.
MESSAGE_READ = 2_000
MESSAGE_KEPT = 240
DIGITS = 16  # of a fingerprint, hexadecimal
FINGERPRINT_PATTERN = rf"^[0-9a-f]{{{DIGITS}}}$"
#: Characters at the end of a traceback that are looked at, and frames that are told of them.
TRACEBACK_READ = 40_000
FRAMES_TOLD = 3

_VARYING = re.compile(
    r"""
      (?P<address> [a-zA-Z][a-zA-Z0-9+.-]{1,15}://[^\s'"<>]+ )
    | (?P<mail> (?<![\w.+-]) [\w.+-]{1,64}@[\w.-]+ )
    | (?P<time> \d{4}-\d\d-\d\d (?: [T\ ]\d\d:\d\d (?: :\d\d (?: [.,]\d{1,9} )? )? (?: Z | [+-]\d\d:?\d\d )? )? )
    | (?P<uuid> \b [0-9a-fA-F]{8}(?: -[0-9a-fA-F]{4} ){3}-[0-9a-fA-F]{12} \b )
    | (?P<pointer> \b 0[xX][0-9a-fA-F]+ )
    | (?P<quoted> (?<!\w) (?: '[^'\n]{0,400}' | "[^"\n]{0,400}" | `[^`\n]{0,400}` ) (?!\w) )
    | (?P<windows> \b [a-zA-Z]:\\[^\s'"<>|]+ )
    | (?P<path> (?<![\w/]) (?: ~ | \.{1,2} )? (?: /[\w.@%+~=-]{1,255} )+ /? )
    | (?P<number> (?<!\w) [-+]?\d+ (?: \.\d+ )? (?: [eE][-+]?\d+ )? (?!\w) )
    | (?P<word> \w+ )
    """,
    re.VERBOSE,
)
_HEX = re.compile(r"(?=[0-9]*[a-fA-F])(?=[a-fA-F]*[0-9])[0-9a-fA-F]{8,}")
_DIGITS = re.compile(r"\d+")
#: A word with so many separate runs of digits is nobody's word: a token, a key, base64.
_ID_RUNS = 3
#: Lists of any length look the same.
_BLANKS = re.compile(rf"{BLANK}(?:[\s,;.:/+-]{{0,3}}{BLANK})+")
#: A quoted name after one of these, or before "object", is code and not data.
_CODE_WORDS = frozenset(
    {"argument", "attribute", "class", "column", "constraint", "field", "function", "index", "method", "module"}
    | {"name", "named", "relation", "table", "type"}
)
_CODE = re.compile(r".[a-zA-Z_][\w.]{0,100}.")
_WORD_BEFORE = re.compile(r"(\w+)\W{0,3}$")
_BEFORE = 24  # characters before a quoted value in which that word is looked for
_FRAME = re.compile(
    r'^  File "(?P<file>[^"\n]{1,500})", line (?P<line>\d{1,9})(?:, in (?P<function>[^\n]{1,200}))?'
    r"(?:\n    (?P<code>\S[^\n]*))?",
    re.MULTILINE,
)
#: Of Python, of what is installed, and of what Celery is made of wherever that lies.
_FOREIGN = re.compile(
    r"^<|[/\\](?:site-packages|dist-packages)[/\\]|[/\\][Ll]ib[/\\]python\d|[/\\](?:celery|kombu|billiard)[/\\]"
)


class Frame(msgspec.Struct, frozen=True, kw_only=True):
    """A place in a program."""

    file: str  # its last parts
    line: int
    function: str
    code: str | None


def fingerprint(name: str | None, error_type: str | None, message: str) -> str:
    """Of a task's failure; `message` as `normalised` returns it."""
    parts = (str(VERSION), name or "", error_type or "", message)
    return hashlib.sha256("\0".join(parts).encode(errors="surrogatepass")).hexdigest()[:DIGITS]


def normalised(message: str | None) -> str:
    """The first line that says anything, with a `BLANK` for everything that varies."""
    text = (message or "")[:MESSAGE_READ].strip()
    line = next((part for part in text.splitlines() if part.strip()), "")
    blanked = _VARYING.sub(_told, line)
    return " ".join(_BLANKS.sub(BLANK, blanked).split())[:MESSAGE_KEPT].rstrip()


def frames_of(traceback: str | None) -> list[Frame]:
    """The innermost frames of the application's own code, the innermost last; none of libraries or of Python."""
    found = [
        Frame(
            file="/".join(re.split(r"[/\\]", match["file"])[-3:]),
            line=int(match["line"]),
            function=match["function"] or "",
            code=match["code"],
        )
        for match in _FRAME.finditer((traceback or "")[-TRACEBACK_READ:])
        if not _FOREIGN.search(match["file"])
    ]
    return found[-FRAMES_TOLD:]


def _told(match: re.Match[str]) -> str:
    """What is kept of something that may vary."""
    kind, text = match.lastgroup, match.group()
    if kind == "quoted" and _is_code(match):
        return text[0] + _word(text[1:-1]) + text[-1]
    return _word(text) if kind == "word" else BLANK


def _word(text: str) -> str:
    if not any(map(str.isdigit, text)):
        return text
    if _HEX.fullmatch(text) or len(_DIGITS.findall(text)) >= _ID_RUNS:
        return BLANK
    return _DIGITS.sub(BLANK, text)


def _is_code(match: re.Match[str]) -> bool:
    if not _CODE.fullmatch(match.group()):
        return False
    start, end = match.span()
    before = _WORD_BEFORE.search(match.string[max(0, start - _BEFORE) : start])
    is_named = before is not None and before[1].lower() in _CODE_WORDS
    return is_named or match.string.startswith(" object", end)
