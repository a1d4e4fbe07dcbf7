"""The page around the figures."""

from __future__ import annotations

import base64
import hashlib
import re

from report.page.pages import EVIL, check

from mads.report.page.html import MARK, Excerpt, Figure, Page, Section, Table, render
from mads.report.page.svg import picture


def page(text: str = "x") -> Page:
    table = Table((text, text), ((text, text),))
    figure = Figure("name", text, text, picture("name", text, text, 10, []), table)
    section = Section(
        text,
        text,
        (figure,),
        (("", table), (text, Table((text,), ((text,),), plain=True))),
        (Excerpt(text, (text,), text + "\n\tsecond"),),
        ((text, text),),
    )
    return Page(text, text, ((text, text),), (section,), (text,))


def test_a_page_is_sound() -> None:
    found = check(render(page()))
    assert found.tags.count("figure") == found.tags.count("svg") == 1
    assert found.tags.count("details") == 2
    assert MARK in render(page())


def test_hostile_texts_are_texts_everywhere() -> None:
    html = render(page(EVIL))
    found = check(html)
    assert html.count("alert(1)") == html.count("&lt;script&gt;alert(1)&lt;/script&gt;")
    assert found.text.count("<script>alert(1)</script>\\x1b[2J\\u202e") >= 15
    assert "\n\tsecond" in found.text
    assert "\u202e" not in html


def test_the_policy_knows_the_script_and_forbids_the_rest() -> None:
    html = render(page())
    script = re.search(r"<script>(.*?)</script>", html, re.DOTALL)
    assert script is not None
    digest = base64.b64encode(hashlib.sha256(script[1].encode()).digest()).decode()
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', html)
    assert policy is not None
    assert "default-src &#x27;none&#x27;" in policy[1]
    assert f"sha256-{digest}" in policy[1]
    assert "connect-src" not in policy[1]


def test_it_fits_a_phone_and_the_dark() -> None:
    html = render(page())
    assert "width=device-width" in html
    assert "prefers-color-scheme:dark" in html


def test_without_figures_there_is_still_a_page() -> None:
    check(render(Page("t", "s", (), ())))
