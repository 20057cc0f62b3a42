"""Writes a profile file with the public sentences of AlignXplore+, from a checkout of its repository.

    git clone https://github.com/AntResearchNLP/AlignX-Family
    python -m services.prompts.official AlignX-Family

Then ALIGNX_SUMMARY__PROMPTS and ALIGNX_RESPONSE__SELECTION_PROMPTS name prompts.toml. The sentences are read from the
checkout's syntax trees; none of its code runs. A checkout of another version than the known one is imported with a
warning: the released model was not trained with its prompts.
"""

import argparse
import ast
import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from services.prompts.alignxplore_plus import Texts, read_texts
from services.prompts.profiles import SHIPPED

KNOWN_VERSION: Final = "b9b8a9e"
Parts = list[tuple[str, bool]]
"""A string: pieces of text, and whether one is an expression."""


class Source(NamedTuple):
    """A string that a function (for "" the module) assigns to `target`, returns, or has in a dict: the known one,
    else the longest."""

    file: str
    function: str
    target: str
    sha256: str
    """Of the known version, the first 16 digits: constant parts as they are, placeholders as {expression}."""


SOURCES: Final = {
    "system": Source("sft/postprocess.py", "build_input_prompt", "system_prompt", "62e29636c3b415a0"),
    "user": Source("sft/postprocess.py", "build_input_prompt", "full_text", "12539659a2cb17d2"),
    "triple": Source("sft/postprocess.py", "build_input_prompt", "prompt_str", "d46f49c39f26f3ef"),
    "whole": Source("eval/gen_preference.py", "build_prompt", "full_text", "67cec5482363268d"),
    "selection_system": Source("eval/evaluate_select.py", "prepare_texts_for_inference", "content", "44f3b5667dc365c8"),
    "selection_user": Source("eval/evaluate_select.py", "format_prompt", "return", "06431147dd68acde"),
    "selection_history": Source("eval/evaluate_direct_rec_pair.py", "build_prompt", "persona", "f6cf483007ee3415"),
    "news": Source("eval/unify_recommendation_task.py", "", "his['query']", "21306f132369495c"),
    "movies": Source("sft/preprocess.py", "format_and_tokenize_batch", "item['query']", "464a5e903db9982b"),
}
_NAMES: Final = {
    "idx + 1": "{number}",
    "'*' * 5": "*****",
    "prompt_str": "{triples}",
    "past if past is not None else 'Not Provided.'": "{past}",
    "prompt": "{query}",
    "persona": "{summary}",
    "response_a": "{response_a}",
    "response_b": "{response_b}",
} | {f"triple['{name}']": f"{{{name}}}" for name in ("query", "chosen", "rejected")}
"""What stands in a template for an expression of the public code."""


class UnknownForm(ValueError):
    """The checkout does not hold what is read from it. The message names the place."""


def import_texts(checkout: Path) -> tuple[Texts, list[str]]:
    """The profile of a checkout, and warnings. Raises UnknownForm."""
    root = checkout / "AlignXplorePlus" if (checkout / "AlignXplorePlus").is_dir() else checkout
    parts = {name: _read(root, source) for name, source in SOURCES.items()}
    warnings = [
        f"{source.file}: {source.target} differs from the known version {KNOWN_VERSION}"
        for name, source in SOURCES.items()
        if not _is_known(parts[name], source)
    ]
    texts = {name: _join(part, _NAMES) for name, part in parts.items()}
    digest = hashlib.sha256(json.dumps(texts).encode()).hexdigest()[:8]
    shipped = read_texts(SHIPPED)
    before, _, after = texts["user"].partition("{past}")
    whole, news, movies = (texts.pop(name) for name in ("whole", "news", "movies"))
    fields: dict[str, Any] = shipped.model_dump() | texts | _split_items(texts["selection_user"])
    if not whole.startswith(before) or not whole.endswith(after):
        raise UnknownForm(f"{SOURCES['whole'].file}: full_text is not the text of {SOURCES['user'].file}")
    fields["no_past_whole"] = whole[len(before) : len(whole) - len(after)]
    fields["name"] = f"alignxplore-plus-official/{digest if warnings else KNOWN_VERSION}"
    fields["queries"] = shipped.queries | {"news": news, "movies": movies}
    return Texts.model_validate(fields), warnings


