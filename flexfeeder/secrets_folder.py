"""The folder of everything that a deployed system must keep to itself: what is missing is made,
and what is there is kept.

Containers read their part of it as users of their own, through mounts. So it is the folder that
keeps others out, 0700; within it all is open to whoever gets there, but for what no container
reads: the authority's key, and the first key of the API.
"""

import secrets
from collections.abc import Callable, Collection
from datetime import datetime, timedelta
from pathlib import Path

from flexfeeder import authority, broker_acl, broker_users, store_users
from flexfeeder.authority import CertificateError, Pair
from flexfeeder.broker_users import UsersError
from flexfeeder.secrets import FEEDER_FILE
from services import keys_file, whole_files
from services.api_keys import KeysError, Role

SERVERS = ("broker", "gateway")

LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")
"""Names of every server, beside that of its service."""

SOON = timedelta(days=30)
"""A certificate that expires within so long is spoken of."""

PASSWORDS = Path("broker/passwords")
"""The broker's password file, within the folder."""

OPEN, CLOSED = 0o644, 0o600
"""Modes of files: see above."""

FIRST_KEY = "first"
"""Name of the API key that is made where there is none."""

Say = Callable[[str], None]


class SecretsError(Exception):
    """Something is there that cannot be kept, and must not be replaced; the message says what."""


