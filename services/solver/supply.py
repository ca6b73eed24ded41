"""What the source supplies, by way of which transformers, and what is lost without one. Pure."""

from collections import deque

from services.solver.network import Circuit, Line

Node = tuple[str, int]
"""Bus and phase."""


class Supply:
    """The supply of a circuit, worked out section by section.

    Nodes that closed lines join are one section: supplied or not as a whole. A transformer whose
    one winding is supplied on all its phases supplies those of the others; thus a unit of a bank
    loses its phase, and whatever stands on three phases behind it, and nothing is supplied
    backwards by what it supplies itself. Regulators are transformers here.

    ``depth`` of a transformer is the number of others between it and the source, regulators not
    counted; -1 if nothing supplies it.
    """

    def __init__(self, circuit: Circuit) -> None:
        self.section = _sections(circuit)
        self._windings = [
            [
                {self.section[bus, phase] for phase in phases}
                for bus, phases in zip(each.buses, each.phases, strict=True)
            ]
            for each in circuit.transformers
        ]
        self._at: dict[int, list[tuple[int, int]]] = {}
        for transformer, windings in enumerate(self._windings):
            for winding, sections in enumerate(windings):
                for section in sections:
                    self._at.setdefault(section, []).append((transformer, winding))
        self._steps = [0 if each.regulates else 1 for each in circuit.transformers]
        self._level: dict[int, int] = {}
        self._supplied_by: dict[int, list[int]] = {}
        self._standing_on: dict[int, list[int]] = {}
        self.depth = [-1] * len(circuit.transformers)
        self._search({self.section[node] for node in _source_nodes(circuit)})
        # A phase that nothing supplies asks nothing of the transformers at it.
        self._windings = [
            [{s for s in sections if s in self._level} for sections in windings]
            for windings in self._windings
        ]
        self.source_windings = [
            self._facing_source(transformer) for transformer in range(len(self._windings))
        ]

    def lost_without(self, opened: int) -> set[int]:
        """Sections that lose supply when a transformer opens.

        All that it came to supply is in doubt, until another supply is found that is not: so only
        what is behind it is looked at, and nothing keeps itself supplied.
        """
        doubtful: set[int] = set()
        reached = {opened}
        stack = [opened]
        while stack:
            for section in self._supplied_by.get(stack.pop(), ()):
                doubtful.add(section)
                standing = set(self._standing_on.get(section, ())) - reached
                reached |= standing
                stack += standing
        pending = list(doubtful)
        while pending:
            section = pending.pop()
            if section in doubtful and self._has_other_supply(section, opened, doubtful):
                doubtful.discard(section)
                for transformer, _ in self._at[section]:
                    pending += doubtful & set().union(*self._windings[transformer])
        return doubtful

    def _has_other_supply(self, section: int, opened: int, doubtful: set[int]) -> bool:
        return any(
            other != winding and sections and sections.isdisjoint(doubtful)
            for transformer, winding in self._at[section]
            if transformer != opened
            for other, sections in enumerate(self._windings[transformer])
        )

    def _search(self, sources: set[int]) -> None:
        """Supply from the source outward, in the order of depth."""
        missing = [[len(sections) for sections in windings] for windings in self._windings]
        self._level = dict.fromkeys(sources, 0)
        queue = deque(sorted(sources))
        while queue:
            section = queue.popleft()
            for transformer, winding in self._at.get(section, ()):
                missing[transformer][winding] -= 1
                if not missing[transformer][winding] and self.depth[transformer] < 0:
                    self._energise(transformer, winding, self._level[section], queue)
            if not queue:
                self._energise_on_fewer_phases(queue)

    def _energise(self, transformer: int, winding: int, level: int, queue: deque[int]) -> None:
        self.depth[transformer] = level
        step = self._steps[transformer]
        for section in self._windings[transformer][winding]:
            self._standing_on.setdefault(section, []).append(transformer)
        supplied = set().union(*self._windings[transformer]) - self._level.keys()
        supplied -= self._windings[transformer][winding]
        for section in sorted(supplied):
            self._level[section] = level + step
            self._supplied_by.setdefault(transformer, []).append(section)
            (queue.append if step else queue.appendleft)(section)

    def _energise_on_fewer_phases(self, queue: deque[int]) -> None:
        """Let the nearest transformer do with those phases of a winding that are there."""
        waiting = [
            (max(self._level[s] for s in there), transformer, winding)
            for transformer, windings in enumerate(self._windings)
            if self.depth[transformer] < 0
            for winding, sections in enumerate(windings)
            if (there := sections & self._level.keys())
        ]
        if waiting:
            level, transformer, winding = min(waiting)
            self._energise(transformer, winding, level, queue)

    def _facing_source(self, transformer: int) -> tuple[int, ...]:
        """Windings supplied no later than the transformer; the first, where that tells nothing."""
        facing = tuple(
            winding
            for winding, sections in enumerate(self._windings[transformer])
            if sections and max(self._level[s] for s in sections) <= self.depth[transformer]
        )
        return facing if len(facing) < len(self._windings[transformer]) else facing[:1]


def _sections(circuit: Circuit) -> dict[Node, int]:
    """The section of each node, by a number: nodes joined by closed lines share one."""
    nodes = {(bus.name, phase) for bus in circuit.buses for phase in bus.phases}
    nodes |= {end for line in circuit.lines for ends in _joined(line) for end in ends}
    nodes |= {
        (bus, phase)
        for each in circuit.transformers
        for bus, phases in zip(each.buses, each.phases, strict=True)
        for phase in phases
    }
    number = {node: index for index, node in enumerate(sorted(nodes))}
    parent = list(range(len(number)))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    for line in circuit.lines:
        if line.closed:
            for one, other in _joined(line):
                parent[root(number[one])] = root(number[other])
    return {node: root(index) for node, index in number.items()}


def _joined(line: Line) -> list[tuple[Node, Node]]:
    return [((line.from_bus, phase), (line.to_bus, phase)) for phase in line.phases]


def _source_nodes(circuit: Circuit) -> list[Node]:
    return [
        (bus.name, phase)
        for bus in circuit.buses
        if bus.name == circuit.source_bus
        for phase in bus.phases
    ]
