"""Where regulators and capacitors stand: read from OpenDSS, and set in it."""

from typing import Any

from services.solver.solution import Steps


class Controls:
    """Regulators and capacitors of the compiled circuit, in its order."""

    def __init__(self, dss: Any) -> None:
        self._dss = dss
        self._regulators = range(1, int(dss.RegControls.Count()) + 1)
        self._capacitors = range(1, int(dss.Capacitors.Count()) + 1)
        self.capacitors = tuple(self._name(index) for index in self._capacitors)
        """Their names."""
        self._are_switched = int(dss.CapControls.Count()) > 0
        self._steps = self._read_steps()

    def taps(self) -> tuple[int, ...]:
        """Tap of each regulator."""
        # As with loads: the layer below, without an error check after each call.
        native = self._dss.dss_lib
        taps = []
        for index in self._regulators:
            native.RegControls_Set_idx(index)
            taps.append(int(native.RegControls_Get_TapNumber()))
        return tuple(taps)

    def steps(self) -> tuple[Steps, ...]:
        """Steps of each capacitor. Where nothing switches them, they are as they were set."""
        if self._are_switched:
            self._steps = self._read_steps()
        return self._steps

    def set(self, taps: tuple[int, ...], steps: tuple[Steps, ...]) -> None:
        """Put everything there; a capacitor with another number of steps stays as it is."""
        dss = self._dss
        for index, tap in zip(self._regulators, taps, strict=True):
            dss.RegControls.Idx(index)
            dss.RegControls.TapNumber(tap)
        now = self._read_steps()
        for index, wanted, found in zip(self._capacitors, steps, now, strict=True):
            # Each one that changes has the engine build its matrix anew.
            if wanted != found and len(wanted) == len(found):
                self._switch(index, wanted)
        self._steps = self._read_steps()

    def _switch(self, index: int, steps: Steps) -> None:
        """Its control opens the terminals with the last step, and goes by them."""
        dss = self._dss
        dss.Capacitors.Idx(index)
        if any(steps):
            dss.CktElement.Close(1, 0)
        else:
            dss.CktElement.Open(1, 0)
        dss.Capacitors.Idx(index)
        dss.Capacitors.States(list(steps))

    def _name(self, index: int) -> str:
        self._dss.Capacitors.Idx(index)
        return str(self._dss.Capacitors.Name())

    def _read_steps(self) -> tuple[Steps, ...]:
        dss = self._dss
        read = []
        for index in self._capacitors:
            dss.Capacitors.Idx(index)
            steps = tuple(map(int, dss.Capacitors.States()))
            read.append((0,) * len(steps) if dss.CktElement.IsOpen(1, 0) else steps)
        return tuple(read)
