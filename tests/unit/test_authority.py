"""A private authority: what a client that trusts it accepts, and what it refuses."""

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from flexfeeder import authority
from flexfeeder.authority import CertificateError, Pair

NOW = datetime.now(UTC).replace(microsecond=0)
NAMES = ("broker", "feeder.example.org", "localhost", "127.0.0.1", "::1")

DAY = timedelta(days=1)


@pytest.fixture(scope="module")
def trusted() -> Pair:
    return authority.new_authority(NOW)


@pytest.fixture(scope="module")
def server(trusted: Pair) -> Pair:
    return authority.new_server(trusted, NAMES, NOW)


def shake_hands(server: Pair, trusted: bytes, name: str, folder: Path) -> None:
    """A client that trusts an authority meets a server under a name."""
    (folder / "server.crt").write_bytes(server.certificate)
    (folder / "server.key").write_bytes(server.key)
    theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    theirs.load_cert_chain(folder / "server.crt", folder / "server.key")
    ours = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    ours.verify_flags |= ssl.VERIFY_X509_STRICT
    ours.load_verify_locations(cadata=trusted.decode())
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client_side = ours.wrap_bio(to_client, to_server, server_hostname=name)
    server_side = theirs.wrap_bio(to_server, to_client, server_side=True)
    done: set[ssl.SSLObject] = set()
    while len(done) < 2:
        for side in (client_side, server_side):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
            done.add(side)


@pytest.mark.parametrize("name", NAMES)
def test_a_server_is_accepted_under_each_of_its_names(
    trusted: Pair, server: Pair, name: str, tmp_path: Path
) -> None:
    shake_hands(server, trusted.certificate, name, tmp_path)


@pytest.mark.parametrize("name", ["gateway", "example.org", "127.0.0.2"])
def test_a_server_is_refused_under_another_name(
    trusted: Pair, server: Pair, name: str, tmp_path: Path
) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match="not valid for"):
        shake_hands(server, trusted.certificate, name, tmp_path)


def test_a_server_of_another_authority_is_refused(server: Pair, tmp_path: Path) -> None:
    other = authority.new_authority(NOW)
    with pytest.raises(ssl.SSLCertVerificationError, match="unable to get local issuer"):
        shake_hands(server, other.certificate, "broker", tmp_path)


def test_a_server_does_not_vouch_for_another(trusted: Pair, server: Pair, tmp_path: Path) -> None:
    forged = authority.new_server(server, ["broker"], NOW)
    both = trusted.certificate + server.certificate
    with pytest.raises(ssl.SSLCertVerificationError, match="invalid CA certificate"):
        shake_hands(forged, both, "broker", tmp_path)


def test_a_server_that_has_expired_is_refused(trusted: Pair, tmp_path: Path) -> None:
    old = authority.new_server(trusted, ["broker"], NOW - 826 * DAY)
    with pytest.raises(ssl.SSLCertVerificationError, match="certificate has expired"):
        shake_hands(old, trusted.certificate, "broker", tmp_path)


def test_what_a_certificate_says_can_be_read(server: Pair) -> None:
    """It begins an hour before it was made, and lasts 825 days from there."""
    said = authority.read(server.certificate)
    assert said.names == frozenset(NAMES)
    assert said.expires_at == NOW - timedelta(hours=1) + 825 * DAY


def test_an_authority_lasts_ten_years_and_has_no_names(trusted: Pair) -> None:
    said = authority.read(trusted.certificate)
    assert said.names == frozenset()
    assert NOW + 3650 * DAY < said.expires_at < NOW + 3660 * DAY


def test_a_server_does_not_outlast_its_authority() -> None:
    old = authority.new_authority(NOW - 3600 * DAY)
    server = authority.new_server(old, ["broker"], NOW)
    expires_at = authority.read(server.certificate).expires_at
    assert expires_at == authority.read(old.certificate).expires_at
    assert expires_at < NOW + 100 * DAY


def test_a_key_is_known_as_that_of_its_certificate(trusted: Pair, server: Pair) -> None:
    assert authority.belong_together(server)
    assert not authority.belong_together(Pair(server.certificate, trusted.key))


def test_who_has_signed_is_known(trusted: Pair, server: Pair) -> None:
    """Also among authorities that were made in the same second, and have one name."""
    assert authority.has_signed(trusted.certificate, server.certificate)
    assert not authority.has_signed(authority.new_authority(NOW).certificate, server.certificate)
    assert not authority.has_signed(server.certificate, trusted.certificate)


def test_what_cannot_be_read_is_said_in_our_own_words(trusted: Pair, server: Pair) -> None:
    with pytest.raises(CertificateError, match="no certificate"):
        authority.read(b"rubbish")
    with pytest.raises(CertificateError, match="no private key"):
        authority.belong_together(Pair(server.certificate, b"rubbish"))
    with pytest.raises(CertificateError, match="no host name"):
        authority.new_server(trusted, ["müller.example"], NOW)
