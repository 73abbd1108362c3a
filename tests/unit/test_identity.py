"""What a request carries, read: which credential it is, and which contradict each other."""

import json
import time
from dataclasses import replace
from datetime import UTC, datetime
from uuid import uuid4

import pytest

from ai_stack.errors import Forbidden, Unauthenticated
from ai_stack.models.principals import EVERY_SCOPE, Principal, Scope
from ai_stack.models.trust import Credential, Membership, Owner
from ai_stack.rest.gate import Head
from ai_stack.services.auth import credentials
from ai_stack.services.auth.credentials import (
    MOST_LOGINS,
    OVER_TLS,
    digest,
    hidden,
    id_of_key,
    is_operator,
    new_key,
    new_login,
    operator_token,
    read,
    same,
)
from ai_stack.services.auth.identity import principal_of

AUTH, KEY, COOKIE, PROJECT = b"authorization", b"x-api-key", b"cookie", b"x-project"
ONE, OTHER = (new_key()[1] for _ in range(2))


def bearer(token: str) -> tuple[bytes, bytes]:
    return AUTH, b"Bearer " + token.encode()


@pytest.mark.parametrize(
    "pairs",
    [
        (bearer(ONE),),
        ((AUTH, b"bEARER \t " + ONE.encode() + b" "),),
        ((KEY, ONE.encode()),),
        ((COOKIE, b"a=b; aidb_session=" + ONE.encode() + b"; bad cookie; =; x"),),
        (bearer(ONE), (KEY, ONE.encode()), (COOKIE, b"aidb_session=" + ONE.encode())),
    ],
)
def test_one_token_by_every_carrier(pairs: credentials.Pairs) -> None:
    assert read(pairs).token == ONE


def test_a_cookie_alone_is_a_cookie() -> None:
    cookie = (COOKIE, b"aidb_session=" + ONE.encode())
    assert read((cookie,)).by_cookie
    assert not read((cookie, bearer(ONE))).by_cookie
    assert not read(((COOKIE, b"theme=dark"),)).by_cookie


@pytest.mark.parametrize(
    "pairs",
    [
        (bearer(ONE), bearer(OTHER)),
        (bearer(ONE), (KEY, OTHER.encode())),
        (bearer(ONE), (KEY, b"")),
        (bearer(ONE), (COOKIE, b"aidb_session=" + OTHER.encode())),
        ((COOKIE, b"aidb_session=a; aidb_session=b"),),
        ((COOKIE, b"aidb_session=a"), (COOKIE, b"aidb_session=b")),
        (bearer(ONE), (PROJECT, b"a"), (PROJECT, b"b")),
        ((AUTH, b"Basic YTpi"),),
        ((AUTH, ONE.encode()),),
        ((AUTH, b"Bearer\xa0" + ONE.encode()),),
        ((AUTH, b""),),
    ],
)
def test_what_contradicts_itself_is_refused(pairs: credentials.Pairs) -> None:
    with pytest.raises(Unauthenticated):
        read(pairs)


def test_of_several_logins_none_locks_a_person_out() -> None:
    one, other = new_login(), new_login()
    several = read(((COOKIE, f"aidb_session={one}; aidb_session={other}".encode()),))
    assert set(several.logins) == {one, other}
    assert several.by_cookie
    planted = f"aidb_session=; aidb_session={one}; aidb_session={ONE}".encode()
    assert read(((COOKIE, planted),)).logins == (one,)
    many = "; ".join(f"aidb_session={new_login()}" for _ in range(MOST_LOGINS + 1))
    for pairs in (((COOKIE, many.encode()),), ((COOKIE, planted), bearer(ONE))):
        with pytest.raises(Unauthenticated):
            read(pairs)


def test_by_tls_only_the_cookie_counts_that_no_neighbour_can_set() -> None:
    both = b"aidb_session=" + OTHER.encode() + b"; __Host-aidb_session=" + ONE.encode()
    head = Head.read([(COOKIE, both)])
    assert read(head.carried_by("https")).token == ONE
    assert read(head.carried_by("http")).token == OTHER
    alone = Head.read([(COOKIE, b"aidb_session=" + ONE.encode())])
    assert read(alone.carried_by("https")).token is None
    assert read(Head.read([(OVER_TLS, both)]).carried_by("http")).token is None


@pytest.mark.parametrize("value", [b"Bearer", b"Bearer ", b"Bearer \t"])
def test_no_token_is_an_empty_one_which_fits_nothing(value: bytes) -> None:
    assert read(((AUTH, value),)).token == ""
    assert not same(b"", b"")


def test_only_the_cookie_of_this_very_name_counts() -> None:
    for text in ("AIDB_SESSION=x", "aidb_sessions=x", "a=aidb_session=x", "x"):
        assert read(((COOKIE, text.encode()),)).token is None
    assert read(((COOKIE, b'aidb_session="quoted"'),)).token == '"quoted"'


def test_nothing_but_the_whole_of_a_key_is_one() -> None:
    id, token = new_key()
    assert id_of_key(token) == id
    for wrong in (token[:-1], token + "a", token.upper(), f" {token}", token + "\n", token[5:], ""):
        assert id_of_key(wrong) is None
    for at in range(len(token)):
        turned = token[:at] + ("b" if token[at] != "b" else "c") + token[at + 1 :]
        assert id_of_key(turned) is None


