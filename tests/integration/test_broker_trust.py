"""What a service says of a broker that it cannot trust, or that does not let it in; and that it
goes on by itself once that has been put right.
"""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import structlog
from secured import SecuredBroker, make_secrets
from structlog.testing import LogCapture

from flexfeeder import authority
from flexfeeder.authority import Pair
from flexfeeder.testing import MOSQUITTO, wait_until
from services.bus import BrokerAddress, Connection
from services.reactor import Reactor

pytestmark = pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed")


class Service:
    """A service's connection to the deployed broker, and what it logs."""

    def __init__(self, broker: SecuredBroker, trusted: Path, password: str) -> None:
        self._logged = LogCapture()
        log = structlog.wrap_logger(
            structlog.PrintLogger(),
            processors=[self._logged],
            wrapper_class=structlog.make_filtering_bound_logger(0),
        )
        address = BrokerAddress("localhost", broker.inside, "solver", password, trusted)
        self.connection = Connection(address, "solver", log=log, on_message=lambda _: None)
        self._reactor = Reactor(self.connection)

    def serve(self) -> None:
        self._reactor.poll(0.01)

    def reasons(self) -> list[str]:
        """Why the broker was called away, each time that it was."""
        entries = self._logged.entries
        return [entry["reason"] for entry in entries if entry["event"] == "broker_away"]

    def is_refused(self) -> bool:
        self.serve()
        return bool(self.reasons())

    def refusal(self) -> str:
        """The one reason why it stays away, once that is known."""
        wait_until(self.is_refused, "it says so")
        [reason] = self.reasons()
        return reason

    def is_in(self) -> bool:
        self.serve()
        return self.connection.connected

    def close(self) -> None:
        self.connection.close()
        self._reactor.close()


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    folder = tmp_path / "secrets"
    make_secrets(folder)
    return folder


def password(secrets: Path) -> str:
    return (secrets / "mqtt" / "solver").read_text(encoding="utf-8").strip()


def give_certificate(secrets: Path, made_at: datetime) -> None:
    """A certificate of the broker's that was made then."""
    trusted = Pair((secrets / "ca.crt").read_bytes(), (secrets / "ca.key").read_bytes())
    made = authority.new_server(trusted, ["localhost"], made_at)
    (secrets / "broker/server.crt").write_bytes(made.certificate)
    (secrets / "broker/server.key").write_bytes(made.key)


def test_a_broker_of_another_authority_is_named_as_such(secrets: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.crt"
    other.write_bytes(authority.new_authority(datetime.now(UTC)).certificate)
    with SecuredBroker(secrets, tmp_path) as broker:
        service = Service(broker, other, password(secrets))
        reason = service.refusal()
        assert "certificate verify failed: unable to get local issuer certificate" in reason
        service.close()


def test_an_expired_certificate_is_named_as_such_and_a_new_one_heals(
    secrets: Path, tmp_path: Path
) -> None:
    now = datetime.now(UTC)
    give_certificate(secrets, now - timedelta(days=900))
    broker = SecuredBroker(secrets, tmp_path)
    with broker:
        service = Service(broker, secrets / "ca.crt", password(secrets))
        reason = service.refusal()
        assert "certificate verify failed: certificate has expired" in reason
    give_certificate(secrets, now)
    with broker:
        wait_until(service.is_in, "it comes in by itself")
        service.close()


def test_a_certificate_for_another_name_is_named_as_such(secrets: Path, tmp_path: Path) -> None:
    trusted = Pair((secrets / "ca.crt").read_bytes(), (secrets / "ca.key").read_bytes())
    made = authority.new_server(trusted, ["elsewhere"], datetime.now(UTC))
    (secrets / "broker/server.crt").write_bytes(made.certificate)
    (secrets / "broker/server.key").write_bytes(made.key)
    with SecuredBroker(secrets, tmp_path) as broker:
        service = Service(broker, secrets / "ca.crt", password(secrets))
        assert "not valid for 'localhost'" in service.refusal()
        service.close()


def test_a_wrong_password_is_named_as_such_and_never_told(secrets: Path, tmp_path: Path) -> None:
    with SecuredBroker(secrets, tmp_path) as broker:
        service = Service(broker, secrets / "ca.crt", "not-the-password")
        reason = service.refusal()
        assert "Not authorized" in reason
        assert "not-the-password" not in reason
        service.close()
