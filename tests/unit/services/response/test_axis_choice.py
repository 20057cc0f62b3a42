"""Axis adapters in a chat: which one the engine is asked for, what the answer says of it, and what is refused."""

import math
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from alignx.schemas.tenants import TenantSettings
from services.axes import GRID_FILE, ROUTER_FILE, SERVED_FILE, AxisGrid, GridPoint, ServedMerge
from services.outcomes.served import arm_of
from services.profile.word_table import WIDTH, embed
from services.response.axis_choice import NOT_SERVED, AxisChooser, count_axes
from services.settings import AxesSettings
from services.storage.timed_cache import TimedCache
from tests.unit.services.engine.fake_engine import fails
from tests.unit.services.response.conftest import ANSWER, Serve, Service

THIRD = 1 / 3
POINTS = {
    "axes-100-0-0": (1.0, 0.0, 0.0),
    "axes-0-100-0": (0.0, 1.0, 0.0),
    "axes-0-0-100": (0.0, 0.0, 1.0),
    "axes-50-50-0": (0.5, 0.5, 0.0),
    "axes-33-33-33": (THIRD, THIRD, THIRD),
}
STATIC = "axes-50-50-0"
HELPFUL = {"axes": {"helpful": 1}}


def write_grid(folder: Path, *names: str) -> None:
    points = tuple(GridPoint(name=name, weights=POINTS[name]) for name in names)
    (folder / GRID_FILE).write_text(AxisGrid(rank=64, points=points).model_dump_json())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A grid whose static merge is served."""
    write_grid(tmp_path, *POINTS)
    (tmp_path / SERVED_FILE).write_text(ServedMerge(static=STATIC, routed=False).model_dump_json())
    return tmp_path


@pytest.fixture
def with_axes(serve: Serve, folder: Path) -> Service:
    service = serve(axes={"folder": folder})
    service.engine.models += POINTS
    return service


def asked(service: Service) -> Any:
    """The model of the last chat, as the engine got it."""
    return service.engine.bodies[-1]["model"]


def axes_of(answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 200, answer.text
    axes: dict[str, Any] = answer.json()["personalization"]["axes"]
    return axes


def refusal(answer: httpx.Response) -> tuple[str, str]:
    """The field and the message of a chat that is refused."""
    assert answer.status_code == 422, answer.text
    return answer.json()["error"]["param"], answer.json()["error"]["message"]


# --- which adapter -----------------------------------------------------------------------------


def test_the_nearest_adapter_answers_and_is_told(with_axes: Service) -> None:
    answer = with_axes.chat(personalization={"axes": {"helpful": 0.5, "harmless": 0.3, "honest": 0.2}})
    assert asked(with_axes) == "axes-33-33-33"
    distance = math.dist((0.5, 0.3, 0.2), POINTS["axes-33-33-33"])
    assert answer.json()["personalization"] == {
        "mode": "none", "user": None, "version": None, "history": 0,
        "axes": {
            "adapter": "axes-33-33-33", "weights": {"helpful": 0.5, "harmless": 0.3, "honest": 0.2},
            "distance": pytest.approx(distance), "chosen": "requested", "confidence": None, "raised": False,
        },
    }  # fmt: skip
    assert 'alignx_axes_chats_total{adapter="axes-33-33-33",chosen="requested"} 1.0' in (
        with_axes.http.get("/metrics").text
    )


def test_only_the_ratio_of_the_weights_counts(with_axes: Service) -> None:
    axes = axes_of(with_axes.chat(personalization={"axes": {"helpful": 1, "harmless": 1}}))
    assert (axes["adapter"], axes["distance"]) == ("axes-50-50-0", 0)
    assert axes["weights"] == {"helpful": 0.5, "harmless": 0.5, "honest": 0.0}


def test_without_weights_the_static_merge_answers(with_axes: Service) -> None:
    with_axes.write_summary("ada", "Likes brevity.")
    answer = with_axes.chat(user="ada", model="tiny")
    assert asked(with_axes) == STATIC
    assert (axes_of(answer)["chosen"], axes_of(answer)["adapter"]) == ("static", STATIC)
    assert answer.json()["personalization"]["mode"] == "summary"
    assert "Likes brevity." in with_axes.sent()[1]["content"]


def test_weights_go_with_a_users_summary(with_axes: Service) -> None:
    with_axes.write_summary("ada", "Likes brevity.")
    used = with_axes.chat(user="ada", personalization=HELPFUL).json()["personalization"]
    assert (used["mode"], used["version"], used["axes"]["adapter"]) == ("summary", 1, "axes-100-0-0")


def test_a_user_who_is_held_out_has_axes_too(with_axes: Service) -> None:
    with_axes.configure("acme", holdout_share=0.5)
    user = next(name for name in map(str, range(99)) if arm_of("acme", name, 0.5) == "control")
    used = with_axes.chat(user=user, personalization=HELPFUL).json()["personalization"]
    assert (used["arm"], used["mode"], used["axes"]["adapter"]) == ("control", "none", "axes-100-0-0")


def test_a_mode_without_a_user_is_refused_as_ever(with_axes: Service) -> None:
    answer = with_axes.chat(personalization=HELPFUL | {"mode": "summary"})
    assert refusal(answer)[0] == "user"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("responses", {"input": "Hello."}),
        ("messages", {"messages": [{"role": "user", "content": "Hello."}], "max_tokens": 9}),
    ],
)
def test_the_other_apis_take_weights_too(with_axes: Service, path: str, body: dict[str, Any]) -> None:
    answer = with_axes.http.post(f"/v1/{path}", json=body | {"personalization": HELPFUL})
    assert axes_of(answer)["adapter"] == "axes-100-0-0"
    assert asked(with_axes) == "axes-100-0-0"


def test_a_router_chooses_where_the_grid_says_so(serve: Serve, folder: Path) -> None:
    head = np.zeros((3, WIDTH), np.float32)
    head[2] = 9 * embed(["Is it true that bulls hate red?"])[0]
    np.savez(folder / ROUTER_FILE, head=head, temperature=1.0)
    (folder / SERVED_FILE).write_text(ServedMerge(static=STATIC, routed=True).model_dump_json())
    service = serve(axes={"folder": folder})
    axes = axes_of(service.chat("Is it true that bulls hate red?"))
    assert (axes["adapter"], axes["chosen"]) == ("axes-0-0-100", "routed")
    assert axes["confidence"] == axes["weights"]["honest"] > 0.9
    assert axes_of(service.chat(personalization=HELPFUL))["confidence"] is None


# --- floor and allow-list ----------------------------------------------------------------------


def test_a_floor_raises_weights_and_no_adapter_below_it_answers(serve: Serve, folder: Path) -> None:
    service = serve(axes={"folder": folder, "harmless_floor": 0.1})
    axes = axes_of(service.chat(personalization={"axes": {"helpful": 0.9, "honest": 0.1}}))
    assert axes["weights"] == pytest.approx({"helpful": 0.81, "harmless": 0.1, "honest": 0.09})
    assert axes["raised"] is True
    assert axes["adapter"] == "axes-50-50-0", "axes-100-0-0 is nearer, and has nothing of harmlessness"
    assert axes_of(service.chat())["raised"] is False


def test_a_tenant_has_the_adapters_of_its_list_alone(with_axes: Service) -> None:
    with_axes.configure("acme", axis_adapters=["axes-0-100-0", "axes-of-another-grid"])
    assert axes_of(with_axes.chat(personalization=HELPFUL))["adapter"] == "axes-0-100-0"
    assert axes_of(with_axes.chat())["adapter"] == "axes-0-100-0"
    other = with_axes.client("other").post("/v1/chat/completions", json=CHAT | {"personalization": HELPFUL})
    assert axes_of(other)["adapter"] == "axes-100-0-0"


def test_a_tenant_without_an_adapter_is_answered_by_the_base(with_axes: Service) -> None:
    with_axes.configure("acme", axis_adapters=[])
    field, message = refusal(with_axes.chat(personalization=HELPFUL))
    assert field == "personalization.axes"
    assert "not served for this tenant" in message
    answer = with_axes.chat()
    assert (answer.status_code, asked(with_axes)) == (200, "tiny")
    assert "axes" not in answer.json()["personalization"]


# --- refusals ----------------------------------------------------------------------------------

CHAT = {"messages": [{"role": "user", "content": "Hello."}]}


def test_where_no_axes_are_served_they_are_refused_by_name_and_nothing_else_changes(service: Service) -> None:
    assert refusal(service.chat(personalization=HELPFUL)) == (
        "personalization.axes", f"personalization.axes: {NOT_SERVED}"
    )  # fmt: skip
    assert service.engine.bodies == []
    answer = service.chat(model="tiny")
    assert answer.json() == {**ANSWER, "personalization": {"mode": "none", "user": None, "version": None, "history": 0}}
    assert 'adapter="' not in service.http.get("/metrics").text


@pytest.mark.parametrize(
    ("axes", "field", "words"),
    [
        ({"helpful": 1.5}, "personalization.axes.helpful", "less than or equal to 1"),
        ({"harmless": -0.1}, "personalization.axes.harmless", "greater than or equal to 0"),
        ({"honest": "much"}, "personalization.axes.honest", "valid number"),
        ({"honest": True}, "personalization.axes.honest", "valid number"),
        ({"funny": 1}, "personalization.axes.funny", "not permitted"),
        ({"helpful": 0}, "personalization.axes", "at least one weight must be above 0"),
        ({}, "personalization.axes", "at least one weight must be above 0"),
    ],
)
def test_weights_that_are_none_are_refused_with_field_and_limit(
    with_axes: Service, axes: dict[str, Any], field: str, words: str
) -> None:
    found, message = refusal(with_axes.chat(personalization={"axes": axes}))
    assert found == field
    assert words in message
    assert with_axes.engine.bodies == []


def test_no_chat_names_an_adapter_itself(with_axes: Service) -> None:
    """The floor and the tenant's list would not hold."""
    assert refusal(with_axes.chat(model="axes-100-0-0"))[0] == "model"
    assert [model["id"] for model in with_axes.http.get("/v1/models").json()["data"]] == ["tiny"]
    assert with_axes.http.get("/v1/models/axes-100-0-0").status_code == 404


