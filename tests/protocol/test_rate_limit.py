from protocol.rate_limit import RateLimit


def test_the_first_is_said_at_once_and_then_one_each_interval_with_how_many_were_not() -> None:
    limit = RateLimit(10.0)
    said = [(now_s, limit.held) for now_s in (5, 6, 7, 14.9, 15, 16, 40, 41) if limit.allows(now_s)]
    assert said == [(5, 0), (15, 3), (40, 1)]
