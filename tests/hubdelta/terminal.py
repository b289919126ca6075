"""A terminal of any size, to run a command in as a person would."""

import fcntl
import os
import pty
import re
import struct
import termios

from forking import start

_FROM_OUTSIDE = ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "PAGER", "LESS")

_STYLE = re.compile(r"\x1b\[[0-9;]*m")


def show(*arguments: object, columns: int = 80, rows: int = 500, **environment: str) -> str:
    """What `hubdelta ARGUMENTS` writes on a terminal, styles included."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    outside = {name: value for name, value in os.environ.items() if name not in _FROM_OUTSIDE}
    process = start(
        *arguments,
        environment=outside | {"TERM": "xterm-256color"} | environment,
        stdin=follower,
        stdout=follower,
        stderr=follower,
    )
    os.close(follower)
    shown = b""
    while chunk := _read(leader):
        shown += chunk
    os.close(leader)
    assert process.wait() == 0, shown.decode()
    return shown.decode().replace("\r\n", "\n")


def plain(shown: str) -> list[str]:
    """The lines of what was shown, without styles and trailing spaces."""
    return [line.rstrip() for line in _STYLE.sub("", shown).splitlines()]


def _read(leader: int) -> bytes:
    try:
        return os.read(leader, 65536)
    except OSError:  # how a terminal tells its end
        return b""
