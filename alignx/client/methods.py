"""The methods that both clients have, one a call of the API: each sends what a function of the endpoints builds."""

import inspect
from collections.abc import Awaitable, Callable
from types import MethodType
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, get_args, overload

from alignx.client import admin_endpoints, endpoints, user_endpoints
from alignx.client.endpoints import Call

if TYPE_CHECKING:
    from alignx.client.client import AlignX, AsyncAlignX

P = ParamSpec("P")
T = TypeVar("T")


class Method(Generic[P, T]):
    """A method of both clients that sends one call, with the signature and the documentation of its builder."""

    def __init__(self, build: Callable[P, Call[T]]) -> None:
        def method(client: Any, /, *args: P.args, **kwargs: P.kwargs) -> Any:
            return client.send(build(*args, **kwargs))

        signature = inspect.signature(build)
        parameters = [inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)]
        (answer,) = get_args(signature.return_annotation)
        documented: Any = method
        documented.__name__, documented.__doc__ = build.__name__, build.__doc__
        documented.__signature__ = signature.replace(
            parameters=[*parameters, *signature.parameters.values()], return_annotation=answer
        )
        self._method = documented

    @overload
    def __get__(self, client: None, owner: type) -> Callable[..., Any]: ...
    @overload
    def __get__(self, client: "AlignX", owner: type) -> Callable[P, T]: ...
    @overload
    def __get__(self, client: "AsyncAlignX", owner: type) -> Callable[P, Awaitable[T]]: ...
    def __get__(self, client: object, owner: type) -> Any:
        return self._method if client is None else MethodType(self._method, client)


class Endpoints:
    """The methods that the clients share, one a call of the API."""

    append = Method(endpoints.append)
    events = Method(endpoints.events)
    dead_letters = Method(endpoints.dead_letters)
    retry_dead_letters = Method(endpoints.retry_dead_letters)
    erase = Method(endpoints.erase)
    forget_event = Method(user_endpoints.forget_event)
    forget_about = Method(user_endpoints.forget_about)
    users = Method(user_endpoints.users)
    append_many = Method(user_endpoints.append_many)
    erase_users = Method(user_endpoints.erase_users)
    preferences = Method(endpoints.preferences)
    preferences_if_changed = Method(endpoints.preferences_if_changed)
    versions = Method(endpoints.versions)
    version = Method(endpoints.version)
    rejected = Method(endpoints.rejected)
    diff = Method(endpoints.diff)
    edit = Method(endpoints.edit)
    rollback = Method(endpoints.rollback)
    rebuild = Method(endpoints.rebuild)
    put_items = Method(endpoints.put_items)
    select = Method(endpoints.select)
    recommend = Method(endpoints.recommend)
    chat = Method(endpoints.chat)
    models = Method(endpoints.models)
    ready = Method(endpoints.ready)
    quality = Method(endpoints.quality)
    model_trial = Method(endpoints.model_trial)
    uplift = Method(endpoints.uplift)
    feedback = Method(endpoints.feedback)
    create_key = Method(admin_endpoints.create_key)
    keys = Method(admin_endpoints.keys)
    rotate_key = Method(admin_endpoints.rotate_key)
    revoke_key = Method(admin_endpoints.revoke_key)
    mint_token = Method(admin_endpoints.mint_token)
    audit = Method(admin_endpoints.audit)
    tenants = Method(admin_endpoints.tenants)
    tenant_settings = Method(admin_endpoints.tenant_settings)
    replace_tenant_settings = Method(admin_endpoints.replace_tenant_settings)
    change_tenant_settings = Method(admin_endpoints.change_tenant_settings)
    create_webhook = Method(admin_endpoints.create_webhook)
    webhooks = Method(admin_endpoints.webhooks)
    change_webhook = Method(admin_endpoints.change_webhook)
    delete_webhook = Method(admin_endpoints.delete_webhook)
    rotate_webhook = Method(admin_endpoints.rotate_webhook)
    test_webhook = Method(admin_endpoints.test_webhook)
    webhook_deliveries = Method(admin_endpoints.webhook_deliveries)
    replay_webhook = Method(admin_endpoints.replay_webhook)
