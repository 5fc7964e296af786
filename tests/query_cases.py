"""The table of cases that both readers of the query language answer alike."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

__all__ = ["CASES"]

CASES: dict[str, Any] = json.loads(Path(__file__).with_name("query_cases.json").read_text("utf-8"))
