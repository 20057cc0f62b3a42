"""Stands in for the public file of this path: the same names and places, sentences of our own."""


def build_prompt(prompt_str: str) -> str:
    persona = f"""The history tells.

=====Interaction History=====
{prompt_str}

=====END====="""
    return persona.strip()
