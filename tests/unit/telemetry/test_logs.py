import subprocess
import sys

import pytest

_PROGRAM = """
import logging, structlog
from aimicromind_worker.telemetry import logs
logs.set_up("info", "{form}")
structlog.get_logger().info(
    "job.started", chat_id="a\\x1b]52;c;aGk=\\x07\\r\\nforged\\x9d\\u202e"
)
logging.getLogger("library").warning("it says %s", "\\x1b[2J")
"""


@pytest.mark.parametrize("form", ["pretty", "json"])
def test_no_text_from_outside_is_interpreted_in_a_log(form: str) -> None:
    program = _PROGRAM.format(form=form)

    ran = subprocess.run((sys.executable, "-c", program), capture_output=True, check=True)

    told = ran.stderr.decode()
    assert len(told.splitlines()) == 2
    for sequence in ("\x1b]", "\x1b[2J", "\x07", "\r", "\x9d", "\u202e"):
        assert sequence not in told
    assert "forged" in told
