"""What a test asks of a page: that its tags are balanced, and that it asks for nothing."""

from __future__ import annotations

import re
from html.parser import HTMLParser

EVIL = "<script>alert(1)</script>\x1b[2J\u202e\"'&\x00"
"""A name that steers browsers and terminals."""
VOID = {"meta", "br", "hr"}
ADDRESSES = {"src", "href", "xlink:href", "action", "data", "poster", "srcset", "formaction"}
LIMIT = 2_000_000  # bytes


class Checked(HTMLParser):
    """Collects the texts, the addresses and the handlers of a page, and checks its tags."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.handlers: list[str] = []
        self.ids: list[str] = []
        self.texts: list[str] = []
        self.feed(page)
        self.close()
        assert self.open == []

    @property
    def text(self) -> str:
        return " ".join(self.texts)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ADDRESSES]
        self.handlers += [name for name, _ in attrs if name.startswith("on")]
        self.ids += [value or "" for name, value in attrs if name == "id"]

    def handle_endtag(self, tag: str) -> None:
        assert self.open, tag
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] not in ("style", "script"):
            self.texts.append(data)


def check(page: str) -> Checked:
    """Return what is in a page; asserts that it is sound, small, and asks for nothing."""
    found = Checked(page)
    assert all(address.startswith("#") for address in found.addresses)
    assert found.handlers == []
    assert found.tags.count("script") == 1
    assert not {"img", "link", "iframe", "object", "embed", "base", "image", "use"} & set(
        found.tags
    )
    assert not re.search(r"url\(|@import", page)
    assert len(found.ids) == len(set(found.ids))
    assert {address[1:] for address in found.addresses} <= set(found.ids)
    assert not [c for c in page if ord(c) < 32 and c not in "\n\t"]
    assert len(page.encode()) < LIMIT
    return found
