"""API keys: what their text is, who may do what with one, and what is kept of it. Pure.

A key is ``ff_<id>_<secret>``. Of the secret, 32 random bytes, only the SHA-256 is kept: nobody can
guess what is that random, so a hash that is slow on purpose would protect nothing and cost every
request.
"""

import base64
import hashlib
import hmac
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Annotated

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from schemas.wire import Name, canonical

_KEY = re.compile(r"ff_([0-9a-f]{8})_([A-Za-z0-9_-]{43})")

_ID_BYTES, _SECRET_BYTES = 4, 32

_NOBODYS = "0" * 64
"""What the secret of an unknown id is compared with, so that the time taken tells nothing."""

RandomBytes = Callable[[int], bytes]
"""So many random bytes."""


class KeysError(Exception):
    """Keys that cannot be read, or a change of them that cannot be made; the message says why."""


class Role(StrEnum):
    """What the bearer of a key may do; each may do all that those before it may."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"

    def may_do_what(self, other: "Role") -> bool:
        """True if whatever ``other`` may do is allowed to this role too."""
        return _RANK[self] >= _RANK[other]


_RANK = {role: rank for rank, role in enumerate(Role)}


@dataclass(frozen=True, slots=True)
class Caller:
    """Who makes a request: the bearer of a key."""

    key_id: str
    name: str
    role: Role


class KeyRecord(BaseModel):
    """What is kept of a key; ``hash`` is the SHA-256 of its secret."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: Annotated[str, Field(pattern=r"^[0-9a-f]{8}$")]
    name: Name
    role: Role
    hash: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    created_at: AwareDatetime
    revoked_at: AwareDatetime | None = None


class _Document(BaseModel):
    """The file as it stands."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    keys: tuple[KeyRecord, ...]


class ApiKeys:
    """Every key there is, revoked ones included. Immutable: a change makes another."""

    def __init__(self, records: Iterable[KeyRecord] = ()) -> None:
        self.records = tuple(records)
        self._callers = {
            record.id: (record.hash, Caller(record.id, record.name, record.role))
            for record in self.records
            if record.revoked_at is None
        }

    @classmethod
    def parse(cls, text: bytes) -> "ApiKeys":
        """Read what :meth:`to_json` has written.

        Raises:
            KeysError: with every problem, and nothing of what stands there.

        """
        try:
            records = _Document.model_validate_json(text).keys
        except ValidationError as error:
            problems = error.errors(include_url=False, include_input=False, include_context=False)
            raise KeysError("; ".join(_said(p["loc"], p["msg"]) for p in problems[:5])) from None
        ids = [record.id for record in records]
        if twice := sorted({one for one in ids if ids.count(one) > 1}):
            raise KeysError(f"keys: more than one has the id {twice[0]}")
        return cls(records)

    def to_json(self) -> bytes:
        """The text of the file, for machines and people."""
        text = _Document(keys=self.records).model_dump_json(indent=2, exclude_none=True)
        return text.encode() + b"\n"

    def verify(self, key: str) -> Caller | None:
        """Whose key it is; None for one that is unknown, revoked or no key at all."""
        found = _KEY.fullmatch(key)
        if found is None:
            return None
        known, caller = self._callers.get(found[1], (_NOBODYS, None))
        return caller if hmac.compare_digest(_hash(found[2]), known) else None

    def has(self, key_id: str) -> bool:
        """True for a key that is not revoked."""
        return key_id in self._callers

    def issue(
        self, name: str, role: Role, now: datetime, random_bytes: RandomBytes
    ) -> tuple["ApiKeys", str]:
        """The keys with a new one, and its text, which is nowhere else.

        Raises:
            KeysError: where the name is none, or a key that is not revoked has it.

        """
        if any(canonical(caller.name) == canonical(name) for _, caller in self._callers.values()):
            raise KeysError(f"there is a key named {name!r}; revoke it first")
        taken = {record.id for record in self.records}
        key_id = random_bytes(_ID_BYTES).hex()
        while key_id in taken:
            key_id = random_bytes(_ID_BYTES).hex()
        secret = base64.urlsafe_b64encode(random_bytes(_SECRET_BYTES)).rstrip(b"=").decode("ascii")
        try:
            record = KeyRecord(id=key_id, name=name, role=role, hash=_hash(secret), created_at=now)
        except ValidationError as error:
            raise KeysError(_said(("name",), error.errors()[0]["msg"])) from None
        return ApiKeys((*self.records, record)), f"ff_{key_id}_{secret}"

    def revoke(self, key_id: str, now: datetime) -> "ApiKeys":
        """The keys with one that is taken no more.

        Raises:
            KeysError: where there is no such key, or none that is in force.

        """
        if key_id not in self._callers:
            known = any(record.id == key_id for record in self.records)
            raise KeysError(f"key {key_id} is revoked" if known else f"there is no key {key_id}")
        return ApiKeys(
            record.model_copy(update={"revoked_at": now}) if record.id == key_id else record
            for record in self.records
        )


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode("ascii")).hexdigest()


def _said(location: tuple[int | str, ...], problem: str) -> str:
    return f"{'.'.join(map(str, location)) or 'the file'}: {problem}"
