"""Phrases with roles, and where they stand in a sentence: a trie of words.

In a phrase GAP stands for one to some words and `word*` for any word that begins so. Words that the language lets
stand anywhere, such as adverbs and negators, are skipped between a phrase's words. The longest phrase that begins at
a word counts.
"""

from collections.abc import Iterable, Sequence
from typing import Final, Literal, NamedTuple

GAP: Final = "_"
MAX_GAP: Final = 9
"""Words in a gap; twice as many characters where words are not set apart."""
BOUNDARIES: Final = frozenset('.!?;:,()[]/—–…。！？；：，、،؛؟।"“”„«»「」『』')
"""Marks that no gap holds."""
COMMAS: Final = frozenset(",，、،")
_PREFIX: Final = 2
"""Letters by which prefixes are looked up."""


class Cue(NamedTuple):
    """A phrase and its role. The fields from `kind` on belong to attitudes, `feature` to style."""

    role: str
    keys: tuple[str, ...]
    kind: str = ""
    polarity: float = 0.0
    side: Literal["after", "before", "gap", "inside"] = "after"
    """Where the target stands."""
    where: Literal["any", "start", "subject", "own", "end", "note"] = "any"
    """At the start or the end of a segment; right after who likes it: "I like" is a taste, "a man like him" none; in a
    segment that names the person: "I'm a cat lover"; in notes that name nobody: "42, nurse, loves tea"."""
    is_self: bool = False
    """The phrase tells by its form that the person speaks of themselves: "odio"."""
    versus: bool = False
    """What follows the phrase is what the gap is preferred to: "prefer _ to"."""
    past: bool = False
    """The phrase tells by its form that it is no longer so: "me gustaba"."""
    feature: str = ""


class Match(NamedTuple):
    cue: Cue
    start: int
    end: int
    gap: tuple[int, int] | None = None
    negated: bool = False


class _Node:
    __slots__ = ("cues", "gap", "next", "prefixes")

    def __init__(self) -> None:
        self.next: dict[str, _Node] = {}
        self.prefixes: dict[str, list[tuple[str, _Node]]] = {}
        self.gap: _Node | None = None
        self.cues: list[Cue] = []

    def add(self, key: str) -> "_Node":
        if key == GAP:
            self.gap = self.gap or _Node()
            return self.gap
        if key[-1] != "*":
            return self.next.setdefault(key, _Node())
        listed = self.prefixes.setdefault(key[:_PREFIX], [])
        node = next((node for prefix, node in listed if prefix == key[:-1]), None)
        if node is None:
            node = _Node()
            listed.append((key[:-1], node))
        return node

    def follow(self, key: str) -> Iterable["_Node"]:
        if node := self.next.get(key):
            yield node
        if self.prefixes:
            for prefix, node in self.prefixes.get(key[:_PREFIX], ()):
                if key.startswith(prefix):
                    yield node


class CueTrie:
    """Where several phrases have the same words, those added first count first."""

    def __init__(self, cues: Iterable[Cue], skipped: frozenset[str], negators: frozenset[str]) -> None:
        self._root = _Node()
        self._skipped, self._negators = skipped, negators
        for cue in cues:
            node = self._root
            for key in cue.keys:
                node = node.add(key)
            node.cues.append(cue)

    def starts(self, key: str) -> bool:
        return any(True for _ in self._root.follow(key))

    def find(self, keys: Sequence[str]) -> list[Match]:
        """The cues of a sentence in order; none overlaps another but for what stands in a gap."""
        matches, taken, position = [], set[int](), 0
        while position < len(keys):
            match = None
            if position not in taken:
                for node in self._root.follow(keys[position]):
                    match = _longer(match, self._walk(node, keys, Match(_NONE, position, position + 1)))
            if match is None:
                position += 1
            elif match.gap:
                matches.append(match)
                taken.update(range(match.gap[1], match.end))
                position = match.gap[0]
            else:
                matches.append(match)
                position = match.end
        return matches

    def _walk(self, node: _Node, keys: Sequence[str], path: Match) -> Match | None:
        """The longest phrase from a node on, where `path` has led to it."""
        end, best = path.end, None
        for cue in node.cues:
            if cue.where != "end" or end == len(keys) or keys[end] in BOUNDARIES:
                best = path._replace(cue=cue)
                break
        if end == len(keys):
            return best
        for following in node.follow(keys[end]):
            best = _longer(self._walk(following, keys, path._replace(end=end + 1)), best)
        if node.gap:
            best = _longer(self._walk_gap(node.gap, keys, path), best)
        if node.next and keys[end] in self._skipped:
            negated = path.negated or keys[end] in self._negators
            skipped = self._walk_on(node, keys, path._replace(end=end + 1, negated=negated))
            best = _longer(best, skipped)
        return best

    def _walk_on(self, node: _Node, keys: Sequence[str], path: Match) -> Match | None:
        """As `_walk`, of phrases that go on after a skipped word."""
        end = path.end
        while end < len(keys):
            best = None
            for following in node.follow(keys[end]):
                best = _longer(best, self._walk(following, keys, path._replace(end=end + 1)))
            if best or keys[end] not in self._skipped:
                return best
            path = path._replace(negated=path.negated or keys[end] in self._negators)
            end += 1
        return None

    def _walk_gap(self, node: _Node, keys: Sequence[str], path: Match) -> Match | None:
        start = path.end
        most = MAX_GAP if keys[start].isascii() else 2 * MAX_GAP
        for end in range(start, min(len(keys), start + most + 1)):
            for following in node.follow(keys[end]) if end > start else ():
                found = self._walk(following, keys, path._replace(end=end + 1, gap=(start, end)))
                if found and not (found.cue.versus and self._skipped.issuperset(keys[start:end])):
                    return found
            if keys[end] in BOUNDARIES or (end == start and any(True for _ in node.follow(keys[end]))):
                return None
        return None


_NONE: Final = Cue("", ())


def _longer(first: Match | None, second: Match | None) -> Match | None:
    if first is None or second is None:
        return first or second
    return first if len(first.cue.keys) >= len(second.cue.keys) else second
