"""The JavaScript client as its user has it: packed, installed from the file in an empty folder, type-checked in a
strict project and run by Node, against the suite. The pages that explain it are run as they stand."""

import json
import os
import re
import shutil
from pathlib import Path

import pytest

import alignx
from alignx.client import admin_endpoints
from alignx.client.client import AlignX
from alignx.schemas.tenants import KeyRequest
from tests.live.clients.tool_engine import MODEL
from tests.live.suite import ROOT, Suite, run

pytestmark = [pytest.mark.live, pytest.mark.xdist_group("npm")]

PACKAGE = ROOT / "clients" / "npm"
PAGES = [(ROOT / page).read_text() for page in ("clients/npm/README.md", "docs/how-to/javascript.md")]
EXAMPLES = [text for page in PAGES for text in re.findall(r"^```ts\n(.*?)^```", page, re.MULTILINE | re.DOTALL)]
NOT_IN_JAVASCRIPT = {"append_all", "close", "send"}


@pytest.fixture(scope="module")
def project(client_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's project with the packed client, and the examples of the pages."""
    folder = tmp_path_factory.mktemp("npm-user")
    shutil.copytree(ROOT / "tests/live/clients/npm_user", folder, dirs_exist_ok=True)
    for number, example in enumerate(EXAMPLES):
        (folder / f"example{number}.ts").write_text(f"{example}export {{}};\n")
    (folder / "package.json").write_text('{"private": true, "type": "module"}')
    run_node(client_python, PACKAGE, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
    run_node(client_python, PACKAGE, "npm", "pack", "--pack-destination", folder)
    packed = folder / f"alignx-client-{alignx.__version__}.tgz"
    run_node(client_python, folder, "npm", "install", "--no-audit", "--no-fund", packed, "@types/node@22")
    return folder


def run_node(python: Path, folder: Path, *command: object, **environment: str) -> str:
    path = f"{python.parent}{os.pathsep}{os.environ['PATH']}"
    return run(*command, folder=folder, timeout_s=180, PATH=path, **environment).stdout


def visit(python: Path, project: Path, suite: Suite, program: str, tenant: str) -> str:
    key = suite.new_key(tenant)
    return run_node(python, project, "node", program, ALIGNX_URL=suite.url, ALIGNX_API_KEY=key, ALIGNX_MODEL=MODEL)


def test_a_strict_project_takes_the_types(client_python: Path, project: Path) -> None:
    run_node(client_python, project, "node", PACKAGE / "node_modules/typescript/bin/tsc")


def test_the_package_holds_no_more_than_it_needs(project: Path) -> None:
    installed = project / "node_modules/@alignx/client"
    about = json.loads((installed / "package.json").read_text())
    assert about["version"] == alignx.__version__
    assert "dependencies" not in about
    assert {path.name for path in installed.iterdir()} == {"README.md", "dist", "package.json"}


def test_methods_have_the_names_of_the_python_sdk(client_python: Path, project: Path) -> None:
    program = (
        "import('@alignx/client').then(m => console.log(Object.getOwnPropertyNames(m.AlignX.prototype).join(' ')))"
    )
    names = set(run_node(client_python, project, "node", "-e", program).split())
    python = {name for name in dir(AlignX) if not name.startswith("_")}
    assert python - names == NOT_IN_JAVASCRIPT
    assert names - python == {"call", "constructor", "livez", "metrics", "read_model"}


def test_the_calls_that_are_not_sent_twice_are_those_of_the_python_sdk() -> None:
    known = [
        admin_endpoints.create_key(KeyRequest(name="feed", tenant="acme")),
        admin_endpoints.rotate_key("16e6215460b9"),
        admin_endpoints.create_webhook("https://example.org"),
        admin_endpoints.rotate_webhook("16e6215460b9"),
    ]
    assert not any(call.repeatable for call in known)
    source = Path(admin_endpoints.__file__).read_text()
    assert source.count("repeatable=False") == len(known)
    [names] = re.findall(r"NOT_REPEATABLE[^;]*Set\(\[(.*)\]\);", (PACKAGE / "src/index.ts").read_text())
    assert set(json.loads(f"[{names}]")) == {"create_key", "rotate_key", "create_webhook", "rotate_webhook"}


def test_a_user_s_program(client_python: Path, project: Path, talking_suite: Suite) -> None:
    seen = json.loads(visit(client_python, project, talking_suite, "use_client.ts", "npm"))
    assert seen["stored"] == [1, 2, True]
    assert "short answers" in seen["text"]  # the mock engine's
    assert (seen["unchanged"], seen["changed"], seen["stale"]) == (None, "Likes short books.", [412, "stale_version"])
    assert (seen["diff"], seen["versions"]) == (2, [3, 2, 1])
    assert (seen["outcomes"], seen["users"]) == ([202, 422], ["js ä", "js-1"])
    assert (seen["events"], seen["choice"]) == (120, 0)
    assert seen["chat"] == ["You said: Hello.", "js ä"]
    assert seen["stream"] == ["You said: Hello.\u2028You.", "js ä"]
    assert (seen["watched"], seen["exported"]) == (3, True)
    assert seen["errors"] == [
        [404, "user_unknown"],
        [404, "model_not_found"],
        [401, "unauthenticated"],
        [422, "invalid_request"],
    ]


@pytest.mark.parametrize(
    ("number", "printed"),
    list(enumerate(["short answers", "412", "ada", "You said: Suggest a book."])),
)
def test_an_example_of_the_pages(
    client_python: Path, project: Path, talking_suite: Suite, number: int, printed: str
) -> None:
    assert len(EXAMPLES) == 4
    tenant = f"npm-example-{number}"
    talking_suite.tell("ada", "I like trams.", tenant=tenant)
    assert printed in visit(client_python, project, talking_suite, f"example{number}.ts", tenant)
