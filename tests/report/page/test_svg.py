"""Elements, colours, and what becomes of hostile texts."""

from __future__ import annotations

import itertools
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from report.page.pages import EVIL

from mads.report.page.svg import DARK, LIGHT, alone, clean, cut, element, label, marked, picture
from mads.types import Floats

NAMESPACE = "{http://www.w3.org/2000/svg}"

# Machado et al. 2009, a physiologically-based model for simulation of color vision deficiency.
SIGHTS = {
    "normal": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}


def linear(colour: str) -> Floats:
    """Return a colour as linear RGB."""
    value = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def lab(rgb: Floats) -> Floats:
    """Return linear RGB in CIELAB."""
    to_xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    xyz = np.array(to_xyz) @ np.clip(rgb, 0, 1) / np.array([0.9505, 1, 1.089])
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def contrast(one: str, other: str) -> float:
    """Return the contrast of two colours as the web's guidelines (WCAG 2) define it."""
    pair = sorted(float(np.array([0.2126, 0.7152, 0.0722]) @ linear(c)) for c in (one, other))
    return (pair[1] + 0.05) / (pair[0] + 0.05)


@pytest.mark.parametrize("colours", [LIGHT, DARK])
@pytest.mark.parametrize("sight", SIGHTS)
def test_hues_stay_apart_whoever_looks(colours: dict[str, str], sight: str) -> None:
    seen = [lab(np.array(SIGHTS[sight]) @ linear(hue)) for hue in colours["hues"].split()]
    pairs = itertools.combinations(seen, 2)
    assert min(float(np.linalg.norm(a - b)) for a, b in pairs) >= 15


@pytest.mark.parametrize("colours", [LIGHT, DARK])
def test_marks_and_words_stand_out_from_the_paper(colours: dict[str, str]) -> None:
    paper = colours["paper"]
    assert min(contrast(hue, paper) for hue in colours["hues"].split()) >= 3
    words = [*colours["words"].split(), colours["ink"], colours["mute"]]
    assert min(contrast(word, paper) for word in words) >= 4.5


def test_hostile_texts_become_harmless() -> None:
    assert clean(EVIL) == (
        "&lt;script&gt;alert(1)&lt;/script&gt;\\x1b[2J\\u202e&quot;&#x27;&amp;\\x00"
    )
    assert clean("a\nb\t", keep="\n") == "a\nb\\t"


def test_elements() -> None:
    assert element("rect", x=1.0, y=2.25, class_="f") == '<rect x="1" y="2.2" class="f"/>'
    assert element("g", "in", fill_opacity="0.5") == '<g fill-opacity="0.5">in</g>'
    assert element("text", x='"><b') == '<text x="&quot;&gt;&lt;b"/>'
    assert label(1, 2, "<b>", "mute", "end").endswith("&lt;b&gt;</text>")
    assert (cut("abcdef", 4), cut("abcd", 4)) == ("abc…", "abcd")


def test_a_figure_alone_is_a_whole_file() -> None:
    inside = [marked(label(0, 0, EVIL), EVIL)]
    text = alone(picture("name", EVIL, "", 100, inside))
    tree = ET.fromstring(text)
    assert tree.attrib["viewBox"] == "0 0 360 100"
    assert tree.attrib["role"] == "img"
    names = tree.attrib["aria-labelledby"].split()
    assert [child.attrib["id"] for child in tree[:2]] == names
    assert tree.find(f"{NAMESPACE}style") is not None
    assert not list(tree.iter(f"{NAMESPACE}script"))
    assert not set(text) & set("\x1b\u202e\x00")
