"""The fast profile in words: a summary in plain sentences."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

from services.profile.parse_text import ABOUT, IN_PASSING, OWN_WORDS, YEARS, join_phrases
from services.profile.scoring import CATEGORY_PRIOR, NAME_PRIOR, log_odds, year_taken
from services.profile.statistics import (
    FADE_BY_AGE,
    MAX_SCORE,
    PRICE,
    RECENT_FADE_BY_AGE,
    Evidence,
    Profile,
    StatedClause,
    fade_at,
)
from services.profile.style_features import FEATURES, INDEX

CLEAR, LIKELY, EARLY = 2.6, 1.5, 0.7
"""Standard errors of a feature's mean contrast from which it is called clear, likely, an early sign."""
MAX_TRAITS, MAX_EARLY_TRAITS = 6, 4
FEW_CHOICES = 12
"""Below so many choices, early signs are rendered beside surer ones."""
MAX_LABELS, MAX_WORDS, MAX_QUOTES = 8, 24, 12
OFTEN, SOMETIMES = 1.1, 0.4
"""Log-odds from which a word or category is said to mark a user's choices often, and at all."""


def render(profile: Profile) -> str:
    """A summary in plain sentences, one paragraph a subject: first what the user says, then what behaviour shows."""
    wishes = [clause for clause in profile.clauses if clause.kind != "fact"]
    quoted = {clause.quote for clause in wishes}
    parts = [
        profile.own,
        _quote(f"{OWN_WORDS} ", wishes),
        _quote(f"{ABOUT} ", [clause for clause in profile.clauses if clause.quote not in quoted]),
        _passing_sentences(profile),
        _style_sentences(profile),
        _topic_sentences(profile),
        _price_sentence(profile),
        _year_sentence(profile),
        render_recent(profile),
    ]
    sentences = [part for part in parts if part]
    events = "1 event" if profile.events == 1 else f"{profile.events} events"
    if not sentences:
        known = f"No clear preference shows yet, after {events}."
        return known if profile.events else "Nothing is known about this user's preferences yet."
    return "\n".join([*sentences, f"Based on {events} so far."] if profile.events else sentences)


def _quote(opening: str, clauses: Sequence[StatedClause]) -> str:
    """What was said outright and still holds."""
    said = _quotations(clause.quote for clause in clauses if clause.weight == 100 and not clause.is_struck)
    return opening + said if said else ""


def _quotations(quotes: Iterable[str]) -> str:
    """Newest first; of a sentence's clauses the one that holds the others."""
    said = list(filter(None, dict.fromkeys(quotes)))[::-1]
    lines = [quote for quote in said if not any(quote in other and quote != other for other in said)][:MAX_QUOTES]
    return " ".join(f'"{line}"' for line in lines)


def _passing_sentences(profile: Profile) -> str:
    """What was said in a post or dialogue; statements are quoted already."""
    passing = [clause for clause in profile.clauses if clause.weight < 100 and not clause.is_struck]
    poles = [pole_of(INDEX[name], value) for clause in passing for name, value in clause.style]
    sentences = []
    if poles:
        sentences.append(f"Has asked for texts that {join_phrases(poles[-MAX_TRAITS:])}.")
    if mentioned := _quotations(clause.quote for clause in passing if clause.polarity):
        sentences.append(f"{IN_PASSING} {mentioned}")
    return "\n".join(sentences)


def style_certainties(profile: Profile) -> list[float]:
    """Mean contrast over its standard error, by feature and for the price; the sign says which pole."""
    return [a / (b + 1) ** 0.5 for a, b in zip(profile.contrasts.lean, profile.contrasts.spread, strict=True)]


def _traits(certainties: Sequence[float], least: float) -> list[int]:
    """The surest features first, without those whose equally sure axis says the same."""
    positions = []
    for position in sorted(range(len(FEATURES)), key=lambda index: -abs(certainties[index])):
        if abs(certainties[position]) < least:
            break
        parent = FEATURES[position].parent
        if FEATURES[position].high and (not parent or abs(certainties[INDEX[parent]]) < least):
            positions.append(position)
    return positions[:MAX_TRAITS]


def pole_of(position: int, value: float) -> str:
    return FEATURES[position].high if value > 0 else FEATURES[position].low


def _style_sentences(profile: Profile) -> str:
    certainties = style_certainties(profile)
    traits = _traits(certainties, LIKELY)
    clear = [pole_of(index, certainties[index]) for index in traits if abs(certainties[index]) >= CLEAR]
    likely = [pole_of(index, certainties[index]) for index in traits if abs(certainties[index]) < CLEAR]
    sentences = []
    if clear:
        sentences.append(f"Clearly prefers texts that {join_phrases(clear)}.")
    if likely:
        sentences.append(f"Tends to prefer texts that {join_phrases(likely)}.")
    early = _traits(certainties, EARLY) if not traits or profile.tallies.weighed < FEW_CHOICES else []
    if signs := [index for index in early if index not in traits][:MAX_EARLY_TRAITS]:
        poles = [pole_of(index, certainties[index]) for index in signs]
        sentences.append(f"Early signs point to texts that {join_phrases(poles)}.")
    return " ".join(sentences)


