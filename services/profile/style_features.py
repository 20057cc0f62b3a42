"""How a text is written, as a few numbers.

`measure(text)` gives one value for each entry of FEATURES, already divided by a fixed scale, so that
a difference of 1 between two texts is a difference that a reader notices: twice the length, one more
letter a word, one exclamation mark against none. The scales are chosen beforehand and fitted to
nothing. The last entries are axes: weighted sums of features that move together when people change
tone, so that a handful of choices is enough to see the tone.

The word lists are English. Other scripts still have length, sentences, structure and punctuation.
"""

import re
from math import log1p, log2, sqrt
from typing import NamedTuple

from services.statements.normalize import MARKS, UNSPACED, fold

MAX_CHARS = 2_000
"""Characters of a text that are read; its length is always counted in full."""
MAX_TERM = 24
MAX_ITEM_TERMS = 16


class Feature(NamedTuple):
    """One measure of style and its two poles, each completing "prefers texts that …"; without poles it
    counts but is not rendered."""

    name: str
    typical: float
    """Value of an everyday paragraph; an axis takes it from its features."""
    low: str = ""
    high: str = ""
    parent: str = ""
    """The axis that already says the same."""


FEATURES = (
    Feature("length", 6.0, "are short and to the point", "are long and thorough"),
    Feature("sentence_length", 4.0, "use short sentences", "use long sentences"),
    Feature("word_length", 4.7),
    Feature("long_words", 2.2),
    Feature("latinate", 1.6),
    Feature("variety", -1.5),
    Feature("casual", 0.0, "avoid slang and small talk", "sound relaxed and playful", "warmth"),
    Feature("kind", 0.0, "leave out pleasantries", "say kind and cheerful things", "warmth"),
    Feature("harsh", 0.0, "avoid harsh words", "are blunt, even harsh", "warmth"),
    Feature("negation", 0.5),
    Feature("hedging", 0.5, "come to a firm claim", "say how sure they are"),
    Feature("scholarly", 0.0, "avoid academic terms", "use academic terms", "scholarship"),
    Feature("plain", 1.0),
    Feature("first_person", 0.0, "keep the writer out of it", "speak in the first person"),
    Feature("second_person", 0.5, "do not address the reader", "address the reader directly"),
    Feature("inclusive", 0.0),
    Feature("contractions", 0.0, "write words out in full", "use contractions", "chattiness"),
    Feature("exclamations", 0.0, "avoid exclamation marks", "use exclamation marks"),
    Feature("questions", 0.0, "ask no questions", "ask questions"),
    Feature("lists", 0.0, "are written as prose", "use lists and headings"),
    Feature("paragraphs", 0.5, "stay in one paragraph", "are broken into paragraphs"),
    Feature("emoji", 0.0, "leave out emoji", "use emoji"),
    Feature("quotation", 0.0),
    Feature("asides", 3.0),
    Feature("numbers", 0.5, "do without numbers", "give numbers"),
    Feature("warmth", 0.0, "are cool and matter-of-fact", "are warm and friendly"),
    Feature("scholarship", 0.0, "are written in plain, everyday words", "are technical and scholarly"),
    Feature("chattiness", 0.0, "are formal", "are informal and chatty"),
)
NAMES = tuple(feature.name for feature in FEATURES)
INDEX = {name: position for position, name in enumerate(NAMES)}
MIRRORED = tuple(INDEX[name] for name in ("casual", "exclamations", "emoji", "scholarly", "contractions"))
"""What a person's own writing hints at, weakly."""


def _set(listed: str) -> frozenset[str]:
    return frozenset(listed.split())


