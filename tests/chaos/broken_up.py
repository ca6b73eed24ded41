"""``flexfeeder up`` with the solver of ``chaos.broken_solver`` in the place of ours."""

from typing import Any

from flexfeeder import __main__ as flexfeeder
from flexfeeder import up
from flexfeeder.supervisor import Spec

_child = up._Run._child


def broken_child(run: "up._Run", name: str, *module: str) -> Spec:
    return _child(run, name, *(["chaos.broken_solver"] if name == "solver" else module))


def main() -> Any:
    up._Run._child = broken_child  # type: ignore[assignment, method-assign]
    return flexfeeder.main(["up", "--no-meters"])


if __name__ == "__main__":
    main()
