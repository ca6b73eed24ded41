"""What is in the image and under which licence, as a page: ``python deploy/licences.py SBOM``."""

import sys
from pathlib import Path
from typing import Any

import orjson

HEAD = """# Licences

What the image of `deploy/Dockerfile` brings beside the packages of Debian, from the bill
of materials that `make sbom` writes (CycloneDX, `dist/sbom.json`), as it writes this page.

| package | version | licence |
|---|---|---|
"""


BY_ITS_FILE = {"opendssdirect.py": "BSD-3-Clause", "protobuf": "BSD-3-Clause"}
"""Packages whose metadata do not say it, and whose LICENSE file does."""


def page(sbom: dict[str, Any]) -> str:
    """The page for a bill of materials in CycloneDX's JSON."""
    rows = sorted(
        f"| {component['name']} | {component['version']} | {_licences(component)} |\n"
        for component in sbom["components"]
    )
    return HEAD + "".join(rows)


def _licences(component: dict[str, Any]) -> str:
    named = [
        licence.get("expression") or licence["license"].get("id") or licence["license"].get("name")
        for licence in component.get("licenses", ())
    ]
    known = {name.strip().split("\n")[0].rpartition(" :: ")[2] for name in named if name}
    by_file = BY_ITS_FILE.get(component["name"])
    return by_file or ", ".join(sorted(known)) or "not declared"


if __name__ == "__main__":
    sys.stdout.write(page(orjson.loads(Path(sys.argv[1]).read_bytes())))
