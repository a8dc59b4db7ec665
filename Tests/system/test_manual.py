# The manual pages name every command and option that the programs have, and none that they have not.
import json
import re

import pytest

from cluster import ROOT, binaries
from system import run

# Options that every command has by itself.
COMMON = {"--help", "--version"}


def commands(program: str):
    """(words of the command, its options) for every command, from the program itself."""
    def walk(command, words):
        options = set()
        for argument in command.get("arguments", []):
            if argument.get("shouldDisplay", True):
                options |= {f"--{n['name']}" for n in argument.get("names", []) if n["kind"] == "long"}
        yield words, options - COMMON
        for child in command.get("subcommands", []):
            if child.get("shouldDisplay", True) and child["commandName"] != "help":
                yield from walk(child, words + [child["commandName"]])
    dump = json.loads(run(binaries() / program, "--experimental-dump-help").stdout)
    yield from walk(dump["command"], [])


def page(program: str) -> str:
    """The page as a reader sees it."""
    text = run("man", "--local-file", "--pager=cat", ROOT / "man" / f"{program}.8",
               env={"MANWIDTH": "10000", "PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"}).stdout
    return re.sub("\x1b\\[[0-9;]*m|.\x08", "", text).replace("‐", "-").replace("−", "-")


@pytest.mark.parametrize("program", ["sheep", "dog"])
def test_the_page_has_every_command_and_option(program):
    text = page(program)
    missing = []
    for words, options in commands(program):
        if words and not re.search(r"\b" + r"\s+".join(map(re.escape, words)) + r"\b", text):
            missing.append(" ".join(words))
        missing += [f"{' '.join(words)} {option}" for option in sorted(options) if option not in text]
    assert not missing, f"not in {program}(8): {missing}"


@pytest.mark.parametrize("program", ["sheep", "dog"])
def test_the_page_has_no_option_that_does_not_exist(program):
    known = COMMON.union(*(options for _, options in commands(program)))
    # Options of other programs in examples are not ours.
    lines = [line for line in page(program).splitlines() if not re.search(r"qemu|fusermount|mount -t|systemd", line)]
    used = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", "\n".join(lines)))
    assert not used - known, f"{program}(8) has options that the program has not: {sorted(used - known)}"


def test_pages_are_well_formed():
    for path in sorted((ROOT / "man").glob("*.[1-8]")):
        result = run("man", "--warnings", "--local-file", "--pager=cat", path, check=False,
                     env={"MANWIDTH": "120", "PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"})
        assert result.returncode == 0 and not result.stderr.strip(), f"{path}: {result.stderr}"
