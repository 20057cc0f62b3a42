"""The named checks that decide whether a model's reply is a summary, in the order in which parse_summary applies them.

Those of form hold in any language. Those that need words read them from phrases/*.txt, and pass a text in a
language that they do not know. A check refuses a reply (UnusableReply, with its name and a reason for people) or
cleans it: it drops single sentences where what remains still says something. Pure functions.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal, get_args

from services.errors import UnusableReply
from services.prompts.replies.degenerate import count_unspaced, count_words, split_words
from services.prompts.replies.lexicon import (
    NO_WORD,
    content_stems,
    identify_language,
    load_languages,
    load_phrases,
    to_plain,
)
from services.prompts.sentences import split_sentences
from services.prompts.templates import UPDATE_REQUEST, UPDATE_SYSTEM

Check = Literal[
    "complete",
    "separable",
    "control",
    "shaped",
    "degenerate",
    "refusal",
    "instruction",
    "copied",
    "link",
    "about",
    "length",
]
CHECKS: Final[tuple[Check, ...]] = get_args(Check)


@dataclass(frozen=True)
class Evidence:
    """What the model has read, as plain text."""

    events: str = ""
    past: str = ""
    instructions: str = f"{UPDATE_SYSTEM}\n{UPDATE_REQUEST}"
    """The fixed text of the prompts in use."""


# --- refusals ----------------------------------------------------------------------------------

_CLAUSE = re.compile(r"[^.!?。！？\n,，、]{1,80}[,，、]\s*(?:(?:so|but|and|therefore|hence) )?")
"""An introduction such as "Based on the events provided, "."""
_REFUSALS, _TASK = load_phrases("refusals"), load_phrases("task")
_QUOTED = re.compile(
    r"\"[^\"\n]{0,300}\"|“[^”\n]{0,300}”|„[^“”\n]{0,300}[“”]|«[^»\n]{0,300}»|「[^」\n]{0,300}」|`[^`\n]{0,300}`|(?<!\w)'[^'\n]{2,120}'(?!\w)"
)


def check_refusal(text: str) -> None:
    """Refuses a text whose first words decline, apologise or ask for more. It sees the start alone, so that a sentence
    about a user who "can't stand horror" passes."""
    start = to_plain(text[:400])
    clause = _CLAUSE.match(start)
    if _REFUSALS.match(start) or (clause and _REFUSALS.match(start, clause.end())):
        raise UnusableReply("refusal", "the model declines to write one")


_MAX_TASK: Final = 0.45
"""Greatest share of the sentences that may speak of the task, of two and more."""


def check_task(text: str) -> None:
    """Refuses thoughts on the way, plans and prompts: what speaks of the task of writing a summary."""
    sentences = [to_plain(part) for part in split_sentences(_QUOTED.sub(" ", text)) if count_words(part) > 1]
    hits = sum(_TASK.search(sentence) is not None for sentence in sentences)
    if hits >= 2 and hits >= _MAX_TASK * len(sentences):
        raise UnusableReply("separable", "it speaks of its task, as reasoning does")


# --- copies of the prompt ----------------------------------------------------------------------

_PROMPT_MARK = re.compile(
    r"<(?:events?|past_summary|chosen|rejected|wrote|review)\b[^<>]*>"
    r"|^[-*\d. ]*(?:event \d+|rating|click|purchase|post|statement|comparison|dialogue|demographic)\s*[|:(\[—–]"
    r"|(?:^(?:q|a|input|output|question|answer|user|human|assistant)\s*:.*(?:\n+|\Z)){2,}",
    re.IGNORECASE | re.MULTILINE,
)
_GRAM, _UNSPACED_GRAM = 5, 10
_MAX_COPIED_SENTENCE: Final = 0.6
"""Greatest share of a sentence's 5-grams of words that may stand in the instructions."""
_MAX_COPIED_EVENTS: Final = 0.75
"""Greatest share of a reply's 5-grams of words, of 12 at least, that may stand in the events."""
_MIN_GRAMS: Final = 12


