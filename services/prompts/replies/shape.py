"""Takes a summary out of what models wrap around it: announcements, code fences, tags, data, closing remarks.

The words of announcements stand in phrases/openers.txt, those of closing remarks in phrases/closers.txt. Markdown
is no wrapper. Pure functions.
"""

import html
import json
import re
from collections.abc import Iterator
from typing import Any, Final

from services.errors import UnusableReply
from services.prompts.replies.degenerate import MIN_WORDS, count_words
from services.prompts.replies.lexicon import starts_with_phrase, to_plain
from services.prompts.sentences import split_sentences

_FENCE = re.compile(r"(```|~~~)[\w+-]*[ \t]*\n(.*?)\n?\1[^`~]{0,160}", re.DOTALL)
"""And a remark behind it."""
_TAGGED = re.compile(r"<([a-z][a-z_]{2,30})>(.*)</\1>", re.DOTALL | re.IGNORECASE)
_DOCUMENT = re.compile(r"\s*<(?:!doctype|html|head|body)\b", re.IGNORECASE)
_HTML_TAG = re.compile(
    r"</?(?:article|blockquote|br|div|dd|dl|dt|h[1-6]|hr|li|main|ol|p|section|table|t[dhr]|ul)\b[^<>]*>", re.IGNORECASE
)
_HTML_ITEM = re.compile(r"<li\b[^<>]*>\s*", re.IGNORECASE)
_HTML_INLINE = re.compile(r"</?(?:a|abbr|b|code|em|i|mark|q|small|span|strong|sub|sup|u)\b[^<>]*>", re.IGNORECASE)
_FENCED = re.compile(r"(```|~~~).*?\1|\[[^\]\n]{0,400}\]\(|`[^`\n]*`|^ {4,}.*$", re.DOTALL | re.MULTILINE)
_SYMBOL = re.compile(r"[{}\[\]();=<>_\\$@&^%~]")
_MAX_SYMBOLS: Final = 0.09
"""Greatest share of symbols of code among the characters that are no space. A summary has .06 and less."""
_MIN_CODE_CHARS: Final = 20
_CALL = re.compile(
    r"\s*<(?:tool_calls?|function_calls?|invoke|function)\b|\s*\{\s*\"(?:name|tool|function)\":[^{}]*\"(?:arguments|parameters)\""
)
_CODE_LINE = re.compile(
    r"\s*(?:(?:import|from|def|class|return|function|const|let|var|public|private|if|for|while|elif|else|try|except|select|insert|update|delete|create|drop|traceback|file|http/[\d.]+|content-type|print|#include|@\w+)\b.*[;:({)\w]$"
    r"|[\w.\[\]\"']+\s*[:=]{1,2}\s*[\w\"'\[{(].*[,;)\]}\"']$|[{}()\[\];,]+$|.*[;{}]$|[^\s,]+(?:,[^\s,]+)+$|//.*|\$ .*"
    r"|\d{4}-\d\d-\d\d[t ]\d.*|file \".*|#!.*)",
    re.IGNORECASE,
)
_NO_SUMMARY_KEY = re.compile(
    r"\$schema|properties|\$ref|errors?|exception|status|events|messages|chosen|rejected|item|rating|query|skipped|role|tool"
)
"""Of JSON that is a schema, a report of a program, or events."""
_NO_PREFERENCE_KEY = re.compile(
    r"sentiment|confidence|score|(?:last_)?updated|updated_at|timestamp|(?:user_)?id|version", re.IGNORECASE
)
_FIELDS = re.compile(r"(?:[ \t]*(?:[\w-]+[ \t]*[:=](?: .*)?|-[ \t].*|\[[\w.-]+\]|---|#.*)?(?:\n|\Z))+")
"""YAML, TOML and the like, line by line."""
_FIELDS_ALONE = re.compile(
    r"^[ \t]*(?:\w+_\w+[ \t]*[:=]|\w+[ \t]*= )|^\[\w|^---$|^[^\W\dA-Z]\w*:[ \t]*\n[ \t]+\S", re.MULTILINE
)
"""What a list of labels in prose does not have."""
_FIELD = re.compile(r"([ \t]*)(-[ \t]+)?(?:\[([\w.-]+)\]|([\w-]+)[ \t]*[:=](?=\s|\Z)[ \t]*)?(.*)")
_NO_VALUE = re.compile(r"[\d.:+TZ -]*|null|none|~", re.IGNORECASE)
_PREFERENCE = re.compile(
    r"pr[eé]f|\blik(?:e|ing)|dislik|inter[eê]|intérê|avoid|[eé]vit|favou?r|tast|goût|g[ou]st|vorlieb|abneig|\bmag|sti?yl|\bstil"
    r"|diet|hobb|exclu|topic|allerg|genre|[喜爱偏好嫌]|люб|нрав|предпоч|интерес|좋아|선호|싫어",
    re.IGNORECASE,
)
_STATEMENT = re.compile(
    r"[\w.]+\([^\n]*\);?\s*\Z|SELECT .* FROM |UPDATE \w+ SET |DELETE FROM |INSERT INTO |#!/"
    r"|```(?:python|javascript|js|typescript|java|bash|sh|sql|cpp|html|xml)\n"
    r"|\[?(?:ERROR|WARN|WARNING|INFO|DEBUG|FATAL)\]? |\s*<[a-z]+(?: [a-z]+=[^<>]*)?/>|[^\t\n]+(?:\t[^\t\n]+)+\n"
)
"""A call alone, SQL, a script, a line of a log, an empty element, a table with tabs."""
_MIN_CODE: Final = 0.6
"""Share of lines, of two and more, from which on a text is code."""
_OPENED = re.compile(
    r"<(?:[a-z_]*(?:summary|preferences)|answer)>|(?:```|~~~)[\w+-]*[ \t]*\n(?![^`]*(?:```|~~~))", re.IGNORECASE
)
_JSON_START = re.compile(r'\{\s*"[^"\n]{1,80}"\s*:|\[\s*(?:\{|"[^"\n]{1,400}"\s*,\s*")')
_MAX_LAYERS: Final = 6
_LABEL = re.compile(r"[^\n:：]{1,160}[:：]\**\s*")
"""Such as "Sure! Here is the updated summary:"."""
_LINE_BEFORE_WRAPPER = re.compile(
    r"[^\n.。]{1,200}[:：]\**\s*\n\s*(?=(?:```|~~~|\{\s*\"|\[\s*[{\"]|<[a-z_]{3,30}>|---+\n))"
)
_LINE_BEFORE_PROSE = re.compile(r"([^\n.!?。]{1,200}[:：])\**[ \t]*\n[ \t]*\n(?![ \t]*(?:[-*+•#>|`~]|\d{1,3}[.)]))")
_LISTED = re.compile(r"\s*(?:[-+•|]|\*\s|\d{1,3}[.)])")
_REMARK_CHARS: Final = 1_000
"""Characters at the end in which a closing remark is looked for."""
_MIN_ANNOUNCED: Final = 6
"""Words of a line before prose that announces it; a heading has fewer."""
_SENTENCE_ON_SUMMARY = re.compile(
    r"(?=[^\n]*(?:summar|profile|zusammenfass|résum|resum|riassunt|сводк|резюме|总结|摘要|要約|まとめ|요약|ملخص))"
    r"[^\n]{1,160}[.!。！]\**\n\s*\n",
    re.IGNORECASE,
)


