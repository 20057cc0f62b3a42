"""Every error a caller can meet: each class carries its HTTP status, its problem type and its title.

    AlignXError                     500 internal_error
    ├── RequestError                400 bad_request           the caller can fix it
    │   ├── MalformedHead           400 malformed_head
    │   ├── HeadTooLarge            431 head_too_large        names the limits
    │   ├── MalformedBody           400 malformed_body
    │   ├── InvalidRequest          422 invalid_request       names each field
    │   ├── PayloadTooLarge         413 payload_too_large     names the limit
    │   ├── UnsupportedEncoding     415 unsupported_encoding
    │   ├── UnsupportedMedia        415 unsupported_media     the body is not said to be JSON
    │   ├── Unauthenticated         401 unauthenticated
    │   │   └── CredentialExpired   401 credential_expired    a new key or user token is needed
    │   ├── Forbidden               403 forbidden             names the missing scope
    │   ├── RouteUnknown            404 route_unknown
    │   ├── MethodNotAllowed        405 method_not_allowed
    │   ├── UserUnknown             404 user_unknown
    │   ├── VersionUnknown          404 version_unknown
    │   ├── ResponseUnknown         404 response_unknown
    │   ├── EventUnknown            404 event_unknown
    │   ├── KeyUnknown              404 key_unknown
    │   ├── WebhookUnknown          404 webhook_unknown
    │   ├── ModelUnknown            404 model_not_found
    │   ├── KeyEnded                409 key_ended
    │   ├── StaleVersion            412 stale_version
    │   ├── PreconditionRequired    428 precondition_required
    │   ├── IdempotencyMismatch     422 idempotency_mismatch
    │   ├── RateLimited             429 rate_limited
    │   ├── TooManyAtOnce           429 too_many_at_once      names the limit
    │   ├── TooManyFailures         429 too_many_failures
    │   ├── UserLimited             429 user_limited
    │   └── BacklogFull             429 backlog_full
    ├── Unavailable                 503 unavailable           the caller can retry
    │   ├── Draining                503 draining
    │   ├── Overloaded              503 overloaded
    │   ├── TooManyConnections      503 too_many_connections
    │   ├── QueueFull               503 queue_full
    │   ├── StoreUnavailable        503 store_unavailable
    │   ├── UpstreamUnavailable     503 upstream_unavailable
    │   └── EngineUnavailable       503 engine_unavailable
    │       ├── BudgetSpent         429 budget_spent          the tenant's tokens of the day or month are used up
    │       ├── NoEngine            501 no_engine             this deployment has none: a retry is pointless
    │       └── EngineUnsupported   501 engine_unsupported    its engine cannot do this: a retry is pointless
    └── EngineError                 502 engine_error          the engine answered, but not usably
        ├── EngineRejected          422 engine_rejected       the engine refused this very input
        │   └── ContextExceeded     422 context_length_exceeded  prompt and answer do not fit its window
        └── UnusableReply           502 unusable_reply        the reply to an update is no summary

One handler (services/server/app.py) renders them as RFC 9457 problem+json, or in the shape that OpenAI's or
Anthropic's clients parse, on the paths which those call.
"""

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar

from alignx.schemas.status import PROBLEM_PREFIX

_OPENAI = (
    "assistants audio batches chat completions conversations embeddings evals files fine_tuning images models "
    "moderations realtime responses threads uploads vector_stores videos"
)
OPENAI_PATHS = tuple(f"/v1/{name}" for name in _OPENAI.split())
"""Paths on which OpenAI's clients call and expect its error shape, those that lead nowhere here among them."""
ANTHROPIC_PATHS = ("/v1/messages",)
_ANTHROPIC_TYPES = {
    401: "authentication_error", 403: "permission_error", 404: "not_found_error", 413: "request_too_large",
    429: "rate_limit_error", 503: "overloaded_error",
}  # fmt: skip
"""By status; others are `invalid_request_error` or `api_error`."""


