"""A shop that learns what suits each customer, in one file: the integration that the tutorial ends in.

    .venv/bin/python examples/shop.py [PORT]    # then open http://127.0.0.1:8200/nia

Reads ALIGNX_URL and ALIGNX_API_KEY. The shelf stands in the order that suits the customer, a click on a thing is
recorded, and the customer reads what is known of them, corrects it and asks for advice.
"""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from html import escape
from urllib.parse import parse_qsl

import uvicorn
from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import HTMLResponse, RedirectResponse

from alignx import AsyncAlignX, ClickInteraction, ItemFields, ProblemError

SHELF = {
    "drone": ItemFields(title="Desk drone with lights", category="gadgets", price=15),
    "lamp": ItemFields(title="Party lamp", category="gadgets", price=20),
    "poncho": ItemFields(title="Funny poncho with a sloth", category="gadgets", price=9),
    "tent": ItemFields(title="Tent whose poles can be replaced", category="outdoor gear", price=170),
    "socks": ItemFields(title="Wool socks with a repair service", category="outdoor gear", price=25),
    "flask": ItemFields(title="Steel flask, spare lids for twenty years", category="outdoor gear", price=38),
}
PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Shop</title>
<h1>For {customer}</h1><ol>{shelf}</ol>
<h2>What we know of you</h2>
<form method="post" action="/{customer}/summary"><textarea name="text" cols="70" rows="6">{summary}</textarea>
<input type="hidden" name="etag" value="{etag}"><button>This is right</button></form>
<h2>Advice</h2><form><input name="ask" size="60" aria-label="Question"><button>Ask</button></form><p>{advice}</p>"""
ENTRY = """<li><form method="post" action="/{customer}/open/{name}"><button>{title}</button> {reason}</form></li>"""


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, AsyncAlignX]]:
    async with AsyncAlignX() as alignx:
        yield {"alignx": alignx}


app = FastAPI(lifespan=lifespan)


@app.get("/{customer}")
async def show(customer: str, request: Request, ask: str = "") -> HTMLResponse:
    alignx: AsyncAlignX = request.state.alignx
    names = list(SHELF)
    ranking = await alignx.recommend(customer, list(SHELF.values()), k=len(SHELF), explain=True)
    shelf = "".join(
        ENTRY.format(
            customer=escape(customer),
            name=names[item.index],
            title=escape(SHELF[names[item.index]].title),
            reason=escape(item.reason or ""),
        )
        for item in ranking.items
    )
    advice = await advise(alignx, customer, ask) if ask else ""
    summary, etag = await read_summary(alignx, customer)
    texts = {"customer": customer, "summary": summary, "etag": etag, "advice": advice}
    return HTMLResponse(PAGE.format(shelf=shelf, **{name: escape(text) for name, text in texts.items()}))


@app.post("/{customer}/open/{name}")
async def record(customer: str, name: str, request: Request) -> RedirectResponse:
    """What was taken, and what else stood there: a choice tells more than a click alone."""
    if name not in SHELF:
        raise HTTPException(404)
    click = ClickInteraction(query="the shelf", clicked=SHELF[name], shown=tuple(SHELF.values()))
    await request.state.alignx.append(customer, [click])
    return RedirectResponse(f"/{customer}", status_code=303)


@app.post("/{customer}/summary")
async def correct(customer: str, request: Request) -> RedirectResponse:
    """A summary that has changed since the page was shown is not written over."""
    alignx: AsyncAlignX = request.state.alignx
    fields = dict(parse_qsl((await request.body()).decode()))
    if "text" in fields:  # an empty one is left out
        try:
            await alignx.edit(customer, fields["text"], if_match=fields.get("etag", "*"))
        except ProblemError as error:
            raise HTTPException(error.status, str(error)) from error
    return RedirectResponse(f"/{customer}", status_code=303)


async def read_summary(alignx: AsyncAlignX, customer: str) -> tuple[str, str]:
    """The text and its ETag, which a correction names; of somebody new no text, and any."""
    try:
        current = await alignx.preferences(customer)
    except ProblemError as error:
        if error.code != "user_unknown":
            raise
        return "", "*"
    return current.text, current.etag


async def advise(alignx: AsyncAlignX, customer: str, question: str) -> str:
    """Of the language model, by the summary; its absence is said, not hidden."""
    try:
        return (await alignx.chat([{"role": "user", "content": question}], user=customer, mode="summary")).text
    except ProblemError as error:
        return str(error)


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]) if len(sys.argv) > 1 else 8200, log_level="warning")
