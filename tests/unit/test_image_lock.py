"""What goes into the image: the very versions that are tested, and a licence known for each."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def pins(path: Path) -> dict[str, str]:
    text = path.read_text(encoding="utf-8")
    return dict(re.findall(r"^([a-z0-9.-]+)==(\S+)", text, flags=re.MULTILINE))


def test_what_is_in_the_image_is_what_is_tested() -> None:
    tested = pins(ROOT / "requirements.lock")
    image = pins(ROOT / "deploy" / "requirements.lock")
    assert len(image) > 20
    assert {name: tested.get(name) for name in image} == image


def test_no_tool_of_development_is_in_the_image() -> None:
    image = pins(ROOT / "deploy" / "requirements.lock")
    assert not image.keys() & {"pytest", "mypy", "ruff", "docker", "cryptography", "pip", "iotcore"}


def test_the_licence_of_everything_in_the_image_is_listed() -> None:
    page = (ROOT / "docs" / "licences.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\S+) \| (\S+) \| (.+) \|$", page, flags=re.MULTILINE)
    listed = {name.lower().replace("_", "-").replace(".", "-"): each for name, *each in rows}
    image = pins(ROOT / "deploy" / "requirements.lock")
    assert {name: listed.get(name, ["missing"])[0] for name in image} == image
    assert [name for name in image if listed[name][1] == "not declared"] == []
