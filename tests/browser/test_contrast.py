"""Colours are read by everybody: each pair that occurs is measured, in both themes."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page

TEXT_RATIO = 4.5  # WCAG 2.2 AA for text of this size
GRAPHICS_RATIO = 3.0  # for what is no text: edges of fields, glyphs, the focus ring

SURFACES = ("surface", "surface-2", "surface-hover", "surface-float", "accent-soft")
TEXTS = ("text", "text-2", "text-3", "pending", "in-progress", "completed", "failed", "cancelled", "warn", "accent")
TEXT_PAIRS = [(text, surface) for text in TEXTS for surface in SURFACES] + [
    ("on-ink", "ink"),
    ("on-accent", "accent"),
    ("text", "accent-fresh"),
    ("text-2", "accent-fresh"),
    ("in-progress", "in-progress-soft"),
    ("failed", "failed-soft"),
    ("warn", "warn-soft"),
    ("text", "warn-soft"),
    ("text-2", "warn-soft"),
    ("on-failed", "failed"),
    *(("on-filled", f"environment-{color}") for color in ("green", "blue", "amber", "red", "purple")),
]
GRAPHICS_PAIRS = [
    ("mark", "surface"),
    ("control", "surface"),
    ("control", "accent-soft"),
    ("accent-fill", "surface"),
    ("accent", "surface"),
]

MEASURE = """
async ([theme, pairs]) => {
  const sheet = document.head.appendChild(document.createElement("link"));
  sheet.rel = "stylesheet";
  const loaded = new Promise((resolve) => sheet.addEventListener("load", resolve));
  sheet.href = "/styles/tokens.css";
  await loaded;
  document.documentElement.dataset.theme = theme;
  const probe = document.body.appendChild(document.createElement("i"));
  const luminance = (role) => {
    probe.style.color = "";
    probe.style.color = `var(--${role})`;
    const colour = getComputedStyle(probe).color;
    const channels = colour.match(/^rgb\\((\\d+), (\\d+), (\\d+)\\)$/).slice(1).map((channel) => channel / 255);
    const [r, g, b] = channels.map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  return pairs.map(([front, back]) => {
    if (!getComputedStyle(document.documentElement).getPropertyValue(`--${front}`)) throw new Error(front);
    const [dark, light] = [luminance(front), luminance(back)].sort((a, b) => a - b);
    return (light + 0.05) / (dark + 0.05);
  });
}
"""


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_can_be_read_on_every_surface(modules: Page, theme: str) -> None:
    """At least 4.5 : 1."""
    assert _below(modules, theme, TEXT_PAIRS, TEXT_RATIO) == []


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_edges_and_marks_can_be_seen(modules: Page, theme: str) -> None:
    """At least 3 : 1."""
    assert _below(modules, theme, GRAPHICS_PAIRS, GRAPHICS_RATIO) == []


def _below(page: Page, theme: str, pairs: list[tuple[str, str]], least: float) -> list[str]:
    ratios = page.evaluate(MEASURE, [theme, pairs])
    assert len(ratios) == len(pairs)
    return [
        f"{front} on {back}: {ratio:.2f}" for (front, back), ratio in zip(pairs, ratios, strict=True) if ratio < least
    ]