def test_another_model_of_the_engine_has_no_axes(with_axes: Service) -> None:
    field, message = refusal(with_axes.chat(model="another", personalization=HELPFUL))
    assert (field, "only the model 'tiny'" in message) == ("personalization.axes", True)
    assert "axes" not in with_axes.chat(model="another").json()["personalization"]
    assert asked(with_axes) == "another"


def test_an_engine_without_the_adapter_is_at_fault_and_not_the_caller(with_axes: Service) -> None:
    with_axes.engine.chat = fails(404)
    answer = with_axes.chat(personalization=HELPFUL)
    assert answer.status_code == 503
    assert "not loaded the adapter axes-100-0-0" in answer.json()["error"]["message"]


async def no_settings(_tenant: str) -> TenantSettings:
    return TenantSettings()


@pytest.mark.parametrize(
    ("broken", "floor", "why"),
    [
        (lambda folder: (folder / GRID_FILE).unlink(), 0, r"holds no grid\.json"),
        (lambda folder: (folder / SERVED_FILE).unlink(), 0, r"holds no served\.json"),
        (lambda folder: (folder / SERVED_FILE).write_text('{"static": "axes-50-50-0", "routed": true}'), 0, "router"),
        (lambda folder: write_grid(folder, STATIC), 0.9, "no adapter of .* has 0.9 of harmlessness"),
    ],
)
def test_a_folder_that_serves_nothing_is_refused_at_the_start(
    folder: Path, broken: Any, floor: float, why: str
) -> None:
    settings = AxesSettings(folder=folder, harmless_floor=floor)
    chats = count_axes(CollectorRegistry())
    assert AxisChooser.read(AxesSettings(), TimedCache(no_settings), chats) is None
    broken(folder)
    with pytest.raises(ValueError, match=why):
        AxisChooser.read(settings, TimedCache(no_settings), chats)
