"""API keys, tenants and their settings, as the gateway's admin calls give them.

A tenant's field that is not set has the deployment's value, from the environment. To add a setting, add a field to
`TenantSettings` with a docstring, its unit in it. Where a block of services/settings.py has a field of the same name,
that is the deployment's value; else the default here is.
"""

from typing import Annotated, Literal, Self, get_args

from pydantic import (
    AwareDatetime,
    Field,
    NonNegativeInt,
    PositiveInt,
    StrictBool,
    StrictInt,
    StringConstraints,
    model_validator,
)

from alignx.schemas.items import Frozen, UserId

LONGEST_S = 1e9
"""About 32 years. The queue counts in milliseconds, and its longest times mean a backfill."""
TENANT_NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$"


DAY_S = 86_400
LONGEST_OVERLAP_S = 30 * DAY_S
LONGEST_TOKEN_S = 3_600

Scope = Literal[
    "events:read",
    "events:write",
    "preferences:read",
    "preferences:write",
    "users:list",
    "users:export",
    "users:erase",
    "chat",
    "select",
    "recommend",
    "catalogue:write",
    "quality:read",
    "webhooks:manage",
    "tokens:mint",
    "admin",
]
"""What an API key may do. Each call of the API needs exactly one (gateway/routing.py)."""
SCOPES: tuple[Scope, ...] = get_args(Scope)


class KeyRequest(Frozen):
    """An API key to make."""

    name: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100)]
    tenant: Annotated[str, StringConstraints(pattern=TENANT_NAME)]
    admin: StrictBool = False
    """Whether a key without `scopes` may administer as well."""
    scopes: Annotated[tuple[Scope, ...], Field(min_length=1)] | None = None
    """What the key may do; default: everything but `admin`."""
    expires_at: AwareDatetime | None = None
    """When the key ends; default: never."""
    rate: Annotated[float, Field(ge=0.001, le=1_000_000)] | None = None
    """Requests per second; default from the settings."""
    burst: Annotated[int, Field(ge=1, le=1_000_000)] | None = None

    @model_validator(mode="after")
    def _check_admin(self) -> Self:
        if self.admin and self.scopes is not None and "admin" not in self.scopes:
            raise ValueError("admin is one of the scopes: name it there, or leave `admin` out")
        return self


class KeyInfo(Frozen):
    """An API key without its secret."""

    id: str
    name: str
    tenant: str
    admin: bool
    scopes: tuple[Scope, ...] = ()
    rate: float
    burst: int
    created_at: AwareDatetime
    expires_at: AwareDatetime | None = None
    previous_until: AwareDatetime | None = None
    """Until when the secret from before the latest rotation opens too."""
    revoked_at: AwareDatetime | None = None


class KeyCreated(KeyInfo):
    key: str
    """The whole key. It is shown this once; only its hash is kept."""


class RotateRequest(Frozen):
    """A new secret for an API key."""

    overlap_s: Annotated[StrictInt, Field(ge=0, le=LONGEST_OVERLAP_S)] = DAY_S
    """Seconds for which the secret until now opens too; 0 ends it at once."""
    expires_at: AwareDatetime | None = None
    """When the key ends; default: as before."""


class TokenRequest(Frozen):
    """A token for one user, such as a browser or an agent holds."""

    user: UserId
    scopes: Annotated[tuple[Scope, ...], Field(min_length=1)]
    """Some of the key's own; only those of calls for one user."""
    expires_in_s: Annotated[int, Field(ge=1, le=LONGEST_TOKEN_S)] = 600
    """Seconds; the token ends sooner with the key that minted it."""


class TokenCreated(Frozen):
    token: str
    """A JSON Web Token; it goes where an API key goes."""
    user: str
    scopes: tuple[Scope, ...]
    expires_at: AwareDatetime


class AuditEntry(Frozen):
    """One administrative call, or one that exported or erased a user."""

    id: str
    at: AwareDatetime
    key_id: str
    """The API key that called; `worker` where events were removed by their age."""
    action: str
    target: str
    """A key's id, names of settings, a user as a keyed hash, or how many events of how many users."""


class AuditPage(Frozen):
    """Newest first."""

    entries: tuple[AuditEntry, ...]
    next: str | None = None
    """Give it as `before` to read the next page; null at the end."""


class KeyList(Frozen):
    keys: tuple[KeyInfo, ...]
    next: str | None = None


class TenantInfo(Frozen):
    tenant: str
    keys: NonNegativeInt
    """API keys made for it, revoked ones included."""


class TenantList(Frozen):
    tenants: tuple[TenantInfo, ...]
    next: str | None = None
    """Give it as `after` to read the next page; null at the end."""


