"""The named checks that decide whether a model's reply is a summary, in the order in which parse_summary applies them;
the last compare the summary with what is known of its user: `sensitive` and `pin` with what the user said
(services/preference/updates/user_rules.py), `supported` with the profile (support.py there).

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
from services.prompts.replies.degenerate import MIN_WORDS, count_words, gram_size, make_grams, split_words
from services.prompts.replies.lexicon import (
    Language,
    Reading,
    content_stems,
    identify_language,
    load_languages,
    starts_with_phrase,
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
    "consistent",
    "length",
    "sensitive",
    "pin",
    "supported",
]
CHECKS: Final[tuple[Check, ...]] = get_args(Check)


@dataclass(frozen=True)
class Evidence:
    """What the model has read, as plain text."""

    events: str = ""
    past: str = ""
    instructions: str = f"{UPDATE_SYSTEM}\n{UPDATE_REQUEST}"
    """The fixed text of the prompts in use."""


# --- refusals and thoughts on the task ----------------------------------------------------------

_CLAUSE = re.compile(r"[^.!?。！？\n,，、]{1,80}[,，、]\s*(?:(?:so|but|and|therefore|hence) )?")
"""An introduction such as "Based on the events provided, "."""


def check_refusal(text: str) -> None:
    """Refuses a text whose first words decline, apologise or ask for more. It sees the start alone, so that a sentence
    about a user who "can't stand horror" passes."""
    start = to_plain(text[:400])
    clause = _CLAUSE.match(start)
    if starts_with_phrase("refusals", start) or (clause and starts_with_phrase("refusals", start, clause.end())):
        raise UnusableReply("refusal", "the model declines to write one")


_MAX_TASK: Final = 0.45
"""Greatest share of the sentences that may speak of the task or ask, of two and more."""
_MAX_SPEAKER: Final = 0.3
"""Greatest share of the sentences that may stand in the first person."""
_MAX_QUESTIONS: Final = 0.2
"""Greatest share of the sentences that may ask, of two questions and more."""
_QUESTION = re.compile(r"[?？؟][\W_]*\Z|(?:か|까)[。.]\Z")


def check_task(reading: Reading) -> None:
    """Refuses thoughts on the way, plans, prompts and excuses: what speaks of the task of writing a summary, asks
    questions, or says "I" at its start or often. A summary does none of these."""
    count, language = len(reading.sentences), reading.language
    speakers = {number for number, part in enumerate(reading.sentences) if language and language.speaker.search(part)}
    questions = {number for number, part in enumerate(reading.sentences) if _QUESTION.search(part)}
    thoughts = questions | reading.find_phrases("task")
    hits = thoughts | speakers
    if (len(questions) > 1 and len(questions) > _MAX_QUESTIONS * count) or (
        thoughts and len(hits) > 1 and len(hits) >= _MAX_TASK * count
    ):
        raise UnusableReply("separable", "it speaks of its task, as reasoning does")
    if len(speakers) > _MAX_SPEAKER * count or (0 in speakers and _PROSE_END.search(reading.sentences[0])):
        raise UnusableReply("refusal", "the model speaks of itself")


# --- copies of the prompt ----------------------------------------------------------------------

_PROMPT_MARK = re.compile(
    r"<(?:events?|past_summary|chosen|rejected|wrote|review)\b[^<>]*>"
    r"|^[-*\d. \[#]*(?:event \d+|rating|click|purchase|post|statement|comparison|dialogue|demographic)\s*[|:(\[\]—–]"
    r"|(?:^(?:q|a|input|output|question|answer|user|human|assistant)\s*:.*(?:\n+|\Z)){2,}",
    re.IGNORECASE | re.MULTILINE,
)
_EVENT_LABEL = re.compile(
    r"^[^\w\n]*+(type|item|query|chosen|rejected|skipped|messages|role|rating)\s*[:：]", re.IGNORECASE | re.MULTILINE
)
_MAX_COPIED_SENTENCE: Final = 0.6
"""Greatest share of a sentence's 4-grams of words that may stand in the instructions."""
_MAX_COPIED: Final = ((4, 0.95), (15, 0.7))
"""(words of a reply, greatest share of them that may stand in 4-grams of the events) from so many words on."""
_MIN_LISTED: Final = 0.2
"""Share of words in such 4-grams from which on the lines are compared with the events."""
_MIN_LINES: Final = 3
_MAX_COPIED_LINES: Final = 0.7
"""Greatest share of the lines of a list, of three and more, that may stand in the events word by word."""
_LINE_MARKS = re.compile(r"\A[\s*•|-]*(?:\d{1,3}[.)]\s)?|[\W\d_]+\Z")


