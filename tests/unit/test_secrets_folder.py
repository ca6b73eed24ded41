"""``flexfeeder secrets``: what is missing is made, what is there is kept, and both are said."""

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from flexfeeder import authority, broker_acl, broker_users
from flexfeeder.__main__ import main
from flexfeeder.secrets_folder import SecretsError, SecretsFolder
from services import keys_file

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
DAY = timedelta(days=1)

FILES = {
    *("ca.crt", "ca.key", "feeder.env", "grafana_password"),
    *("broker/ca.crt", "broker/server.crt", "broker/server.key", "broker/passwords", "broker/acl"),
    *("gateway/server.crt", "gateway/server.key", "gateway/keys.json"),
    *(f"mqtt/{user}" for user in broker_acl.USERS),
    *("redis/users.acl", "redis/solver_url", "redis/dfp_manager_url"),
    "api_admin.key",
}
CLOSED = {"ca.key", "api_admin.key"}


def fill(
    folder: Path,
    *hosts: str,
    now: datetime = NOW,
    renew: bool = False,
    feeder: str = "ieee123",
) -> list[str]:
    said: list[str] = []
    SecretsFolder(folder, feeder, now, said.append).fill(hosts, renew=renew)
    return said


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith(".")
    }


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A folder that was filled once, and what was said. Nobody may change it."""
    folder = tmp_path_factory.mktemp("secrets") / "deploy" / "secrets"
    return folder, fill(folder)


@pytest.fixture
def folder(original: tuple[Path, list[str]], tmp_path: Path) -> Path:
    """A copy of it, with whatever modes a copy has."""
    copy = tmp_path / "secrets"
    for name, content in contents(original[0]).items():
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_bytes(content)
    return copy


class TestMade:
    def test_everything_is_made_and_said(self, original: tuple[Path, list[str]]) -> None:
        folder, said = original
        assert set(contents(folder)) == FILES
        assert sorted(said) == sorted(f"made {name}" for name in FILES)

    def test_the_folder_keeps_others_out_and_containers_read_what_is_in_it(
        self, original: tuple[Path, list[str]]
    ) -> None:
        folder, _ = original
        assert folder.stat().st_mode & 0o777 == 0o700
        for name in FILES:
            wanted = 0o600 if name in CLOSED else 0o644
            assert (folder / name).stat().st_mode & 0o777 == wanted, name
        for inner in ("broker", "gateway", "mqtt", "redis"):
            assert (folder / inner).stat().st_mode & 0o777 == 0o755, inner

    def test_modes_do_not_hang_on_the_umask(self, tmp_path: Path) -> None:
        before = os.umask(0o077)
        try:
            fill(tmp_path / "secrets")
        finally:
            os.umask(before)
        assert (tmp_path / "secrets/broker/passwords").stat().st_mode & 0o777 == 0o644
        assert (tmp_path / "secrets/broker").stat().st_mode & 0o777 == 0o755

    def test_servers_are_named_as_their_services_and_locally(
        self, original: tuple[Path, list[str]]
    ) -> None:
        for server in ("broker", "gateway"):
            said = authority.read((original[0] / server / "server.crt").read_bytes())
            assert said.names == {server, "localhost", "127.0.0.1", "::1"}

    def test_passwords_fit_their_hashes(self, original: tuple[Path, list[str]]) -> None:
        folder, _ = original
        users = broker_users.read(folder / "broker/passwords")
        assert list(users) == list(broker_acl.USERS)
        for user, kept in users.items():
            password = (folder / "mqtt" / user).read_text().strip()
            assert len(password) == 43
            assert broker_users.is_of(password, kept)

    def test_there_is_one_key_of_the_api_for_an_admin(
        self, original: tuple[Path, list[str]]
    ) -> None:
        folder, _ = original
        key = (folder / "api_admin.key").read_text().strip()
        caller = keys_file.load(folder / "gateway/keys.json").verify(key)
        assert caller is not None
        assert (caller.name, caller.role) == ("first", "admin")

    def test_no_secret_is_the_same_in_another_folder(
        self, original: tuple[Path, list[str]], tmp_path: Path
    ) -> None:
        fill(tmp_path / "other")
        one, other = contents(original[0]), contents(tmp_path / "other")
        same = {name for name in FILES if one[name] == other[name]}
        assert same == {"broker/acl", "feeder.env"}


class TestKept:
    def test_a_second_run_changes_nothing_and_says_so(self, folder: Path) -> None:
        """The key that was moved elsewhere is not missed."""
        (folder / "api_admin.key").unlink()
        before = contents(folder)
        said = fill(folder)
        assert contents(folder) == before
        assert sorted(said) == sorted(f"kept {name}" for name in FILES - {"api_admin.key"})

    def test_modes_are_put_right(self, folder: Path) -> None:
        (folder / "ca.key").chmod(0o644)
        (folder / "mqtt/solver").chmod(0o600)
        folder.chmod(0o755)
        fill(folder)
        assert (folder / "ca.key").stat().st_mode & 0o777 == 0o600
        assert (folder / "mqtt/solver").stat().st_mode & 0o777 == 0o644
        assert folder.stat().st_mode & 0o777 == 0o700

    def test_meters_and_other_keys_are_kept(self, folder: Path) -> None:
        with broker_users.edited(folder / "broker/passwords", 0o644) as users:
            users["1/Load_1"] = users["viewer"]
        fill(folder)
        assert "1/Load_1" in broker_users.read(folder / "broker/passwords")

    @pytest.mark.parametrize("user", broker_acl.USERS)
    def test_a_password_whose_file_is_deleted_is_replaced(self, folder: Path, user: str) -> None:
        """And no other."""
        before = contents(folder)
        (folder / "mqtt" / user).unlink()
        said = fill(folder)
        after = contents(folder)
        assert {name for name in FILES if before[name] != after[name]} == {
            f"mqtt/{user}",
            "broker/passwords",
        }
        assert f"made mqtt/{user}" in said
        assert f"replaced the password of {user} in broker/passwords" in said
        users = broker_users.read(folder / "broker/passwords")
        assert broker_users.is_of(after[f"mqtt/{user}"].decode().strip(), users[user])

    def test_a_password_of_the_store_likewise(self, folder: Path) -> None:
        before = contents(folder)
        (folder / "redis/solver_url").unlink()
        assert "replaced redis/users.acl" in fill(folder)
        after = contents(folder)
        was = before["redis/users.acl"].splitlines()
        now = after["redis/users.acl"].splitlines()
        assert [one == other for one, other in zip(was, now, strict=True)].count(False) == 1
        assert before["redis/dfp_manager_url"] == after["redis/dfp_manager_url"]

    def test_what_follows_from_the_rest_is_made_again(self, folder: Path) -> None:
        before = contents(folder)
        for name in ("broker/acl", "broker/ca.crt", "redis/users.acl"):
            (folder / name).write_text("what an older version made")
        said = fill(folder)
        assert contents(folder) == before
        assert "replaced broker/acl" in said

    def test_another_feeder_has_other_rights(self, folder: Path) -> None:
        said = fill(folder, feeder="ieee13")
        assert [line for line in said if not line.startswith("kept")] == [
            "replaced broker/acl",
            "replaced feeder.env",
            "replaced redis/users.acl",
        ]
        assert (folder / "feeder.env").read_text() == "FLEXFEEDER_FEEDER=ieee13\n"
        assert "ieee123" not in (folder / "broker/acl").read_text()


class TestCertificates:
    def test_hosts_that_are_asked_for_are_in_them(self, tmp_path: Path) -> None:
        fill(tmp_path, "feeder.example.org", "192.0.2.7")
        for server in ("broker", "gateway"):
            said = authority.read((tmp_path / server / "server.crt").read_bytes())
            assert {"feeder.example.org", "192.0.2.7", server} < said.names

    def test_a_host_that_a_certificate_lacks_is_said(self, folder: Path) -> None:
        before = contents(folder)
        said = fill(folder, "feeder.example.org")
        assert contents(folder) == before
        what_helps = "does not name feeder.example.org: --renew makes one that does"
        assert f"broker/server.crt {what_helps}" in said
        assert f"gateway/server.crt {what_helps}" in said

    def test_renewed_they_keep_their_names_and_their_authority(self, folder: Path) -> None:
        fill(folder, "feeder.example.org", renew=True)
        before = contents(folder)
        said = fill(folder, now=NOW + DAY, renew=True)
        after = contents(folder)
        changed = {name for name in FILES if before[name] != after[name]}
        assert changed == {
            f"{server}/server.{kind}" for server in ("broker", "gateway") for kind in ("crt", "key")
        }
        assert {line for line in said if not line.startswith("kept")} == {
            f"replaced {name}" for name in changed
        }
        for server in ("broker", "gateway"):
            certificate = after[f"{server}/server.crt"]
            assert "feeder.example.org" in authority.read(certificate).names
            assert authority.has_signed(after["ca.crt"], certificate)

    @pytest.mark.parametrize(
        ("days", "said"),
        [
            (794, None),
            (796, "broker/server.crt expires on 2029-02-24: --renew makes a new one"),
            (824, "broker/server.crt expires on 2029-02-24: --renew makes a new one"),
            (826, "broker/server.crt HAS EXPIRED on 2029-02-24: --renew makes a new one"),
        ],
    )
    def test_one_that_expires_is_said_at_every_run(
        self, folder: Path, days: int, said: str | None
    ) -> None:
        """They last 825 days, less an hour; it is told 30 days before."""
        for _ in range(2):
            heard = [line for line in fill(folder, now=NOW + days * DAY) if "xpire" in line.lower()]
            assert (said in heard) if said else (heard == [])

    def test_an_authority_that_expires_is_said(self, folder: Path) -> None:
        heard = fill(folder, now=NOW + 3640 * DAY, renew=True)
        assert "ca.crt expires on 2036-11-22: delete ca.crt and ca.key for a new one" in heard

    def test_a_new_authority_is_told_of_servers_that_are_not_its_own(self, folder: Path) -> None:
        """They may be of a public one."""
        for name in ("ca.crt", "ca.key"):
            (folder / name).unlink()
        before = contents(folder)
        said = fill(folder)
        assert "replaced broker/ca.crt" in said
        assert "broker/server.crt is not from ca.crt: --renew makes one that is" in said
        assert contents(folder)["broker/server.crt"] == before["broker/server.crt"]

    @pytest.mark.parametrize(
        "name", ["ca.crt", "ca.key", "broker/server.crt", "gateway/server.key"]
    )
    def test_half_of_a_pair_is_not_made_up_for(self, folder: Path, name: str) -> None:
        (folder / name).unlink()
        before = contents(folder)
        with pytest.raises(SecretsError, match="put it back"):
            fill(folder)
        assert contents(folder) == before

    def test_a_key_that_is_another_s_is_not_kept_for_ones_own(self, folder: Path) -> None:
        key = (folder / "gateway/server.key").read_bytes()
        (folder / "broker/server.key").write_bytes(key)
        with pytest.raises(SecretsError, match=r"server\.key is not that of broker/server\.crt"):
            fill(folder)

    def test_rubbish_is_named_and_not_replaced(self, folder: Path) -> None:
        (folder / "ca.key").write_text("rubbish")
        with pytest.raises(SecretsError, match=r"ca\.crt, \.key: no private key"):
            fill(folder)
        assert (folder / "ca.key").read_text() == "rubbish"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("broker/passwords", "SECRET"),
        ("redis/solver_url", "redis://solver:SECRET@elsewhere/0"),
        ("gateway/keys.json", '{"keys": "SECRET"}'),
    ],
)
def test_what_is_not_ours_is_named_and_not_quoted(folder: Path, name: str, content: str) -> None:
    (folder / name).write_text(content)
    with pytest.raises(SecretsError) as refused:
        fill(folder)
    assert name in str(refused.value)
    assert "SECRET" not in str(refused.value)
    assert (folder / name).read_text() == content


class TestCommand:
    def run(self, *arguments: str, feeder: str = "ieee123") -> Result:
        return CliRunner(env={"FLEXFEEDER_FEEDER": feeder}).invoke(main, ["secrets", *arguments])

    def test_it_fills_the_folder_of_its_option(self, tmp_path: Path) -> None:
        """What it says goes to stderr, secrets go nowhere."""
        folder = tmp_path / "secrets"
        result = self.run("--folder", str(folder), "--host", "::0001", feeder="IEEE13")
        assert result.exit_code == 0, result.output
        assert result.stdout == ""
        assert "made broker/acl\n" in result.stderr
        assert "restart" not in result.stderr
        assert "flexfeeder/ieee13/state" in (folder / "broker/acl").read_text()
        for name, content in contents(folder).items():
            if name.startswith("mqtt/") or name in CLOSED:
                assert content.decode().strip() not in result.stderr

    def test_after_a_change_it_says_what_to_start_again(self, folder: Path) -> None:
        result = self.run("--folder", str(folder), "--renew")
        assert result.exit_code == 0, result.output
        assert "docker compose -f deploy/docker-compose.yml restart\n" in result.stderr

    @pytest.mark.parametrize("host", ["", "a b", "*.example.org", "müller.example", "a/b", "-a"])
    def test_what_is_no_host_is_refused(self, tmp_path: Path, host: str) -> None:
        result = self.run("--folder", str(tmp_path / "secrets"), f"--host={host}")
        assert result.exit_code == 2
        assert "is no host name" in result.stderr
        assert not (tmp_path / "secrets").exists()

    def test_what_goes_wrong_is_an_error_and_no_traceback(self, folder: Path) -> None:
        (folder / "ca.crt").unlink()
        result = self.run("--folder", str(folder))
        assert result.exit_code == 1
        assert "ca.key is there and ca.crt is not" in result.stderr

    def test_other_commands_do_without_cryptography(self) -> None:
        """It is not installed where services run."""
        code = "import sys, flexfeeder.__main__; sys.exit('cryptography' in sys.modules)"
        subprocess.run([sys.executable, "-c", code], check=True)


class TestFeeder:
    def test_a_folder_stays_with_the_feeder_that_it_was_made_for(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("FLEXFEEDER_FEEDER", "ieee13")
        made = CliRunner().invoke(main, ["secrets", "--folder", str(tmp_path)])
        assert made.exit_code == 0
        monkeypatch.delenv("FLEXFEEDER_FEEDER")
        again = CliRunner().invoke(main, ["secrets", "--folder", str(tmp_path)])
        assert again.exit_code == 0
        assert "replaced" not in again.stderr
        assert (tmp_path / "feeder.env").read_text() == "FLEXFEEDER_FEEDER=ieee13\n"

    def test_it_is_not_given_to_another(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        CliRunner().invoke(main, ["secrets", "--folder", str(tmp_path)])
        monkeypatch.setenv("FLEXFEEDER_FEEDER", "ieee13")
        refused = CliRunner().invoke(main, ["secrets", "--folder", str(tmp_path)])
        assert refused.exit_code != 0
        assert "FLEXFEEDER_FEEDER" in refused.stderr
        assert "ieee123" in (tmp_path / "broker/acl").read_text()
