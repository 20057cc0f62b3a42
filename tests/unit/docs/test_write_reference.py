from collections.abc import Callable

import pytest

from docs.write_reference import FOLDER, PAGES


@pytest.mark.parametrize(("name", "page"), PAGES.items())
def test_page_is_what_the_code_says(name: str, page: Callable[[], str]) -> None:
    assert (FOLDER / name).read_text() == page(), "run: python -m docs.write_reference"
