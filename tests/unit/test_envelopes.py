"""Envelopes open with their key at their place, and with nothing else."""

import pytest

from ai_stack.services.encryption import envelopes

KEY, OTHER = bytes(range(32)), bytes(range(1, 33))
AAD = envelopes.place("documents", 7, "content", 1)


@pytest.mark.parametrize("plaintext", [b"", b"a", "grüße 🙂".encode(), bytes(3 << 20)])
def test_what_is_sealed_opens_as_it_was(plaintext: bytes) -> None:
    envelope = envelopes.seal(KEY, plaintext, AAD)
    assert envelopes.open(KEY, envelope, AAD) == plaintext
    assert (
        len(envelope)
        == len(plaintext) + len(envelopes.VERSION) + envelopes.NONCE_BYTES + envelopes.TAG_BYTES
    )
    assert len(plaintext) < 8 or plaintext not in envelope


def test_no_two_envelopes_are_alike() -> None:
    sealed = [envelopes.seal(KEY, b"the same", AAD) for _ in range(1000)]
    nonces = {envelope[1 : 1 + envelopes.NONCE_BYTES] for envelope in sealed}
    assert len(set(sealed)) == len(nonces) == len(sealed)


def test_an_envelope_opens_nowhere_else_and_with_no_other_key() -> None:
    envelope = envelopes.seal(KEY, b"secret", AAD)
    elsewhere = [("documents", 8, "content", 1), ("chunks", 7, "content", 1)]
    elsewhere += [("documents", 7, "title", 1), ("documents", 7, "content", 2)]
    for place in elsewhere:
        with pytest.raises(envelopes.Unopened):
            envelopes.open(KEY, envelope, envelopes.place(*place))
    with pytest.raises(envelopes.Unopened):
        envelopes.open(OTHER, envelope, AAD)


def test_every_changed_byte_and_every_cut_is_noticed() -> None:
    envelope = envelopes.seal(KEY, b"secret", AAD)
    for n in range(len(envelope)):
        changed = bytes((*envelope[:n], envelope[n] ^ 1, *envelope[n + 1 :]))
        for broken in (changed, envelope[:n]):
            with pytest.raises(envelopes.Unopened):
                envelopes.open(KEY, broken, AAD)


def test_keys_of_several_purposes_are_several() -> None:
    derived = {envelopes.derive(KEY, purpose) for purpose in ("a", "b", "tokens")}
    assert len(derived) == 3
    assert KEY not in derived
    assert envelopes.derive(KEY, "a") == envelopes.derive(KEY, "a") != envelopes.derive(OTHER, "a")
