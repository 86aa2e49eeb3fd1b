"""What others' tools make of the contract: AsyncAPI's parser, TypeScript's compiler and Node."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from tools.contract.places import ASYNCAPI, TYPESCRIPT, examples
from tools.contract.shapes import EVENT_CLASSES
from tools.generated import TOP

TOOLS: Final = TOP / ".tools" / "contract"
OURS: Final = Path(__file__).parent / "node"
ERROR: Final = 0  # Of the severities of the Language Server Protocol, less one.
EXAMPLES: Final = examples()
EVENTS: Final = {name: it for name, it in EXAMPLES.items() if name.startswith("event.")}
TYPES: Final = {name: each.__name__ for name, each in EVENT_CLASSES.items()}
WRONG: Final[dict[str, tuple[str, str, dict[str, object]]]] = {
    "unknown status": ("EndEvent", "event.end", {"status": "finished"}),
    "unknown kind": ("ErrorEvent", "event.error", {"kind": "bad_luck"}),
    "number as text": ("RetryEvent", "event.retry", {"nextAttempt": "2"}),
    "tool without a name": ("ActionEvent", "event.action", {"id": None}),
}
WRONG_PLACES: Final = {
    "channels/events/bindings/amqp/exchange/type": "stream",
    "channels/events/messages/token/$ref": "#/components/messages/none",
    "operations/takeJob/action": "consume",
    "components/schemas/EndData/properties/calls/type": "count",
}

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.skipif(
        not (TOOLS / "installed.json").exists(),
        reason="npm could not be had, or `make test-contract` was not run: nothing was checked",
    ),
]


def parsed(*documents: str) -> list[dict[str, Any]]:
    shutil.copy(OURS / "parse.js", TOOLS)
    done = subprocess.run(
        ["node", TOOLS / "parse.js"],
        input=json.dumps(documents),
        capture_output=True,
        text=True,
        check=True,
    )
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def errors(result: dict[str, Any]) -> list[dict[str, Any]]:
    return [it for it in result["found"] if it["severity"] == ERROR]


def compiled(folder: Path, **sources: str) -> subprocess.CompletedProcess[str]:
    """Compile the types, the consumer and more, strictly, into the folder `out`."""
    shutil.copy(TYPESCRIPT, folder / "aimicromind.ts")
    for name in ("consumer.ts", "tsconfig.json"):
        shutil.copy(OURS / name, folder)
    for name, source in sources.items():
        (folder / f"{name}.ts").write_text(source)
    return subprocess.run(
        ["node", TOOLS / "node_modules/typescript/bin/tsc", "--project", folder],
        capture_output=True,
        text=True,
        check=False,
    )


def typed(type_name: str, name: str, value: object) -> str:
    return f"export const {name}: types.{type_name} = {json.dumps(value)};\n"


def test_asyncapi_parser_accepts_the_document() -> None:
    (result,) = parsed(ASYNCAPI.read_text())

    assert errors(result) == []
    assert result["channels"] == [
        *("jobs", "events", "control", "deadJobs", "mailbox", "snapshots", "pool", "reports"),
    ]
    assert result["operations"] == [
        *("takeJob", "publishEvent", "takeCancel", "takeCatchUp", "publishSnapshot"),
        *("takeStatus", "publishReport", "parkJob"),
    ]
    assert result["parameters"] == ["chatId", "event"]
    assert sorted(result["events"]) == sorted([*TYPES.values(), "GenericEvent"])


def test_asyncapi_parser_refuses_wrong_documents() -> None:
    results = parsed(*(with_wrong(place, value) for place, value in WRONG_PLACES.items()))

    for place, result in zip(WRONG_PLACES, results, strict=True):
        assert errors(result), place


def with_wrong(place: str, value: str) -> str:
    document = inner = yaml.safe_load(ASYNCAPI.read_text())
    *steps, last = place.split("/")
    for step in steps:
        inner = inner[step]
    assert last in inner
    inner[last] = value
    return str(yaml.safe_dump(document))


def test_consumer_compiles_strictly_and_reads_the_examples(tmp_path: Path) -> None:
    compilation = compiled(tmp_path)
    script = (
        "const { begin, take } = require('./out/consumer.js'); const chat = begin();"
        "for (const event of JSON.parse(process.argv[1])) take(chat, event);"
        "console.log(JSON.stringify(chat));"
    )
    last = {"event.end": 1}
    events = [EVENTS[name] for name in sorted(EVENTS, key=lambda name: last.get(name, 0))]

    assert compilation.returncode == 0, compilation.stdout
    done = subprocess.run(
        ["node", "-e", script, json.dumps(events)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    chat = json.loads(done.stdout)
    assert len(chat["lines"]) == len(EVENTS)
    assert chat["status"] == EVENTS["event.end"]["data"]["status"]
    assert f"{EVENTS['event.generic']['event']}: not known here" in chat["lines"]


def test_consumer_that_forgets_an_event_does_not_compile(tmp_path: Path) -> None:
    source = (OURS / "consumer.ts").read_text()

    compilation = compiled(tmp_path, consumer=source.replace('    case "tts_data":\n', ""))

    assert compilation.returncode != 0
    assert "'TtsDataEvent' is not assignable to parameter of type 'never'" in compilation.stdout


def test_examples_have_their_types(tmp_path: Path) -> None:
    lines = ['import type * as types from "./aimicromind";\n']
    for name, example in EXAMPLES.items():
        event = name.partition(".")[2]
        named = {"job": "PredictionJob", "cancel.job": "JobCancel", "cancel.chat": "ChatCancel"}
        named |= {"catchUp": "CatchUpRequest", "snapshot": "Snapshot"}
        named |= {"status": "StatusRequest", "workerReport": "WorkerReport"}
        type_name = named.get(name) or TYPES.get(event, "GenericEvent")
        lines.append(typed(type_name, name.replace(".", "_"), example))

    compilation = compiled(tmp_path, examples="".join(lines))

    assert len(lines) == len(EXAMPLES) + 1
    assert compilation.returncode == 0, compilation.stdout


def test_wrong_messages_do_not_have_their_types(tmp_path: Path) -> None:
    wrong: list[tuple[str, object]] = [
        (type_name, {**EVENTS[name], "data": {**EVENTS[name]["data"], **change}})
        for type_name, name, change in WRONG.values()
    ]
    wrong += [
        (TYPES[name], {key: value for key, value in EVENTS[f"event.{name}"].items() if key != gone})
        for name, gone in (("token", "jobId"), ("start", "data"), ("end", "seq"))
    ]
    wrong += [
        ("TokenEvent", EVENTS["event.end"]),
        ("PredictionJob", {"question": "no flow"}),
        ("CancelRequest", {"cancel": {"chatId": "no time"}}),
    ]
    lines = ['import type * as types from "./aimicromind";\n']
    for number, (type_name, value) in enumerate(wrong):
        # The compiler fails where it expects an error and finds none.
        lines.append("// @ts-expect-error\n" + typed(type_name, f"wrong{number}", value))

    compilation = compiled(tmp_path, wrong="".join(lines))

    assert compilation.returncode == 0, compilation.stdout
