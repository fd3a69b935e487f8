from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from builder import facts, identity

NAMES = st.from_regex(r"[a-z][a-z0-9-]{0,22}[a-z0-9]", fullmatch=True)


def test_a_name_gives_the_same_uid_for_ever() -> None:
    """Changing this moves every stack on every host that exists."""
    assert {name: identity.uid(name) for name in ("blog", "hello", "shop")} == {
        "blog": 32994,
        "hello": 23074,
        "shop": 43062,
    }


@given(NAMES)
def test_uids_stay_in_the_range_of_stacks(name: str) -> None:
    uid = identity.uid(name)
    assert identity.in_range(uid)
    assert uid > facts.PROXY_UID
    assert identity.user(name) == f"er-{name}"


@given(st.integers(identity.FIRST_UID, identity.LAST_UID), st.integers(identity.FIRST_UID, identity.LAST_UID))
def test_ranges_never_overlap(one: int, other: int) -> None:
    a, b = identity.subids(one), identity.subids(other)
    assert one == other or a.first + a.count <= b.first or b.first + b.count <= a.first
    assert a.first > identity.LAST_UID
    assert a.first + a.count <= 2**31


@given(
    st.integers(identity.FIRST_UID, identity.LAST_UID + 1),
    st.frozensets(st.integers(identity.FIRST_UID, identity.FIRST_UID + 50)),
)
def test_a_free_uid_is_free(wanted: int, taken: frozenset[int]) -> None:
    free = identity.free_uid(wanted, taken)
    assert free not in taken
    assert identity.in_range(free)
