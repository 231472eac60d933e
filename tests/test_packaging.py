"""What users install: the version, what is shipped, and rules that no other tool holds."""

from __future__ import annotations

import importlib
import pkgutil
import re
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest

import flowstore.replay

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "flowstore"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
MODULES = sorted(PACKAGE.rglob("*.py"))
EXEMPTION = re.compile(r"# noqa(?:: ([A-Z0-9, ]*[A-Z0-9]))?( - \w.*)?$", re.MULTILINE)


def test_the_version_is_the_newest_in_the_changelog() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    newest = re.search(r"^## (\d+\.\d+\.\d+)", changelog, re.MULTILINE)
    assert newest is not None
    assert newest[1] == PROJECT["project"]["version"] == version("flowstore-engine")


def test_types_are_shipped() -> None:
    assert (PACKAGE / "py.typed").is_file()


def test_migrations_are_shipped() -> None:
    wheel = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert wheel["force-include"] == {"migrations": "flowstore/_migrations"}


def test_every_folder_of_the_package_is_a_package() -> None:
    """A folder without `__init__.py` would be a namespace that anyone can add to."""
    folders = {module.parent for module in MODULES}
    assert [folder for folder in folders if not (folder / "__init__.py").is_file()] == []


def test_every_dependency_has_a_lower_bound() -> None:
    extras = PROJECT["project"]["optional-dependencies"].values()
    named = [PROJECT["project"]["dependencies"], *extras]
    assert [each for group in named for each in group if ">=" not in each] == []


def test_every_lint_rule_that_is_off_has_its_reason() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    rules = re.findall(r'^ {4}"[A-Z]+[0-9]*",(.*)$', text, re.MULTILINE)
    assert rules
    assert all(re.search(r"# \S", rest) for rest in rules)


def test_every_exemption_has_its_reason() -> None:
    """`# noqa: RULE - reason`; a file with several of one kind says why at one of them."""
    unexplained: set[tuple[str, str]] = set()
    explained: set[tuple[str, str]] = set()
    for module in MODULES:
        for rules, reason in EXEMPTION.findall(module.read_text(encoding="utf-8")):
            (explained if reason else unexplained).add((str(module.relative_to(ROOT)), rules))
    assert unexplained - explained == set()


def test_what_is_public_to_replay_is_documented() -> None:
    page = (ROOT / "docs" / "replaying.md").read_text(encoding="utf-8")
    assert set(flowstore.replay.__all__) - set(re.findall(r"`(\w+)`", page)) == set()


@pytest.mark.parametrize("name", ["flowstore.replay", "flowstore.replay.portable"])
def test_a_package_of_many_modules_says_what_each_is_for(name: str) -> None:
    package = importlib.import_module(name)
    modules = {each.name for each in pkgutil.iter_modules(package.__path__)}
    assert modules == modules & set(re.findall(r"`(\w+)`", package.__doc__ or ""))
