"""What the fast profile says of a user, sentence by sentence, each with the events that it rests on.

First what the user said, in their own words; then what their choices show: style, topics with examples, price and
year, and what has turned lately. Nothing is said that the evidence does not bear, and nothing twice.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import date
from itertools import chain, groupby
from typing import Final, NamedTuple

import numpy as np

from services.profile.claims.sensitive import DEFAULT, Policy, find_subjects, lacks
from services.profile.claims.standing import style_certainties
from services.profile.item_features import extract_features
from services.profile.parse_text import ABOUT, IN_PASSING, NO_LONGER, OWN_WORDS, WENT_FOR, YEARS, join_phrases
from services.profile.scoring import year_taken
from services.profile.stated.matching import live_clauses, match_words
from services.profile.statistics import Profile, Standing, StatedClause
from services.profile.style_features import FEATURES, INDEX, words

MAX_TRAITS, MAX_EARLY_TRAITS = 6, 4
FEW_CHOICES: Final = 12
"""Below so many choices, early signs are told beside surer ones."""
MAX_TOPICS, MAX_EXAMPLED, MAX_EXAMPLES = 8, 4, 3
"""Topics of one sentence, topics that have one of their own, and titles in it."""
MAX_WORDS, MAX_TAKEN = 5, 5
_MARKS: Final = ".,:;!?()[]-–—"
MAX_QUOTES: Final = 12
MAX_QUOTED: Final = {OWN_WORDS: 700, ABOUT: 300, IN_PASSING: 600}
"""Bytes of quotations in one sentence; one is always told. About four bytes are a token, in any script."""
MAX_BYTES: Final = 2_048
"""Of all sentences but what the user wrote over the summary: about 512 tokens."""
REVIEW: Final = 30
"""Weight of what a review says, which tells little without its item."""
MAX_CHANGES: Final = 3
MAX_EVENTS: Final = 5
_MONTHS: Final = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)


class Sentence(NamedTuple):
    """One sentence of the text, or what the user wrote over it."""

    key: str
    """The same for as long as the claim is made."""
    kind: str
    """As `alignx.schemas.summaries.Claim.kind`."""
    text: str
    events: tuple[int, ...] = ()
    """Numbers of events that speak for it, newest last, at most MAX_EVENTS."""
    counted: int = 0
    """How many there were in all."""
    since: int = 0
    """Number of the event from which on it was claimed; 0 for none."""
    day: int = 0
    """Of that event; 0 where it is not known."""
    about: tuple[str, ...] = ()
    """The claims that it holds, each by its key."""


def sentences(profile: Profile, policy: Policy = DEFAULT) -> list[Sentence]:
    """In their order; none where nothing is known. Of a subject that the `policy` keeps out only what was stated."""
    allowed = _Allowed(profile, policy)
    told = [Sentence("own", "own", profile.own)] if profile.own else []
    room = MAX_BYTES
    for sentence in chain(
        _said(profile),
        _styles(profile),
        _topics(profile, allowed),
        _words(profile, allowed),
        _offers(profile),
        _turns(profile, allowed),
    ):
        room -= len(sentence.text.encode())
        if room >= 0:
            told.append(sentence)
    return told


class _Allowed:
    """Which subjects may be named: all but those that the policy keeps out and the user did not speak of."""

    def __init__(self, profile: Profile, policy: Policy) -> None:
        self._policy = policy
        said = [clause.quote for clause in profile.clauses if clause.kind != "none" and not clause.is_struck]
        self._stated = frozenset[str]().union(*(find_subjects(text, policy) for text in (*said, profile.own)))

    def __call__(self, text: str) -> bool:
        subjects = find_subjects(text, self._policy)
        return not subjects or not lacks(subjects, self._stated)


# --- what the user said ---------------------------------------------------------------------------


def _said(profile: Profile) -> Iterator[Sentence]:
    wishes = [clause for clause in profile.clauses if clause.kind != "fact"]
    wished = {clause.quote for clause in wishes}
    facts = [clause for clause in profile.clauses if clause.kind == "fact" and clause.quote not in wished]
    yield from _quote("stated", OWN_WORDS, (clause for clause in wishes if clause.weight == 100))
    yield from _quote("fact", ABOUT, (clause for clause in facts if clause.weight == 100))
    passing = [clause for clause in profile.clauses if clause.weight < 100]
    poles = {pole_of(INDEX[name], value): c for c in passing if not c.is_struck for name, value in c.style}
    if poles:
        asked = list(poles)[-MAX_TRAITS:]
        yield _rests_on("style:asked", "stated", f"Has asked for texts that {join_phrases(asked)}.", poles.values())
    told = (clause for clause in passing if clause.weight > REVIEW and (clause.polarity or clause.kind == "fact"))
    yield from _quote("stated", IN_PASSING, told)
    taken = [clause for clause in passing if clause.target and not (clause.quote or clause.is_struck)]
    if taken:
        options = list(dict.fromkeys(f'"{clause.target}"' for clause in reversed(taken)))[:MAX_EXAMPLES]
        yield _rests_on("stated:taken", "stated", f"{WENT_FOR} {', '.join(options)}", taken)
    yield from _struck(profile)


def _quote(kind: str, opening: str, clauses: Iterable[StatedClause]) -> Iterator[Sentence]:
    """Quotations that still hold, newest first: of likes and dislikes before others, where there is no room for all."""
    listed = [clause for clause in clauses if clause.quote]
    struck = {clause.quote for clause in listed if clause.is_struck}
    holding = [clause for clause in listed if not clause.is_struck and (clause.quote not in struck or _tells(clause))]
    latest = {clause.quote: clause for clause in holding}
    said, room = list[StatedClause](), MAX_QUOTED[opening]
    for clause in sorted(latest.values(), key=lambda clause: (not clause.polarity, -clause.day, -clause.event))[
        :MAX_QUOTES
    ]:
        size = len(clause.quote.encode())
        if (size <= room or not said) and not any(clause.quote in other and clause.quote != other for other in latest):
            said.append(clause)
            room -= size
    said.sort(key=lambda clause: (-clause.day, -clause.event))
    if said:
        yield _rests_on(f"{kind}:{opening}", kind, f"{opening} {_dated(said)}", said)


def _tells(clause: StatedClause) -> bool:
    return bool(clause.polarity or clause.style)


def _dated(clauses: Sequence[StatedClause]) -> str:
    """Quotations, with the month behind the last of each month."""
    groups = groupby(clauses, key=lambda clause: _name_month(clause.day))
    return "; ".join(", ".join(f'"{clause.quote}"' for clause in group) + month for month, group in groups)


def _name_month(day: int) -> str:
    said = date.fromordinal(day) if day else None
    return f" ({_MONTHS[said.month - 1]} {said.year})" if said else ""


def _struck(profile: Profile) -> Iterator[Sentence]:
    """What the user took back, or says the contrary of by now; not what still holds in another clause."""
    holding = {clause.quote for clause in profile.clauses if not clause.is_struck and _tells(clause)}
    struck = {c.quote: c for c in profile.clauses if c.is_struck and c.quote and c.quote not in holding}
    latest = sorted(struck.values(), key=lambda clause: (-clause.day, -clause.event))[:MAX_CHANGES]
    if latest:
        yield _rests_on("change:said", "change", f"{NO_LONGER} {_dated(latest)}", latest)


def _rests_on(key: str, kind: str, text: str, clauses: Iterable[StatedClause]) -> Sentence:
    days = {clause.event: clause.day for clause in clauses if clause.event > 0}
    numbers = sorted(days)
    first = min(numbers, default=0)
    return Sentence(key, kind, text, tuple(numbers[-MAX_EVENTS:]), len(numbers), first, days.get(first, 0))


# --- what choices show ----------------------------------------------------------------------------


class _Claim(NamedTuple):
    key: str
    name: str
    sign: str
    standing: Standing


def _standing(profile: Profile, kind: str) -> list[_Claim]:
    """The claims of one kind, the first made first."""
    claims = [
        _Claim(key, key[len(kind) + 2 :], key[len(kind) + 1], standing)
        for key, standing in profile.standing.items()
        if key.startswith(f"{kind}:")
    ]
    return sorted(claims, key=lambda claim: (claim.standing.event, claim.key))


def _sentence(profile: Profile, key: str, kind: str, text: str, claims: Sequence[_Claim]) -> Sentence:
    """With the events that speak for its claims."""
    first = min((claim.standing for claim in claims), key=lambda standing: standing.event)
    supports = [profile.support.get(claim.key.removeprefix("lately:"), (0,)) for claim in claims]
    numbers = sorted({event for _, *events in supports for event in events})
    return Sentence(
        key,
        kind,
        text,
        tuple(numbers[-MAX_EVENTS:]),
        max((count for count, *_ in supports), default=0),
        first.event,
        first.day,
        tuple(claim.key for claim in claims),
    )


def pole_of(position: int, value: float) -> str:
    """The pole of a feature, after "texts that"."""
    return FEATURES[position].high if value > 0 else FEATURES[position].low


def _pole(claim: _Claim) -> str:
    return pole_of(INDEX[claim.name], 1 if claim.sign == "+" else -1)


def _styles(profile: Profile) -> Iterator[Sentence]:
    """Of a feature and an axis that say the same, the axis speaks where it is as sure."""
    certainties = style_certainties(profile)
    claims = _standing(profile, "style")
    levels = {claim.name: claim.standing.level for claim in claims}
    alone = [claim for claim in claims if levels.get(FEATURES[INDEX[claim.name]].parent, 0) < claim.standing.level]
    alone.sort(key=lambda claim: -abs(certainties[INDEX[claim.name]]))
    surer = [claim for claim in alone if claim.standing.level > 1][:MAX_TRAITS]
    early = [claim for claim in alone if claim.standing.level == 1][:MAX_EARLY_TRAITS]
    if surer and profile.tallies.weighed >= FEW_CHOICES:
        early = []
    for key, opening, group in (
        ("style:clear", "Clearly prefers texts that", [claim for claim in surer if claim.standing.level == 3]),
        ("style:likely", "Tends to prefer texts that", [claim for claim in surer if claim.standing.level == 2]),
        ("style:early", "Early signs point to texts that", early),
    ):
        if group:
            text = f"{opening} {join_phrases([_pole(claim) for claim in group])}."
            yield _sentence(profile, key, "style", text, group)


def _topics(profile: Profile, allowed: _Allowed) -> Iterator[Sentence]:
    claims = _unsaid(profile, [claim for claim in _standing(profile, "topic") if allowed(claim.name)])
    liked, passed = ([claim for claim in claims if claim.sign == sign] for sign in "+-")
    clear = [claim for claim in liked if claim.standing.level == 3]
    clear.sort(key=lambda claim: -profile.support.get(claim.key, (0,))[0])
    told = {title for title in profile.titles.values() if not allowed(title)}
    for claim in clear[:MAX_EXAMPLED]:
        text = f"Clearly drawn to {claim.name}{_examples(profile, [claim], told)}."
        yield _sentence(profile, claim.key, "topic", text, [claim])
    for key, opening, group in (
        ("topics:clear", "Also clearly drawn to", clear[MAX_EXAMPLED:]),
        ("topics:often", "Tends to pick", [claim for claim in liked if claim.standing.level == 2]),
        ("topics:sometimes", "Has picked", [claim for claim in liked if claim.standing.level == 1]),
    ):
        if group:
            names = join_phrases([claim.name for claim in group[:MAX_TOPICS]])
            text = f"{opening} {names}{_examples(profile, group, told)}."
            yield _sentence(profile, key, "topic", text, group[:MAX_TOPICS])
    for key, opening, group in (
        ("topics:passed", "Tends to pass over", [claim for claim in passed if claim.standing.level > 1]),
        ("topics:rare", "Rarely picks", [claim for claim in passed if claim.standing.level == 1]),
    ):
        if group:
            text = f"{opening} {join_phrases([claim.name for claim in group[:MAX_TOPICS]])}."
            yield _sentence(profile, key, "topic", text, group[:MAX_TOPICS])


def _unsaid(profile: Profile, claims: list[_Claim]) -> list[_Claim]:
    """Without topics of which the user said the contrary, or that have turned lately."""
    contrary = {"+": "-", "-": "+"}
    claims = [claim for claim in claims if f"lately:topic:{contrary[claim.sign]}{claim.name}" not in profile.standing]
    clauses = live_clauses(profile)
    if not clauses or not claims:
        return claims
    shares = match_words(clauses, [extract_features(claim.name) for claim in claims])
    said = np.array([clause.polarity for clause in clauses]) @ shares
    return [claim for claim, value in zip(claims, said, strict=True) if value * (1 if claim.sign == "+" else -1) >= 0]


def _examples(profile: Profile, claims: Sequence[_Claim], told: set[str]) -> str:
    """A few titles that were taken, none of them `told` before."""
    events = sorted({event for claim in claims for event in profile.support.get(claim.key, (0,))[1:]})
    titles = [title for event in events if (title := profile.titles.get(event)) and title not in told]
    chosen = list(dict.fromkeys(titles))[-MAX_EXAMPLES:]
    told.update(chosen)
    return f", for example {join_phrases([f'“{title}”' for title in chosen])}" if chosen else ""


def _words(profile: Profile, allowed: _Allowed) -> Iterator[Sentence]:
    """What was taken, where no categories tell its topics, and what its titles mention again and again."""
    if profile.categories:
        return
    newest = (profile.titles[event] for event in sorted(profile.titles, reverse=True))
    titles = list(filter(allowed, dict.fromkeys(newest)))
    claims = _standing(profile, "word")
    known = [claim.name for claim in claims if allowed(claim.name)]
    names = (_name_in_titles(frozenset(known), titles) if titles else known)[:MAX_WORDS]
    if names:
        text = f"Often chooses what mentions {join_phrases([f'“{name}”' for name in names])}."
        told = [claim for claim in claims if any(claim.name in words(name) for name in names)]
        yield _sentence(profile, "words", "topic", text, told)
    if titles:
        text = f"Has taken, for example, {join_phrases([f'“{title}”' for title in titles[:MAX_TAKEN]])}."
        yield Sentence("taken", "topic", text, tuple(sorted(profile.titles)[-MAX_EVENTS:]), len(profile.titles))


def _name_in_titles(known: frozenset[str], titles: Iterable[str]) -> list[str]:
    """Runs of `known` words as titles write them, the commonest first."""
    counts = Counter[str]()
    for title in titles:
        for is_known, run in groupby(title.split(), lambda word: bool(words(word)) and known.issuperset(words(word))):
            if is_known:
                counts[" ".join(run).strip(_MARKS)] += 1
    names = dict[str, str]()
    for name, _ in counts.most_common():
        if not any(name.casefold() in key or key in name.casefold() for key in names):
            names[name.casefold()] = name
    return list(names.values())


def _offers(profile: Profile) -> Iterator[Sentence]:
    """Prices and years."""
    counts = profile.tallies
    if counts.priced > 0.5:
        usual = 2 ** (counts.price / counts.priced)
        rounded = f"{usual:,.2g}" if usual < 10 else f"{round(usual, 1 - len(str(int(usual))) + 1):,.0f}"
        yield Sentence("price:usual", "price", f"Usually takes items priced around {rounded}.")
    for claim in _standing(profile, "price"):
        text = f"Tends to take the {'dearer' if claim.sign == '+' else 'cheaper'} of the items on offer."
        yield _sentence(profile, claim.key, "price", text, [claim])
    usual_year = year_taken(profile)
    if usual_year and not profile.years and counts.dated >= 1.5:
        text = YEARS.format(year=usual_year[0], spread=max(1.0, usual_year[1]))
        yield Sentence("year:usual", "year", text)


def _turns(profile: Profile, allowed: _Allowed) -> Iterator[Sentence]:
    """Where the last few choices turn against the longer run."""
    styles = _standing(profile, "lately:style")[:3]
    if styles:
        text = f"Lately prefers texts that {join_phrases([_pole(claim) for claim in styles])}, more than before."
        yield _sentence(profile, "lately:style", "change", text, styles)
    for sign, more in (("+", "more"), ("-", "less")):
        turned = [claim for claim in _standing(profile, "lately:topic") if claim.sign == sign and allowed(claim.name)]
        topics = turned[:3]
        if topics:
            text = f"Lately picks {more} of {join_phrases([claim.name for claim in topics])}."
            yield _sentence(profile, f"lately:{more}", "change", text, topics)


def tell_turns(profile: Profile, policy: Policy = DEFAULT) -> str:
    """What turned, in words; "" where nothing stands out."""
    return " ".join(sentence.text for sentence in _turns(profile, _Allowed(profile, policy)))