class AlignXError(Exception):
    """Base of the tree. `detail` is a sentence for a person; it never holds a user's text."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"
    title: ClassVar[str] = "Something failed inside the service"

    def __init__(
        self,
        detail: str | None = None,
        *,
        errors: Sequence[Mapping[str, str]] = (),
        retry_after: float | None = None,
        headers: Mapping[str, str] = MappingProxyType({}),
        **extensions: Any,
    ) -> None:
        """`errors` lists {"field", "message"}; `retry_after` is in seconds; `headers` are further fields of the
        answer, and `extensions` members of the problem document, such as the limit that was passed."""
        super().__init__(detail or self.title)
        self.detail = detail or self.title
        self.errors = tuple(errors)
        self.retry_after = retry_after
        self.headers = headers
        self.extensions = extensions

    def problem(self, *, instance: str | None = None, request_id: str | None = None) -> dict[str, Any]:
        """The RFC 9457 document of this error."""
        body: dict[str, Any] = {
            "type": PROBLEM_PREFIX + self.code,
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            **self.extensions,
        }
        if self.errors:
            body["errors"] = list(self.errors)
        if instance:
            body["instance"] = instance
        if request_id:
            body["request_id"] = request_id
        return body

    def openai(self) -> dict[str, Any]:
        """The same error in the shape OpenAI's clients parse."""
        kind = "invalid_request_error" if self.status < 500 else "server_error"
        field = self.errors[0]["field"] if self.errors else None
        return {"error": {"message": self.detail, "type": kind, "param": field, "code": self.code}}

    def anthropic(self, *, request_id: str | None = None) -> dict[str, Any]:
        """The same error in the shape Anthropic's clients parse."""
        usual = "invalid_request_error" if self.status < 500 else "api_error"
        error = {"type": _ANTHROPIC_TYPES.get(self.status, usual), "message": self.detail}
        return {"type": "error", "error": error, "request_id": request_id}

    def document(self, path: str, *, request_id: str | None = None) -> dict[str, Any]:
        """The same error in the shape that the callers of `path` parse."""
        if path.startswith(OPENAI_PATHS):
            return self.openai()
        if path.startswith(ANTHROPIC_PATHS):
            return self.anthropic(request_id=request_id)
        return self.problem(instance=path, request_id=request_id)

    def event(self, path: str, *, request_id: str | None = None) -> tuple[str | None, dict[str, Any]]:
        """Name and data of the event with which a stream of `path` ends early."""
        if path.startswith("/v1/chat"):
            return None, self.openai()
        if path.startswith(OPENAI_PATHS):  # some clients of the Responses API read the members, others the object
            error = self.openai()["error"]
            return "error", {**error, "type": "error", "error": error}
        if path.startswith(ANTHROPIC_PATHS):
            return "error", self.anthropic(request_id=request_id)
        return "error", self.problem(request_id=request_id)


class RequestError(AlignXError):
    status, code, title = 400, "bad_request", "The request cannot be served as it is"


class MalformedHead(RequestError):
    code, title = "malformed_head", "This is no request of HTTP/1.1"


class HeadTooLarge(RequestError):
    status, code, title = 431, "head_too_large", "The request line and the header fields are too long"


class MalformedBody(RequestError):
    code, title = "malformed_body", "The body is not the JSON this call reads"


class InvalidRequest(RequestError):
    status, code, title = 422, "invalid_request", "A field of the request is not valid"


class PayloadTooLarge(RequestError):
    status, code, title = 413, "payload_too_large", "The request is larger than this deployment accepts"


class UnsupportedEncoding(RequestError):
    status, code, title = 415, "unsupported_encoding", "The body is packed in a way that this call does not read"


class UnsupportedMedia(RequestError):
    status, code, title = 415, "unsupported_media", "The body needs the Content-Type application/json"


class Unauthenticated(RequestError):
    status, code, title = 401, "unauthenticated", "A valid API key is needed"


class CredentialExpired(Unauthenticated):
    code, title = "credential_expired", "The API key or user token has expired"


class Forbidden(RequestError):
    status, code, title = 403, "forbidden", "This API key or user token may not do that"


class RouteUnknown(RequestError):
    status, code, title = 404, "route_unknown", "There is nothing at this path"


class MethodNotAllowed(RequestError):
    status, code, title = 405, "method_not_allowed", "This path does not take this method"

    def __init__(self, *, allow: str = "") -> None:
        """`allow` is the header of that name: the methods the path does take, with commas between."""
        super().__init__()
        self.allow = allow