_LISTS = {
    "casual": """hey hi wow oh yeah yep yup nope nah haha hahaha lol gonna wanna gotta kinda sorta dude buddy pal mate
        folks guys bro awesome cool super totally stuff okay ok guess bet yay oops ah aha ha hmm well sure cheers whoa
        bunch crazy silly funny joke kidding""",
    "kind": """please thanks thank glad happy hope welcome love lovely dear friend friends enjoy enjoyed wonderful
        great amazing beautiful fantastic delightful excited exciting fun together smile joy kind warm best good
        congratulations perfect sweet""",
    "harsh": """stupid dumb idiot boring useless pathetic ridiculous worthless waste lazy hate ugly terrible awful
        horrible worst annoying bother rude nonsense garbage trash fool foolish whatever ugh fail failure loser ignorant
        incompetent mediocre bad poor unpleasant unbearable wrong disgusting miserable cold""",
    "negation": """no not never nothing nobody none cannot don't doesn't didn't won't can't isn't aren't wasn't weren't
        wouldn't shouldn't couldn't haven't hasn't hardly barely without""",
    "hedging": """may might perhaps maybe possibly probably seems seem appears appear likely could suggests suggest
        roughly somewhat generally usually often arguably relatively""",
    "scholarly": """thus therefore hence furthermore moreover whereas thereby wherein consequently nevertheless utilize
        utilizes utilizing facilitate facilitates demonstrate demonstrates theory theoretical empirical hypothesis
        analysis analyses methodology paradigm framework phenomenon phenomena cognitive statistical parameters mechanism
        mechanisms synthesis optimal complexity systematic domain context conceptual implementation algorithm algorithms
        research study significant""",
    "plain": """big small good bad nice fun play like likes lot lots thing things stuff people kids kid mom dad friend
        friends happy sad really very make makes help helps get gets go goes see know think want need use look place
        something someone everyone called easy hard work works school game day""",
    "first_person": "i me my mine myself i'm i've i'll i'd",
    "second_person": "you your yours yourself you're you've you'll you'd",
    "inclusive": "we us our ours let's we're we've we'll",
}
LEXICON: dict[str, tuple[int, ...]] = {}
for _name, _listed in _LISTS.items():
    for _word in _listed.split():
        LEXICON[_word] = (*LEXICON.get(_word, ()), INDEX[_name])
STOP = _set(
    """a about above after again against all also although am among an and another any are aren't around as at away back
    be became because become been before being below between both but by came can cannot can't come could day did didn't
    do does doesn't doing don't done down during each either else even ever every few first for from get gets getting
    give given go goes going gone good got had has hasn't have haven't having he her here hers herself him himself his
    how however i i'd if i'll i'm in into is isn't it it's its itself i've just keep kind know last least less let let's
    like likely little look lot lots made make makes making many may maybe me might more most much must my myself need
    never new next no nor not nothing now of off often on once one ones only or other others our ours out over own part
    people perhaps please put quite rather real really said same say says see seem seems she should since so some
    someone something soon still such sure take takes than that that's the their theirs them themselves then there
    there's these they they're thing things think this those though three through thus time to together too two under
    until up upon us use used using usually very want wants was wasn't way we well went were what what's when where
    which while who whom whose why will with within without won't would year years yes yet you your yours yourself
    you're user prefers prefer preference likes loves love hate hates enjoy enjoys answer answers text texts
    always actually already almost enough especially instead nice none stand ten thank thanks dislike dislikes
    link nbsp amp quot"""
)
_LETTERS = rf"[^\W_{UNSPACED}]+(?:[{MARKS}]+[^\W_{UNSPACED}]*)*"
_WORD = re.compile(rf"(?:[{UNSPACED}][{MARKS}]*){{1,2}}|{_LETTERS}(?:['-]{_LETTERS})*")
_ASCII_WORD = re.compile(r"[a-z0-9]+(?:['-][a-z0-9]+)*")
_SENTENCE_ENDS = (". ", "! ", "? ", "\n", "。", "！", "？")
_LIST_LINE = re.compile(r"^[ \t]*(?:[-*•]|\d+[.)]|#{1,6})\s", re.MULTILINE)
_EMOJI = re.compile("[\U0001f300-\U0001faff\u2600-\u27bf]")
URL = re.compile(r"(?:\b[a-z][a-z0-9+.-]{0,15}://|\bwww\.)\S*", re.IGNORECASE)
_ABSTRACT = tuple(
    _set(
        """tion tions sion sions ity ities ism ology ical ment ments ance ence ive ous ize izes ized izing ate ated ates
        ating al ally"""
    )
)
_CONTRACTED = ("n't", "'re", "'ve", "'ll", "'m", "'d", "'s")
_ONE_OCCURRENCE = 1 / log1p(1)
"""One occurrence against none is a difference of 1; each further one adds less."""
_BLANK = (0.0,) * len(FEATURES)


