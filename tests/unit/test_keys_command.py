"""``flexfeeder keys``: keys are made, shown once, listed and revoked."""

import subprocess
import sys
from pathlib import Path

import orjson
import pytest
from click.testing import CliRunner, Result

from flexfeeder.keys import keys
from services import keys_file
from services.api_keys import Role


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "new" / "gateway" / "keys.json"


def run(path: Path, *arguments: str) -> Result:
    return CliRunner().invoke(keys, [*arguments, "--file", str(path)])


def added(path: Path, name: str, role: str = "viewer") -> str:
    """The text of a new key."""
    result = run(path, "add", name, "--role", role)
    assert result.exit_code == 0, result.output
    return result.stdout.removesuffix("\n")


def test_the_key_and_nothing_else_is_on_stdout(path: Path) -> None:
    result = run(path, "add", "control_room", "--role", "operator")
    key = result.stdout.removesuffix("\n")
    caller = keys_file.load(path).verify(key)
    assert caller is not None
    assert (caller.name, caller.role) == ("control_room", Role.OPERATOR)
    assert "control_room (operator)" in result.stderr
    assert key not in result.stderr
    assert key.split("_", 2)[2] not in path.read_text()


def test_an_active_name_is_not_given_again(path: Path) -> None:
    key = added(path, "control_room")
    result = run(path, "add", "CONTROL_ROOM", "--role", "admin")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert "there is a key named 'CONTROL_ROOM'" in result.stderr
    assert keys_file.load(path).verify(key) is not None


def test_a_name_and_a_role_must_be_some(path: Path) -> None:
    for arguments in (["two words", "--role", "viewer"], ["a", "--role", "root"], ["a"]):
        result = run(path, "add", *arguments)
        assert result.exit_code != 0
        assert result.stdout == ""
    assert not path.exists()


def test_the_list_tells_all_but_the_secrets(path: Path) -> None:
    first, second = added(path, "a", "viewer"), added(path, "b", "admin")
    assert run(path, "revoke", first[3:11]).exit_code == 0
    head, *lines = run(path, "list").stdout.splitlines()
    assert head.split() == ["ID", "NAME", "ROLE", "CREATED", "REVOKED"]
    assert [line.split()[:3] for line in lines] == [
        [first[3:11], "a", "viewer"],
        [second[3:11], "b", "admin"],
    ]
    # Day and time of the making; of the revoking too.
    assert [len(line.split()) for line in lines] == [7, 5]
    hashes = [record.hash for record in keys_file.load(path).records]
    assert not any(secret in "".join(lines) for secret in (first[12:], second[12:], *hashes))


def test_no_keys_are_an_empty_list(path: Path) -> None:
    assert run(path, "list").stdout.split() == ["ID", "NAME", "ROLE", "CREATED", "REVOKED"]


def test_a_revoked_key_is_taken_no_more(path: Path) -> None:
    key = added(path, "a")
    result = run(path, "revoke", key[3:11])
    assert (result.exit_code, result.stdout) == (0, "")
    assert keys_file.load(path).verify(key) is None
    again = run(path, "revoke", key[3:11])
    assert again.exit_code == 1
    assert f"key {key[3:11]} is revoked" in again.stderr


def test_a_file_that_is_none_is_left_as_it_is(path: Path) -> None:
    path.parent.mkdir(parents=True)
    path.write_text("{")
    for arguments in (["add", "a", "--role", "viewer"], ["list"], ["revoke", "01010101"]):
        result = run(path, *arguments)
        assert result.exit_code == 1
        assert f"{path}: the file: Invalid JSON" in result.stderr
    assert path.read_text() == "{"


def test_the_environment_names_the_file(path: Path) -> None:
    runner = CliRunner(env={"FLEXFEEDER_KEYS_FILE": str(path)})
    assert runner.invoke(keys, ["add", "a", "--role", "viewer"]).exit_code == 0
    assert [record.name for record in keys_file.load(path).records] == ["a"]


def test_of_keys_that_are_made_at_once_none_is_lost(path: Path) -> None:
    """Eight processes, each with a key to add, into a folder that is not there yet."""
    script = "import sys; from flexfeeder.keys import keys; keys(sys.argv[1:])"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", script, "add", f"k{n}", "--role", "viewer", "--file", str(path)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        for n in range(8)
    ]
    made = [process.communicate()[0].decode().strip() for process in processes]
    assert [process.returncode for process in processes] == [0] * 8
    found = keys_file.load(path)
    assert {record.name for record in found.records} == {f"k{n}" for n in range(8)}
    assert all(found.verify(key) for key in made)
    assert orjson.loads(path.read_bytes())["keys"]
