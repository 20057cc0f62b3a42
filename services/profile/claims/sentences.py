"""What the fast profile says of a user, sentence by sentence, each with the events that it rests on.

First what the user said, in their own words; then what their choices show: style, topics with examples, price and
year, and what has turned lately. Nothing is said that the evidence does not bear, and nothing twice.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Final, NamedTuple

import numpy as np

from alignx.schemas.summaries import MAX_SUPPORT
from services.profile.claims.evidence import Sentence
from services.profile.claims.prices import tell_prices
from services.profile.claims.quotations import say
from services.profile.claims.standing import pole_of, style_certainties
from services.profile.item_features import extract_features
from services.profile.parse_text import YEARS, join_phrases
from services.profile.scoring import year_taken
from services.profile.stated.allowed import Allowed
from services.profile.stated.clauses import stated_styles
from services.profile.stated.matching import live_clauses, match_words
from services.profile.stated.sensitive import DEFAULT, Policy
from services.profile.statistics import Profile, Standing
from services.profile.style_features import FEATURES, INDEX, STOP, words

MAX_TRAITS, MAX_EARLY_TRAITS = 6, 4
FEW_CHOICES: Final = 12
"""Below so many choices, early signs are told beside surer ones."""
MAX_TOPICS, MAX_EXAMPLED, MAX_EXAMPLES = 8, 4, 3
"""Topics of one sentence, topics that have one of their own, and titles in it."""
MAX_LISTED, MAX_REPEATED = 3, 5
"""Less sure topics that are told though each came up once, and those of more that came up again."""
MAX_WORDS, MAX_TAKEN = 5, 5
_WHOLE: Final = 0.5
"""Share of what was said above which it speaks of a topic: half of "racing games" says nothing of all games."""
_MARKS: Final = ".,:;!?()[]-–—"
MAX_BYTES: Final = 2_048
"""Of all sentences but what the user wrote over the summary: about 512 tokens."""


def sentences(profile: Profile, policy: Policy = DEFAULT) -> list[Sentence]:
    """In their order; none where nothing is known. Of a subject that the `policy` keeps out only what was stated."""
    allowed = Allowed(profile, policy)
    told = [Sentence("own", "own", profile.own)] if profile.own else []
    room = MAX_BYTES
    for sentence in chain(
        say(profile, allowed),
        _styles(profile),
        _topics(profile, allowed),
        _words(profile, allowed),
        _offers(profile, allowed),
        _turns(profile, allowed),
    ):
        size = len(sentence.text.encode())
        if size <= room:
            told.append(sentence)
            room -= size
    return told


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
        tuple(numbers[-MAX_SUPPORT:]),
        max((count for count, *_ in supports), default=0),
        first.event,
        first.day,
        tuple(claim.key for claim in claims),
    )


def _pole(claim: _Claim) -> str:
    return pole_of(INDEX[claim.name], 1 if claim.sign == "+" else -1)


def _styles(profile: Profile) -> Iterator[Sentence]:
    """Of a feature and an axis that say the same, the axis speaks where it is as sure; what the user asked for is told
    in their words."""
    certainties, asked = style_certainties(profile), stated_styles(profile)
    claims = [claim for claim in _standing(profile, "style") if claim.name not in asked]
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


def _topics(profile: Profile, allowed: Allowed) -> Iterator[Sentence]:
    claims = _unsaid(profile, [claim for claim in _standing(profile, "topic") if allowed(claim.name)])
    liked = [claim for claim in claims if claim.sign == "+"]
    passed = [claim for claim in claims if claim.sign == "-" and _count(profile, claim) > 1]
    clear = [claim for claim in liked if claim.standing.level == 3]
    clear.sort(key=lambda claim: -_count(profile, claim))
    told = {title for title in profile.titles.values() if not allowed(title)}
    for claim in clear[:MAX_EXAMPLED]:
        text = f"Clearly drawn to {claim.name}{_examples(profile, [claim], told)}."
        yield _sentence(profile, claim.key, "topic", text, [claim])
    for key, opening, group in (
        ("topics:clear", "Also clearly drawn to", clear[MAX_EXAMPLED:]),
        ("topics:often", "Tends to pick", _commonest(profile, [one for one in liked if one.standing.level == 2])),
        ("topics:sometimes", "Has picked", _commonest(profile, [one for one in liked if one.standing.level == 1])),
        ("topics:passed", "Cares little for", [claim for claim in passed if claim.standing.level > 1]),
        ("topics:rare", "Cares less for", [claim for claim in passed if claim.standing.level == 1]),
    ):
        if group:
            examples = _examples(profile, group, told) if group[0].sign == "+" else ""
            text = f"{opening} {join_phrases([claim.name for claim in group[:MAX_TOPICS]])}{examples}."
            yield _sentence(profile, key, "topic", text, group[:MAX_TOPICS])


def _commonest(profile: Profile, claims: list[_Claim]) -> list[_Claim]:
    """Of many topics those that came up again; where none did, the few latest: a list of a whole shop tells nothing."""
    if len(claims) <= MAX_LISTED:
        return claims
    again = sorted((one for one in claims if _count(profile, one) > 1), key=lambda one: -_count(profile, one))
    return again[:MAX_REPEATED] or claims[-MAX_LISTED:]


def _count(profile: Profile, claim: _Claim) -> int:
    """Events that speak for it."""
    return profile.support.get(claim.key, (0,))[0]


def _unsaid(profile: Profile, claims: list[_Claim]) -> list[_Claim]:
    """Without topics of which the user said the contrary, or that have turned lately."""
    contrary = {"+": "-", "-": "+"}
    claims = [claim for claim in claims if f"lately:topic:{contrary[claim.sign]}{claim.name}" not in profile.standing]
    clauses = live_clauses(profile)
    if not clauses or not claims:
        return claims
    shares = match_words(clauses, [extract_features(claim.name) for claim in claims])
    shares[np.abs(shares) <= _WHOLE] = 0.0
    said = np.array([clause.polarity for clause in clauses]) @ shares
    return [claim for claim, value in zip(claims, said, strict=True) if value * (1 if claim.sign == "+" else -1) >= 0]


def _examples(profile: Profile, claims: Sequence[_Claim], told: set[str]) -> str:
    """A few titles that were taken, none of them `told` before."""
    events = sorted({event for claim in claims for event in profile.support.get(claim.key, (0,))[1:]})
    titles = [title for event in events if (title := profile.titles.get(event)) and title not in told]
    chosen = list(dict.fromkeys(titles))[-MAX_EXAMPLES:]
    told.update(chosen)
    return f", for example {join_phrases([f'“{title}”' for title in chosen])}" if chosen else ""


def _words(profile: Profile, allowed: Allowed) -> Iterator[Sentence]:
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
    if titles and len(profile.titles) > 1:
        text = f"Has taken, for example, {join_phrases([f'“{title}”' for title in titles[:MAX_TAKEN]])}."
        numbers = sorted(profile.titles)
        yield Sentence("taken", "topic", text, tuple(numbers[-MAX_SUPPORT:]), len(numbers), numbers[0])


def _name_in_titles(known: frozenset[str], titles: Iterable[str]) -> list[str]:
    """Runs of `known` words as titles write them, the commonest first."""
    counts = Counter[str]()
    for title in titles:
        run = list[str]()
        for word in [*title.split(), ""]:
            if words(word) and (known.issuperset(words(word)) or (run and STOP.issuperset(words(word)))):
                run.append(word)
                continue
            while run and not known.issuperset(words(run[-1])):
                run.pop()
            if run:
                counts[" ".join(run).strip(_MARKS)] += 1
            run = []
    names = dict[str, str]()
    for name, _ in counts.most_common():
        if not any(name.casefold() in key or key in name.casefold() for key in names):
            names[name.casefold()] = name
    return list(names.values())


def _offers(profile: Profile, allowed: Allowed) -> Iterator[Sentence]:
    """Prices and years."""
    if prices := tell_prices(profile.prices, allowed):
        events = tuple(profile.prices)
        yield Sentence("price:usual", "price", prices, events[-MAX_SUPPORT:], len(events), events[0])
    for claim in _standing(profile, "price"):
        text = f"Tends to take the {'dearer' if claim.sign == '+' else 'cheaper'} of the items on offer."
        yield _sentence(profile, claim.key, "price", text, [claim])
    usual_year = year_taken(profile)
    if usual_year and not profile.years and profile.tallies.dated >= 1.5:
        text = YEARS.format(year=usual_year[0], spread=max(2.0, usual_year[1]))
        count, *dated = profile.support.get("year", (0,))
        yield Sentence("year:usual", "year", text, tuple(dated), count, min(dated, default=0))


def _turns(profile: Profile, allowed: Allowed) -> Iterator[Sentence]:
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
    return " ".join(sentence.text for sentence in _turns(profile, Allowed(profile, policy)))
