import json
from typing import Any

import pytest

from gateway.pages import merge
from gateway.routing import Service
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
    assert list(operation["responses"]) == ["200", "401", "403", "429"]
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
    assert merged["components"]["schemas"] == {"Answer": first, "ResponseAnswer": second, "Same": first}
    text = json.dumps(merged["paths"]["/v1/b"])
    assert "#/components/schemas/ResponseAnswer" in text
    assert "#/components/schemas/Answer" in json.dumps(merged["paths"]["/v1/a"])


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
