"""What a page of the site would load from elsewhere is found; a link that a reader may follow is not that."""

from pathlib import Path

import pytest

from docs.check_site import find_loaded


@pytest.mark.parametrize(
    "text",
    [
        '<script src="https://cdn.example/x.js"></script>',
        '<link rel="stylesheet" href="//cdn.example/x.css">',
        "<img alt='a' src='http://cdn.example/x.png'>",
        '<pre class="mermaid"><code>flowchart TD</code></pre>',
        "<style>@import 'https://cdn.example/x.css';</style>",
        "<style>@font-face { src: url(https://cdn.example/x.woff2) }</style>",
    ],
)
def test_what_another_machine_serves_is_found(text: str, tmp_path: Path) -> None:
    (tmp_path / "how-to").mkdir()
    (tmp_path / "how-to/page.html").write_text(f"<p>{text}</p>")
    (found,) = find_loaded(tmp_path)
    assert found.startswith("how-to/page.html: ")


def test_own_files_and_links_are_none(tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text(
        '<a class="x" href="https://example.org">site</a><script src="assets/x.js"></script>'
        '<img src="pictures/x.png"><code>&lt;img src="https://example.org/x.png"&gt;</code>'
    )
    (tmp_path / "own.css").write_text("a { background: url(data:image/svg+xml;utf8,x) }")
    assert list(find_loaded(tmp_path)) == []
