"""`qss presets` and `qss doctor`: what comes with the package, and what this machine has."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

from typer import Argument, Option

from qss_offline.cli import options
from qss_offline.errors import UserError


def doctor(as_json: options.Json = False) -> None:
    """Say what this machine has, and what is missing. Code 2 if unusable."""
    from qss_offline.cli.doctor import examine
    from qss_offline.cli.tables import print_json, print_table

    checks = examine()
    if as_json:
        print_json([asdict(check) for check in checks])
    else:
        marks = {True: "ok", False: "look", None: "-"}
        print_table(("", "what", "found"), [(marks[c.ok], c.name, c.found) for c in checks])
    missing = [check for check in checks if check.needed and check.ok is False]
    if missing:
        raise UserError(f"{missing[0].name}: {missing[0].found}")


def presets(
    name: Annotated[
        str | None, Argument(metavar="[NAME]", help=f"one of {', '.join(options.PRESET_NAMES)}")
    ] = None,
    method: Annotated[
        str | None, Option(help=f"one of {', '.join(options.METHOD_NAMES)} (the preset's own)")
    ] = None,
    diff: Annotated[str | None, Option(help="show only what differs from this preset")] = None,
    as_json: options.Json = False,
) -> None:
    """Print a preset's settings, or what differs from another's. Without a name list all."""
    from qss_offline.cli.tables import print_json, print_table
    from qss_offline.overrides import settings_by_name
    from qss_offline.presets import PRESETS, named_method
    from qss_offline.presets import preset as find

    chosen = None if method is None else named_method(method)
    if name is None:
        if diff is not None:
            raise UserError(
                f"--diff {diff} compares a preset: name it, such as qss presets default"
            )
        found = {
            (preset, own): one
            for preset, methods in PRESETS.items()
            for own, one in methods.items()
            if chosen in (None, own)
        }
        if as_json:
            plain = {f"{preset} {own}": asdict(one) for (preset, own), one in found.items()}
            print_json(plain)
            return
        rows = [
            (*key, f"{one.ensemble} × {one.updates:,}", f"{one.inverse.online_steps:,}")
            for key, one in found.items()
        ]
        print_table(("preset", "method", "updates", "online steps"), rows)
        print("Next: qss presets NAME shows its settings, --diff paper what it adds to the paper.")
        return
    one = find(name, chosen)
    if as_json:
        print_json({name: asdict(one)})
        return
    settings = settings_by_name(one)
    if diff is None:
        print_table(("setting", name), [(n, str(v)) for n, v in settings.items()])
        return
    base = settings_by_name(find(diff))
    differing = [(n, str(base[n]), str(v)) for n, v in settings.items() if base[n] != v]
    if differing:
        print_table(("setting", diff, name), differing)
    else:
        print(f"{name} and {diff} are the same")
