"""JSON as people like to read it: what fits on a line stands on one."""

import json
from typing import Any

WIDTH = 110


def pretty(value: Any, indent: int = 0, taken: int = 0) -> str:
    """JSON of a value that stands ``indent`` columns in, behind ``taken`` characters."""
    flat = json.dumps(value, ensure_ascii=False)
    if not isinstance(value, dict | list) or indent + taken + len(flat) <= WIDTH:
        return flat
    inner = "\n" + " " * (indent + 2)
    outer = "\n" + " " * indent
    if isinstance(value, list):
        entries = [pretty(each, indent + 2) for each in value]
        return "[" + ",".join(inner + entry for entry in entries) + outer + "]"
    heads = {key: json.dumps(key, ensure_ascii=False) + ": " for key in value}
    entries = [
        heads[key] + pretty(each, indent + 2, len(heads[key])) for key, each in value.items()
    ]
    return "{" + ",".join(inner + entry for entry in entries) + outer + "}"