@lru_cache(maxsize=8)
def _instruction_grams(instructions: str) -> frozenset[tuple[str, ...]]:
    words = split_words(instructions.lower())
    return frozenset(make_grams(words, gram_size(words)))


def check_prompt_marks(text: str) -> None:
    """Refuses a text that holds events as a prompt lays them out."""
    if _PROMPT_MARK.search(text) or len({label.lower() for label in _EVENT_LABEL.findall(text)}) > 1:
        raise UnusableReply("copied", "it copies the events")


def clean_copied(text: str, evidence: Evidence) -> str:
    """Drops sentences of the instructions; refuses a text that repeats the events, word by word or as a list."""
    words, events = split_words(text.lower()), [split_words(line) for line in evidence.events.lower().split("\n")]
    size = gram_size(words)
    grams = make_grams(words, size)
    shared = set(grams).intersection(gram for line in events for gram in make_grams(line, size))
    copied = {place + offset for place, gram in enumerate(grams) if gram in shared for offset in range(size)}
    if any(len(words) >= count and len(copied) > share * len(words) for count, share in _MAX_COPIED) or (
        len(copied) > _MIN_LISTED * len(words) and _lists_events(text, " ".join(map(" ".join, events)))
    ):
        raise UnusableReply("copied", "it copies the events")
    instructions = _instruction_grams(evidence.instructions)
    if instructions.isdisjoint(grams):
        return text

    def is_copied(sentence: str) -> bool:
        grams = make_grams(split_words(sentence.lower()), size)
        return bool(grams) and len(instructions.intersection(grams)) > _MAX_COPIED_SENTENCE * len(set(grams))

    return drop_sentences(text, is_copied, "copied", "it copies the instructions")


def _lists_events(text: str, events: str) -> bool:
    lines = [split_words(_LINE_MARKS.sub("", line).lower()) for line in text.split("\n") if line.strip()]
    copied = [line for line in lines if line and f" {' '.join(line)} " in f" {events} "]
    return (
        len(lines) >= _MIN_LINES
        and len(copied) > _MAX_COPIED_LINES * len(lines)
        and any(len(line) >= gram_size(line) for line in copied)
    )


# --- instructions and links --------------------------------------------------------------------

_SECOND_PERSON_SENTENCE = re.compile(r"^.*(?<!-)\byou(?:rs?|'(?:re|ve|ll|d))?\b(?!-)", re.MULTILINE)
"""A summary of "you" has it in each sentence; where some speak of the user and others to "you", those are orders."""


def check_instruction(reading: Reading) -> None:
    """Refuses a text that tells its reader, a model, what to do. The rest of it is no evidence of anything either:
    whoever wrote it has followed another's words. What is quoted describes, as does a verb with a subject: "they ignore
    all rules"."""
    addressed = len(_SECOND_PERSON_SENTENCE.findall(reading.lines)) if "you" in reading.lines else 0
    if 0 < addressed < len(reading.sentences) or (
        reading.find_phrases("instructions") and reading.drop_phrases("descriptions").find_phrases("instructions")
    ):
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
    if not _LINK.search(text) and "](" not in text:
        return text
    text = _MARKDOWN_LINK.sub(r"\1", _IMAGE.sub("", text))
    text = _LINK_IN_BRACKETS.sub(lambda part: "" if _LINK.match(part[1]) else part[0], text)
    return drop_sentences(text.strip(), lambda sentence: bool(_LINK.search(sentence)), "link", "it is a link")


def drop_sentences(text: str, is_bad: Callable[[str], bool], check: Check, reason: str) -> str:
    """`text` without its bad sentences. Refuses it where too little would remain."""
    sentences = split_sentences(text)
    rest = [sentence for sentence in sentences if not is_bad(sentence)]
    if len(rest) == len(sentences):
        return text
    remaining = "".join(rest).strip()
    if count_words(remaining) < MIN_WORDS or _is_heading(remaining):
        raise UnusableReply(check, reason)
    return remaining


def _is_heading(text: str) -> bool:
    return all(line.startswith("#") or line.rstrip("* ").endswith((":", "：")) for line in text.split("\n") if line)


# --- about a person ----------------------------------------------------------------------------