def _read(root: Path, source: Source) -> Parts:
    try:
        scope: ast.AST = ast.parse((root / source.file).read_text(encoding="utf-8"))
    except (OSError, SyntaxError) as error:
        raise UnknownForm(f"{root / source.file} cannot be read: {error}") from error
    if source.function:
        functions = [node for node in ast.walk(scope) if getattr(node, "name", None) == source.function]
        scope = functions[0] if functions else ast.Module([], [])
    strings = [_parts(node) for value in _values(scope, source.target) for node in _strings(value)]
    if not strings:
        raise UnknownForm(f"{source.file}: {source.function or 'the module'} holds no text named {source.target}")
    return max(strings, key=lambda parts: (_is_known(parts, source), len(_join(parts, {}))))


def _is_known(parts: Parts, source: Source) -> bool:
    return hashlib.sha256(_join(parts, {}).encode()).hexdigest().startswith(source.sha256)


def _values(scope: ast.AST, target: str) -> Iterator[ast.AST]:
    for node in ast.walk(scope):
        match node:
            case ast.Assign(targets=targets, value=value) if target in map(ast.unparse, targets):
                yield value
            case ast.Return(value=ast.expr() as value) if target == "return":
                yield value
            case ast.Dict(keys=keys, values=values):
                for key, value in zip(keys, values, strict=True):
                    if isinstance(key, ast.Constant) and key.value == target:
                        yield value


def _strings(node: ast.AST) -> Iterator[ast.Constant | ast.JoinedStr]:
    """The outermost ones."""
    if isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str)):
        yield node
    else:
        for child in ast.iter_child_nodes(node):
            yield from _strings(child)


def _parts(node: ast.Constant | ast.JoinedStr) -> Parts:
    values = node.values if isinstance(node, ast.JoinedStr) else [node]
    return [
        (ast.unparse(value.value), True)
        if isinstance(value, ast.FormattedValue)
        else (str(ast.literal_eval(value)), False)
        for value in values
    ]


def _join(parts: Parts, names: dict[str, str]) -> str:
    """One text; an expression becomes its name, or without `names` stands in braces."""
    if names and (unknown := [text for text, is_expression in parts if is_expression and text not in names]):
        raise UnknownForm(f"the prompts hold the expression {unknown[0]!r}, which is not known here")
    return "".join(names.get(text, f"{{{text}}}") if is_expression else text for text, is_expression in parts)


def _split_items(selection: str) -> dict[str, str]:
    """The text of a choice between two items as one for any number of them."""
    first, second, end = selection.find("<Item A>"), selection.find("<Item B>"), "</Item B>"
    item = selection[first:second].strip().replace("Item A", "Item {letter}").replace("{response_a}", "{item}")
    last = item.replace("{letter}", "B").replace("{item}", "{response_b}")
    pair = f"{selection[first:second]}{last}"
    choices = "[Item A / Item B]"
    if not 0 <= first < second or pair not in selection or not pair.endswith(end) or choices not in selection:
        raise UnknownForm(f"{SOURCES['selection_user'].file}: the items of a choice have another form")
    return {
        "selection_item": item,
        "selection_user": selection.replace(pair, "{items}").replace(choices, "[{choices}]"),
    }


def write_texts(texts: Texts, path: Path) -> None:
    fields = texts.model_dump()
    queries = fields.pop("queries")
    lines = [f"{name} = {json.dumps(text, ensure_ascii=False)}" for name, text in fields.items()]
    lines += ["", "[queries]", *(f"{name} = {json.dumps(text, ensure_ascii=False)}" for name, text in queries.items())]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m services.prompts.official", description=__doc__.split("\n")[0])
    parser.add_argument("checkout", type=Path, help="folder of AntResearchNLP/AlignX-Family")
    parser.add_argument("output", type=Path, nargs="?", default="prompts.toml", help="file to write: prompts.toml")
    options = parser.parse_args(arguments)
    try:
        texts, warnings = import_texts(options.checkout)
    except ValueError as error:
        raise SystemExit(f"{options.checkout} is not imported: {error}") from error
    for warning in warnings:
        sys.stderr.write(f"warning: {warning}\n")
    write_texts(texts, options.output)
    sys.stdout.write(f"{options.output}: profile {texts.name}\n")


if __name__ == "__main__":
    main()
