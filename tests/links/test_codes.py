"""Codes: a bijection that shows no order, and what a code of one's own may be."""

import itertools
import random
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundswell.links import errors
from groundswell.links.model import codes
from groundswell.links.model.codes import Permutation


@pytest.mark.promise("LINKS-1")
@pytest.mark.parametrize("size", [1, 2, 3, 62, 3_844, 4_096, 10_007])
def test_the_permutation_is_a_bijection(size: int) -> None:
    """Every number has one image, and every image one number; powers of four need no walk, others do."""
    order = Permutation(size, b"key")
    assert sorted(map(order, range(size))) == list(range(size))
    for outside in (-1, size):
        with pytest.raises(ValueError, match="is not in"):
            order(outside)


@pytest.mark.promise("LINKS-1")
@given(st.integers(0, 62**7 - 1), st.integers(0, 62**7 - 1))
def test_different_numbers_are_different_codes_of_seven_characters(one: int, two: int) -> None:
    order = Permutation(codes.count(7), b"key")
    first, second = codes.spelled(order(one), 7), codes.spelled(order(two), 7)
    assert (first == second) == (one == two)
    assert len(first) == 7
    assert set(first) <= set(string.ascii_letters + string.digits)


@pytest.mark.promise("LINKS-2")
def test_the_next_code_is_not_predicted_better_than_chance() -> None:
    """20,000 neighbours: each bit of the difference of neighbours is a coin, and the next is larger as often as smaller."""
    count = 20_000
    order = Permutation(1 << 42, b"key")
    values = [order(number) for number in range(count)]
    pairs = list(itertools.pairwise(values))
    # Six standard deviations of a fair coin, so that chance fails this less than once in ten million runs.
    bound = 6 * (count / 4) ** 0.5
    assert abs(sum(later > earlier for earlier, later in pairs) - count / 2) < bound
    for bit in range(42):
        flips = sum((earlier ^ later) >> bit & 1 for earlier, later in pairs)
        assert abs(flips - count / 2) < bound, f"bit {bit}"


@pytest.mark.promise("LINKS-2")
def test_another_key_or_domain_gives_another_order() -> None:
    from groundswell.links.service.codes import order_of

    orders = [order_of(secret, domain, 7) for secret in (b"a", b"b") for domain in (1, 2)]
    first = [tuple(order(number) for number in range(100)) for order in orders]
    assert len({value for values in first for value in values}) == 400


@pytest.mark.promise("LINKS-7")
@pytest.mark.parametrize(
    "code", ["abc", "Summer_Sale-2026", "a" * 64, "___", "Scunthorpe", "shitake-soup", "assessment"]
)
def test_an_own_code_has_3_to_64_of_letters_digits_dash_and_underscore(code: str) -> None:
    assert codes.checked_own(code) == code


@pytest.mark.promise("LINKS-7")
@pytest.mark.parametrize("code", ["ab", "a" * 65, "a b", "a/b", "a.b", "ä" * 5, "😀😀😀", "abc\n", "%41bc", "٣٣٣"])
def test_other_shapes_are_no_codes(code: str) -> None:
    assert not codes.is_code(code)
    with pytest.raises(errors.CodeInvalid):
        codes.checked_own(code)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("healthz", errors.CodeReserved),
        ("API", errors.CodeReserved),
        ("oh-shit", errors.CodeProfane),
        ("FUCK_this", errors.CodeProfane),
    ],
)
def test_reserved_and_profane_codes_are_refused(code: str, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        codes.checked_own(code)


def test_a_generated_code_holds_no_bad_word_anywhere() -> None:
    assert not codes.presentable("xxShiTx")
    assert not codes.presentable("readyz")
    assert codes.presentable("Zx81abc")


def test_the_first_segments_of_all_routes_are_reserved() -> None:
    """A code that is a route's first segment would never be reached."""
    from google.api import annotations_pb2

    from groundswell.api.analytics.v1 import analytics_pb2, live_pb2
    from groundswell.api.gateway.v1 import gateway_pb2
    from groundswell.api.identity.v1 import identity_pb2
    from groundswell.api.links.v1 import links_pb2
    from groundswell.api.tenancy.v1 import tenancy_pb2

    for messages in (analytics_pb2, live_pb2, gateway_pb2, identity_pb2, links_pb2, tenancy_pb2):
        for service in messages.DESCRIPTOR.services_by_name.values():
            for method in service.methods:
                rule = method.GetOptions().Extensions[annotations_pb2.http]
                path = getattr(rule, rule.WhichOneof("pattern") or "get")
                segment = path.removeprefix("/").partition("/")[0]
                assert segment in codes.RESERVED or not segment or segment == "{code}", method.full_name


def test_shards_are_spread_evenly() -> None:
    """100,000 links of one domain over 8,192 shards: no shard has more than four times its share."""
    chosen = random.Random(7)
    counts: dict[int, int] = {}
    for _ in range(100_000):
        shard = codes.shard_of(1, "".join(chosen.choices(codes.ALPHABET, k=7)))
        counts[shard] = counts.get(shard, 0) + 1
    assert max(counts.values()) < 4 * 100_000 / codes.SHARDS
    assert min(counts) >= 0
    assert max(counts) < codes.SHARDS