def _rank(profile: Profile, table: Mapping[str, Evidence], prior: int, least: int) -> list[tuple[float, str]]:
    """Names with at least `seen` hundredths of fading occurrences, by log-odds, highest first."""
    now = profile.events
    return sorted(
        (
            (log_odds(evidence, now, prior), name)
            for name, evidence in table.items()
            if (evidence[0] + evidence[1]) * fade_at(FADE_BY_AGE, now - evidence[3]) >= least
        ),
        reverse=True,
    )


def _topic_sentences(profile: Profile) -> str:
    labels = _rank(profile, profile.categories, CATEGORY_PRIOR, 60)
    clear, likely, some = _tiers(labels, (OFTEN, 0.8, SOMETIMES), MAX_LABELS)
    passed, rare = _tiers([(-odds, name) for odds, name in reversed(labels)], (0.8, SOMETIMES), MAX_LABELS)
    sentences = [
        f"{opening} {join_phrases(names)}."
        for opening, names in (
            ("Clearly drawn to", clear),
            ("Tends to pick", likely),
            ("Has picked", some),
            ("Tends to pass over", passed),
            ("Rarely picks", rare),
        )
        if names
    ]
    named = _without_parts(profile, _rank(profile, profile.terms, NAME_PRIOR, 60))
    often, sometimes = _tiers(named, (OFTEN, SOMETIMES), MAX_WORDS)
    left_often, left = _tiers([(-odds, name) for odds, name in reversed(named)], (OFTEN, SOMETIMES), MAX_WORDS)
    sentences += [
        f"{opening} {', '.join(names)}."
        for opening, names in (
            ("Words that often mark their choices:", often),
            ("Words that mark their choices:", sometimes),
            ("Words that often mark what they leave:", left_often),
            ("Words that mark what they leave:", left),
        )
        if names
    ]
    return " ".join(sentences)


def _tiers(ranked: Sequence[tuple[float, str]], steps: Sequence[float], most: int) -> list[list[str]]:
    """The names at or above each step and below the one before, strongest first; `most` names a step."""
    bounds = [float("inf"), *steps]
    return [[name for odds, name in ranked if low <= odds < high][:most] for high, low in pairwise(bounds)]


def _without_parts(profile: Profile, ranked: Sequence[tuple[float, str]]) -> list[tuple[float, str]]:
    """Leaves out words that rarely occur outside a listed pair."""
    odds_by_name = {name: odds for odds, name in ranked}
    covered: dict[str, float] = {}
    for name, odds in odds_by_name.items():
        for part in name.split() if " " in name else ():
            covered[part] = max(covered.get(part, -MAX_SCORE), abs(odds))
    return [(odds, name) for odds, name in ranked if " " in name or abs(odds) > 1.25 * covered.get(name, 0.0)]


def _price_sentence(profile: Profile) -> str:
    counts, certainty = profile.tallies, style_certainties(profile)[PRICE]
    sentences = []
    if counts.priced > 0.5:
        usual = 2 ** (counts.price / counts.priced)
        sentences.append(
            f"Usually takes items priced around {usual:,.2g}."
            if usual < 10
            else f"Usually takes items priced around {usual:,.0f}."
        )
    if abs(certainty) >= LIKELY:
        sentences.append(f"Tends to take the {'dearer' if certainty > 0 else 'cheaper'} of the items on offer.")
    return " ".join(sentences)


def _year_sentence(profile: Profile) -> str:
    usual = year_taken(profile)
    if usual is None or profile.years or profile.tallies.dated < 1.5:
        return ""
    return YEARS.format(year=usual[0], spread=max(1.0, usual[1]))


def render_recent(profile: Profile) -> str:
    """Where the last few choices turn against the longer run."""
    sums, counts = profile.contrasts, profile.tallies
    sentences = []
    if counts.weighed:
        share = counts.weighed_recent / counts.weighed
        longer = style_certainties(profile)
        recent = [x / (share * b + 1) ** 0.5 for x, b in zip(sums.recent_lean, sums.spread, strict=True)]
        turned = [_contradiction(now, lasting) for now, lasting in zip(recent, longer, strict=True)]
        poles = [pole_of(index, turned[index]) for index in _traits(turned, EARLY)[:3]]
        if poles:
            sentences.append(f"Lately prefers texts that {join_phrases(poles)}, more than before.")
    rising = _find_turns(profile, 1)
    falling = _find_turns(profile, -1)
    if rising:
        sentences.append(f"Lately picks more of {join_phrases(rising)}.")
    if falling:
        sentences.append(f"Lately picks less of {join_phrases(falling)}.")
    return " ".join(sentences)


def _contradiction(recent: float, lasting: float) -> float:
    """The recent certainty where it contradicts a lasting taste, or shows one that is not lasting yet."""
    if recent * lasting < 0:
        return recent if abs(recent) >= EARLY and -recent * lasting >= EARLY * LIKELY else 0.0
    return recent if abs(recent) >= LIKELY > abs(lasting) else 0.0


def _find_turns(profile: Profile, sign: int) -> list[str]:
    """Categories whose last events point the other way than all of them together."""
    positions = []
    for name, evidence in profile.categories.items():
        recent = sign * evidence[2] * fade_at(RECENT_FADE_BY_AGE, profile.events - evidence[3])
        if recent >= 120 and sign * (evidence[0] - evidence[1] - evidence[2]) <= -100:
            positions.append(name)
    return positions[:3]
