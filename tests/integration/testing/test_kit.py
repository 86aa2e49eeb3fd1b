"""The pytest plugin, as another team uses it: in a folder of its own, by another pytest."""

import asyncio
import os
import re
import sys
from pathlib import Path

DOCS = Path(__file__).parents[3] / "docs/testing.md"


async def test_documented_test_of_a_consumer_passes_and_leaves_nothing(tmp_path: Path) -> None:
    for name, program in re.findall(r"```python (\w+)\n(.*?)```", DOCS.read_text(), re.DOTALL):
        (tmp_path / f"{name}.py").write_text(program)

    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "."),
        cwd=tmp_path,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await asyncio.wait_for(process.communicate(), 100)

    assert process.returncode == 0, said.decode()
    assert "2 passed" in said.decode()