class UserUnknown(RequestError):
    status, code, title = 404, "user_unknown", "No history is kept for this user"


class VersionUnknown(RequestError):
    status, code, title = 404, "version_unknown", "This summary version does not exist or is no longer kept"


class ResponseUnknown(RequestError):
    status, code, title = 404, "response_unknown", "No answer of this id is kept for this user"


class EventUnknown(RequestError):
    status, code, title = 404, "event_unknown", "This event does not exist or is no longer kept"


class KeyUnknown(RequestError):
    status, code, title = 404, "key_unknown", "No API key has this id"


class WebhookUnknown(RequestError):
    status, code, title = 404, "webhook_unknown", "No webhook endpoint, or no delivery to it, has this id"


class ModelUnknown(RequestError):
    status, code = 404, "model_not_found"
    title = "The engine does not serve this model; GET /v1/models lists others"

    def __init__(self) -> None:
        super().__init__(errors=[{"field": "model", "message": self.title}])


class KeyEnded(RequestError):
    status, code, title = 409, "key_ended", "This API key is revoked or has expired; make a new one"


class StaleVersion(RequestError):
    status, code, title = 412, "stale_version", "The summary has changed since the version in If-Match"


class PreconditionRequired(RequestError):
    status, code, title = 428, "precondition_required", "Send If-Match with the ETag that you read"


class IdempotencyMismatch(RequestError):
    status, code, title = 422, "idempotency_mismatch", "This Idempotency-Key was used with another body"


class RateLimited(RequestError):
    status, code, title = 429, "rate_limited", "This API key has used up its request rate"


class TooManyAtOnce(RequestError):
    status, code, title = 429, "too_many_at_once", "Too many requests of this kind are under way at once"


class TooManyFailures(RequestError):
    status, code, title = 429, "too_many_failures", "Too many keys or tokens that are not valid came from here"


class UserLimited(RequestError):
    status, code, title = 429, "user_limited", "This user has sent more events than an hour may hold"


class BacklogFull(RequestError):
    status, code, title = 429, "backlog_full", "This user has too many events waiting"


class Unavailable(AlignXError):
    status, code, title = 503, "unavailable", "The service cannot take this now; try again"


class Draining(Unavailable):
    code, title = "draining", "This instance is shutting down"


class Overloaded(Unavailable):
    code, title = "overloaded", "More requests arrive than can be answered in time"


class TooManyConnections(Unavailable):
    code, title = "too_many_connections", "This address holds too many connections"


class QueueFull(Unavailable):
    code, title = "queue_full", "Too many users wait for an update"


class StoreUnavailable(Unavailable):
    code, title = "store_unavailable", "Redis does not answer"


class UpstreamUnavailable(Unavailable):
    code, title = "upstream_unavailable", "A service behind the gateway does not answer"


class EngineUnavailable(Unavailable):
    code, title = "engine_unavailable", "No language model engine answers"


class BudgetSpent(EngineUnavailable):
    status, code, title = 429, "budget_spent", "The tenant's token budget does not hold this"


class NoEngine(EngineUnavailable):
    status, code, title = 501, "no_engine", "This deployment runs without a language model"


class EngineUnsupported(EngineUnavailable):
    status, code, title = 501, "engine_unsupported", "This deployment's engine cannot do this"


class EngineError(AlignXError):
    status, code, title = 502, "engine_error", "The engine's answer could not be used"


class EngineRejected(EngineError):
    status, code, title = 422, "engine_rejected", "The engine refused this input"


class ContextExceeded(EngineRejected):
    code, title = "context_length_exceeded", "The input is longer than the engine's context window"


class UnusableReply(EngineError):
    """`reason` is one of services.prompts.replies.summary_checks.CHECKS."""

    code, title = "unusable_reply", "The engine's reply is no summary"

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{self.title}: {detail}.", reason=reason)
        self.reason = reason
        self.reply = ""
        """What the engine wrote; no part of the problem that a caller sees."""
        self.source = ""


def error_tree() -> Iterator[type[AlignXError]]:
    """Every error class, parents first: the docs and the OpenAPI schema are written from it."""
    pending: list[type[AlignXError]] = [AlignXError]
    while pending:
        cls = pending.pop(0)
        yield cls
        pending.extend(cls.__subclasses__())
