"""The shop of the tutorial, on a running suite."""

from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient

from examples.shop import app
from tests.live.suite import Suite


@pytest.fixture
def shop(suite: Suite, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    monkeypatch.setenv("ALIGNX_URL", suite.url)
    monkeypatch.setenv("ALIGNX_API_KEY", suite.new_key("shop"))
    with TestClient(app) as client:
        yield client


def test_the_shelf_follows_what_is_taken(shop: TestClient) -> None:
    for _ in range(3):
        page = shop.post("/tim/open/poncho").text  # which leads back to the shelf
    assert page.index("Party lamp") < page.index("Wool socks")
    assert "which they lean towards" in page
    assert shop.post("/tim/open/nothing").status_code == 404


def test_a_customer_corrects_what_is_known(shop: TestClient) -> None:
    shop.post("/zoe/open/tent")
    page = shop.post("/zoe/summary", data={"text": "Only <b>gear</b> that lasts."}).text
    assert "Only &lt;b&gt;gear&lt;/b&gt; that lasts." in page


def test_advice_says_that_there_is_no_language_model(shop: TestClient) -> None:
    assert "language model" in shop.get("/ann", params={"ask": "What keeps me dry?"}).text


def test_somebody_new_writes_and_a_stale_text_is_refused(shop: TestClient) -> None:
    assert 'name="etag" value="*"' in shop.post("/lou/summary", data={"text": "", "etag": "*"}).text
    page = shop.post("/lou/summary", data={"text": "I like tents.", "etag": "*"}).text
    assert ">I like tents.</textarea>" in page
    assert 'name="etag" value="&quot;1&quot;"' in page
    assert ">Boots.</textarea>" in shop.post("/lou/summary", data={"text": "Boots.", "etag": '"1"'}).text
    assert shop.post("/lou/summary", data={"text": "Socks.", "etag": '"1"'}).status_code == 412
