"""A shop that learns what suits each customer, in one file: the integration that the tutorial ends in.

    .venv/bin/python examples/shop.py [PORT]    # then open http://127.0.0.1:8200/nia

Reads ALIGNX_URL and ALIGNX_API_KEY. The shelf stands in the order that suits the customer, a click on a thing is
recorded, and the customer reads what is known of them, corrects it and asks for advice.
"""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from html import escape
from urllib.parse import parse_qs

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
<button>This is right</button></form>
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
    summary = await read_summary(alignx, customer)
    page = PAGE.format(customer=escape(customer), shelf=shelf, summary=escape(summary), advice=escape(advice))
    return HTMLResponse(page)


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
    alignx: AsyncAlignX = request.state.alignx
    text = parse_qs((await request.body()).decode())["text"][0]
    current = await alignx.preferences(customer)
    await alignx.edit(customer, text, if_match=current.etag)
    return RedirectResponse(f"/{customer}", status_code=303)


async def read_summary(alignx: AsyncAlignX, customer: str) -> str:
    try:
        return (await alignx.preferences(customer)).text
    except ProblemError as error:
        if error.code != "user_unknown":
            raise
        return ""


async def advise(alignx: AsyncAlignX, customer: str, question: str) -> str:
    """Of the language model, by the summary; its absence is said, not hidden."""
    try:
        return (await alignx.chat([{"role": "user", "content": question}], user=customer, mode="summary")).text
    except ProblemError as error:
        return str(error)


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]) if len(sys.argv) > 1 else 8200, log_level="warning")
