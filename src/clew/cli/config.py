"""`clew config`: what is configured, and where each value comes from."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from clew.cli import terminal
from clew.cli.registry import Options

if TYPE_CHECKING:
    from rich.console import Console

    from clew.config import Config

__all__ = ["config", "config_report", "render_config"]


def config(
    key: str | None = None,
    /,
    *,
    json: Annotated[bool, Parameter(negative="")] = False,
    options: Options,
) -> int:
    """Print the configuration.

    Parameters
    ----------
    key
        Only this key, and those below it.
    json
        As JSON.
    """
    from clew.cli.opening import load_config

    report = config_report(load_config(options), key)
    if key is not None and not report["values"]:
        terminal.error(f"nothing is known about {key!r}", "`clew config` lists the keys.")
        return 1
    if json:
        terminal.write_json(report)
    else:
        render_config(report, terminal.console(sys.stdout))
    for warning in report["warnings"]:
        terminal.warn(warning)
    return 0


def config_report(config: Config, key: str | None = None) -> dict[str, Any]:
    """The effective values with their sources, as JSON: `values` holds `{key, value, source}` with secrets masked,
    `files` the files that were looked for. With `key`, only that one and those below it."""
    names = ["config.toml", *([f"{config.profile}.config.toml"] if config.profile else [])]
    paths = [home / name for name in names for home in (config.codex_home, config.clew_home)]
    return {
        "files": [{"path": str(path), "exists": path.is_file()} for path in paths],
        "profile": config.profile,
        "providers": list(config.providers),
        "values": [
            {"key": entry.key, "value": entry.value, "source": entry.source}
            for entry in config.sources()
            if key is None or entry.key == key or entry.key.startswith(f"{key}.")
        ],
        "warnings": list(config.warnings),
    }


def render_config(report: dict[str, Any], console: Console) -> None:
    """The report for people: one `key = value` per line, its source behind it."""
    from rich.text import Text

    values: list[dict[str, Any]] = report["values"]
    lines = [(f"{entry['key']} = {_toml(entry['value'])}", str(entry["source"])) for entry in values]
    width = min(max((len(line) for line, _ in lines), default=0), 60)
    for line, source in lines:
        text = Text(terminal.clean(f"{line:<{width}}  "))
        text.append(f"# {terminal.clean(source)}", style="dim")
        console.print(text, soft_wrap=True)


def _toml(value: Any) -> str:
    """A value as TOML spells it; long texts are shortened, what is not set is `(not set)`."""
    import json

    match value:
        case None:
            return "(not set)"
        case bool():
            return str(value).lower()
        case str():
            return json.dumps(terminal.one_line(value, 200), ensure_ascii=False)
        case list():
            return json.dumps(value, ensure_ascii=False)
        case _:
            return str(value)
