"""On which paths an error has the shape that OpenAI's or Anthropic's clients parse."""

OPENAI_PATHS = tuple(
    f"/v1/{name}"
    for name in (
        "assistants", "audio", "batches", "chat", "completions", "conversations", "embeddings", "evals", "files",
        "fine_tuning", "images", "models", "moderations", "realtime", "responses", "threads", "uploads",
        "vector_stores", "videos",
    )
)  # fmt: skip
"""Paths on which OpenAI's clients call and expect its error shape, those that lead nowhere here among them."""
ANTHROPIC_PATHS = ("/v1/messages",)
ANTHROPIC_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
}
"""By status; others are `invalid_request_error` or `api_error`."""
