"""API keys: nothing of a secret is kept, and a key is taken for what it is, as long as it is."""

import hashlib
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest
import structlog
from structlog.testing import capture_logs
from support import quiet_log

from services import keys_file
from services.api_keys import ApiKeys, Caller, KeysError, Role
from services.keys_file import KeysFile

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
LATER = datetime(2026, 11, 23, 12, tzinfo=UTC)


def counted() -> Any:
    """Bytes that are all alike, and others each time: 01 01 01 01, then 02 02 02 02."""
    numbers = iter(range(1, 100))
    return lambda count: bytes([next(numbers)]) * count


def issued(role: Role = Role.OPERATOR) -> tuple[ApiKeys, str]:
    return ApiKeys().issue("control_room", role, NOON, counted())


class TestKeys:
    def test_a_key_is_its_id_and_32_random_bytes(self) -> None:
        keys, key = issued()
        assert key == "ff_01010101_" + "AgIC" * 10 + "AgI"
        assert keys.verify(key) == Caller("01010101", "control_room", Role.OPERATOR)

    def test_only_the_hash_of_the_secret_is_kept(self) -> None:
        keys, key = issued()
        secret = key.removeprefix("ff_01010101_")
        assert secret.encode() not in keys.to_json()
        assert orjson.loads(keys.to_json()) == {
            "keys": [
                {
                    "id": "01010101",
                    "name": "control_room",
                    "role": "operator",
                    "hash": hashlib.sha256(secret.encode()).hexdigest(),
                    "created_at": "2026-11-22T12:00:00Z",
                }
            ]
        }

    def test_what_is_written_is_read_again(self) -> None:
        keys, key = issued()
        again = ApiKeys.parse(keys.to_json())
        assert again.records == keys.records
        assert again.verify(key) == keys.verify(key)

    @pytest.mark.parametrize(
        "change",
        [
            lambda key: "",
            lambda key: key[:-1],
            lambda key: key + "A",
            lambda key: key + "\n",
            lambda key: " " + key,
            lambda key: key.upper(),
            lambda key: key.replace("ff_01010101", "ff_01010102"),
            lambda key: key.replace("ff_01010101_", ""),
            lambda key: key.replace("AgIC", "AgID", 1),
            lambda key: "ff_01010101_" + "é" * 43,
            lambda key: "ff_01010101_" + "A" * 1_000_000,
        ],
    )
    def test_whatever_is_not_the_whole_key_is_none(self, change: Any) -> None:
        keys, key = issued()
        assert keys.verify(change(key)) is None

    def test_the_secret_of_one_does_not_open_another(self) -> None:
        random = counted()
        keys, first = ApiKeys().issue("a", Role.VIEWER, NOON, random)
        keys, second = keys.issue("b", Role.ADMIN, NOON, random)
        assert keys.verify(second.rpartition("_")[0] + "_" + first.split("_", 2)[2]) is None

    def test_a_revoked_key_is_unknown_and_stays_in_the_file(self) -> None:
        keys, key = issued()
        revoked = keys.revoke("01010101", LATER)
        assert revoked.verify(key) is None
        assert keys.verify(key) is not None
        assert ApiKeys.parse(revoked.to_json()).records[0].revoked_at == LATER
        with pytest.raises(KeysError, match="key 01010101 is revoked"):
            revoked.revoke("01010101", LATER)
        with pytest.raises(KeysError, match="no key 0badc0de"):
            keys.revoke("0badc0de", LATER)

    def test_a_name_is_given_again_only_once_its_key_is_revoked(self) -> None:
        keys, _ = issued()
        with pytest.raises(KeysError, match="there is a key named 'Control_Room'"):
            keys.issue("Control_Room", Role.VIEWER, LATER, counted())
        again, _ = keys.revoke("01010101", LATER).issue(
            "control_room", Role.VIEWER, LATER, lambda count: b"\x07" * count
        )
        assert [record.id for record in again.records] == ["01010101", "07070707"]

    def test_an_id_is_not_given_twice(self) -> None:
        """Ids drawn: 01010101, then 01010101 again, then 03030303; in between a secret each."""
        drawn = iter(b"\x01\x02\x01\x03\x04")
        random = lambda count: bytes([next(drawn)]) * count  # noqa: E731 - as short as it is
        keys, _ = ApiKeys().issue("a", Role.VIEWER, NOON, random)
        keys, _ = keys.issue("b", Role.VIEWER, NOON, random)
        assert [record.id for record in keys.records] == ["01010101", "03030303"]

    @pytest.mark.parametrize("name", ["", "two words", "a" * 65, "line\nbreak", "ü"])
    def test_a_name_is_a_name(self, name: str) -> None:
        with pytest.raises(KeysError, match="name"):
            ApiKeys().issue(name, Role.VIEWER, NOON, counted())

    def test_each_role_may_do_what_those_before_it_may(self) -> None:
        may = {(a, b) for a in Role for b in Role if a.may_do_what(b)}
        viewer, operator, admin = Role
        assert may == {
            (viewer, viewer),
            (operator, viewer),
            (operator, operator),
            (admin, viewer),
            (admin, operator),
            (admin, admin),
        }

    def test_what_is_wrong_with_a_file_is_said_without_what_stands_there(self) -> None:
        keys, _ = issued()
        document = orjson.loads(keys.to_json())
        record = document["keys"][0]
        hashed = record["hash"]
        wrong: list[tuple[Any, str]] = [
            ([], "the file"),
            ({}, "keys: Field required"),
            ({"keys": [{**record, "hash": hashed[:-1]}]}, "keys.0.hash"),
            ({"keys": [{**record, "role": "root"}]}, "keys.0.role"),
            ({"keys": [{**record, "secret": hashed}]}, "keys.0.secret"),
            ({"keys": [record, record]}, "more than one has the id 01010101"),
        ]
        for content, problem in wrong:
            with pytest.raises(KeysError, match=re.escape(problem)) as refused:
                ApiKeys.parse(orjson.dumps(content))
            assert hashed[:-1] not in str(refused.value)
        for text in (b"", b"{", b"\xff"):
            with pytest.raises(KeysError, match="the file"):
                ApiKeys.parse(text)


