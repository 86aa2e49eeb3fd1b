"""Compare consumers: what each loses, repeats and needs: `python -m benchmarks.consumers`.

1,000 events; one always fails, and every third call of the handler does. Once 200 are handled, the
process gets SIGTERM or SIGKILL and is started again, or the broker restarts.
"""

import asyncio
import tokenize
from pathlib import Path
from typing import Final

from benchmarks.consumers.trial import FAULTS, trial

_PROGRAMS: Final = {
    "Client.consume": "with_client",
    "FastStream": "with_faststream",
    "FastStream, by hand": "with_faststream_by_hand",
}
_NO_CODE: Final = {tokenize.COMMENT, tokenize.NL, tokenize.ENCODING, tokenize.ENDMARKER}


def main() -> None:
    """Print a row for each consumer and fault."""
    print(
        "| consumer | lines | fault | handled | dead letters | left | lost | repeats | exit | s |"
    )
    print("|---|---:|---|---:|---:|---:|---:|---:|---:|---:|")
    for name, module in _PROGRAMS.items():
        for fault in FAULTS:
            it = asyncio.run(trial(module, fault))
            print(
                f"| {name} | {_lines(module)} | {fault} | {len(it.handled)} | {len(it.dead)} "
                f"| {it.left} | {it.lost} | {it.repeats} | {it.exit_code} | {it.seconds:.1f} |",
                flush=True,
            )


def _lines(module: str) -> int:
    """Count the lines of a program that have code, without its docstring."""
    with Path(__file__).with_name(f"{module}.py").open("rb") as program:
        tokens = [it for it in tokenize.tokenize(program.readline) if it.type not in _NO_CODE]
    lines = {it.start[0] for it in tokens if it.type not in {tokenize.INDENT, tokenize.DEDENT}}
    return len(lines - {tokens[0].start[0], tokens[0].end[0], tokens[1].start[0]})


if __name__ == "__main__":
    main()