def unwrap_summary(text: str) -> str:
    """The summary without an announcement, a code fence, a tag or JSON around it, or a remark behind it.

    Raises UnusableReply (check `shaped`) for JSON that cannot be read, code, and calls of tools.
    """
    text = _last_answer(text)
    for _ in range(_MAX_LAYERS):
        before = text
        text = _without_remark(_without_announcement(text.strip()).strip())
        if wrapped := _FENCE.fullmatch(text) or _TAGGED.fullmatch(text):
            text = wrapped[2].strip()
        if opened := _OPENED.match(text):  # the token limit or a stop string came before the closing one
            text = text[opened.end() :].lstrip()
        if _HTML_TAG.match(text):
            text = _read_html(text)
        if _CALL.match(text):
            raise UnusableReply("shaped", "it calls a tool")
        if _JSON_START.match(text):
            text = _read_json(text)
        if _FIELDS.fullmatch(text) and _FIELDS_ALONE.search(text):
            text = _read_fields(text)
        if text == before:
            break
    if _DOCUMENT.match(text) or _is_code(text):
        raise UnusableReply("shaped", "it is code")
    return text


def _last_answer(text: str) -> str:
    """What stands in it: a model that reasons as R1 does may quote the format before it fills it."""
    return text.rpartition("</answer>")[0].rpartition("<answer>")[2] if "</answer>" in text else text


def _is_code(text: str) -> bool:
    text = _FENCED.sub("", text)  # an example may stand
    chars = sum(map(len, text.split()))
    if chars >= _MIN_CODE_CHARS and len(_SYMBOL.findall(text)) > _MAX_SYMBOLS * chars:
        return True
    lines = [line for line in text.split("\n") if line.strip()]
    code = sum(_CODE_LINE.fullmatch(line) is not None for line in lines)
    is_code = code >= _MIN_CODE * len(lines) and (len(lines) > 1 or text.endswith((";", "}")))
    return is_code or bool(_STATEMENT.match(text))


