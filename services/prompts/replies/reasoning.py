"""Separates a model's reasoning from its answer, in every form that engines are known to send.

Tags in any case (`<think>`, `<Thinking>`, `<seed:think>`, `[THINK]`, `◁think▷`, `<|begin_of_thought|>`,
`<|START_THINKING|>`), a closing tag alone (the chat template has opened it), channels of the harmony format, the
same with its tokens stripped ("analysis…assistantfinal…"), and labels ("Reasoning: … Summary: …"). An engine's
field `reasoning_content` arrives in tags (services/engine/wire.py). A tag in backticks is a word. Pure functions.
"""

import re

_NAMES = "think(?:ing)?|thoughts?|reason(?:ing)?|reflection|scratchpad|analysis|inner_monologue"
_MARK = re.compile(
    r"(?<!`)(?:[<◁]\|?(?P<angled>/|end_(?:of_)?)?(?:(?:begin|start)_(?:of_)?)?(?:[a-z]{1,12}:)?"
    rf"(?:{_NAMES})(?P<suffix>_end)?(?:_start|_begin)?\s*\|?[>▷]"
    r"|\[(?P<bracketed>/)?(?:think(?:ing)?|thoughts?|reasoning|reflection)\]"
    r"|(?:<\|start\|>[^<>\n]{0,40})?<\|channel\|>\s*(?P<channel>[a-z]+)[^<>\n]{0,80}(?:<\|constrain\|>[^<>\n]{0,40})?"
    r"<\|message\|>"
    r"|(?P<ended><\|(?:end|call)\|>))",
    re.IGNORECASE,
)
_STRIPPED = re.compile(r"\s*(?:analysis|commentary)(?P<thought>.*?)assistant\s*final(?P<text>.*)", re.DOTALL)
_LABELLED = re.compile(
    r"\W*(?:(?:my |step-by-step )?(?:reasoning|thinking|thoughts|thought process|analysis|chain of thought)"
    r"|here (?:is|are) my (?:thought process|reasoning|thoughts)"
    r"|überlegung(?:en)?|gedankengang|analyse|raisonnement|réflexion|razonamiento|análisis|рассуждени[ея]|анализ)"
    r"\W{0,3}[:：]\W*\n?(?P<thought>.*?)\n\W*"
    r"(?:here (?:is|are) my (?:response|summary|answer)|(?:final |updated |new |user |preference )*(?:summary|answer"
    r"|response|profile)|(?:aktualisierte )?zusammenfassung|résumé(?: final)?|resumen(?: final)?|сводка|итог|резюме)"
    r"\W{0,3}[:：]\W*(?P<text>.*)"
    r"|\W*(?:思考(?:过程)?|推理(?:过程)?|分析)[:：](?P<thought2>.*?)\n\W*(?:最终)?(?:总结|摘要|答案)[:：]\W*(?P<text2>.*)",
    re.DOTALL | re.IGNORECASE,
)


def separate_reasoning(reply: str) -> tuple[str, str]:
    """(reasoning, text), both stripped."""
    thoughts, texts, start, is_thinking = list[str](), list[str](), 0, False
    for mark in _MARK.finditer(reply) if any(map(reply.__contains__, "<[◁")) else ():
        if mark["ended"] and not is_thinking:
            continue
        closes = bool(mark["angled"] or mark["suffix"] or mark["bracketed"] or mark["ended"])
        closes = closes or (mark["channel"] or "").lower() == "final"
        (thoughts if is_thinking else texts).append(reply[start : mark.start()])
        if closes and not is_thinking and not mark["channel"]:  # all before it was reasoning
            thoughts, texts = [*thoughts, *texts], []
        start, is_thinking = mark.end(), not closes
    (thoughts if is_thinking else texts).append(reply[start:])
    reasoning, text = "\n".join(map(str.strip, thoughts)).strip(), "".join(texts).strip()
    if not reasoning and (plain := _STRIPPED.match(text) or _LABELLED.match(text)):
        groups = plain.groupdict()
        reasoning, text = (groups[name] or groups.get(f"{name}2") or "" for name in ("thought", "text"))
    return reasoning.strip(), text.strip()


_OPEN_MARK = re.compile(r"(?:<\|(?:start|channel)\|>[^\n]{0,160}|[<\[◁][|/]?[\w:|]{0,40})\Z")


def undecided_length(reply: str) -> int:
    """Length of the end of a reply under way that may become a mark."""
    tail = _OPEN_MARK.search(reply, max(0, len(reply) - 200))
    return len(reply) - tail.start() if tail else 0
