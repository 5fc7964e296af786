"""Secrets in what is recorded: the value of a key that names one becomes ``***`` before anything is written.

Guarantee: masking happens in the process where the value is, before its journal; no later place ever has it. A key is
looked at word by word, whatever its case and its separators: ``dbPassword``, ``DB-PASSWORD`` and ``db.password`` have
the word ``password``, ``compass`` has not. Texts (messages, tracebacks, log lines, strings among the arguments) are
searched for what looks like a key and its value, for passwords in URLs, and for a few secrets that look like nothing
else. It takes time in proportion to the text, whatever the text is.

What will bite: this knows names, not secrets. A password that stands alone under an innocent key is recorded. In doubt
more is masked: in a text, all that may still be the value.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

__all__ = ["MASK", "MASKED_BEYOND", "USUAL", "USUAL_EXCEPTIONS", "USUAL_NAMES", "Redaction", "without_passwords"]

MASK = "***"

#: Characters beyond the part of a long text that is kept which are searched too: a value that begins in one part may
#: only be known by what stands in the other.
MASKED_BEYOND = 1024

#: Names of what nobody should read. ``api_key`` stands for ``apiKey``, ``API-KEY`` and ``apikey``, one or many.
USUAL_NAMES = (
    *("password", "passwd", "passwort", "pwd", "pw", "pass", "passphrase", "passcode", "pgpassword", "htpasswd"),
    *("secret", "credential", "token", "jwt", "bearer", "auth", "authorization", "cookie", "csrf", "xsrf", "sig"),
    *("api_key", "app_key", "access_key", "account_key", "auth_key", "consumer_key", "encryption_key", "license_key"),
    *("master_key", "private_key", "secret_key", "service_key", "session_key", "shared_key", "signing_key", "ssh_key"),
    *("subscription_key", "auth_token", "access_token", "api_token", "refresh_token", "session_token", "amz_signature"),
    *("session_id", "connection_string", "dsn", "mnemonic", "seed_phrase", "recovery_code", "backup_code"),
    *("otp", "totp", "pin", "cvv", "cvc", "ssn", "security_code", "card_number", "credit_card"),
)
#: Names that contain one of those and are none.
USUAL_EXCEPTIONS = (
    *("max_tokens", "total_tokens", "prompt_tokens", "completion_tokens", "input_tokens", "output_tokens"),
    *("token_count", "token_type", "token_usage", "secret_name"),
)

#: Keys whose answer is remembered, and characters of a key that are looked at.
KNOWN_KEYS_LIMIT = 4096
KEY_LIMIT = 256


class Redaction:
    """Which names are hidden, and what is left of values then."""

    __slots__ = ("_ends", "_exceptions", "_hidden", "_is_on", "_known", "_last", "_stems")

    def __init__(self, names: Iterable[str] = USUAL_NAMES, exceptions: Iterable[str] = USUAL_EXCEPTIONS) -> None:
        names = tuple(names)
        hidden, exempt = "|".join(map(_pattern, names)), "|".join(map(_pattern, exceptions))
        self._is_on = bool(hidden)
        self._hidden = re.compile(rf"(?:^|_)(?:{hidden})(?:_|$)")
        self._stems = _stems(names)
        self._ends = frozenset(words.rpartition("_")[2] for words in map(_words, names) if "_" in words)
        self._last = re.compile(rf"(?:^|_)(?:{hidden})$")
        self._exceptions = re.compile(rf"(?:^|(?<=_))(?:{exempt})(?=_|$)") if exempt else None
        self._known: dict[str, bool] = {}

    @classmethod
    def from_setting(cls, setting: tuple[str, ...] | None) -> Redaction:
        """``oracle_redact``: further names; ``!name`` takes one away. None: nothing is masked."""
        if setting is None:
            return cls((), ())
        exceptions = [name[1:] for name in setting if name.startswith("!")]
        names = [name for name in setting if not name.startswith("!")]
        taken_away = {_words(name) for name in exceptions}
        return cls(
            [name for name in (*USUAL_NAMES, *names) if _words(name) not in taken_away],
            (*USUAL_EXCEPTIONS, *exceptions),
        )

    def hides(self, key: str) -> bool:
        """Whether the value of that key is nobody's business."""
        known = self._known.get(key)
        if known is None:
            known = self._judge(key)
            if len(key) <= KEY_LIMIT:
                if len(self._known) >= KNOWN_KEYS_LIMIT:
                    self._known.clear()
                self._known[key] = known
        return known

    def value(self, value: Any) -> Any:
        """A plain value of JSON, masked; other objects stay as they are."""
        cls = type(value)
        if cls is str:
            return self.text(value)
        if cls is dict:
            return {
                key: MASK if type(key) is str and is_telling(item) and self.hides(key) else self.value(item)
                for key, item in value.items()
            }
        if cls is list or cls is tuple:
            if len(value) == 2 and type(value[0]) is str and is_telling(value[1]) and self.hides(value[0]):
                return [value[0], MASK]
            return [self.value(item) for item in value]
        return value

    def text(self, text: str) -> str:
        """`text` with its secrets masked."""
        if text.isalnum() or not _may_tell(text) or not self._is_on:
            return text
        if "@" in text and "://" in text:
            text = without_passwords(text)
        if "-----BEGIN" in text:
            text = _PRIVATE_KEY.sub(rf"\1{MASK}", text)
        if "eyJ" in text:
            text = _JSON_WEB_TOKEN.sub(MASK, text)
        if self._may_name(text):
            if "</" in text:
                text = _ELEMENT.sub(self._masked_match, text)
            if "--" in text:
                text = _OPTION.sub(self._masked_match, text)
            text = _BEARER.sub(rf"\1{MASK}", self._masked_values(text))
        return text

    def _may_name(self, text: str) -> bool:
        """Whether part of a hidden name is in there, alone or within some other word."""
        text = text.lower()
        for stem in self._stems:  # noqa: SIM110  # twice as fast as any()
            if stem in text:
                return True
        return False

    def _ends_name(self, text: str) -> bool:
        """Whether its last two words are a name: ``API key: abc``."""
        words = _TWO_WORDS.search(text)
        return words is not None and self._last.search(_words(words[0])) is not None

    def _judge(self, key: str) -> bool:
        words = _words(key[:KEY_LIMIT])
        if self._exceptions is not None:
            words = self._exceptions.sub("", words)
        return self._is_on and self._hidden.search(words) is not None

    def _masked_match(self, match: re.Match[str]) -> str:
        return match[0][: match.start("value") - match.start()] + MASK if self.hides(match["key"]) else match[0]

    def _masked_values(self, text: str) -> str:
        """Without the values of hidden keys: ``key=value``, ``"key": "value"``, ``('key', 'value')``, a header's."""
        pieces: list[str] = []
        done = position = 0
        while candidate := _CANDIDATE.search(text, position):
            position = candidate.end()
            if self._hides_candidate(text, candidate):
                start, position = _extent(text, position, candidate["key"])
                if start < position:
                    pieces += (text[done:start], MASK)
                    done = position
        if not pieces:
            return text
        pieces.append(text[done:])
        return "".join(pieces)

    def _hides_candidate(self, text: str, candidate: re.Match[str]) -> bool:
        key, start = candidate["key"], candidate.start("key")
        if not self.hides(key):
            return key.lower() in self._ends and self._ends_name(text[max(0, start - KEY_LIMIT) : candidate.end("key")])
        if candidate["comma"]:  # a pair of its own, not one item of many
            return not _OPENING.isdisjoint(text[max(0, start - 3) : start])
        return candidate["closers"] != "" or _IS_NO_KEY.search(key) is None


