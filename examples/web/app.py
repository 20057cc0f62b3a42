"""The server of a page that calls the suite from the browser: it knows who is logged in, and mints them a token.

    make example        # with the suite running; then open http://127.0.0.1:8110

The key stays here. What the page gets reaches one user, makes five kinds of calls and ends after ten minutes.
"""

import os
import sys
from pathlib import Path

import uvicorn
from fastapi import FastAPI
from fastapi.responses import FileResponse

from alignx import AsyncAlignX
from alignx.schemas.tenants import Scope

USER = "web-visitor"  # yours comes from your session
SCOPES: tuple[Scope, ...] = ("events:write", "preferences:read", "select", "chat")
HERE = Path(__file__).parent

app = FastAPI()


@app.get("/")
async def page() -> FileResponse:
    return FileResponse(HERE / "page.html")


@app.post("/token")
async def mint() -> dict[str, str]:
    async with AsyncAlignX() as alignx:  # ALIGNX_URL, ALIGNX_API_KEY or ALIGNX_KEY_FILE
        minted = await alignx.mint_token(USER, SCOPES, expires_in_s=600)
    return {"user": USER, "token": minted.token, "url": os.environ["ALIGNX_URL"]}


if __name__ == "__main__":
    port = int(os.environ.get("EXAMPLE_PORT", "8110"))
    sys.stdout.write(f"Open http://127.0.0.1:{port}, and end with Ctrl+C.\n")
    sys.stdout.flush()
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning")
