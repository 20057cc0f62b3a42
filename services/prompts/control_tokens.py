"""Control tokens of chat templates: in a prompt's data they are neutralised, from a reply they are removed.

A tokenizer reads such a token anywhere in a prompt as the end of a turn or the start of another role.
Pure functions.
"""

import re
import unicodedata
from typing import Final

from services.errors import UnusableReply

_JOINERS: Final = "\u200c\u200d"
"""Invisible, but part of Persian and Indic writing and of emoji."""
_ANGLED: Final = (
    r"<[|｜][^<>\n]{0,64}[|｜]>|<[|｜]\w{1,64}>|<\w{1,64}[|｜]>"
    r"|(?i:</?(?:s|bos|eos|sop|eop|pad|unk|mask|unused\d{1,4}|(?:start|end)_of_(?:turn|image|text)"
    r"|think(?:ing)?|tool_(?:call|response)s?)>|<<\s?/?\s?sys>>)"
)
_BRACKETED: Final = (
    r"\[/?(?:(?i:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_(?:CALLS|RESULTS)|THINK)|TOOL_CONTENT|IMG|IMG_(?:BREAK|END)"
    r"|PREFIX|MIDDLE|SUFFIX|ARGS|CALL_ID|AUDIO|BEGIN_AUDIO|gMASK|[es]MASK|UNUSED_TOKEN_\d{1,4})\]"
    r"|\[\|[^\[\]\n]{1,64}\|\]"
)
_TOKEN = re.compile(f"{_ANGLED}|{_BRACKETED}")
"""ChatML, Llama, Mistral, Gemma, DeepSeek, GLM, Phi, Cohere, Exaone, harmony."""
_TOKEN_LIKE = re.compile(
    rf"{_TOKEN.pattern}|</?\w{{0,64}}[:_.▁-][\w:.▁-]{{0,64}}>"
    r"|\[(?:/\w{1,64}|[^\W\d_]{1,64}_\w{1,64}|CLS|SEP|PAD|UNK|MASK|[BE]OS)\]|[\[\]]!?\w?~!?\w?[\[\]]"
)
"""What has the form of a special token of any tokenizer. Breaking the form needs no list of an engine's tokens, which
few engines give. Single words, such as `<item>` and `[DVD]`, and links are ordinary text."""


def _is_invisible(char: str) -> bool:
    """Control, format and surrogate characters: they hide text from a reader but not from a model."""
    return char not in "\n\t" + _JOINERS and unicodedata.category(char) in ("Cc", "Cf", "Cs")


_SELECTORS: Final = "\ufe00-\ufe0f\U000e0100-\U000e01ef"
_HIDDEN_SELECTOR = re.compile(
    f"(?<=[{_SELECTORS}])[{_SELECTORS}]|(?<![\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff])[\U000e0100-\U000e01ef]"
)
"""A variation selector behind another, or an ideographic one behind what is no ideograph: it selects nothing, and a
row of them can spell a text."""


def strip_invisible(text: str) -> str:
    if text.isascii() and text.isprintable():
        return text
    visible = text.translate({ord(char): None for char in set(text) if _is_invisible(char)})
    return _HIDDEN_SELECTOR.sub("", visible)


def neutralise(text: str, tokens: re.Pattern[str] = _TOKEN) -> str:
    """`text` in which no control token is left: the first character of each becomes a character reference. The
    result does not change when it is neutralised again."""
    while (left := tokens.sub(lambda token: _reference(token[0][0]) + token[0][1:], text)) != text:
        text = left  # a reference may stand within another token
    return text


def break_tokens(text: str) -> str:
    """As `neutralise`, for a prompt: what only looks like a special token is broken too."""
    return neutralise(text, _TOKEN_LIKE)


def _reference(char: str) -> str:
    return "&lt;" if char == "<" else f"&#{ord(char)};"


def clean_data(text: str) -> str:
    """Data for a prompt without tags; it can neither spell a control token nor hide text."""
    return break_tokens(strip_invisible(text))


def escape_data(text: str) -> str:
    """Data for the inside of a tag; it can neither close the tag nor spell a control token."""
    return break_tokens(strip_invisible(text).strip().replace("<", "&lt;"))


# --- replies -----------------------------------------------------------------------------------

_OUR_TAG = re.compile(r"</?(?:past_summary|preferences|query|summary)>", re.IGNORECASE)
_OTHER_ROLE = re.compile(
    r"<<SYS>>|\[(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS)\]|<!--|</?(?:system|instructions?|developer|admin)>"
    r"|<\|(?:im_start|start_header_id|start|start_of_role)\|>\s*(?:system|developer|tool)\b|<\|(?:system|developer|SYSTEM_TOKEN)\|>",
    re.IGNORECASE,
)
"""The turn of a system or of another who gives orders, or text hidden from readers."""
_HEADER = re.compile(
    rf"\s*(?:(?:{_ANGLED}|\[/INST\])\s*(?:(?:assistant|model|bot|chatbot)\b)?[ \t]*"
    r"(?:<\|(?:end_header_id|message|im_sep)\|>)?\s*)+",
    re.IGNORECASE,
)

_BARE_TOKEN = re.compile(f"(?<!`)(?:{_TOKEN.pattern})")
"""In backticks it is a word."""


def remove_control_tokens(text: str) -> str:
    """The first turn of a reply without hidden characters, control tokens and tags of our prompts. What follows
    a token is another turn. Raises UnusableReply (check `control`) where a system's turn is among them."""
    text = strip_invisible(text)
    if _OTHER_ROLE.search(_IN_BACKTICKS.sub("", text)):
        raise UnusableReply("control", "it holds another's turn or hidden text")
    if header := _HEADER.match(text):
        text = text[header.end() :]
    if token := _BARE_TOKEN.search(text):
        text = text[: token.start()]
    return _OUR_TAG.sub("", text).strip()


_IN_BACKTICKS = re.compile(r"`[^`\n]*`|```.*?```", re.DOTALL)
