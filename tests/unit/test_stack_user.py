from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from builder import facts
from builder.stack import user

NAMES = st.from_regex(r"[a-z][a-z0-9-]{0,22}[a-z0-9]", fullmatch=True)


def test_a_name_gives_the_same_uid_for_ever() -> None:
    """Changing this moves every stack on every host that exists."""
    assert {name: user.uid(name) for name in ("blog", "hello", "shop")} == {
        "blog": 32994,
        "hello": 23074,
        "shop": 43062,
    }


@given(NAMES)
def test_uids_stay_in_the_range_of_stacks(name: str) -> None:
    uid = user.uid(name)
    assert user.in_range(uid)
    assert uid > facts.PROXY_UID
    assert user.user(name) == f"er-{name}"


@given(st.integers(user.FIRST_UID, user.LAST_UID), st.integers(user.FIRST_UID, user.LAST_UID))
def test_ranges_never_overlap(one: int, other: int) -> None:
    a, b = user.subids(one), user.subids(other)
    assert one == other or a.first + a.count <= b.first or b.first + b.count <= a.first
    assert a.first > user.LAST_UID
    assert a.first + a.count <= 2**31


@given(
    st.integers(user.FIRST_UID, user.LAST_UID + 1),
    st.frozensets(st.integers(user.FIRST_UID, user.FIRST_UID + 50)),
)
def test_a_free_uid_is_free(wanted: int, taken: frozenset[int]) -> None:
    free = user.free_uid(wanted, taken)
    assert free not in taken
    assert user.in_range(free)


@given(NAMES, st.integers(user.FIRST_UID, user.LAST_UID))
def test_builds_have_a_user_that_no_stack_has(name: str, uid: int) -> None:
    assert user.in_range(user.build_uid(uid))
    assert user.build_user(uid) != user.user(name)
    # With a colon and a space it is a prefix of the firewall's log lines.
    assert len(user.build_user(uid)) <= 27


def test_builds_have_the_same_uid_for_ever() -> None:
    assert {name: user.build_uid(user.uid(name)) for name in ("blog", "hello", "shop")} == {
        "blog": 26740,
        "hello": 29521,
        "shop": 27406,
    }


@given(st.integers(user.FIRST_UID, user.LAST_UID), st.frozensets(st.integers(user.FIRST_UID, user.FIRST_UID + 50)))
def test_a_free_uid_is_free_for_builds_too(wanted: int, taken: frozenset[int]) -> None:
    free = user.free_uid(wanted, taken, builds=True)
    assert not {free, user.build_uid(free)} & taken
