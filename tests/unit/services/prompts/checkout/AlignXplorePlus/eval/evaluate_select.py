"""Stands in for the public file of this path: the same names and places, sentences of our own."""


class PreferenceEvaluator:
    def format_prompt(self, prompt: str, response_a: str, response_b: str, persona: str) -> str:
        return f"""Which one? As JSON: {{"selection": "[Item A / Item B]"}}
<Prompt>
{prompt}
</Prompt>

<Preference>
{persona}</Preference>

<Item A>
{response_a}
</Item A>

<Item B>
{response_b}
</Item B>

Only that."""

    def prepare_texts_for_inference(self, prop: str) -> list[dict[str, str]]:
        return [{"role": "system", "content": "You choose."}, {"role": "user", "content": prop}]
