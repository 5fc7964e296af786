"""The table of metrics keeps to Prometheus' rules, and what the documents and the dashboard say of it is true."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml

from oracle_celery.settings import PREFIX, Settings
from oracle_celery.sidecar.metric_families import BOUNDS, FAMILIES, Family, cumulated

REPOSITORY = Path(__file__).parents[2]
DOCUMENT = (REPOSITORY / "docs" / "metrics.md").read_text()
DASHBOARD = REPOSITORY / "examples" / "grafana" / "oracle-celery.json"
ALERTS = yaml.safe_load((REPOSITORY / "examples" / "grafana" / "alerts.yml").read_text())
RULES = [rule for group in ALERTS["groups"] for rule in group["rules"]]
GRAFANA_README = (REPOSITORY / "examples" / "grafana" / "README.md").read_text()
ROW = re.compile(r"^\| `(oracle_\w+)` \| (\w+) \| (\w*) \| ([^|]*) \| ([^|]+) \|$", re.MULTILINE)
#: Labels whose values are bounded: by the table of statuses, states and parts, and by METRIC_LABELS.
BOUNDED = {"version", "status", "part", "state", "name", "queue"}
#: What a histogram adds to its name.
SUFFIXES = ("", "_bucket", "_sum", "_count")


@pytest.mark.parametrize("family", FAMILIES.values(), ids=lambda family: family.name)
def test_names_follow_the_rules(family: Family) -> None:
    """Prefix, base unit, `_total` for counters alone, none of the endings that histograms have."""
    name = family.name
    assert re.fullmatch(r"oracle_[a-z]+(_[a-z]+)*", name)
    assert name.endswith("_total") == (family.kind == "counter")
    assert not name.endswith(("_bucket", "_sum", "_count"))
    stem = name.removesuffix("_total")
    assert family.unit in ("", "seconds", "bytes")
    assert stem.endswith(f"_{family.unit}") if family.unit else not stem.endswith(("_seconds", "_bytes"))
    assert not set(re.split("_", stem)) & {"milliseconds", "ms", "minutes", "kilobytes", "percent", family.kind}
    assert family.help.endswith(".")
    assert set(family.labels) <= BOUNDED


def test_the_document_tells_every_metric() -> None:
    """Each with its type, unit, labels and meaning, and no others; each label is explained."""
    told = [
        (name, kind, unit, tuple(re.findall(r"`(\w+)`", labels)), meaning)
        for name, kind, unit, labels, meaning in ROW.findall(DOCUMENT)
    ]
    assert told == [(family.name, family.kind, family.unit, family.labels, family.help) for family in FAMILIES.values()]
    explained = set(re.findall(r"^\| `(\w+)`(?: of `\w+`)? \| [^|]+ \|$", DOCUMENT, re.MULTILINE))
    assert {label for family in FAMILIES.values() for label in family.labels} <= explained


def test_the_dashboard_asks_for_what_there_is() -> None:
    """Every metric in an expression is told, with every label that it is asked by."""
    dashboard = json.loads(DASHBOARD.read_text())
    targets = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())]
    variables = [
        variable["query"]["query"] for variable in dashboard["templating"]["list"] if variable["type"] == "query"
    ]
    assert len(targets) > 30
    for expression in targets + variables:
        found = re.findall(r"\b(oracle_\w+)(?:\{([^}]*)\})?", expression)
        assert found, expression
        for name, selector in found:
            family = _family(name)
            labels = set(re.findall(r"(\w+)=", selector)) | set(re.findall(r", (\w+)\)", expression))
            assert labels <= {*family.labels, "job", "instance", "pod"}, expression
    numbers = [panel["id"] for panel in dashboard["panels"]]
    assert len(numbers) == len(set(numbers))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_alerts_ask_for_what_there_is(rule: dict[str, Any]) -> None:
    """Each expression is PromQL, of metrics and labels that are told, and says what happened and what to do."""
    selectors, labels = [], set()
    for node in _parts(promql_parser.parse(rule["expr"])):
        if isinstance(node, promql_parser.VectorSelector):
            selectors.append(node)
        if isinstance(node, promql_parser.AggregateExpr):
            labels |= set(node.modifier.labels)
    assert selectors
    for selector in selectors:
        told = {*_family(selector.name).labels, "job", "instance", "pod"}
        assert {matcher.name for matcher in selector.matchers.matchers} <= told
        assert labels <= told
    assert rule["labels"]["severity"] in {"warning", "critical"}
    assert {"summary", "description"} == set(rule["annotations"])
    used = set(re.findall(r"\$labels\.(\w+)", str(rule["annotations"])))
    assert used <= (labels - {"pod"} or {"instance", "part"})


def test_the_readme_tells_every_alert() -> None:
    """By name, in order; other names in it are of metrics and settings."""
    assert re.findall(r"^\| `(Oracle\w+)` \| \S", GRAFANA_README, re.MULTILINE) == [rule["alert"] for rule in RULES]
    settings = {PREFIX + name for name in Settings.__struct_fields__}
    assert set(re.findall(r"\boracle_\w+", GRAFANA_README)) <= {*FAMILIES, *settings}


def test_octaves_become_buckets() -> None:
    """What an octave holds is in the bucket that ends with it, and in all later ones."""
    found = cumulated({-14: 1, -2: 2, -1: 3, 0: 4, 13: 5, 23: 6}, 7.5)
    counts = dict(zip([*BOUNDS, None], found.counts, strict=True))
    assert [counts[bound] for bound in (2**-7, 0.125, 0.5, 1, 2, 1024, 4096, 16384, None)] == [
        1,
        1,
        3,
        6,
        10,
        10,
        10,
        15,
        21,
    ]
    assert found.sum == 7.5


def _family(name: str) -> Family:
    for suffix in SUFFIXES:
        family = FAMILIES.get(name.removesuffix(suffix))
        if family is not None and (suffix == "" or family.kind == "histogram"):
            return family
    raise AssertionError(f"{name} is not told")


def _parts(node: Any) -> Iterator[Any]:
    """The expression and everything in it."""
    yield node
    for name in ("lhs", "rhs", "expr", "args", "vector_selector"):
        inner = getattr(node, name, None)
        for each in inner if isinstance(inner, list) else [inner]:
            if each is not None and not isinstance(each, str):
                yield from _parts(each)
