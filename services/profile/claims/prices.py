"""What a user usually pays, in words: by kind of thing where kinds differ, with the currency that their items tell."""

from collections import Counter
from collections.abc import Callable, Mapping
from statistics import median, quantiles
from typing import Final

from services.profile.parse_text import PAYS, PRICED, PRICED_FROM, join_phrases
from services.profile.statistics import Price

MAX_KINDS: Final = 4
_LEAST, _LEAST_OF_KIND = 3, 2
"""Items from which a price is usual, and usual of a kind."""
_APART: Final = 2.5
"""Ratio of two prices from which they are different habits."""


def tell_prices(prices: Mapping[int, Price], allowed: Callable[[str], bool]) -> str:
    """One sentence; "" where too little is known. Of several currencies the commonest counts."""
    currencies = Counter(price.currency for price in prices.values())
    currency = max(currencies, key=currencies.__getitem__, default="")
    known = [price for price in prices.values() if price.currency == currency]
    if len(known) < _LEAST:
        return ""
    kinds = dict[str, list[float]]()
    for price in known:
        if price.label and allowed(price.label):
            kinds.setdefault(price.label, []).append(price.amount)
    usual = {label: median(paid) for label, paid in kinds.items() if len(paid) >= _LEAST_OF_KIND}
    often = sorted(usual, key=lambda label: -len(kinds[label]))[:MAX_KINDS]
    if often and max(map(usual.__getitem__, often)) >= _APART * min(map(usual.__getitem__, often)):
        told = [f"around {_write(usual[label], currency)} for {label}" for label in often]
        return f"{PAYS} {join_phrases(told)}."
    low, middle, high = quantiles([price.amount for price in known], n=4, method="inclusive")
    if high >= _APART**2 * low:
        return f"{PRICED_FROM} around {_write(low, currency)} to around {_write(high, currency)}."
    return f"{PRICED} around {_write(middle, currency)}."


def _write(amount: float, currency: str) -> str:
    if amount < 10:
        number = f"{amount:.2f}" if currency and amount % 1 else f"{amount:.2g}"
    else:
        number = f"{round(amount, 2 - len(str(int(amount)))):,.0f}"
    return f"{currency} {number}" if currency.isalpha() else f"{currency}{number}"
