"""Stands in for the public file of this path: the same names and places, sentences of our own."""

his: dict[str, str] = {}
his["query"] = "News, please."
