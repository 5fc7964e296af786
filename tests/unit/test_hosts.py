"""By which names a sidecar is asked."""

from __future__ import annotations

from typing import Any

import pytest

from oracle_celery.errors import ConfigurationError
from oracle_celery.settings import Settings
from oracle_celery.sidecar.hosts import LOOPBACK_NAMES, names_of


def _names(host: str, **settings: Any) -> set[str]:
    values = {f"oracle_{name}": value for name, value in settings.items()}
    return set(names_of(host, Settings.from_mapping(values)) - LOOPBACK_NAMES)


def test_its_own_address() -> None:
    """And always the loopback's names, which no stranger can point here."""
    assert _names("127.0.0.1") == set()
    assert _names("192.0.2.7") == {"192.0.2.7"}
    assert _names("2001:db8::7") == {"[2001:db8::7]"}
    assert names_of("192.0.2.7", Settings.from_mapping({})) >= LOOPBACK_NAMES


def test_what_is_configured() -> None:
    """Without ports: a proxy may end on any."""
    names = _names("0.0.0.0", public_url="https://Oracle.Example.org:8443/", hosts=["oracle", "10.0.0.7"])
    assert names == {"oracle.example.org", "oracle", "10.0.0.7"}


@pytest.mark.parametrize("host", ["0.0.0.0", "::", ""])
def test_every_address_needs_a_name(host: str) -> None:
    """Else it would answer to nobody, or to anybody."""
    with pytest.raises(ConfigurationError, match="oracle_public_url or oracle_hosts"):
        _names(host)
