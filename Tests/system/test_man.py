# The man pages against the programs: every command and option that --help shows is in the page, and the other way
# round. Reads the machine-readable help of the programs and the mdoc source of the pages; needs no daemon.
import json
import re
import subprocess
from pathlib import Path

import pytest

from cluster import ROOT, binaries

PROGRAMS = ["sheep", "dog"]
# In "OPTIONS" or said once for all commands.
EVERYWHERE = {"sheep": {"--version", "--help", "-h"}, "dog": {"--version", "--help", "-h", "--json", "--bytes", "--socket"}}


def options_of(command) -> set:
    found = set()
    for argument in command.get("arguments", []):
        if argument.get("shouldDisplay", True):
            for name in argument.get("names", []):
                found.add(("--" if name["kind"] == "long" else "-") + name["name"])
    return found


def helped(program) -> dict:
    """Command words -> options, of every command that does something."""
    dump = subprocess.run([str(binaries() / program), "--experimental-dump-help"], capture_output=True, text=True,
                          check=True, timeout=60)
    commands = {}

    def walk(command, words):
        below = [c for c in command.get("subcommands", []) if c["commandName"] != "help"]
        if not below and words:
            commands[" ".join(words)] = options_of(command)
        for inner in below:
            walk(inner, words + [inner["commandName"]])
    walk(json.loads(dump.stdout)["command"], [])
    return commands


def page(program) -> tuple:
    """Command words -> options of the page's entries, and the options said outside of any entry."""
    commands, general, current, depth = {}, set(), None, 0
    section = ""
    for line in (ROOT / "man" / f"{program}.8").read_text().splitlines():
        if line.startswith(".Sh"):
            section, current = line[4:], None
        if line.startswith(".Bl"):
            depth += 1
        elif line.startswith(".El"):
            depth -= 1
            if depth == 0:
                current = None
        elif section in ("COMMANDS", "OPTIONS") and line.startswith(".It"):
            head = re.match(r"\.It Ic ((?:[a-z][a-z-]* ?)+)", line)
            if head and depth == 1:
                current = head.group(1).strip()
                commands[current] = set()
            if line.startswith(".It Fl"):
                names = {"-" + name for name in re.findall(r"Fl (-?[a-z][a-z-]*)", line)}
                if current is None:
                    general |= names
                else:
                    commands[current] |= names
    return commands, general


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_command_is_in_its_page_and_no_other(program):
    assert set(page(program)[0]) == set(helped(program))


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_option_is_described_under_its_command_and_no_other(program):
    described, general = page(program)
    assert general == EVERYWHERE[program]
    for command, options in helped(program).items():
        assert described[command] == options - general, command


@pytest.mark.parametrize("program", PROGRAMS)
def test_help_shows_what_the_dump_says(program):
    """The machine-readable help is what people see."""
    for command, options in helped(program).items():
        text = subprocess.run([str(binaries() / program), *command.split(), "--help"], capture_output=True, text=True,
                              check=True, timeout=60).stdout
        shown = set(re.findall(r"(?<![\w-])(--?[a-z][a-z-]*)", text.split("OPTIONS:")[1]))
        assert {o for o in options if o.startswith("--")} <= shown, command


@pytest.mark.parametrize("name", ["sheep.8", "dog.8", "sheep-architecture.7"])
def test_pages_are_well_formed(name):
    run = subprocess.run(["man", "--warnings", "-l", str(ROOT / "man" / name)], capture_output=True, text=True,
                         env={"MANWIDTH": "80", "LC_ALL": "C.UTF-8", "PATH": "/usr/bin:/bin", "MANROFFSEQ": ""},
                         timeout=60)
    assert run.returncode == 0 and run.stderr.strip() == ""
    assert len(run.stdout.splitlines()) > 50


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_exit_status_is_in_the_page(program):
    source = (ROOT / "Sources" / "Admin" / "Protocol" / "ExitStatus.swift").read_text()
    codes = set(re.findall(r"case \w+ = (\d+)", source))
    text = (ROOT / "man" / f"{program}.8").read_text().split(".Sh EXIT STATUS")[1].split(".Sh")[0]
    documented = set(re.findall(r"^\.It (\d+)", text, re.M))
    assert documented == (codes if program == "dog" else codes - {"8"})