def is_telling(value: Any) -> bool:
    """Whether there is something to hide: that there is no password, or whether there is one, may be known."""
    return value is not None and type(value) is not bool


def without_passwords(text: str) -> str:
    """Addresses keep their user and lose their password; who has no name but a long one is a token."""
    return _URL_TOKEN.sub(rf"\1{MASK}@", _URL_PASSWORD.sub(rf"\1{MASK}@", text))


# -- keys ------------------------------------------------------------------------------------------------------------

_BOUNDARY = re.compile(
    r"[\W_]+|(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|(?<=[A-Za-z])(?=[0-9])|(?<=[0-9])(?=[A-Za-z])"
)


def _words(key: str) -> str:
    """``dbPassword2`` → ``db_password_2``."""
    return "_".join(filter(None, _BOUNDARY.split(key))).lower()


def _pattern(name: str) -> str:
    """A name, in the words of a key, one or many; ``*`` in it stands for the rest of a word."""
    tokens = ["[^_]*".join(_words(part).replace("_", "_?") for part in token.split("*")) for token in _tokens(name)]
    return "_?".join(tokens).replace("_?[^_]*", "_[^_]+") + "s?"


def _tokens(name: str) -> list[str]:
    return [token for token in re.split(r"[^\w*]+|_+", name) if token]


def _stems(names: Iterable[str]) -> tuple[str, ...]:
    """Texts of which every one of the names has one, as few as may be."""
    longest = sorted({max(re.split(r"[_*]", _words_and_stars(name)), key=len) for name in names}, key=len)
    stems: list[str] = []
    for word in longest:
        if not any(stem in word for stem in stems):
            stems.append(word)
    return tuple(stems)


def _words_and_stars(name: str) -> str:
    return "*".join(map(_words, name.split("*")))


# -- texts -----------------------------------------------------------------------------------------------------------


def _may_tell(text: str) -> bool:
    """Cheap, and right for nearly all that tells nothing."""
    return (
        ":" in text or "=" in text or "," in text or "--" in text or "</" in text or "eyJ" in text or "earer " in text
    )