def _grams(text: str) -> set[tuple[str, ...]]:
    words = split_words(text.lower())
    size = _UNSPACED_GRAM if count_unspaced(words) * 2 > len(words) else _GRAM
    return set(zip(*(words[start:] for start in range(size)), strict=False))


@lru_cache(maxsize=8)
def _instruction_grams(instructions: str) -> set[tuple[str, ...]]:
    return _grams(instructions)


def check_prompt_marks(text: str) -> None:
    """Refuses a text that holds events as a prompt lays them out."""
    if _PROMPT_MARK.search(_QUOTED.sub(" ", text)):
        raise UnusableReply("copied", "it copies the events")


def clean_copied(text: str, evidence: Evidence) -> str:
    """Drops sentences of the instructions; refuses a text that repeats the events."""
    grams = _grams(text)
    events = set[tuple[str, ...]]().union(*map(_grams, evidence.events.split("\n")))
    if len(grams) >= _MIN_GRAMS and len(grams & events) > _MAX_COPIED_EVENTS * len(grams):
        raise UnusableReply("copied", "it copies the events")
    instructions = _instruction_grams(evidence.instructions)

    def is_copied(sentence: str) -> bool:
        grams = _grams(sentence)
        return bool(grams) and len(grams & instructions) > _MAX_COPIED_SENTENCE * len(grams)

    return _drop(text, is_copied, "copied", "it copies the instructions")


# --- instructions and links --------------------------------------------------------------------

_INSTRUCTION = load_phrases("instructions")
_SECOND_PERSON = re.compile(r"(?<!-)\byou(?:rs?|'(?:re|ve|ll|d))?\b(?!-)")
"""A summary of "you" has it in each sentence; where some speak of the user and others to "you", those are orders."""


def check_instruction(text: str) -> None:
    """Refuses a text that tells its reader, a model, what to do. The rest of it is no evidence of anything either:
    whoever wrote it has followed another's words. What is quoted describes."""
    sentences = [to_plain(sentence) for sentence in split_sentences(_QUOTED.sub(" ", text))]
    addressed = [_SECOND_PERSON.search(sentence) is not None for sentence in sentences if count_words(sentence) > 1]
    if any(map(_INSTRUCTION.search, sentences)) or (any(addressed) and not all(addressed)):
        raise UnusableReply("instruction", "it gives its reader instructions")


_REST = r"[^\s<>\[\]\"]{0,2000}"
_IMAGE = re.compile(r"!\[[^\]\n]{0,400}\]\([^)\n]{0,2000}\)")
_MARKDOWN_LINK = re.compile(r"\[([^\]\n]{1,400})\]\([^)\n]{0,2000}\)")
_LINK = re.compile(
    rf"\b[a-z][a-z0-9+.-]{{1,20}}://{_REST}|\bwww\.[a-z0-9-]+\.{_REST}|\b(?:javascript|data|mailto):\S{_REST}"
    rf"|\b(?:[a-z0-9-]{{1,63}}\.){{1,8}}[a-z]{{2,24}}(?::\d{{2,5}})?/[^\s/]{_REST}|\b\d{{1,3}}(?:\.\d{{1,3}}){{3}}[:/]\d?{_REST}",
    re.IGNORECASE,
)
"""With a scheme, `www.` or a path. A bare name such as Booking.com or ASP.NET is a name."""
_LINK_IN_BRACKETS = re.compile(
    r"(?<![ \t])[ \t]*+[(\[](?:(?:see|cf\.?|via|siehe|voir|ver|см\.?|见)[: ]*)?"
    r"<?(?=[^()\[\]\s]{4})([^()\[\]\s]+)>?[)\]]",
    re.IGNORECASE,
)


