import pytest

from gateway.headers import Allowance


def test_allowance_as_header_fields() -> None:
    assert Allowance(True, 399.4, rate=200.0, burst=400).headers() == [
        (b"ratelimit-policy", b'"key";q=400;w=2'),
        (b"ratelimit", b'"key";r=399;t=1'),
    ]


@pytest.mark.parametrize(("tokens", "rate", "seconds"), [(0.0, 0.1, 10), (0.5, 0.1, 5), (0.9, 100.0, 1)])
def test_retry_after_is_the_time_to_the_next_token(tokens: float, rate: float, seconds: int) -> None:
    assert Allowance(False, tokens, rate=rate, burst=1).retry_after == seconds
