"""The page: sections of figures and tables as one HTML file that asks for nothing else.

Scripts only add: texts where one points at a mark, and a button that opens all tables. A policy in
the page's head forbids every request, whatever a text in it may say.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from mads.report.page.svg import DARK, LIGHT, SHAPES, clean, style

MARK = '<meta name="generator" content="mads report">'
"""By which a file that may be written over is known."""
KEPT = "\n\t"  # control characters that a text of many lines may have


@dataclass(frozen=True, slots=True)
class Table:
    """Texts; the first column names the row, the others are set to the right unless ``plain``."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    plain: bool = False


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure with its data; ``name`` is a file's name. ``main`` ones are worth a file alone."""

    name: str
    title: str
    text: str
    svg: str
    table: Table
    main: bool = True


@dataclass(frozen=True, slots=True)
class Excerpt:
    """The beginning of a document."""

    head: str
    labels: tuple[str, ...]
    text: str


@dataclass(frozen=True, slots=True)
class Section:
    """A heading, what has to be known, and what is shown; a long text may be folded away."""

    title: str
    text: str = ""
    figures: tuple[Figure, ...] = ()
    tables: tuple[tuple[str, Table], ...] = ()
    excerpts: tuple[Excerpt, ...] = ()
    folded: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Page:
    """All of it; ``facts`` are the numbers at the top."""

    title: str
    subtitle: str
    facts: tuple[tuple[str, str], ...]
    sections: tuple[Section, ...]
    notes: tuple[str, ...] = ()

    @property
    def figures(self) -> list[Figure]:
        """All figures, in their order."""
        return [figure for section in self.sections for figure in section.figures]


def render(page: Page) -> str:
    """Return the page as HTML."""
    facts = "".join(
        f"<div><dt>{clean(name)}</dt><dd>{clean(value)}</dd></div>" for name, value in page.facts
    )
    notes = "".join(f'<p class="note">{clean(text)}</p>' for text in page.notes)
    links = "".join(
        f'<a href="#s{i}">{clean(section.title)}</a>' for i, section in enumerate(page.sections)
    )
    body = "".join(_section(section, i) for i, section in enumerate(page.sections))
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">{MARK}'
        f'<meta http-equiv="Content-Security-Policy" content="{clean(_policy())}">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{clean(page.title)}</title><style>{_css()}</style></head>\n<body><header>"
        f"<h1>{clean(page.title)}</h1><p>{clean(page.subtitle)}</p></header>\n<main>{notes}"
        f'<dl class="facts">{facts}</dl><nav aria-label="Sections">{links}</nav>\n{body}</main>\n'
        f"<script>{SCRIPT}</script></body></html>\n"
    )


def _policy() -> str:
    digest = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    return (
        f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; "
        "base-uri 'none'; form-action 'none'"
    )


def _section(section: Section, index: int) -> str:
    parts = [f'<section id="s{index}"><h2>{clean(section.title)}</h2>']
    if section.text:
        parts.append(f'<p class="lead">{clean(section.text)}</p>')
    if section.figures:
        parts.append(f'<div class="grid">{"".join(map(_figure, section.figures))}</div>')
    for title, table in section.tables:
        parts.append(f"<h3>{clean(title)}</h3>" if title else "")
        parts.append(_table(table, title or section.title))
    if section.excerpts:
        parts.append(f'<ol class="docs">{"".join(map(_excerpt, section.excerpts))}</ol>')
    parts += [
        f"<details><summary>{clean(title)}</summary><pre>{clean(text, KEPT)}</pre></details>"
        for title, text in section.folded
    ]
    return "".join(parts) + "</section>\n"


def _figure(figure: Figure) -> str:
    return (
        f"<figure><figcaption><b>{clean(figure.title)}</b> <span>{clean(figure.text)}</span>"
        f'</figcaption>{figure.svg}<details class="data"><summary>Data</summary>'
        f"{_table(figure.table, figure.title)}</details></figure>\n"
    )


