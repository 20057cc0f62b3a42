"""A report as one HTML page that needs nothing else: pictures inside, no script, no link to outside."""

import base64
import re
from collections.abc import Iterable
from html import escape
from pathlib import Path
from typing import Final

from evaluation.reporting.document import Block, Heading, Picture, Table, Text

CODE = re.compile(r"`([^`]+)`")
STYLE: Final = """
:root { color-scheme: light dark; --ink: #1f2328; --paper: #ffffff; --line: #d0d7de; --band: #f6f8fa; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6edf3; --paper: #0d1117; --line: #30363d; --band: #161b22; }
}
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }
.wide { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; }
th, td { border: 1px solid var(--line); padding: .3rem .6rem; text-align: right; vertical-align: top; }
th.name, td.name { text-align: left; }
thead th, tbody tr:nth-child(even) { background: var(--band); }
img { max-width: 100%; background: #ffffff; border: 1px solid var(--line); border-radius: 6px; padding: .5rem;
  box-sizing: border-box; }
code { background: var(--band); padding: .1rem .3rem; border-radius: 3px; }
"""


def page(blocks: Iterable[Block], *, title: str, pictures: Path) -> str:
    """`pictures` is the folder where the pictures lie. Raises OSError for one that is not there."""
    body = "\n".join(_html(block, pictures) for block in blocks)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def _html(block: Block, pictures: Path) -> str:
    match block:
        case Heading(text, level):
            return f"<h{level}>{_inline(text)}</h{level}>"
        case Text(text):
            return f"<p>{_inline(text)}</p>"
        case Picture(file, about):
            inside = base64.b64encode((pictures / file).read_bytes()).decode()
            return f'<p><img alt="{escape(about)}" src="data:image/svg+xml;base64,{inside}"></p>'
        case Table(head, rows, names):
            lines = "\n".join(_line(row, "td", names) for row in rows)
            return (
                f'<div class="wide"><table>\n<thead>{_line(head, "th", names)}</thead>\n'
                f"<tbody>\n{lines}\n</tbody>\n</table></div>"
            )


def _line(cells: tuple[str, ...], tag: str, names: int) -> str:
    opened = [f'<{tag} class="name">' if place < names else f"<{tag}>" for place in range(len(cells))]
    return f"<tr>{''.join(f'{start}{_inline(text)}</{tag}>' for start, text in zip(opened, cells, strict=True))}</tr>"


def _inline(text: str) -> str:
    return CODE.sub(r"<code>\1</code>", escape(text, quote=False))
