"""The store's access list. What the store makes of it is tested on a real one."""

import hashlib
import re

import pytest

from flexfeeder import store_users
from services.dfp_manager import layout
from services.solver import scripts
from services.solver.journal import _Keys

FEEDER = "ieee123"
PASSWORDS = {"solver": "s3cret_-A", "dfp_manager": "0ther"}

ACL = store_users.users_acl(FEEDER, PASSWORDS)
RULES = {line.split()[1]: line.split()[2:] for line in ACL.splitlines()}


def calls_in(*texts: str) -> set[str]:
    found = re.findall(r"redis\.call\('(\w+)'", "".join(texts))
    return {f"+{name.lower()}" for name in found}


def test_all_begin_with_nothing() -> None:
    for user in RULES.keys() - {"default"}:
        assert "-@all" in RULES[user], user
        assert "resetchannels" in RULES[user], user
        assert not [rule for rule in RULES[user] if rule.startswith("+@")], user


def test_nobody_can_be_the_user_as_whom_the_store_reads_its_own_file() -> None:
    """Redis leaves out of it what that user may not do."""
    assert RULES["default"] == ["off", "resetpass", "allkeys", "allchannels", "+@all"]


def test_only_hashes_of_passwords_are_kept() -> None:
    for user, password in PASSWORDS.items():
        assert f"#{hashlib.sha256(password.encode()).hexdigest()}" in RULES[user]
        assert password not in ACL


def test_the_solver_may_call_what_its_scripts_call() -> None:
    written = [text for name, text in vars(scripts).items() if name.isupper()]
    assert len(calls_in(*written)) > 10
    assert calls_in(*written) <= set(RULES["solver"])


def test_the_manager_may_call_what_its_scripts_call() -> None:
    assert len(calls_in(layout.WRITE, layout.SETTLE)) > 10
    assert calls_in(layout.WRITE, layout.SETTLE) <= set(RULES["dfp_manager"])


def test_the_solver_has_its_keys_and_no_other() -> None:
    keys = {f"~{key}" for key in vars(_Keys(FEEDER)).values()}
    assert {rule for rule in RULES["solver"] if rule.startswith("~")} == keys


def test_the_manager_has_its_keys() -> None:
    """Those of a feeder are below one key."""
    own = layout.head_key(FEEDER)
    keys = {rule for rule in RULES["dfp_manager"] if rule.startswith("~")}
    assert keys == {f"~{layout.feeders_key()}", f"~{own}", f"~{own}:*"}
    for key in (
        layout.programs_key(FEEDER),
        layout.requests_key(FEEDER),
        layout.order_key(FEEDER),
        layout.executions_key(FEEDER, 1),
    ):
        assert key.startswith(f"{own}:")


@pytest.mark.parametrize(
    "url",
    [
        "redis://store:6379/0",
        "redis://solver:secret@elsewhere:6379/0",
        "rediss://solver:secret@store:6379/0",
        "secret",
        "",
    ],
)
def test_a_url_that_was_not_made_here_is_known(url: str) -> None:
    assert store_users.password_in(url) is None


def test_a_password_is_found_in_its_url() -> None:
    url = store_users.store_url("solver", PASSWORDS["solver"])
    assert url == "redis://solver:s3cret_-A@store:6379/0"
    assert store_users.password_in(url) == PASSWORDS["solver"]