def words(text: str) -> list[str]:
    """Lower-case words of the part of a text that is read; pairs of characters in Chinese and Japanese."""
    text = text[:MAX_CHARS]
    if "://" in text or "www." in text:
        text = URL.sub(" ", text)
    if text.isascii():  # the same words, found sooner
        return _ASCII_WORD.findall(text.lower())
    return _WORD.findall(fold(text))


def terms(tokens: list[str], limit: int, without: frozenset[str] = frozenset()) -> list[str]:
    """The first `limit` different words that can name a topic, in order."""
    topics = []
    for word in dict.fromkeys(tokens):
        if word in STOP or word in without or len(word) > MAX_TERM or word[0] in "0123456789":
            continue
        if (len(word) < 3 and word.isascii()) or "'" in word:
            continue
        topics.append(word)
        if len(topics) == limit:
            break
    return topics


def measure(text: str, tokens: list[str]) -> tuple[float, ...]:
    """The values of FEATURES for a text whose `words` are `tokens`."""
    read = text[:MAX_CHARS]
    count = len(tokens)
    values = list(_BLANK)
    counts: dict[int, int] = {}
    for word in filter(LEXICON.__contains__, tokens):
        for position in LEXICON[word]:
            counts[position] = counts.get(position, 0) + 1
    for position, n in counts.items():
        values[position] = log1p(n) * _ONE_OCCURRENCE
    longer = [word for word in tokens if len(word) > 6]
    per_word = 1 / (count or 1)
    whole = count * max(1.0, len(text) / MAX_CHARS)
    sentences = 1 + sum([read.count(end) for end in (_SENTENCE_ENDS if not read.isascii() else _SENTENCE_ENDS[:4])])
    values[0] = log2(1 + whole)
    values[1] = log2(1 + count / sentences)
    values[2] = len("".join(tokens)) * per_word if count else FEATURES[2].typical
    values[3] = 5 * sqrt(len([word for word in longer if len(word) > 7]) * per_word)
    values[4] = 5 * sqrt(len([word for word in longer if word.endswith(_ABSTRACT)]) * per_word)
    values[5] = (len(set(tokens)) - count) * sqrt(per_word)
    _marks(read, tokens, values)
    values[25:] = _axes(values)
    return tuple(values)


def _marks(read: str, tokens: list[str], values: list[float]) -> None:
    """Punctuation, lines and signs, each only looked for where it can occur."""
    marks = [
        ("'" in read or "’" in read) and sum([word.endswith(_CONTRACTED) for word in tokens if "'" in word]),
        read.count("!"),
        read.count("?"),
    ]
    values[16:19] = [log1p(n) * _ONE_OCCURRENCE if n else 0.0 for n in marks]
    if "\n" in read or read[:1] in "-*•#1":
        values[19] = log1p(len(_LIST_LINE.findall(read))) * _ONE_OCCURRENCE * 0.7
        values[20] = log1p(read.count("\n")) * _ONE_OCCURRENCE * 0.7
    quotes = read.count('"')
    if not read.isascii():
        values[21] = log1p(len(_EMOJI.findall(read))) * _ONE_OCCURRENCE
        quotes += read.count("“")
    values[22] = log1p(quotes) * _ONE_OCCURRENCE
    values[23] = log1p(read.count(",") + read.count(";") + read.count(":") + read.count("(")) * _ONE_OCCURRENCE
    values[24] = log1p(sum(map(str.isdigit, tokens))) * _ONE_OCCURRENCE


def _axes(v: list[float]) -> tuple[float, float, float]:
    """Warmth, scholarship, chattiness: weights of 1 or a half over the root of their squares' sum."""
    warmth = (v[6] + v[7] + v[17] + v[21] - v[8] + 0.5 * (v[16] + v[14])) / 2.35
    scholarship = (v[2] + v[3] + v[4] + v[11] - v[12] + 0.5 * (v[1] - v[16])) / 2.35
    chattiness = (v[16] + v[6] + 0.5 * (v[13] + v[14] + v[17] + v[18] - v[4] - v[2])) / 1.87
    return warmth, scholarship, chattiness


_EVERYDAY = [feature.typical for feature in FEATURES[:-3]]
TYPICAL = (*_EVERYDAY, *_axes(_EVERYDAY))
