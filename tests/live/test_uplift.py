"""Users held out, feedback and the figures, through the gateway, by the SDK."""

import pytest

from alignx import AlignX, PurchaseInteraction
from alignx.client.errors import ProblemError
from tests.live.suite import Suite

pytestmark = pytest.mark.live

USERS = 20


def test_a_holdout_is_served_counted_and_told(suite: Suite) -> None:
    with AlignX(suite.url, suite.new_key("uplift", admin=True)) as alignx:
        alignx.change_tenant_settings("uplift", {"holdout_share": 0.5})
        arms = {"control": 0, "personalized": 0}
        for number in range(USERS):
            user = f"user-{number}"
            alignx.append(user, [PurchaseInteraction(item="green tea")])
            answer = alignx.select(user, ["green tea", "black coffee"])
            assert answer.arm is not None and answer.response_id is not None  # noqa: PT018
            assert (answer.basis == ("popular",)) is (answer.arm == "control")
            arms[answer.arm] += 1
            alignx.append(user, [PurchaseInteraction(item="green tea")])
            alignx.feedback(answer.response_id, user=user, thumb="up")
        found = alignx.uplift()
        assert {arm: figures.accuracy.trials for arm, figures in found.arms.items()} == arms
        assert min(arms.values()) > 1
        assert found.arms["personalized"].accuracy.rate == 1.0
        assert found.uplift.keys() == {"accuracy", "feedback_rate"}
        token = alignx.mint_token("user-0", ["events:write"], expires_in_s=60)
    assert f'alignx_arm_served_total{{arm="control",kind="selection",tenant="other"}} {arms["control"]}' in (
        suite.metrics("response")
    )
    with AlignX(suite.url, token.token) as browser:
        with pytest.raises(ProblemError) as caught:
            browser.feedback(answer.response_id, thumb="down")  # another user's answer
        assert caught.value.code == "response_unknown"
