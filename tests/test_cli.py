"""The command line: what is printed where, and with which exit status."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import trio
from click.testing import CliRunner, Result

import aivc
from aivc.cli import main, run
from aivc.config.catalogue import CATALOGUE

ROOT = Path(__file__).parents[1]
KEY = {"OPENAI_API_KEY": "sk-test-1234567890"}
OURS: dict[str, str | None] = dict.fromkeys([*(setting.variable for setting in CATALOGUE), "CONFIG_FILE"])


def invoke(*arguments: str, **environ: str) -> Result:
    """Run `aivc` with exactly these of its variables."""
    return CliRunner().invoke(main, arguments, env={**OURS, **environ}, prog_name="aivc")


def test_version_is_the_packages() -> None:
    result = invoke("--version")
    assert (result.exit_code, result.stdout) == (0, f"aivc {aivc.__version__}\n")


@pytest.mark.parametrize("command", ["serve", "demo", "simulator", "check"])
def test_each_command_explains_itself(command: str) -> None:
    listed = invoke("--help")
    assert command in listed.stdout
    for flag in ("--help", "-h"):
        result = invoke(command, flag)
        assert result.exit_code == 0
        assert result.stdout.startswith(f"Usage: aivc {command} ")


def test_help_says_which_unit_a_time_has() -> None:
    assert "seconds" in invoke("serve", "--help").stdout


def test_check_shows_the_settings_and_their_sources_and_ends_with_success(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text('[openai]\nvoice = "cedar"\n')
    result = invoke("check", "--config", str(file), **KEY, AIVC_SERVICE_MAX_CALLS="7")
    assert (result.exit_code, result.stderr) == (0, "")
    table = {line.split()[0]: line for line in result.stdout.splitlines() if line.strip()}
    assert table["voice"].endswith("file")
    assert table["max_calls"].endswith("environment AIVC_SERVICE_MAX_CALLS")
    assert "gpt-realtime-2.1" in table["model"]
    assert result.stdout.splitlines()[-1].startswith("warning: openai.model")
    assert "1234567890" not in result.stdout


def test_check_shows_the_settings_of_the_opensips_front_end() -> None:
    result = invoke("check", **KEY, AIVC_OPENSIPS_ENABLED="true", MI_PORT="8888", EVENT_PORT="40001")
    assert result.exit_code == 0
    section = result.stdout.partition("[opensips]")[2].partition("[rtp]")[0]
    assert [line.split()[:3] for line in section.strip().splitlines()[:3]] == [
        ["enabled", "true", "environment"],
        ["ip", '"127.0.0.1"', "default"],
        ["port", "8888", "environment"],
    ]
    assert "environment EVENT_PORT" in result.stdout


def test_help_says_that_calls_come_by_sip_and_from_opensips() -> None:
    assert "OpenSIPS" in invoke("--help").stdout
    assert "opensips.enabled" in invoke("serve", "--help").stdout


def test_check_hides_a_key_that_stands_in_the_url() -> None:
    result = invoke("check", OPENAI_URL="wss://me.openai.azure.com/openai/v1/realtime?api-key=abcdef123456")
    assert result.exit_code == 0
    assert "abcdef123456" not in result.stdout


def test_check_of_the_simulator_needs_no_key() -> None:
    assert invoke("check").exit_code == 2
    assert invoke("check", "--simulator").exit_code == 0


@pytest.mark.parametrize("command", ["check", "serve"])
def test_all_errors_are_printed_one_a_line_on_stderr_with_status_2(command: str) -> None:
    result = invoke(command, OPENAI_TEMPERATURE="1.7", RTP_IP="0.0.0.0")
    assert (result.exit_code, result.stdout) == (2, "")
    assert [line.split(":")[0] for line in result.stderr.splitlines()] == [
        "openai.temperature (OPENAI_TEMPERATURE)",
        "rtp.ip (RTP_IP)",
        "openai.key",
    ]


def test_config_file_names_the_file_for_commands_too(tmp_path: Path) -> None:
    missing = str(tmp_path / "none.toml")
    result = invoke("check", **KEY, CONFIG_FILE=missing)
    assert (result.exit_code, result.stderr) == (2, f"{missing}: cannot be read: No such file or directory\n")


@pytest.mark.parametrize("address", ["8765", "127.0.0.1:", "127.0.0.1:99999", "::1:80", ":80"])
def test_the_simulator_refuses_an_address_that_is_none(address: str) -> None:
    result = invoke("simulator", "--listen", address)
    assert result.exit_code == 2
    assert "--listen" in result.stderr


async def interrupted() -> None:
    raise KeyboardInterrupt


async def interrupted_in_a_task() -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(interrupted)
        nursery.start_soon(trio.sleep_forever)


async def refused_in_a_task() -> None:
    async with trio.open_nursery():
        raise OSError("cannot listen on udp:127.0.0.1:5060: Address already in use")


async def failing() -> None:
    async with trio.open_nursery():
        raise ZeroDivisionError


async def fine() -> int:
    return 7


def test_ctrl_c_is_status_130_wherever_it_lands() -> None:
    for task in (interrupted, interrupted_in_a_task):
        with pytest.raises(SystemExit) as left:
            run(task)
        assert left.value.code == 130


def test_the_result_of_a_task_is_handed_on() -> None:
    assert run(fine) == 7


def test_what_the_system_refuses_is_one_line_and_status_1(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        run(refused_in_a_task)
    assert left.value.code == 1
    assert capsys.readouterr().err == "aivc: cannot listen on udp:127.0.0.1:5060: Address already in use\n"


def test_a_bug_keeps_its_traceback() -> None:
    with pytest.RaisesGroup(ZeroDivisionError):
        run(failing)


def test_the_module_is_the_command() -> None:
    environ = {name: value for name, value in os.environ.items() if name not in OURS}
    done = subprocess.run(
        [sys.executable, "-m", "aivc", "check"],
        cwd=ROOT,
        env=environ | KEY,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0
    assert done.stderr == ""
    assert done.stdout.startswith("[openai]\n")


def test_check_does_not_show_a_token_in_a_url() -> None:
    result = invoke("check", OPENAI_URL="wss://realtime.example/v1/realtime?token=abc123")
    assert result.exit_code == 0
    assert "abc123" not in result.output
    assert '"wss://realtime.example/v1/realtime?***"' in result.output


def test_check_does_not_show_a_password_in_a_url() -> None:
    result = invoke("check", **KEY, API_URL="https://tom:pa55word@engine.example:8080/calls?token=abc123")
    assert result.exit_code == 0
    assert '"https://***@engine.example:8080/calls?***"' in result.output
    assert "pa55word" not in result.output


def test_check_finds_a_tool_file_that_cannot_be_imported(tmp_path: Path) -> None:
    file = tmp_path / "tools.py"
    file.write_text("raise RuntimeError('broken')")
    result = invoke("check", **KEY, OPENAI_TOOLS=str(file))
    assert result.exit_code == 2
    assert result.stderr == f"openai.tools: {file}: RuntimeError: broken\n"
