"""Drawing: SVG elements as text, colours for light and dark, and the frame of a chart.

A figure is 360 units wide, a phone's width, so its letters are as large there as those around it;
on a wide screen figures stand side by side.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass

from mads.report.page.scale import Scale
from mads.units import visible

WIDTH = 360.0
LETTER = 6.8  # about the width of a letter of 11 units
LINE = 13.0  # from one line of text to the next
LONGEST = 16  # letters of a label; its whole text is in the title and the table
COLOURS = 8
DASHES = ("", "6 3", "2 2.5", "8 3 2 3", "11 3", "4 2", "1.5 3", "6 2 2 2 2 2")
"""Lines differ by colour and by dash; from the ninth on both begin anew."""

# Hues differ by 15 or more in CIELAB, also as people see them who lack a kind of cones; words are
# the same where a hue would be too pale for small letters.
LIGHT = {
    "ink": "#1b1f24",
    "mute": "#5b6570",
    "grid": "#e6e9ed",
    "axis": "#9aa4af",
    "paper": "#ffffff",
    "rest": "#b4bcc6",
    "hues": "#1450c8 #a8400f #2aa06a #8e2f9e #b98505 #2a6d68 #51260a #2c2f4a",
    "words": "#1450c8 #a8400f #1a7a4d #8e2f9e #8a6100 #2a6d68 #51260a #2c2f4a",
}
DARK = {
    "ink": "#e7eaee",
    "mute": "#a2adb9",
    "grid": "#2a3038",
    "axis": "#66717d",
    "paper": "#15181d",
    "rest": "#5a646f",
    "hues": "#7484ff #fb4a2a #b0fdc3 #d7587f #fbe251 #12b8f8 #cf9a6c #c1cbda",
    "words": "#8f9cff #ff6a4e #b0fdc3 #e47698 #fbe251 #12b8f8 #cf9a6c #c1cbda",
}


def clean(text: object, keep: str = "") -> str:
    """Return a text for HTML: no markup, and characters that steer or turn a line are escaped."""
    return html.escape(visible(str(text), keep=keep), quote=True)


def cut(text: str, longest: int = LONGEST) -> str:
    """Return a label that is not too long."""
    return text if len(text) <= longest else text[: longest - 1].rstrip() + "…"


def element(name: str, content: str = "", /, **attributes: object) -> str:
    """Return an element; ``_`` in an attribute's name is ``-``, and ``class_`` is ``class``.

    Numbers have at most one decimal; values are escaped, the content is markup already.
    """
    parts = [name]
    for key, value in attributes.items():
        if isinstance(value, float):
            value = f"{value:.1f}".removesuffix(".0")  # noqa: PLW2901 - as it is written
        parts.append(f'{key.rstrip("_").replace("_", "-")}="{clean(value)}"')
    opened = " ".join(parts)
    return f"<{opened}>{content}</{name}>" if content else f"<{opened}/>"


def label(x: float, y: float, text: str, class_: str = "", anchor: str = "start") -> str:
    """Return a line of text, whose middle is about at ``y``."""
    extra = {"class_": class_} if class_ else {}
    at = {} if anchor == "start" else {"text_anchor": anchor}
    return element("text", clean(text), x=x, y=y + 3.8, **at, **extra)


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> str:
    """Return a straight line."""
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def marked(shape: str, text: str) -> str:
    """Return shapes with a text that is shown where one points at them."""
    return element("g", element("title", clean(text)) + shape, class_="m")


def text_width(text: str) -> float:
    """Return about how wide a label is."""
    return LETTER * len(text)


def widest(texts: Sequence[str]) -> float:
    """Return about how wide the widest of some labels is."""
    return max(map(text_width, texts), default=0.0)


@dataclass(frozen=True, slots=True)
class Frame:
    """The rectangle in which numbers become places."""

    x: Scale
    y: Scale

    @property
    def left(self) -> float:
        """Where it begins."""
        return self.x.start

    @property
    def right(self) -> float:
        """Where it ends."""
        return self.x.stop

    @property
    def top(self) -> float:
        """Its upper edge."""
        return min(self.y.start, self.y.stop)

    @property
    def bottom(self) -> float:
        """Its lower edge."""
        return max(self.y.start, self.y.stop)


def x_axis(frame: Frame, ticks: Sequence[tuple[float, str]], title: str) -> list[str]:
    """Return an axis below, with its title; numbers that would touch are left out."""
    y = frame.bottom
    parts = [line(frame.left, y, frame.right, y, "axis")]
    free = -1e9
    for value, text in ticks:
        x, half = frame.x(value), text_width(text) / 2
        parts.append(line(x, y, x, y + 4, "axis"))
        if x - half > free:
            parts.append(label(x, y + 12, text, "mute", "middle"))
            free = x + half + 4
    parts.append(label((frame.left + frame.right) / 2, y + 26, title, "mute", "middle"))
    return parts


def y_axis(frame: Frame, ticks: Sequence[tuple[float, str]], title: str) -> list[str]:
    """Return lines across, their numbers on the left, and the title above them."""
    parts = [label(2, frame.top - 13, title, "mute")]
    for value, text in ticks:
        y = frame.y(value)
        parts.append(line(frame.left, y, frame.right, y, "grid"))
        parts.append(label(frame.left - 6, y, text, "mute", "end"))
    return parts


def picture(name: str, title: str, text: str, height: float, parts: Sequence[str]) -> str:
    """Return a whole figure; title and text are for those who do not see it."""
    ids = f"{name}-title", f"{name}-desc"
    head = f'<title id="{clean(ids[0])}">{clean(title)}</title>'
    head += f'<desc id="{clean(ids[1])}">{clean(text)}</desc>'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="mads" role="img" '
        f'viewBox="0 0 {WIDTH:.0f} {height:.0f}" aria-labelledby="{clean(" ".join(ids))}">'
        f"{head}{''.join(parts)}</svg>"
    )


def hue(index: int | None) -> str:
    """Return the class of a colour; None is grey."""
    return "rest" if index is None else f"h{index % COLOURS}"


def style(colours: dict[str, str]) -> str:
    """Return the rules of all figures in one set of colours."""
    rules = [
        f"svg.mads text{{fill:{colours['ink']}}}",
        f"svg.mads text.mute{{fill:{colours['mute']}}}",
        f"svg.mads .grid{{stroke:{colours['grid']}}}",
        f"svg.mads .axis{{stroke:{colours['axis']}}}",
        f"svg.mads .hole{{fill:{colours['paper']}}}",
        f"svg.mads .paper{{fill:{colours['paper']}}}",
    ]
    names = {"rest": colours["rest"]}
    names |= {f"h{i}": value for i, value in enumerate(colours["hues"].split())}
    for name, value in names.items():
        rules.append(f"svg.mads .{name}{{stroke:{value}}}")
        rules.append(f"svg.mads .f.{name}{{fill:{value};stroke:none}}")
    words = {"rest": colours["mute"]}
    words |= {f"h{i}": value for i, value in enumerate(colours["words"].split())}
    rules += [f"svg.mads text.{n}{{fill:{value};stroke:none}}" for n, value in words.items()]
    return "\n".join(rules)


SHAPES = """svg.mads text{font:11px system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",\
sans-serif;font-variant-numeric:tabular-nums}
svg.mads text.b{font-weight:600}
svg.mads .l{fill:none;stroke-width:1.8;stroke-linejoin:round;stroke-linecap:round}
svg.mads .thin{stroke-width:1;fill:none}
svg.mads .bar{stroke-width:2}
svg.mads .band{fill-opacity:.12}
svg.mads .hit{stroke:transparent;fill:none;stroke-width:12}"""


def alone(svg: str) -> str:
    """Return a figure as a file of its own, with its rules inside and its ground painted."""
    rules = f"{SHAPES}\n{style(LIGHT)}\n@media (prefers-color-scheme:dark){{{style(DARK)}}}"
    head, body = svg.split(">", 1)
    ground = element("rect", width="100%", height="100%", class_="paper")
    title_end = body.index("</desc>") + len("</desc>")
    return f"{head}>{body[:title_end]}<style>{rules}</style>{ground}{body[title_end:]}\n"
