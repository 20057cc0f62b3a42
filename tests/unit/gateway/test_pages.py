import json
from typing import Any

import pytest
from pydantic import TypeAdapter

from alignx.schemas import forgetting, many_users, outcomes, requests, tenants, webhooks
from gateway.pages import merge, problems_of
from gateway.routing import OPERATIONS, Service
from services.errors import ANTHROPIC_PATHS, OPENAI_PATHS
from tests.contract.declared import documents, merged_document
from tests.unit.gateway.conftest import Suite, hang_up, http_answer

pytestmark = pytest.mark.anyio


def document(path: str, **schemas: Any) -> dict[str, Any]:
    reference = {"$ref": "#/components/schemas/Answer"}
    parameters = [
        {"name": "X-AlignX-Tenant", "in": "header"},
        {"name": "x-alignx-internal", "in": "header"},
        {"name": "Prefer", "in": "header"},
    ]
    content = {"application/json": {"schema": reference}}
    operation = {"summary": path, "parameters": parameters, "responses": {"200": {"content": content}}}
    paths = {path: {"get": operation}, "/livez": {"get": {}}, "/metrics": {"get": {}}}
    return {"openapi": "3.1.0", "info": {"title": "x"}, "paths": paths, "components": {"schemas": schemas}}


OWN = {"openapi": "3.1.0", "info": {"title": "Suite", "description": "All."}, "paths": {"/livez": {"get": {}}}}


def test_public_paths_are_merged_with_security_and_without_internal_headers() -> None:
    path = "/v1/users/{user}/preferences"
    parts: dict[Service, Any] = {"preference": document(path), "response": document("/v1/models")}
    merged = merge(OWN, parts, [])
    assert set(merged["paths"]) == {path, "/v1/models", "/livez"}
    operation = merged["paths"][path]["get"]
    assert [entry["name"] for entry in operation["parameters"]] == ["Prefer"]
    assert operation["security"] == [{"key": ["preferences:read"]}, {"user_token": ["preferences:read"]}]
    statuses = ["200", "400", "401", "403", "404", "405", "413", "429", "431", "500", "503"]
    assert list(operation["responses"]) == statuses
    assert "application/problem+json" in operation["responses"]["403"]["content"]
    assert merged["paths"]["/v1/models"]["get"]["security"] == [{"key": ["chat"]}]
    assert "application/json" in merged["paths"]["/v1/models"]["get"]["responses"]["403"]["content"]
    assert "security" not in merged["paths"]["/livez"]["get"]
    assert merged["components"]["securitySchemes"]["key"]["scheme"] == "bearer"
    assert merged["info"]["title"] == "Suite"


def test_components_of_one_name_and_two_meanings_are_told_apart() -> None:
    first, second = {"type": "object"}, {"type": "string"}
    parts: dict[Service, Any] = {
        "preference": document("/v1/a", Answer=first),
        "response": document("/v1/b", Answer=second, Same=first),
    }
    merged = merge(OWN, parts, [])
    assert merged["components"]["schemas"].pop("Problem")["properties"]["scope"]
    assert merged["components"]["schemas"].pop("OpenAIError")["properties"]["error"]
    assert merged["components"]["schemas"].pop("AnthropicError")["properties"]["error"]
    assert merged["components"]["schemas"] == {"Answer": first, "ResponseAnswer": second, "Same": first}
    text = json.dumps(merged["paths"]["/v1/b"])
    assert "#/components/schemas/ResponseAnswer" in text
    assert "#/components/schemas/Answer" in json.dumps(merged["paths"]["/v1/a"])


CALLS = [(path, method) for path, calls in merged_document()["paths"].items() for method in calls]
EVERYWHERE = {"400", "405", "431", "500", "503"}
WITH_A_KEY = {"401", "403", "429"}
FURTHER = {
    "GET /metrics": set[str](),
    "POST /v1/users/{user}/events": {"413", "415", "422"},
    "PUT /v1/users/{user}/preferences": {"412", "413", "415", "422", "428"},
    "POST /v1/users/{user}/preferences/rollback": {"404", "412", "413", "415", "422"},
    "GET /v1/users/{user}/preferences/versions/{version}": {"404", "413", "422"},
    "POST /v1/users/{user}/select": {"404", "413", "415", "422", "501", "502"},
    "POST /v1/chat/completions": {"404", "413", "415", "422", "501", "502"},
    "GET /v1/models": {"413", "502"},
    "GET /v1/quality": {"413"},
    "GET /admin/keys": {"422"},
    "POST /admin/keys/{key_id}/rotate": {"404", "409", "413", "415", "422"},
}
"""What some calls of each kind can be refused with beside the two sets above, written by hand."""


