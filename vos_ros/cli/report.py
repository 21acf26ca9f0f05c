"""What the commands share: values from the command line, and printing and writing of figures."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

Figure = int | float | str


def finish(figures: Mapping[str, Figure], json_file: str | None) -> None:
    """Print flat figures, one per line; write them to ``json_file`` where given (NaN as null)."""
    width = max(len(k) for k in figures)
    for key, value in figures.items():
        print(
            f"{key:{width}s}  {value:.4f}"
            if isinstance(value, float)
            else f"{key:{width}s}  {value}"
        )
    if json_file:
        write_json(figures, json_file)


def write_json(figures: Mapping[str, Figure], json_file: str) -> None:
    """Write flat figures as a JSON object (NaN as null)."""
    path = Path(json_file)
    path.parent.mkdir(parents=True, exist_ok=True)
    clean = {k: None if isinstance(v, float) and v != v else v for k, v in figures.items()}
    path.write_text(json.dumps(clean, indent=1) + "\n")


def settings(texts: Sequence[str], example: str) -> dict[str, object]:
    """Return the values of ``--set KEY=VALUE`` (YAML). Raises ConfigError: no equals sign."""
    import yaml

    from vos_ros.config import ConfigError

    values: dict[str, object] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f"--set {text!r}: wanted KEY=VALUE, e.g. {example}")
        values[key.strip()] = yaml.safe_load(value)
    return values