_MAX_PERSONAL: Final = 0.5
"""Greatest share of sentences that speak of a person or of a preference in a text that defines a thing."""
_MIN_DEFINITION: Final = 7
"""Words of a text that defines a thing; a shorter one may name a preference so."""
_MIN_PROSE: Final = 17
"""Words in whole sentences of a text that speaks of no person, from which on it is no summary."""
_MIN_PROSE_SENTENCE: Final = 6
_MIN_SHARED, _MIN_SUPPORT, _MIN_DEFINITION_SUPPORT = 4, 0.25, 0.4
"""Words, and share of a text's words, that must stand in two events and more: of a text that names no person, and of
one that seems to define a thing."""
_MIN_STEMS, _MIN_EVENT_STEMS = 15, 30
"""Words of a reply, and of what the model has read, from which on they must have one in common."""
_MIN_CONTENT: Final = 0.1
"""Share of a short text's distinct words that say something; summaries have .13 and more."""
_EMPTY_CHARS: Final = 400
"""A longer text says something."""
_LABEL = re.compile(
    r"^[^\w\n]*+\w[\w ]{0,39}[:：](?:\s*+[*_]*+(?:null|none|n/?a|unknown))?[\d\W_tz]*$|^#.*$|^[*_]+[^*_\n]{1,60}[*_]+$",
    re.I | re.M,
)
"""A heading, or a label with nothing behind it."""


def check_about(reading: Reading, evidence: Evidence) -> None:
    """Refuses a text that says nothing, that speaks of no person, or that has no word in common with what the model
    has read. A text in a language that languages.txt does not know passes, and one in another language than the
    events is not compared with them."""
    text = reading.text
    if count_words(text) < MIN_WORDS:
        raise UnusableReply("about", "it has fewer than three words")
    source, body = f"{evidence.events}\n{evidence.past}", _LABEL.sub("", text).strip()
    if len(body) <= _EMPTY_CHARS and _is_empty(body, source):
        raise UnusableReply("about", "it says nothing of the user")
    language, code = reading.language, reading.code
    if language is None or code is None:
        return
    stems = content_stems(text, code)
    reason, support = _judge_person(reading, language)
    if reason and _measure_support(stems, source, code) < support:
        raise UnusableReply("about", reason)
    if len(stems) >= _MIN_STEMS and identify_language(source) == code:
        sources = content_stems(source, code)
        if len(sources) >= _MIN_EVENT_STEMS and not stems & sources:
            raise UnusableReply("about", "nothing in it stands in the events")


def _is_empty(text: str, source: str) -> bool:
    """Whether, in some language, nearly all its words say nothing, and none of the others stands in what was read."""
    least = _MIN_CONTENT * count_words(list(set(split_words(text.lower()))))
    stems = ((content_stems(text, code), code) for code in load_languages())
    return not any(map(str.isalpha, text)) or any(
        len(some) <= least and not some & content_stems(source, code) for some, code in stems
    )


def _measure_support(stems: set[str], source: str, code: str) -> float:
    """The share of a text's words that stand in the lines read, 0 where they are few or of a single line."""
    lines = [content_stems(line, code) & stems for line in source.split("\n")]
    shared = set[str]().union(*lines)
    return len(shared) / len(stems) if len(shared) >= _MIN_SHARED and sum(map(bool, lines)) > 1 else 0.0


def _judge_person(reading: Reading, language: Language) -> tuple[str, float]:
    """(why a text is about no person, "" where it is; the share of words read by which it tells of the events)."""
    sentences = reading.sentences
    personal = reading.find_words(language.person) | reading.find_words(language.attitude)
    personal |= {number for number, part in enumerate(sentences) if language.claim.search(part)}
    addressed = {number for number, part in enumerate(sentences) if language.address.search(part)}
    if 0 in personal or (0 not in addressed and any(map(language.start.match, sentences[:1]))):
        personal |= {number for number, part in enumerate(sentences) if language.start.match(part)}
    is_definition = (
        bool(sentences)
        and 0 not in personal
        and len(personal) <= _MAX_PERSONAL * len(sentences)
        and sum(reading.sizes) >= _MIN_DEFINITION
        and language.definition.match(sentences[0])
    )
    if personal and not is_definition:
        return "", 0
    support = 1.01 if addressed else _MIN_DEFINITION_SUPPORT if is_definition else _MIN_SUPPORT
    prose = sum(
        size
        for part, size in zip(sentences, reading.sizes, strict=True)
        if size >= _MIN_PROSE_SENTENCE and _PROSE_END.search(part) and not _ITEM.match(part)
    )
    if is_definition or prose >= _MIN_PROSE * (2 if len(_LABEL.findall(reading.text)) > 1 else 1):
        return "it is about no person", support
    is_speech = addressed and _PROSE_END.search(reading.text)
    return "it speaks to its reader, not of a person" if is_speech else "", support


_ITEM = re.compile(r"[^.!?:：]{1,40}(?:\*\*)?[:：]")
"""A label with what belongs to it, as in a list."""
_PROSE_END = re.compile(r"[.!?。！？।][\W_]*\Z")
