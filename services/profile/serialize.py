"""A profile as bytes: compact JSON around sums in half precision."""

import struct
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from services.profile.statistics import WIDTH, Contrasts, Evidence, Price, Profile, Standing, StatedClause, Tallies

PROFILE_SCHEMA = 5
"""Stands in every dump; a profile of another schema is rebuilt from the history."""

_PACKING = struct.Struct(f"<{4 * WIDTH + len(Tallies._fields)}e")


def round_to_half(contrasts: Contrasts, tallies: Tallies) -> tuple[Contrasts, Tallies]:
    """To half precision, which is what a dump holds: a profile and its dump behave alike."""
    return _unpack(_pack(contrasts, tallies))


def _pack(contrasts: Contrasts, tallies: Tallies) -> bytes:
    return _PACKING.pack(*contrasts[0], *contrasts[1], *contrasts[2], *contrasts[3], *tallies)


def _unpack(raw: bytes) -> tuple[Contrasts, Tallies]:
    flat = _PACKING.unpack(raw)
    return Contrasts(*(flat[start : start + WIDTH] for start in range(0, 4 * WIDTH, WIDTH))), Tallies(
        *flat[4 * WIDTH :]
    )


def dumps(profile: Profile) -> bytes:
    """Compact JSON, events by their age; `loads` gives back an equal profile."""
    now = profile.events
    return orjson.dumps(
        {
            "v": PROFILE_SCHEMA,
            "n": now,
            "s": b64encode(_pack(profile.contrasts, profile.tallies)).decode(),
            "t": _encode_evidence(profile.terms, now),
            "c": _encode_evidence(profile.categories, now),
            "d": [_encode_clause(clause, now) for clause in profile.clauses],
            "y": profile.years,
            "m": b64encode(profile.direction).decode(),
            "o": profile.own,
            "l": {key: [claim.level, now - claim.event, claim.day] for key, claim in profile.standing.items()},
            "e": {
                key: [count, *(now - event for event in events)] for key, (count, *events) in profile.support.items()
            },
            "i": [[now - event for event in profile.titles], list(profile.titles.values())],
            "p": [[now - event, *price] for event, price in profile.prices.items()],
            "x": profile.left_out,
            "r": b64encode(profile.memory).decode(),
            "z": profile.latest,
        }
    )


def loads(raw: bytes) -> Profile:
    """Raises ValueError for bytes that are no dump of this PROFILE_SCHEMA."""
    try:
        document = orjson.loads(raw)
        if document["v"] != PROFILE_SCHEMA:
            raise ValueError(f"profile of schema {document['v']}; this build reads {PROFILE_SCHEMA}")
        now = int(document["n"])
        contrasts, tallies = _unpack(b64decode(document["s"]))
        return Profile(
            now,
            contrasts,
            tallies,
            _decode_evidence(document["t"], now),
            _decode_evidence(document["c"], now),
            tuple(_decode_clause(*fields, now=now) for fields in document["d"]),
            tuple(document["y"]) if document["y"] else None,
            b64decode(document["m"]),
            document["o"],
            {key: Standing(level, now - age, day) for key, (level, age, day) in document["l"].items()},
            {key: (count, *(now - age for age in ages)) for key, (count, *ages) in document["e"].items()},
            {now - age: title for age, title in zip(*document["i"], strict=True)},
            {now - age: Price(*price) for age, *price in document["p"]},
            document["x"],
            b64decode(document["r"]),
            document["z"],
        )
    except (KeyError, TypeError, struct.error, IndexError) as error:
        raise ValueError("not a dump of a profile") from error


def _encode_clause(clause: StatedClause, now: int) -> list[Any]:
    """Its fields, the age in place of the event, without those at the end that are usual."""
    quote, target, polarity, kind, event, *rest = clause
    usual = list(StatedClause._field_defaults.values())
    while rest and rest[-1] == usual[len(rest) - 1]:
        rest.pop()
    return [quote, target, polarity, kind, now - event, *rest]


def _decode_clause(quote: str, target: str, polarity: int, kind: str, age: int, *rest: Any, now: int) -> StatedClause:
    clause = StatedClause(quote, target, polarity, kind, now - age, *rest)
    return clause._replace(style=tuple((name, strength) for name, strength in clause.style))


def _encode_evidence(table: Mapping[str, Evidence], now: int) -> list[Any]:
    """Names, then for each one (for, against, recent, age), in one flat list."""
    numbers = [value for liked, disliked, recent, at in table.values() for value in (liked, disliked, recent, now - at)]
    return [list(table), numbers]


def _decode_evidence(listed: Sequence[Any], now: int) -> dict[str, Evidence]:
    names, numbers = listed
    rows = zip(*[iter(numbers)] * 4, strict=True)
    return {name: (row[0], row[1], row[2], now - row[3]) for name, row in zip(names, rows, strict=True)}
