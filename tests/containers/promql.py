"""What a query in PromQL asks for: its selectors, its labels, and what it measures before it compares."""

from collections.abc import Iterator

import promql_parser as promql

COMPARISONS = {"==", "!=", "<", ">", "<=", ">="}


def nodes(expr: str) -> list[promql.Expr]:
    """Every part of the query. Raises ValueError where it cannot be read."""
    parts: list[promql.Expr] = []
    promql.walk(promql.parse(expr), pre_visit=parts.append)
    return parts


def selectors(expr: str) -> list[promql.VectorSelector]:
    return [node for node in nodes(expr) if isinstance(node, promql.VectorSelector)]


def grouping(expr: str) -> set[str]:
    """The labels by which the query sums up or matches."""
    return {label for node in nodes(expr) for label in _grouped(node)}


def _grouped(node: promql.Expr) -> Iterator[str]:
    if isinstance(node, promql.AggregateExpr) and node.modifier:
        yield from node.modifier.labels
    if isinstance(node, promql.BinaryExpr) and node.modifier and node.modifier.matching:
        yield from node.modifier.matching.labels


def measured(expr: str) -> str:
    """The query with every comparison replaced by its left side: what an alert looks at while it is quiet."""

    def left(node: promql.Expr) -> promql.Expr | None:
        compares = isinstance(node, promql.BinaryExpr) and str(node.op) in COMPARISONS
        return node.lhs if compares else None

    return str(promql.transform(promql.parse(expr), post_visit=left).prettify())
