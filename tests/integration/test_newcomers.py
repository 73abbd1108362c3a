"""Who comes from an issuer: who becomes a user, and with which roles."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import httpx
import psycopg
import pytest

import issuers
from ai_stack.models.principals import EVERY_SCOPE, Principal
from ai_stack.models.trust import NewUser
from ai_stack.settings import Settings
from ai_stack.stack import Stack
from issuers import Scripted
from sign_ons import (
    actions,
    refused,
    served,
    sign_on,
    whoami,
)


@pytest.fixture
def bad() -> Iterator[Scripted]:
    with issuers.scripted(Scripted()) as issuer:
        yield issuer


async def test_nobody_becomes_a_user_unasked(
    memory_settings: Settings, tmp_path: Path, bad: Scripted, database_url: str
) -> None:
    entry = {**bad.entry(), "newcomers": False, "domains": ["team.example"]}
    bad.subject = "stranger"
    async with served(memory_settings, tmp_path, entry) as client:
        for claims in (
            {},
            {"email": "a@team.example"},
            {"email": "a@team.example", "email_verified": "true"},
            {"email": "a@team.example", "email_verified": False},
            {"email": "a@sub.team.example", "email_verified": True},
            {"email": "a@team.example@evil.example", "email_verified": True},
            {"email": "team.example", "email_verified": True},
            {"email": ["a@team.example"], "email_verified": True},
        ):
            bad.claims = lambda told, more=claims: {**told, **more}
            refused(await sign_on(client), 403, client)
        told = [(action, detail.get("subject")) for action, detail in actions(database_url)]
        assert told == [("sign_on.refuse", "stranger")] * 8
        bad.claims = lambda told: {**told, "email": "A@Team.Example", "email_verified": True}
        assert (await sign_on(client)).status_code == 303


async def test_userinfo_counts_for_its_own_subject_alone(
    memory_settings: Settings, tmp_path: Path, bad: Scripted
) -> None:
    entry = {**bad.entry(), "newcomers": False, "domains": ["info.example"]}
    bad.subject = "frank"
    address = {"email": "frank@info.example", "email_verified": True}
    bad.userinfo = {"sub": "another", **address}
    async with served(memory_settings, tmp_path, entry) as client:
        refused(await sign_on(client), 401, client)
    bad.userinfo = {"sub": "frank", **address}
    async with served(memory_settings, tmp_path, entry) as client:
        assert (await sign_on(client)).status_code == 303
        assert (await whoami(client) or {})["name"] == "frank@info.example"


async def test_a_name_or_an_address_is_nobodys_proof(
    memory_settings: Settings, tmp_path: Path, stack: Stack, bad: Scripted
) -> None:
    """Who calls itself as a user does, or has that user's address, is somebody else."""
    admin = Principal(scopes=EVERY_SCOPE)
    made, _ = await stack.accounts.users.create(admin, NewUser("boss@team.example", is_admin=True))
    bad.subject = "imposter"
    more = {"preferred_username": "boss@team.example", "email": "boss@team.example"}
    bad.claims = lambda claims: {**claims, **more, "email_verified": True}
    async with served(memory_settings, tmp_path, bad.entry(domains=["team.example"])) as client:
        assert (await sign_on(client)).status_code == 303
        found = await whoami(client)
        assert found is None or found["user_id"] != str(made.id)


async def test_whom_an_admin_has_bound_comes_in_and_whom_it_suspends_does_not(
    memory_settings: Settings, tmp_path: Path, stack: Stack, bad: Scripted
) -> None:
    admin = Principal(scopes=EVERY_SCOPE)
    bad.subject = "grace"
    new = NewUser("grace", is_admin=True, issuer=bad.url, subject="grace")
    await stack.accounts.users.create(admin, new)
    entry = {**bad.entry(), "newcomers": False}
    async with served(memory_settings, tmp_path, entry) as client:
        assert (await sign_on(client)).status_code == 303
        assert (await whoami(client) or {})["name"] == "grace"
        await stack.accounts.users.set_state(admin, "grace", "suspended")
        client.cookies.clear()
        refused(await sign_on(client), 401, client)


async def test_groups_bring_roles_and_take_them(
    memory_settings: Settings, tmp_path: Path, bad: Scripted
) -> None:
    roles = {
        "staff": [{"project": "default", "role": "reader"}],
        "leads": [{"project": "default", "role": "owner"}, {"project": "gone", "role": "owner"}],
    }
    bad.subject = "heidi"
    entry = bad.entry(roles=roles, roles_claim="groups")
    async with served(memory_settings, tmp_path, entry) as client:
        for groups, scopes in (
            (["staff", "leads"], {"manage", "read"}),
            (["staff"], {"read"}),
            ("staff", {"read"}),
            ([], set[str]()),
            ([["leads"], {"a": 1}, 7], set[str]()),
        ):
            bad.claims = lambda claims, groups=groups: {**claims, "groups": groups}
            assert (await sign_on(client)).status_code == 303
            found = set((await whoami(client) or {}).get("scopes", ()))
            assert scopes <= found, groups
            assert ("manage" in found) == ("manage" in scopes), groups


async def test_many_first_sign_ons_make_one_user(
    memory_settings: Settings, tmp_path: Path, bad: Scripted, database_url: str
) -> None:
    bad.subject = "ivan"
    async with served(memory_settings, tmp_path, bad.entry()) as client:

        async def once() -> int:
            async with httpx.AsyncClient(base_url=client.base_url, timeout=60) as own:
                return (await sign_on(own)).status_code

        assert await asyncio.gather(*(once() for _ in range(6))) == [303] * 6
    with psycopg.connect(database_url) as owner:
        found = owner.execute("SELECT count(*) FROM control.identities WHERE subject = 'ivan'")
        assert found.fetchone() == (1,)