class UpdateCadence(Frozen):
    """When a language model rewrites a user's summary; the profile is up to date with each event. An update is due
    at once for a user without a version, and after a statement, a fact, an edit or a contradiction of something
    stated; else when the waiting events reach one of these bounds. Without a language model every event is due."""

    update_bits: float = Field(default=5.0, gt=0, allow_inf_nan=False)
    """Surprise in bits: the sum over choices of -log2 of the probability that the profile gave to what was chosen, and
    over items of a category new to the user of -log2 of how likely a new one was. A coin flip is 1 bit."""
    update_events: PositiveInt = 20
    """Number of waiting events; 1 makes every event due."""
    update_tokens: PositiveInt = 4_000
    """Estimated tokens of the waiting events."""
    update_age_s: float = Field(default=12 * 3600.0, gt=0, le=LONGEST_S)
    """Seconds since the first waiting event."""
    backfill_quiet_s: float = Field(default=30.0, ge=0, le=LONGEST_S)
    """Seconds after a user's latest backfill until its one update is due."""


class TrialSettings(Frozen):
    """How a new model, adapter or prompt template is tried."""

    trial_users: NonNegativeInt = 50
    """Users of a tenant whose summaries a new model, adapter or prompt template must write no worse before it
    writes for all; 0 takes every new one at once."""
    trial_share: float = Field(default=0.2, gt=0, le=1)
    """Share of a tenant's users on trial; of a tenant with fewer than `trial_users` users, all."""
    trial_s: float = Field(default=3_600, gt=0, le=LONGEST_S)
    """Seconds after which a trial without evidence against the new one ends well."""


DeniedTopic = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=80)]


class PrivacySettings(Frozen):
    """What is kept out of summaries."""

    hide_sensitive: bool = True
    """Keeps inferences about health, religion, politics, sexual orientation and sex life, ethnic origin, trade unions,
    crime, age, sex and gender out of summaries, unless the user spoke of the subject."""
    denied_topics: tuple[DeniedTopic, ...] = Field(default=(), max_length=100)
    """Further topics to keep out in the same way, as a JSON list of at most 100 words or phrases, each of at most 80
    characters."""


class OutcomeSettings(Frozen):
    """What is counted of answers, to tell whether personalization is worth it."""

    holdout_share: float = Field(default=0.0, ge=0, le=0.5)
    """Share of users, chosen by a hash of tenant and user, who are served without personalization. What becomes of
    answers is counted by arm, and anew for each share."""
    feedback_s: Annotated[int, Field(ge=0, le=DAY_S)] = 0
    """Seconds for which an answer is known by its response id, so that feedback can name it and the user's next
    choice counts for it; 0 keeps none. With a holdout it is a day."""


InteractionType = Literal["comparison", "click", "rating", "purchase", "post", "dialogue", "demographic", "statement"]
Age = Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]{0,4}[dh]$")]


class Retention(Frozen):
    """How long events are kept."""

    event_ttl: dict[Literal[InteractionType, "*"], Age] = Field(default={}, examples=[{"click": "90d", "*": "365d"}])
    """How long an event of a type is kept after it was received, in days or hours, as JSON such as
    `{"click": "90d", "*": "365d"}`; `*` stands for the types that are not named. Then it is forgotten with all that
    came of it. Default: until it is forgotten or erased."""


TokenLimit = Annotated[int, Field(ge=1, le=10**15)]
AdapterName = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100)]


class TenantSettings(UpdateCadence, TrialSettings, PrivacySettings, OutcomeSettings, Retention):
    """Settings of one tenant."""

    traffic: bool = True
    """Whether select and recommend also go by what other users of the tenant took. Off, no item is counted."""
    traffic_least_users: Annotated[int, Field(ge=2, le=1_000)] = 5
    """Users who must have met an item, or liked both of two, before anything of that is used."""

    learn_from_chats: bool = False
    """Whether chats that do not say so themselves (`personalization.learn`) become events of their users, where the
    caller has the scope events:write."""

    axis_adapters: tuple[AdapterName, ...] = Field(default=("*",), max_length=100)
    """Axis adapters by which the tenant's chats may be answered, as a JSON list of names; `*` stands for all. Where
    none of them is served, the tenant's chats take no `axes`."""

    user_events_per_hour: PositiveInt | None = None
    """Events of one user that are taken in an hour; more answer 429, a call with more than that 413. A backfill does
    not count. It bounds how far a flood of events moves what is known of a user. Default: no bound."""

    tokens_per_day: TokenLimit | None = None
    """Tokens of prompts and answers that the tenant's calls to the engine may take in a day of UTC. Beyond it chats
    answer 429 `budget_spent`, the profile selects and ranks, and summaries wait. Default: no limit."""
    tokens_per_month: TokenLimit | None = None
    """The same in a month of UTC."""


class TokensSpent(Frozen):
    """Tokens that count against a tenant's budget; calls under way count by their estimates."""

    day: NonNegativeInt
    """Since 0:00 UTC."""
    month: NonNegativeInt


class TenantSettingsView(Frozen):
    """The settings that hold for a tenant."""

    tenant: str
    settings: TenantSettings
    overridden: tuple[str, ...] = Field(default=())
    """Fields that are set for this tenant; all others have the deployment's value."""
    spent: TokensSpent | None = None
    """Null while the tenant has no token budget: then nothing is counted."""