def clean_links(text: str) -> str:
    """Drops images, the addresses of Markdown links, links in brackets, and sentences with any other link."""
    text = _MARKDOWN_LINK.sub(r"\1", _IMAGE.sub("", text))
    text = _LINK_IN_BRACKETS.sub(lambda part: "" if _LINK.match(part[1]) else part[0], text)
    return _drop(text.strip(), lambda sentence: bool(_LINK.search(sentence)), "link", "it is a link")


def _drop(text: str, is_bad: Callable[[str], bool], check: Check, reason: str) -> str:
    """`text` without its bad sentences. Refuses it where too little would remain."""
    sentences = split_sentences(text)
    rest = [sentence for sentence in sentences if not is_bad(sentence)]
    if len(rest) == len(sentences):
        return text
    remaining = "".join(rest).strip()
    if count_words(remaining) < _MIN_WORDS or _is_heading(remaining):
        raise UnusableReply(check, reason)
    return remaining


def _is_heading(text: str) -> bool:
    return all(line.startswith("#") or line.rstrip("* ").endswith((":", "：")) for line in text.split("\n") if line)


_MIN_WORDS: Final = 3

# --- about a person ----------------------------------------------------------------------------

_MIN_PERSONAL: Final = 0.5
"""Smallest share of sentences that speak of a person or of a preference in a text that begins with a definition."""
_MIN_DEFINITION: Final = 11
"""Words of a text that defines a thing; a shorter one may name a preference so."""
_MIN_LOST_STEMS: Final = 10
"""Words of a reply that names neither a person nor a preference, from which on it must share one with the events."""
_MIN_STEMS, _MIN_EVENT_STEMS = 15, 30
"""Words of a reply, and of what the model has read, from which on they must have one in common."""
_EMPTY_CHARS: Final = 400
"""A longer text says something."""
_LABEL = re.compile(
    r"^[^\w\n]*+\w[\w ]{0,39}[:：](?:\s*+[*_]*+(?:null|none|n/?a|unknown))?[\d\W_tz]*$|^#.*$", re.I | re.M
)
"""A heading, or a label with nothing behind it."""


def check_about(text: str, evidence: Evidence) -> None:
    """Refuses a text that says nothing; that defines a thing and speaks of no person; or that has no word in common
    with what the model has read. A text in a language that languages.txt does not list passes, and one in another
    language than the events is not compared with them."""
    body = _LABEL.sub("", text).strip()
    if count_words(text) < _MIN_WORDS:
        raise UnusableReply("about", "it has fewer than three words")
    is_long = len(body) > _EMPTY_CHARS
    if (not is_long and not all(content_stems(body, code) for code in load_languages())) or not any(
        map(str.isalpha, body)
    ):
        raise UnusableReply("about", "it says nothing of the user")
    code = identify_language(text)
    if code is None or (language := load_languages()[code]).person is NO_WORD:
        return
    stems, source = content_stems(text, code), f"{evidence.events}\n{evidence.past}"
    sources = content_stems(source, code) if identify_language(source) == code else set[str]()
    sentences = [sentence.lower() for sentence in split_sentences(_QUOTED.sub(" ", text)) if count_words(sentence) > 1]
    personal = [
        bool(language.person.search(sentence) or language.preference.search(sentence)) for sentence in sentences
    ]
    if not any(personal) and any(map(language.address.search, sentences)):
        raise UnusableReply("about", "it speaks to its reader, not of a person")
    if not any(personal) and len(stems) >= _MIN_LOST_STEMS and sources and not stems & sources:
        raise UnusableReply("about", "it is about no person")
    if (
        sentences
        and count_words(text) >= _MIN_DEFINITION
        and language.definition.match(to_plain(sentences[0]))
        and not personal[0]
        and sum(personal) < _MIN_PERSONAL * len(personal)
    ):
        raise UnusableReply("about", "it is about no person")
    if len(stems) >= _MIN_STEMS and len(sources) >= _MIN_EVENT_STEMS and not stems & sources:
        raise UnusableReply("about", "nothing in it stands in the events")
