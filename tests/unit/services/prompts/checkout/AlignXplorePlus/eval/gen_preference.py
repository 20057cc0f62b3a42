"""Stands in for the public file of this path: the same names and places, sentences of our own."""

from typing import Any


def build_prompt(tokenizer: Any, history: list[dict[str, Any]], past: str | None) -> str:
    prompt_str = "\n\n".join(
        [
            f"""=====Triple {idx + 1}=====

*QUERY:*
 {triple["query"]}
{"*" * 5}
*CHOSEN ITEM BY THE USER:*
{triple["chosen"]}
{"*" * 5}
*REJECTED ITEM BY THE USER:*
{triple["rejected"]}"""
            for idx, triple in enumerate(history)
        ]
    )
    full_text = f"""Say what the user likes. Merge. Or start.
=====Past Preference Summary=====

"Not Provided."

=====Interaction History=====
{prompt_str}

=====END=====

Go on."""
    return full_text.strip()