class TestFile:
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        return tmp_path / "secrets" / "gateway" / "keys.json"

    @pytest.fixture
    def key(self, path: Path) -> str:
        return self.replaced(path, "control_room")

    @staticmethod
    def replaced(path: Path, name: str) -> str:
        """Put a file with this one key in place."""
        keys, key = ApiKeys().issue(
            name, Role.VIEWER, NOON, lambda count: name[:1].encode() * count
        )
        with keys_file.changing(path):
            keys_file.save(path, keys)
        return key

    def test_a_missing_file_has_no_keys(self, path: Path) -> None:
        assert keys_file.load(path).records == ()

    def test_others_read_the_file_and_the_folder_around_its_folder_is_closed(
        self, path: Path, key: str
    ) -> None:
        modes = [p.stat().st_mode & 0o777 for p in (path, path.parent, path.parent.parent)]
        assert modes == [0o644, 0o755, 0o700]

    def test_a_folder_that_is_there_is_left_as_it_is(self, tmp_path: Path) -> None:
        tmp_path.chmod(0o711)
        self.replaced(tmp_path / "keys.json", "a")
        assert tmp_path.stat().st_mode & 0o777 == 0o711

    def test_nothing_is_left_beside_the_file(self, path: Path, key: str) -> None:
        assert {p.name for p in path.parent.iterdir()} == {"keys.json"}

    def test_a_file_that_cannot_be_written_leaves_the_old_one(self, path: Path, key: str) -> None:
        """Its name is taken by a folder: nothing can be put in its place."""
        folder = path.parent / "folder"
        (folder / "full").mkdir(parents=True)
        with pytest.raises(KeysError, match="folder: cannot be written"):
            keys_file.save(folder, ApiKeys())
        assert {p.name for p in path.parent.iterdir()} == {
            "keys.json",
            "folder",
        }

    def test_the_first_reading_says_which_file_is_wrong_and_how(self, path: Path) -> None:
        with pytest.raises(KeysError, match=r"keys\.json: cannot be read: No such file"):
            KeysFile(path, quiet_log())
        path.parent.mkdir(parents=True)
        path.write_bytes(b"{")
        with pytest.raises(KeysError, match=r"keys\.json: the file: Invalid JSON"):
            KeysFile(path, quiet_log())

    def test_a_new_file_is_followed_but_looked_at_once_a_second(self, path: Path, key: str) -> None:
        now = 100.0
        keys = KeysFile(path, quiet_log(), lambda: now)
        assert keys.current().verify(key)
        other = self.replaced(path, "other")
        now = 100.9
        assert keys.current().verify(key)
        now = 101.0
        assert keys.current().verify(key) is None
        assert keys.current().verify(other)

    def test_a_file_that_is_as_it_was_is_not_read_again(self, path: Path, key: str) -> None:
        now = 100.0
        keys = KeysFile(path, quiet_log(), lambda: now)
        before = keys.current()
        now = 200.0
        assert keys.current() is before

    def test_while_the_file_is_wrong_the_last_good_one_holds_and_that_is_said_once(
        self, path: Path, key: str
    ) -> None:
        now = 100.0
        with capture_logs() as said:
            keys = KeysFile(path, structlog.get_logger(), lambda: now)
            for content in (b"{", b"[]", None):
                path.unlink()
                if content is not None:
                    path.write_bytes(content)
                now += 1.0
                assert keys.current().verify(key)
            assert [entry["event"] for entry in said] == ["keys_not_read"]
            assert said[0]["file"] == str(path)
            assert "Invalid JSON" in said[0]["reason"]
            other = self.replaced(path, "other")
            now += 1.0
            assert keys.current().verify(other)
            assert [entry["event"] for entry in said[1:]] == ["keys_read_again"]
        assert key.split("_", 2)[2] not in str(said)