def _table(table: Table, title: str) -> str:
    head = "".join(f'<th scope="col">{clean(name)}</th>' for name in table.columns)
    rows = "".join(_row(row) for row in table.rows)
    kind = ' class="plain"' if table.plain else ""
    return (
        f'<div class="wide" role="region" tabindex="0" aria-label="{clean(title)}"><table{kind}>'
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _row(row: Sequence[str]) -> str:
    first, *rest = row
    cells = "".join(f"<td>{clean(cell)}</td>" for cell in rest)
    return f'<tr><th scope="row">{clean(first)}</th>{cells}</tr>'


def _excerpt(one: Excerpt) -> str:
    labels = "".join(f"<span>{clean(text)}</span>" for text in one.labels)
    return (
        f'<li><p class="head">{clean(one.head)}</p><p class="tags">{labels}</p>'
        f'<blockquote dir="auto">{clean(one.text, KEPT)}</blockquote></li>'
    )


def _variables(colours: dict[str, str]) -> str:
    names = ("ink", "mute", "grid", "axis", "paper")
    accent = colours["words"].split()[0]
    return "".join(f"--{name}:{colours[name]};" for name in names) + f"--accent:{accent}"


def _css() -> str:
    dark = f":root{{{_variables(DARK)};--ground:#0e1014}}\n{style(DARK)}"
    return (
        f":root{{{_variables(LIGHT)};--ground:#f6f7f9}}\n{BASE}\n{SHAPES}\n{style(LIGHT)}\n"
        f"@media (prefers-color-scheme:dark){{{dark}}}"
    )


BASE = """*{box-sizing:border-box}
html{color-scheme:light dark;-webkit-text-size-adjust:100%}
body{margin:0;background:var(--ground);color:var(--ink);\
font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",sans-serif}
header,main{max-width:1320px;margin:0 auto;padding:0 16px}
header{padding-top:28px}
h1{font-size:26px;line-height:1.2;margin:0;letter-spacing:-.01em;overflow-wrap:anywhere}
header p{margin:4px 0 18px;color:var(--mute);overflow-wrap:anywhere}
h2{font-size:19px;margin:40px 0 4px;letter-spacing:-.005em}
h3{font-size:14px;margin:20px 0 6px}
.lead{margin:0 0 14px;color:var(--mute);max-width:76ch}
.note{margin:0 0 12px;padding:8px 12px;border-left:3px solid var(--accent);background:var(--paper);\
max-width:86ch}
.facts{display:grid;grid-template-columns:repeat(auto-fill,minmax(150px,1fr));gap:12px 20px;\
margin:0 0 18px}
.facts dt{color:var(--mute);font-size:12.5px}
.facts dd{margin:0;font-size:20px;font-weight:600;font-variant-numeric:tabular-nums;\
overflow-wrap:anywhere}
nav{display:flex;flex-wrap:wrap;gap:4px 16px;font-size:14px}
a{color:var(--accent);text-underline-offset:2px}
.grid{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,344px),1fr));gap:16px;\
align-items:start}
figure{margin:0;padding:14px 14px 8px;background:var(--paper);border:1px solid var(--grid);\
border-radius:8px;min-width:0}
figure svg{display:block;width:100%;height:auto}
figcaption{font-size:13px;line-height:1.4;margin-bottom:10px;color:var(--mute)}
figcaption b{display:block;color:var(--ink);font-size:14.5px}
details{margin:8px 0 4px;font-size:13px}
summary{cursor:pointer;color:var(--mute)}
.wide{overflow-x:auto;max-width:100%}
.data .wide{max-height:360px;overflow-y:auto}
table{border-collapse:collapse;font-size:13px;font-variant-numeric:tabular-nums}
th,td{padding:3px 12px 3px 0;text-align:right;white-space:nowrap;\
border-bottom:1px solid var(--grid);vertical-align:top}
th:first-child,.plain th,.plain td{text-align:left}
.plain td{white-space:normal;overflow-wrap:anywhere;min-width:12ch}
th{font-weight:400;color:var(--mute)}
thead th{border-bottom:1px solid var(--axis)}
.docs{list-style:none;padding:0;margin:0;display:grid;gap:12px;\
grid-template-columns:repeat(auto-fill,minmax(min(100%,344px),1fr))}
.docs li{background:var(--paper);border:1px solid var(--grid);border-radius:8px;padding:10px 14px;\
min-width:0}
.docs p{margin:0}
.head{font-weight:600;font-size:13.5px;overflow-wrap:anywhere}
.tags{font-size:12.5px;color:var(--mute)}
.tags span{display:inline-block;margin-right:12px}
blockquote{margin:6px 0 0;font-size:13px;white-space:pre-wrap;overflow-wrap:anywhere;\
max-height:180px;overflow-y:auto;unicode-bidi:isolate}
pre{font-size:12px;overflow-x:auto;background:var(--paper);border:1px solid var(--grid);\
border-radius:8px;padding:12px}
section:last-child{margin-bottom:60px}
#tip{position:fixed;z-index:9;pointer-events:none;background:var(--ink);color:var(--paper);\
font-size:12.5px;padding:3px 8px;border-radius:5px;max-width:300px}
.m:focus{outline:2px solid var(--accent)}
button{font:inherit;font-size:14px;border:0;background:none;padding:0;color:var(--accent);\
cursor:pointer;text-decoration:underline;text-underline-offset:2px}
@media print{nav,summary{display:none}figure{break-inside:avoid}}"""

SCRIPT = """(function(){
"use strict";
var tip=document.createElement("div");tip.id="tip";tip.hidden=true;document.body.appendChild(tip);
document.querySelectorAll("svg.mads .m").forEach(function(mark){
var title=mark.querySelector("title");
if(!title)return;
mark.tipText=title.textContent;mark.setAttribute("aria-label",title.textContent);
mark.removeChild(title);});
function show(event){
var mark=event.target.closest?event.target.closest(".m"):null;
if(!mark||!mark.tipText){tip.hidden=true;return;}
tip.textContent=mark.tipText;tip.hidden=false;
var x=Math.min(event.clientX+12,window.innerWidth-tip.offsetWidth-8);
var y=event.clientY-tip.offsetHeight-10;
tip.style.left=Math.max(x,8)+"px";tip.style.top=(y<4?event.clientY+18:y)+"px";}
document.addEventListener("pointermove",show);
document.addEventListener("pointerdown",show);
document.addEventListener("scroll",function(){tip.hidden=true;},{passive:true});
var nav=document.querySelector("nav"),tables=document.querySelectorAll("details.data");
if(nav&&tables.length){
var button=document.createElement("button"),open=false;
button.type="button";button.textContent="Show all data";
button.addEventListener("click",function(){
open=!open;tables.forEach(function(one){one.open=open;});
button.textContent=open?"Hide all data":"Show all data";});
nav.appendChild(button);}
})();"""
