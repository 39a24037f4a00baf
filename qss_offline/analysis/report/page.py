"""One page of HTML that needs nothing else: no network, no scripts, pictures and videos inside."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from html import escape

NONE = "–"
"""A cell without anything, which cards leave out."""

_STYLE = """
:root { color-scheme: light dark; --ink: #1b1b1b; --paper: #fbfbf9; --quiet: #5c5c5c;
  --line: #d8d8d4; --card: #ffffff; --link: #00528a; --bad: #a33c00; --good: #00704f; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8e8e6; --paper: #16181a; --quiet: #a8a8a5;
  --line: #3a3d40; --card: #202327; --link: #7cc0f0; --bad: #ff9d66; --good: #57d3a8; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 72rem; background: var(--paper);
  color: var(--ink); font: 1rem/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.2; } h2 { margin-top: 2.5rem; padding-top: .5rem;
  border-top: 2px solid var(--line); } h3 { margin-top: 1.75rem; }
h1, h2, h3 { overflow-wrap: anywhere; } a { color: var(--link); }
p, li { max-width: 46rem; } .quiet { color: var(--quiet); font-size: .92rem; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-size: .92rem; }
th, td { padding: .35rem .7rem; border-bottom: 1px solid var(--line); text-align: left;
  vertical-align: top; overflow-wrap: break-word; min-width: 4rem; max-width: 26rem; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
td.number { white-space: nowrap; } p.caption { margin: 1.2rem 0 .2rem; }
@media (max-width: 40rem) { thead { display: none; } table, tbody { display: block; }
  tr { display: block; margin: .6rem 0; padding: .3rem .7rem; background: var(--card);
    border: 1px solid var(--line); border-radius: 6px; }
  td.none { display: none; }
  td:not(.none) { display: flex; justify-content: space-between; gap: 1rem; max-width: none;
    padding: .2rem 0; border: 0; text-align: right; white-space: normal;
    overflow-wrap: anywhere; }
  td::before { content: attr(data-label); flex: 0 1 auto; color: var(--quiet); text-align: left;
    overflow-wrap: normal; } }
pre { overflow-x: auto; padding: .7rem; background: var(--card); border: 1px solid var(--line);
  border-radius: 6px; font-size: .85rem; } pre.wrapped { white-space: pre-wrap;
  overflow-wrap: anywhere; }
.figures { display: grid; gap: 1rem; margin: 1rem 0; align-items: start;
  grid-template-columns: repeat(auto-fill, minmax(min(20rem, 100%), 1fr)); }
figure { margin: 0; padding: .6rem; background: #ffffff; color: #1b1b1b;
  border: 1px solid var(--line); border-radius: 6px; }
figure img, figure video { display: block; width: 100%; height: auto; }
figure.wide { margin: 1rem 0; } figure.wide .scroll img { width: auto; max-width: none; }
figure.wide video { min-width: 30rem; max-width: 49rem; }
figcaption { margin-top: .4rem; color: #4a4a4a; font-size: .88rem; }
.hint { border-left: 4px solid var(--bad); padding: .1rem .8rem; margin: .6rem 0; }
.bad { color: var(--bad); font-weight: 600; } .good { color: var(--good); font-weight: 600; }
summary { cursor: pointer; padding: .3rem 0; }
"""

# Pictures and videos are data: URLs; everything else is refused by the page itself.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; media-src data:"


def page(title: str, parts: Iterable[str]) -> str:
    """Return a whole page around parts that are HTML already."""
    body = "\n".join(parts)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<link rel="icon" href="data:,">
<title>{escape(title)}</title>
<style>{_STYLE}</style>
</head>
<body>
<main>
<h1>{escape(title)}</h1>
{body}
</main>
</body>
</html>
"""


def heading(level: int, text: str, anchor: str | None = None) -> str:
    """Return a heading."""
    name = "" if anchor is None else f' id="{escape(anchor)}"'
    return f"<h{level}{name}>{escape(text)}</h{level}>"


def paragraph(text: str, kind: str = "") -> str:
    """Return a paragraph of plain text, of a class of the style sheet."""
    return f'<p class="{kind}">{escape(text)}</p>' if kind else f"<p>{escape(text)}</p>"


def links(targets: Sequence[tuple[str, str]]) -> str:
    """Return a list of links to anchors, `(anchor, text)` each."""
    rows = "".join(f'<li><a href="#{escape(a)}">{escape(t)}</a></li>' for a, t in targets)
    return f"<nav aria-label='Contents'><ul>{rows}</ul></nav>"


def table(header: Sequence[str], rows: Sequence[Sequence[str]], caption: str) -> str:
    """Return a table: on a narrow screen its rows are cards, else it may scroll sideways.

    Args:
        header: of the columns; on cards they stand before each value.
        rows: text; columns of numbers stand right.
        caption: what it shows.
    """
    kinds = [
        ' class="number"' if rows and all(map(_numeric, column)) else ""
        for column in zip(*rows, strict=True)
    ] or [""] * len(header)
    head = "".join(
        f'<th scope="col"{kind}>{escape(cell)}</th>'
        for cell, kind in zip(header, kinds, strict=True)
    )
    lines = "".join(f"<tr>{''.join(map(_cell, header, kinds, row))}</tr>" for row in rows)
    # Not a caption element: it would be as wide as the table, and scroll away with it.
    return (
        f'<p class="quiet caption">{escape(caption)}</p>'
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(caption)}"><table>'
        f"<thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table></div>"
    )


def _numeric(text: str) -> bool:
    return text in ("", NONE) or text.removeprefix("-").replace(",", "").replace(".", "").isdigit()


def _cell(name: str, kind: str, text: str) -> str:
    if text == NONE:
        kind = f'{kind[:-1]} none"' if kind else ' class="none"'
    return f'<td{kind} data-label="{escape(name)}">{escape(text)}</td>'


def code(text: str, wrapped: bool = False) -> str:
    """Return text as it is, in a box."""
    kind = ' class="wrapped"' if wrapped else ' tabindex="0"'
    return f"<pre{kind}><code>{escape(text)}</code></pre>"


def folded(summary: str, content: str) -> str:
    """Return HTML that opens on a click."""
    return f"<details><summary>{escape(summary)}</summary>{content}</details>"


def picture(content: bytes, alt: str, caption: str) -> str:
    """Return a figure with an alternative text."""
    image = f'<img src="{_data(content, "image/png")}" alt="{escape(alt)}">'
    return f"<figure>{image}<figcaption>{escape(caption)}</figcaption></figure>"


def wide_picture(content: bytes, alt: str, caption: str) -> str:
    """Return a figure that scrolls sideways on a narrow screen, rather than shrink."""
    image = f'<img src="{_data(content, "image/png")}" alt="{escape(alt)}">'
    return (
        f'<figure class="wide"><div class="scroll" tabindex="0" role="region" '
        f'aria-label="{escape(caption)}">{image}</div>'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def video(mp4: bytes, alt: str, caption: str) -> str:
    """Return a video with controls, which doesn't start by itself."""
    return (
        f'<figure class="wide"><div class="scroll"><video controls loop muted playsinline '
        f'preload="auto" aria-label="{escape(alt)}" src="{_data(mp4, "video/mp4")}"></video></div>'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def figures(parts: Sequence[str]) -> str:
    """Return figures beside each other, as many as fit."""
    return f'<div class="figures">{"".join(parts)}</div>'


def hint(text: str) -> str:
    """Return a hint that stands out."""
    return f'<p class="hint">{escape(text)}</p>'


def _data(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
