"""Stands in for the public file of this path: the same names and places, sentences of our own."""


class DataProcessor:
    def format_and_tokenize_batch(self, batch_data: list[dict[str, str]]) -> None:
        for item in batch_data:
            item["query"] = "Films, please."
