"""What becomes of commands once they are decided: written and done, or not written and undone, or
left open for as long as nobody knows which.
"""

import time
from collections.abc import Container, Sequence
from dataclasses import replace

from schemas.errors import Refusal
from schemas.programs import Adjustments
from services import requests
from services.bus import Message
from services.solver.custody import Custody, Written
from services.solver.demand import Demand
from services.solver.desk import IN_PROGRESS, STORE_AWAY, STORE_SILENT, Decision, Desk
from services.solver.entries import Adjusted, Entry

ANSWER_S = 4.0
"""How long a command waits for a store that does not answer."""


class Ledger:
    """Has decisions written, and holds those of which it is not known whether they are."""

    def __init__(self, desk: Desk, custody: Custody, demand: Demand) -> None:
        self._desk = desk
        self._custody = custody
        self._demand = demand
        self._open: list[Decision] = []
        """Decided, rolled back, and perhaps written: nobody has said yet."""
        self._give_up_at = 0.0

    @property
    def in_progress(self) -> set[str | None]:
        """Ids of the requests that are left open."""
        return {decision.request.request_id for decision in self._open}

    def adopt(self, message: Message) -> bool:
        """Take a message for one that is left open and not told yet, if it is that one, brought
        again by the broker.
        """
        if self._give_up_at == float("inf"):
            return False
        for place, decision in enumerate(self._open):
            if requests.is_brought_again(decision.request.message, message):
                request = replace(decision.request, message=message)
                self._open[place] = replace(decision, request=request)
                return True
        return False

    def keep(
        self, decided: Sequence[Decision], adjustments: Sequence[Adjustments]
    ) -> list[Decision]:
        """Write a batch; returns the decisions that can be answered now.

        Adjustments need not be written to take effect: they are retained, and published until the
        state shows them.
        """
        entries: list[Entry] = [d.entry for d in decided if d.entry is not None]
        if self._custody.is_writable:
            entries += [Adjusted(each.model_dump_json().encode()) for each in adjustments]
        if not entries:
            return list(decided)
        written = self._custody.write(entries)
        if written is Written.DONE:
            self._demand.commit()
            return list(decided)
        self._desk.undo(decided)
        # What came twice in one batch was answered, the second time, by what the first came to.
        undone = {d.entry.request_id for d in decided if d.entry is not None} - {None}
        if written is Written.NOT_DONE:
            return [_without(decision, undone, STORE_AWAY) for decision in decided]
        self._open = [decision for decision in decided if decision.entry is not None]
        self._give_up_at = time.monotonic() + ANSWER_S
        others = [decision for decision in decided if decision.entry is None]
        return [_without(decision, undone, IN_PROGRESS) for decision in others]

    def settle(self, *, is_written: bool) -> list[Decision]:
        """What was left open, now that it is known whether it was written; done if it was."""
        decided, self._open = self._open, []
        if not is_written:
            return [_refused(decision, STORE_AWAY) for decision in decided]
        for decision in decided:
            self._desk.again(decision)
        self._demand.commit()
        self._custody.note([d.entry for d in decided if d.entry is not None])
        return decided

    def give_up(self, now: float) -> list[Decision]:
        """Those who have waited for too long, to be told that nobody knows: whoever asks again will
        know. ``now`` in monotonic seconds.
        """
        if not self._open or now < self._give_up_at:
            return []
        self._give_up_at = float("inf")
        told = [_refused(decision, STORE_SILENT) for decision in self._open]
        self._open = [
            replace(decision, request=replace(decision.request, reply_topic=None), is_told=True)
            for decision in self._open
        ]
        return told


def _without(decision: Decision, undone: Container[str | None], refusal: Refusal) -> Decision:
    """A decision of a batch that was undone; one that has nothing to do with it stands."""
    if decision.entry is None and decision.request.request_id not in undone:
        return decision
    return _refused(decision, refusal)


def _refused(decision: Decision, refusal: Refusal) -> Decision:
    """The same decision, of which nothing is left."""
    return replace(decision, outcome=refusal, entry=None, is_new=False)
