"""The image does a job and drains as restricted as a cluster may run it."""

import re

from aimicromind_testing import answer
from tests.image.containers import configuration, engine, running
from tests.process.jobs import a_job
from tests.process.stage import Stage


async def test_job_runs_and_one_in_mid_stream_outlives_sigterm(image: str, stage: Stage) -> None:
    stage.endpoint.flow("quick", answer(10))
    stage.endpoint.flow("slow", answer(60, rate=30))
    quick, slow = a_job("quick"), a_job("slow")
    async with running(image, stage) as container:
        await container.ready()
        with stage.listen() as consumer:
            stage.submit(quick)
            (first,) = await stage.ended(consumer, quick)
            stage.submit(slow)
            await consumer.saw(slow.job_id, "token")

            exit_code = await container.terminate()

            (second,) = await stage.ended(consumer, slow)

    assert (first.end["status"], second.end["status"]) == ("completed", "completed")
    assert second.end["attempts"] == 1
    assert exit_code == 0
    assert stage.jobs_left() == 0


async def test_it_runs_as_nobody_in_particular_and_can_write_nothing(
    image: str, stage: Stage
) -> None:
    async with running(image, stage) as container:
        await container.ready()

        _, who = await container.execute("sh", "-c", "id -u; id -g; grep CapEff /proc/1/status")
        opt, _ = await container.execute("sh", "-c", "echo x > /opt/aimicromind/x")
        tmp, _ = await container.execute("sh", "-c", "echo x > /tmp/x")

    user, group, capabilities = who.splitlines()
    assert (user, group) == ("10001", "10001")
    assert int(capabilities.split()[1], 16) == 0
    assert opt != 0
    assert tmp != 0


async def test_its_health_check_tells_live_from_dead(image: str, stage: Stage) -> None:
    check = (await configuration(image))["Healthcheck"]["Test"]
    assert check[0] == "CMD"
    async with running(image, stage) as container:
        await container.ready()

        live, _ = await container.execute(*check[1:])
        dead, _ = await container.execute("env", "AIMICROMIND_HEALTH_PORT=1", *check[1:])

    assert live == 0
    assert dead != 0


async def test_it_has_what_tracing_needs(image: str) -> None:
    as_python = ("run", "--rm", "--network=none", "--entrypoint=python", image, "-c")

    exit_code, said = await engine(
        *as_python, "import aimicromind_worker.telemetry.otel", check=False
    )

    assert exit_code == 0, said


async def test_it_names_its_user_by_number_and_starts_without_a_shell(image: str) -> None:
    made = await configuration(image)

    assert re.fullmatch(r"[1-9][0-9]*:[1-9][0-9]*", made["User"])
    assert made["Entrypoint"] == ["aimicromind-worker"]
    assert made["Cmd"] == ["run"]
    labels = made["Labels"]
    for name in ("title", "description", "licenses", "version", "revision", "created"):
        assert labels[f"org.opencontainers.image.{name}"] not in {"", "unknown"}


async def test_it_holds_neither_build_tools_nor_caches_nor_tests(image: str) -> None:
    as_root = ("run", "--rm", "--network=none", "--user=0", "--entrypoint=sh", image, "-c")
    search = "command -v gcc cc make uv; ls -Ad /src /opt/* /root/.cache /var/cache/apt/*.bin"

    _, found = await engine(*as_root, search, check=False)
    _, programs = await engine(*as_root, "ls /opt/aimicromind/bin")

    assert found.split() == ["/opt/aimicromind"]
    assert "aimicromind-worker" in programs.split()
    assert not {"pip", "uv", "pytest", "ruff"} & set(programs.split())
