"""Says what the pages of the built site would load from another machine, and fails if there is anything.

    python -m docs.check_site    # after the build; `make docs` does both

The site's own script fetches Mermaid and a few others where a page has an element for them.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

SITE: Final = Path(__file__).parent.parent / "var" / "site"
_LOADED: Final = re.compile(
    r"""<(?!a\b)\w+\b[^>]*\b(?:src|srcset|href|data|poster)=["'](?:https?:)?//[^>]*>"""
    r"""|<\w+\b[^>]*\bclass=["'][^"']*\b(?:mermaid|glightbox|pyodide)\b[^>]*>"""
    r"""|(?:@import\s+(?:url\()?|url\()["']?(?:https?:)?//[^)"';]*"""
)


def find_loaded(site: Path) -> Iterator[str]:
    """Each as the file and the element or address."""
    for path in sorted(path for path in site.rglob("*") if path.suffix in (".html", ".css")):
        for found in _LOADED.finditer(path.read_text(encoding="utf-8")):
            yield f"{path.relative_to(site)}: {found[0]}"


def main() -> None:
    if found := list(find_loaded(SITE)):
        raise SystemExit("\n".join(["loaded from elsewhere:", *found]))


if __name__ == "__main__":
    main()
