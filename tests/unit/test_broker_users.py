"""The broker's password file: Mosquitto's format, and edits that nobody loses."""

import shutil
import subprocess
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexfeeder import broker_users
from flexfeeder.broker_users import UsersError

# As `mosquitto_passwd -b` has made it of the password "p".
KEPT = (
    "$7$101$d2sNRMjErz94wMza$ZM42pRyDrhuZQc6jrkQ4eVD0tmL71m9/cfSuG1YclxoxUTQypW7SZouGyVTADSros2ykC0"
    "YD7FAbor9LfMtlGw=="
)
SALT = bytes.fromhex("776b0d44c8c4af3f78c0ccda")

MOSQUITTO_PASSWD = shutil.which("mosquitto_passwd")

users = st.dictionaries(
    st.from_regex(r"[A-Za-z0-9_-]{1,64}(/[A-Za-z0-9_-]{1,64})?", fullmatch=True),
    st.just(KEPT),
)


def test_a_hash_is_the_one_that_mosquitto_makes() -> None:
    assert broker_users.hashed("p", SALT) == KEPT


def test_a_password_is_told_from_others_by_its_hash() -> None:
    assert broker_users.is_of("p", KEPT)
    assert not broker_users.is_of("q", KEPT)


@pytest.mark.parametrize("kept", ["", "p", "$6$salt$hash", "$7$101$?$hash", KEPT[:-1]])
def test_what_is_no_hash_is_that_of_no_password(kept: str) -> None:
    assert not broker_users.is_of("p", kept)


def test_a_password_has_256_bits_and_needs_no_quotes() -> None:
    """Base64 of 32 bytes, without its padding: 43 characters."""
    password = broker_users.new_password()
    assert len(password) == 43
    assert password.replace("-", "").replace("_", "").isalnum()
    assert password != broker_users.new_password()


@given(users)
def test_what_is_written_is_read_again(some: dict[str, str]) -> None:
    assert broker_users.parse(broker_users.render(some)) == some


@pytest.mark.parametrize("line", ["solver", "solver:", f":{KEPT}", ""])
def test_a_line_that_is_none_is_named_and_not_quoted(line: str) -> None:
    with pytest.raises(UsersError, match=r"^line 2 is no user and hash$"):
        broker_users.parse(f"operator:{KEPT}\n{line}\n")


@pytest.mark.skipif(MOSQUITTO_PASSWD is None, reason="mosquitto_passwd is not installed")
def test_mosquittos_own_tool_edits_the_file_and_ours_reads_it(tmp_path: Path) -> None:
    assert MOSQUITTO_PASSWD is not None
    path = tmp_path / "passwords"
    path.write_text(broker_users.render({"1/Load_1": KEPT}))
    path.chmod(0o600)
    subprocess.run([MOSQUITTO_PASSWD, "-b", path, "2/Load_2", "pass"], check=True)
    found = broker_users.read(path)
    assert found["1/Load_1"] == KEPT
    assert broker_users.is_of("pass", found["2/Load_2"])


class TestEdits:
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        path = tmp_path / "passwords"
        path.write_text(broker_users.render({"operator": KEPT}))
        return path

    def test_an_edit_replaces_the_file_whole_and_leaves_nothing_beside_it(self, path: Path) -> None:
        """Whoever reads the old file has all of it."""
        with path.open() as old:
            with broker_users.edited(path, 0o644) as found:
                found["1/Load_1"] = KEPT
            assert old.read() == f"operator:{KEPT}\n"
        assert path.read_text() == f"operator:{KEPT}\n1/Load_1:{KEPT}\n"
        assert path.stat().st_mode & 0o777 == 0o644
        assert list(path.parent.iterdir()) == [path]

    def test_an_edit_that_fails_changes_nothing(self, path: Path) -> None:
        def fail() -> None:
            with broker_users.edited(path, 0o644) as found:
                found.clear()
                raise RuntimeError

        with pytest.raises(RuntimeError):
            fail()
        assert broker_users.read(path) == {"operator": KEPT}

    def test_no_edit_is_lost_however_many_edit_at_once(self, path: Path) -> None:
        def add(number: int) -> None:
            with broker_users.edited(path, 0o644) as found:
                found[f"{number}/Load"] = KEPT

        threads = [threading.Thread(target=add, args=[number]) for number in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(broker_users.read(path)) == 21

    def test_a_file_that_cannot_be_read_is_named(self, path: Path) -> None:
        path.write_text("rubbish")
        with pytest.raises(UsersError, match=str(path)), broker_users.edited(path, 0o644):
            pass
        assert path.read_text() == "rubbish"
        with pytest.raises(UsersError, match="nowhere"):
            broker_users.read(path.with_name("nowhere"))