def _without_announcement(text: str) -> str:
    """`text` without a first line or half line that announces what follows it."""
    if wrapped := _LINE_BEFORE_WRAPPER.match(text):
        return text[wrapped.end() :]
    if (prose := _LINE_BEFORE_PROSE.match(text)) and count_words(prose[1]) >= _MIN_ANNOUNCED:
        return text[prose.end() :]
    if _LISTED.match(text):
        return text
    head = _LABEL.match(text) or _SENTENCE_ON_SUMMARY.match(text)
    if head is None or not text[head.end() :].strip():
        return text
    return text[head.end() :] if starts_with_phrase("openers", to_plain(head[0])) else text


def announces(text: str) -> bool:
    """Whether `text`, of one line, may be the start of an announcement."""
    return "\n" not in text and starts_with_phrase("openers", to_plain(text))


def _without_remark(text: str) -> str:
    """`text` without last sentences that speak to whoever asked for it, such as "Let me know …"."""
    sentences, length = split_sentences(text[-_REMARK_CHARS:]), len(text)
    while sentences and length and starts_with_phrase("closers", to_plain(sentences[-1])):
        length -= len(sentences.pop())
    return text[:length].rstrip() if length < len(text) else text


def _read_json(text: str) -> str:
    try:
        value, _ = json.JSONDecoder().raw_decode(text)  # a remark may follow
        if any(isinstance(entry, dict) and any(map(_NO_SUMMARY_KEY.fullmatch, entry)) for entry in (value, *value)):
            raise UnusableReply("shaped", "it is a schema, a report of a program or events")
        while isinstance(value, dict) and len(value) == 1 and isinstance(inner := next(iter(value.values())), dict):
            value = inner
        return "\n".join(_iterate_lines(value))
    except (ValueError, RecursionError) as error:  # also nested without end
        raise UnusableReply("shaped", "it is broken JSON") from error


def _read_html(text: str) -> str:
    lines = _HTML_TAG.sub("\n", _HTML_INLINE.sub("", _HTML_ITEM.sub("\n- ", text))).split("\n")
    return html.unescape("\n".join(line.strip() for line in lines if line.strip(" -")))


def _read_fields(text: str) -> str:
    """The fields of YAML, TOML and the like as lines; a field below another is named after both."""
    rows, parents = list[tuple[list[str], list[str]]](), list[tuple[int, str]]()
    for line in text.split("\n"):
        indent, bullet, section, key, value = _FIELD.fullmatch(line).groups("")  # type: ignore[union-attr]
        value = re.sub(r"[\"\[\]{}]|^'|'$", "", value).strip()
        if line.strip().startswith(("#", "---")) or not line.strip() or _NO_PREFERENCE_KEY.fullmatch(key):
            continue
        if section or key:
            depth = -1 if section else len(indent) + len(bullet)
            parents = [parent for parent in parents if parent[0] < depth] + [(depth, section or key)]
            rows.append(([name for _, name in parents], []))
        if rows and not _NO_VALUE.fullmatch(value):
            rows[-1][1].append(value)
    if not _PREFERENCE.search(text):
        raise UnusableReply("shaped", "it is data without a preference")
    start = (
        0 if any(values and len(names) < 2 for names, values in rows) or len({names[0] for names, _ in rows}) > 1 else 1
    )
    return "\n".join(f"{_to_label(', '.join(names[start:]))}: {', '.join(values)}" for names, values in rows if values)


def _iterate_lines(value: Any, name: str = "") -> Iterator[str]:
    """The texts of a JSON value; a list of them becomes one line under its name and that of the object around it.
    Numbers stay out: a model's confidence in its summary is no part of it."""
    match value:
        case str() if value.strip():
            yield value.strip() if not name or count_words(value) > MIN_WORDS else f"{_to_label(name)}: {value.strip()}"
        case list() if all(isinstance(entry, str) for entry in value) and value:
            yield f"{_to_label(name)}: {', '.join(value)}" if name else "\n".join(value)
        case list():
            for entry in value:
                yield from _iterate_lines(entry, name)
        case dict():
            for key, entry in value.items():
                if not _NO_PREFERENCE_KEY.fullmatch(key):
                    yield from _iterate_lines(
                        entry, f"{name}, {key}" if name and isinstance(entry, (str, list)) else key
                    )


def _to_label(name: str) -> str:
    return name.replace("_", " ").strip().capitalize()