class SecretsFolder:
    """What `flexfeeder secrets` fills, for the broker of one feeder; ``say`` takes a line for each
    file that was made or kept, and for what is to be known of it.
    """

    def __init__(self, folder: Path, feeder: str, now: datetime, say: Say) -> None:
        self._folder = folder
        self._feeder = feeder
        self._now = now
        self._say = say

    def fill(self, hosts: Collection[str], *, renew: bool) -> None:
        """Make what is missing. ``hosts`` are more names of the servers, which get new
        certificates if they are to be renewed.

        Raises:
            SecretsError: what was made until then is there to stay, and will be kept.

        """
        try:
            self._make_folders()
            with whole_files.locked(self._folder):
                trusted = self._authority()
                for server in SERVERS:
                    self._server(trusted, server, {server, *LOCAL_NAMES, *hosts}, renew=renew)
                self._broker_users()
                self._follow("broker/acl", broker_acl.acl(self._feeder).encode())
                self._follow(FEEDER_FILE, f"FLEXFEEDER_FEEDER={self._feeder}\n".encode())
                self._store_users()
                self._secret("grafana_password")
                self._first_key()
        except OSError as error:
            raise SecretsError(f"{error.filename or self._folder}: {error.strerror}") from None
        except (UsersError, KeysError) as error:
            raise SecretsError(str(error)) from None

    def _make_folders(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._folder.chmod(0o700)
        for name in (*SERVERS, "mqtt", "redis"):
            inner = self._folder / name
            inner.mkdir(exist_ok=True)
            inner.chmod(0o755)

    def _authority(self) -> Pair:
        """The authority, whose certificate the broker's folder has too."""
        found = self._pair("ca")
        if found is None:
            found = authority.new_authority(self._now)
            self._write("ca.key", found.key, CLOSED)
            self._write("ca.crt", found.certificate)
        else:
            self._keep("ca.key", CLOSED)
            self._keep("ca.crt")
        self._say_expiry("ca.crt", found.certificate, "delete ca.crt and ca.key for a new one")
        self._follow("broker/ca.crt", found.certificate)
        return found

    def _pair(self, name: str) -> Pair | None:
        """A certificate and its key; None where neither is there.

        Raises:
            SecretsError: one is missing, or not the other's.

        """
        certificate, key = self._read(f"{name}.crt"), self._read(f"{name}.key")
        if certificate is None and key is None:
            return None
        if certificate is None or key is None:
            there, missing = ("key", "crt") if certificate is None else ("crt", "key")
            raise SecretsError(
                f"{self._folder / name}.{there} is there and {name}.{missing} is not: put it back,"
                " or delete the one for two new ones"
            )
        pair = Pair(certificate, key)
        try:
            if authority.belong_together(pair):
                return pair
        except CertificateError as error:
            raise SecretsError(f"{self._folder / name}.crt, .key: {error}") from None
        raise SecretsError(
            f"{self._folder / name}.key is not that of {name}.crt: delete both for two new ones"
        )

    def _server(self, trusted: Pair, server: str, names: set[str], *, renew: bool) -> None:
        name = f"{server}/server"
        found = self._pair(name)
        if found is not None and not renew:
            self._keep(f"{name}.key")
            self._keep(f"{name}.crt")
            self._say_faults(f"{name}.crt", trusted, found, names)
            return
        if found is not None:
            names |= authority.read(found.certificate).names
        try:
            made = authority.new_server(trusted, names, self._now)
        except CertificateError as error:
            raise SecretsError(str(error)) from None
        self._write(f"{name}.key", made.key)
        self._write(f"{name}.crt", made.certificate)

    def _say_faults(self, name: str, trusted: Pair, found: Pair, names: set[str]) -> None:
        """What is wrong with a certificate that is kept: it may be one of another authority."""
        if not authority.has_signed(trusted.certificate, found.certificate):
            self._say(f"{name} is not from ca.crt: --renew makes one that is")
        if lacking := sorted(names - authority.read(found.certificate).names):
            self._say(f"{name} does not name {', '.join(lacking)}: --renew makes one that does")
        self._say_expiry(name, found.certificate, "--renew makes a new one")

    def _say_expiry(self, name: str, certificate: bytes, what_helps: str) -> None:
        expires_at = authority.read(certificate).expires_at
        if expires_at <= self._now:
            self._say(f"{name} HAS EXPIRED on {expires_at:%Y-%m-%d}: {what_helps}")
        elif expires_at <= self._now + SOON:
            self._say(f"{name} expires on {expires_at:%Y-%m-%d}: {what_helps}")

    def _broker_users(self) -> None:
        """The password of every user but the meters, and the broker's hash of each."""
        wanted = {user: self._secret(f"mqtt/{user}") for user in broker_acl.USERS}
        path = self._folder / PASSWORDS
        is_new = not path.exists()
        if is_new:
            self._write(str(PASSWORDS), b"")
        else:
            self._keep(str(PASSWORDS))
        with broker_users.edited(path, OPEN) as users:
            for user, password in wanted.items():
                if not broker_users.is_of(password, users.get(user, "")):
                    users[user] = broker_users.hashed(password, broker_users.new_salt())
                    if not is_new:
                        self._say(f"replaced the password of {user} in {PASSWORDS}")

    def _store_users(self) -> None:
        passwords = {}
        for user in store_users.USERS:
            name = f"redis/{user}_url"
            found = self._read(name)
            if found is None:
                passwords[user] = broker_users.new_password()
                url = store_users.store_url(user, passwords[user])
                self._write(name, f"{url}\n".encode())
                continue
            password = store_users.password_in(found.decode(errors="replace").strip())
            if password is None:
                raise SecretsError(f"{self._folder / name} is not as it was made: delete it")
            passwords[user] = password
            self._keep(name)
        self._follow("redis/users.acl", store_users.users_acl(self._feeder, passwords).encode())

    def _first_key(self) -> None:
        """A key to begin with; what it is stands in a file of its own, to be moved elsewhere."""
        path = self._folder / "gateway/keys.json"
        with keys_file.changing(path):
            keys = keys_file.load(path)
            if keys.records:
                self._keep("gateway/keys.json")
                return
            keys, text = keys.issue(FIRST_KEY, Role.ADMIN, self._now, secrets.token_bytes)
            self._write("api_admin.key", f"{text}\n".encode(), CLOSED)
            keys_file.save(path, keys)
        self._say("made gateway/keys.json")

    def _secret(self, name: str) -> str:
        """What a file of random text holds."""
        found = (self._read(name) or b"").decode(errors="replace").strip()
        if found:
            self._keep(name)
            return found
        made = broker_users.new_password()
        self._write(name, f"{made}\n".encode())
        return made

    def _follow(self, name: str, content: bytes) -> None:
        """A file that follows from others, and from the version that makes it."""
        if self._read(name) == content:
            self._keep(name)
        else:
            self._write(name, content)

    def _read(self, name: str) -> bytes | None:
        path = self._folder / name
        return path.read_bytes() if path.exists() else None

    def _write(self, name: str, content: bytes, mode: int = OPEN) -> None:
        is_new = not (self._folder / name).exists()
        whole_files.replace(self._folder / name, content, mode)
        self._say(f"{'made' if is_new else 'replaced'} {name}")

    def _keep(self, name: str, mode: int = OPEN) -> None:
        (self._folder / name).chmod(mode)  # a copy of the folder may have other modes
        self._say(f"kept {name}")