def test_keys_are_told_apart_by_all_of_them() -> None:
    pepper = b"p" * 32
    assert same(hidden(ONE, pepper), hidden(ONE, pepper))
    assert not same(hidden(ONE, pepper), hidden(ONE[:-1], pepper))
    assert not same(hidden(ONE, pepper), hidden(ONE, b"q" * 32))
    assert digest((bearer(ONE),)) != digest((bearer(ONE[:-1]),))
    assert digest(((KEY, b"ab"), (PROJECT, b"c"))) != digest(((KEY, b"a"), (PROJECT, b"bc")))


def test_comparing_takes_as_long_wherever_keys_begin_to_differ() -> None:
    """Not a proof, but a comparison that ends at the first difference fails it by far."""
    secret = b"\x5a" * 4096
    early, late = b"\0" + secret[1:], secret[:-1] + b"\0"

    def fastest_s(guess: bytes) -> float:
        times = []
        for _ in range(300):
            began = time.perf_counter()
            same(secret, guess)
            times.append(time.perf_counter() - began)
        return min(times)

    assert fastest_s(early) > fastest_s(late) / 2


def test_an_operators_token_holds_for_a_minute_and_for_its_secret() -> None:
    secret, now = b"s" * 32, time.time()
    assert is_operator(operator_token(secret), secret)
    assert is_operator(operator_token(secret, now - 55), secret)
    for token in (
        operator_token(secret, now - 65),
        operator_token(secret, now + 65),
        operator_token(b"t" * 32),
        operator_token(secret).upper(),
        operator_token(secret)[:-1],
        operator_token(secret).replace("_", "_0", 2),
        "aidb_operator_" + "f" * 16 + "_" + "0" * 64,
    ):
        assert not is_operator(token, secret)


HERE, THERE = (Membership(uuid4(), name, "active", "editor") for name in ("here", "there"))
CLOSED = replace(HERE, name="closed", project_id=uuid4(), state="suspended")
LEFT = replace(HERE, name="left", project_id=uuid4(), role=None)
SOMEBODY = Owner(uuid4(), "somebody", is_admin=False, state="active")
MINE = Credential("somebody", EVERY_SCOPE, (HERE, THERE, CLOSED, LEFT), SOMEBODY)


def test_a_credential_works_in_a_project_of_its_own_alone() -> None:
    assert principal_of(MINE, "there").project_id == THERE.project_id
    assert principal_of(MINE, str(HERE.project_id)).project_id == HERE.project_id
    assert principal_of(MINE, None).project_id == HERE.project_id
    elsewhere = ("", "elsewhere", str(uuid4()), "HERE", f" {HERE.name}", str(HERE.project_id)[:-1])
    for wanted in (*elsewhere, "closed", str(CLOSED.project_id), "left", str(LEFT.project_id)):
        with pytest.raises(Forbidden):
            principal_of(MINE, wanted)
    with pytest.raises(Forbidden):
        principal_of(replace(MINE, projects=()), None)


def test_the_name_of_one_project_is_not_the_id_of_another() -> None:
    posing = replace(THERE, name=str(HERE.project_id))
    both = replace(MINE, projects=(posing, HERE))
    assert principal_of(both, str(HERE.project_id)).project_id == HERE.project_id


def test_a_users_key_brings_no_more_than_the_role() -> None:
    reader = replace(MINE, projects=(replace(HERE, role="reader"),))
    assert principal_of(reader, None).scopes == {Scope.READ, Scope.INFER}
    few = replace(MINE, scopes=frozenset({Scope.READ, Scope.OPERATE}))
    assert principal_of(few, None).scopes == {Scope.READ}
    admin = replace(MINE, owner=replace(SOMEBODY, is_admin=True))
    assert principal_of(admin, "left").scopes == EVERY_SCOPE


def test_limits_count_for_the_makers_and_for_the_key_where_it_has_stricter_ones() -> None:
    of_makers = {"key:a": {"x": 5, "y": 5}, "key:b": {"x": 5, "y": 4, "z": 1}, "key:c": {"z": 1}}
    key = replace(MINE, limits={**of_makers, "key:d": {"x": 0, "y": 4}})
    ours = f"project:{HERE.project_id}"
    key = replace(key, projects=(replace(HERE, limits={"x": 9}),))
    assert principal_of(key, None).limits == {
        "key:a": {"x": 5, "y": 5},
        "key:b": {"y": 4, "z": 1},
        "key:d": {"x": 0},
        ours: {"x": 9},
    }


def test_what_a_run_keeps_of_who_started_it_comes_back() -> None:
    ends = datetime.now(UTC)
    whole = replace(MINE, key_id="abcdefgh", limits={"key:abcdefgh": {"x": 5}}, expires_at=ends)
    principal = principal_of(whole, None)
    assert principal.expires_at == ends
    for one in (principal, replace(principal, expires_at=None, user_id=None)):
        kept = json.loads(json.dumps(one.kept()))
        assert Principal.restored(one.project_id, kept) == one
    del kept["expires_at"]  # as an earlier version kept it
    assert Principal.restored(one.project_id, kept).expires_at is None


def test_what_is_had_again_at_will_bounds_nothing_that_it_makes() -> None:
    login = replace(MINE, expires_at=datetime.now(UTC), renewable=True)
    assert principal_of(login, None).expires_at is None