@pytest.mark.parametrize(("path", "method"), CALLS)
def test_a_call_declares_the_status_of_each_error_that_it_can_end_with(path: str, method: str) -> None:
    own, parts = documents()
    operation = next(part["paths"][path][method] for part in (*parts.values(), own) if path in part["paths"])
    raised = {str(problem.status) for problem in problems_of(path, method, operation)}
    refusals = {status for status in merged_document()["paths"][path][method]["responses"] if status >= "400"}
    assert refusals == raised
    needed = WITH_A_KEY if method.upper() in OPERATIONS.get(path, {}) else set[str]()
    by_hand = FURTHER.get(f"{method.upper()} {path}")
    assert refusals >= EVERYWHERE | needed if by_hand is None else refusals == EVERYWHERE | needed | by_hand


def test_errors_are_named_for_calls_that_exist() -> None:
    known = {(path, method.upper()) for path, method in CALLS}
    assert {(path, method) for path, calls in OPERATIONS.items() for method in calls} <= known
    assert {f"{method} {path}" for path, method in known} >= FURTHER.keys()


def test_each_error_has_an_example_in_the_shape_in_which_it_comes() -> None:
    document = merged_document()
    for path, method in CALLS:
        for status, answer in document["paths"][path][method]["responses"].items():
            for kind, content in answer.get("content", {}).items() if status >= "400" else ():
                if kind == "application/json" and not path.startswith((*OPENAI_PATHS, *ANTHROPIC_PATHS)):
                    assert (path, status) == ("/readyz", "503")
                    continue
                for code, reference in content["examples"].items():
                    value = document["components"]["examples"][reference["$ref"].rpartition("/")[2]]["value"]
                    is_problem = kind == "application/problem+json"
                    if not is_problem and path.startswith(ANTHROPIC_PATHS):
                        assert (value["type"], "code" in value["error"]) == ("error", False)
                        continue
                    assert (value["type"] if is_problem else value["error"]["code"]).endswith(code)
                    assert not is_problem or value["status"] == int(status)


async def test_the_document_is_served_and_degrades(suite: Suite) -> None:
    body = json.dumps(document("/v1/users/{user}/select")).encode()
    suite.response.answer(http_answer(body))
    suite.preference.handler = hang_up
    status, _, merged = await suite.json("GET", "/openapi.json", key="")
    assert status == 200
    assert {"/v1/users/{user}/select", "/admin/keys", "/admin/keys/{key_id}", "/readyz"} <= set(merged["paths"])
    assert "preference service does not answer" in merged["info"]["description"]
    assert merged["paths"]["/admin/keys"]["post"]["security"] == [{"key": ["admin"]}]
    calls = len(suite.response.seen)
    await suite.json("GET", "/openapi.json", key="")
    assert len(suite.response.seen) == calls  # kept for a while


def test_each_json_body_has_examples_that_are_valid() -> None:
    document = merged_document()
    models: dict[str, Any] = {}
    for module in (requests, outcomes, tenants, forgetting, many_users, webhooks):
        models |= {name: found for name, found in vars(module).items() if isinstance(found, type)}
    checked = 0
    for path, method in CALLS:
        body = document["paths"][path][method].get("requestBody")
        content = body["content"].get("application/json") if body else None
        if content is None:
            continue
        schema = content["schema"]
        reference = schema.get("$ref") or next((part["$ref"] for part in schema.get("anyOf", ()) if "$ref" in part), "")
        name = reference.rpartition("/")[2] or "TenantSettings"
        if path.startswith((*OPENAI_PATHS, *ANTHROPIC_PATHS)):
            assert document["components"]["schemas"][name]["example"]
            continue
        for example in content["examples"].values():
            TypeAdapter(models[name]).validate_json(json.dumps(example["value"]))
            checked += 1
    assert checked