#: A key and what separates it from its value. Bounded everywhere, so that a hostile text costs no more than another.
_CANDIDATE = re.compile(
    r"""
    (?<!\w) (?P<key>\w[\w.\-]{0,127}) (?P<closers>[\\"'`\])}]{0,8})
    (?:
        [ \t]{0,8} (?: := | => | -> | =(?!=) | :(?![:]|//) ) [ \t]{0,8}
        | (?<=["']) (?P<comma>[ \t]{0,4},[ \t]{0,4}) (?= [bBuUrR]{0,2} \\{0,8} ["'] )
    )
    """,
    re.VERBOSE,
)
_OPENING = frozenset("([")
_TWO_WORDS = re.compile(r"[A-Za-z]+ [A-Za-z]+$")
#: A file in a traceback, or an exception and what it says: no keys, whatever words are in their names.
_IS_NO_KEY = re.compile(r"(?:\.py|Error|Exception|Warning)$")

#: Headers whose value has spaces.
_WHOLE_LINE = re.compile(r"(?:authorization|cookie)$", re.IGNORECASE)
_QUOTE = re.compile(r"""[bBuUrRfF]{0,2}(\\{0,8}(?:\"{3}|'{3}|["']))""")
_IN_DOUBLE_QUOTES, _IN_QUOTES = re.compile(r'(?:[^"\\]|\\.)*', re.DOTALL), re.compile(r"(?:[^'\\]|\\.)*", re.DOTALL)
_BRACKET = re.compile(r"""[\[\](){}]|"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'""", re.DOTALL)
_NOTHING = re.compile(r"(?:None|null|nil|[Tt]rue|[Ff]alse)(?=[\s,;.)\]}&]|$)")
_LINE = re.compile(r"[^\r\n]*")
#: Up to where another key begins.
_RUN = re.compile(r"""(?:(?![,;]\s{0,4}\\{0,4}["']?[\w.\-]{1,64}\\{0,4}["']?\s{0,4}[=:])[^\s&])*""")
_CLOSING = "\"')]},;.>`\\"


def _extent(text: str, start: int, key: str) -> tuple[int, int]:
    """Where the value that begins at `start` begins and ends, without its quotes."""
    if _NOTHING.match(text, start):
        return start, start
    opened = _QUOTE.match(text, start)
    if opened:
        quote = opened[1]
        if quote in _WITHIN:
            return opened.end(), _WITHIN[quote].match(text, opened.end()).end()  # type: ignore[union-attr]
        end = text.find(quote, opened.end())
        return opened.end(), len(text) if end < 0 else end
    if text[start : start + 1] in _BRACKETS:
        return start, _closed(text, start)
    if _WHOLE_LINE.search(key):
        return start, _LINE.match(text, start).end()  # type: ignore[union-attr]  # matches nothing, too
    run = _RUN.match(text, start)
    assert run is not None  # it matches nothing, too
    return start, start + len(run[0].rstrip(_CLOSING))


_WITHIN = {'"': _IN_DOUBLE_QUOTES, "'": _IN_QUOTES}
_BRACKETS = frozenset("[({")


def _closed(text: str, start: int) -> int:
    """Where the bracket that is opened at `start` is closed; the end where it is not."""
    depth = 0
    for found in _BRACKET.finditer(text, start):
        if found[0] in _BRACKETS:
            depth += 1
        elif found[0] in ")]}":
            depth -= 1
            if depth == 0:
                return found.end()
    return len(text)


#: The last @ of the address, because a password may have one; a port is no password.
_URL_PASSWORD = re.compile(r"""(://[^\s:/@"'<>]{0,256}:)(?!\d{1,5}(?:[/?#\s]|$))[^\s"'<>]{1,1024}@""")
_URL_TOKEN = re.compile(r"""(://)[^\s:/@"'<>*]{20,1024}@""")
#: ``--password hunter2``
_OPTION = re.compile(r"--(?P<key>[A-Za-z][\w\-]{0,63})[ \t]{1,4}(?!-)(?P<value>\S+)")
#: ``<password>hunter2</password>``
_ELEMENT = re.compile(r"<(?P<key>\w[\w:.\-]{0,63})(?:\s[^<>]{0,200})?>(?P<value>[^<]+)(?=</)")
_PRIVATE_KEY = re.compile(r"(-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----).*?(?=-----END|\Z)", re.DOTALL)
_JSON_WEB_TOKEN = re.compile(r"(?<![\w-])eyJ[\w-]{8,}\.[\w-]{8,}(?:\.[\w-]*)?")
#: With a digit, as all that are any good have: "bearer of bad news" is none.
_BEARER = re.compile(r"(\b[Bb]earer[ ]{1,4})(?=[^\s\d]{0,64}\d)[\w.~+/\-]{8,}=*")

USUAL = Redaction()
