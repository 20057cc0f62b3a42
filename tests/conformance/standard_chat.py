"""langchain-tests' standard tests of a chat model: ChatOpenAI against the suite, which another environment runs.

    ALIGNX_URL=… ALIGNX_API_KEY=… ALIGNX_MODEL=… pytest tests/conformance/standard_chat.py

ALIGNX_TOOLS=off leaves out what needs an engine that calls tools and keeps to schemas.
"""

import os
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_openai import ChatOpenAI
from langchain_tests.integration_tests import ChatModelIntegrationTests

HAS_TOOLS = os.environ.get("ALIGNX_TOOLS") != "off"


class TestChatOpenAI(ChatModelIntegrationTests):
    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ChatOpenAI

    @property
    def chat_model_params(self) -> dict[str, Any]:
        url = f"{os.environ['ALIGNX_URL']}/v1"
        return {"model": os.environ["ALIGNX_MODEL"], "base_url": url, "api_key": os.environ["ALIGNX_API_KEY"]}

    has_tool_calling = has_structured_output = property(lambda self: HAS_TOOLS)
    supports_json_mode = property(lambda self: HAS_TOOLS)
