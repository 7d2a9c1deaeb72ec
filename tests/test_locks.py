"""The locks hold what CI tested: every package of an extra, in the version of constraints.txt, with its hashes."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCKS = {"serve": ["serve", "redis", "prices"], "all": ["all"]}


def locked(name: str) -> dict[str, tuple[str, str]]:
    """(version, hashes) by package."""
    text = (ROOT / "locks" / f"{name}.txt").read_text().replace("\\\n", " ")
    found = {}
    for line in text.splitlines():
        package, version, rest = re.fullmatch(r"([\w.-]+)==(\S+)(.*)", line).groups()
        found[canonicalize_name(package)] = (version, rest)
    return found


def packages(extras: list[str]) -> set[str]:
    """The packages that pyproject.toml names for these extras, those of extras of extras among them."""
    required, left = list(PROJECT["dependencies"]), list(extras)
    while left:
        for text in PROJECT["optional-dependencies"][left.pop()]:
            requirement = Requirement(text)
            if requirement.name == PROJECT["name"]:
                left += requirement.extras
            else:
                required.append(text)
    return {canonicalize_name(Requirement(text).name) for text in required}


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_has_every_package_of_its_extras(name):
    assert packages(LOCKS[name]) <= locked(name).keys(), "run `make locks`"


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_has_the_tested_versions(name):
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    tested = dict(line.split("==") for line in lines if not line.startswith("#"))
    tested = {canonicalize_name(package): version for package, version in tested.items()}
    versions = {package: version for package, (version, _) in locked(name).items()}
    both = versions.keys() & tested.keys()
    assert {p: versions[p] for p in both} == {p: tested[p] for p in both}, "run `make locks`"
    assert len(both) > 30


@pytest.mark.parametrize("name", LOCKS)
def test_every_file_of_a_lock_is_known_by_its_hash(name):
    for package, (_, rest) in locked(name).items():
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", rest), package
