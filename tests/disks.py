"""Disks that are too small, and folders that nobody may write to, not even root."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess

import pytest


@contextlib.contextmanager
def small_disk(folder, size="2m"):
    """Mount a file system of this size on the folder; skip the test where that is not allowed."""
    folder.mkdir(exist_ok=True)
    _mount("-t", "tmpfs", "-o", f"size={size}", "flowstore-test", str(folder))
    try:
        yield folder
    finally:
        # A handle that is still open must not keep the file system.
        subprocess.run(["umount", "--lazy", str(folder)], check=True)  # noqa: S607


@contextlib.contextmanager
def read_only(folder):
    """Make a folder read-only: by its mode, and for root, whom modes do not stop, by a mount."""
    if os.getuid() != 0:
        folder.chmod(0o555)
        try:
            yield folder
        finally:
            folder.chmod(0o755)
        return
    _mount("--bind", str(folder), str(folder))
    try:
        _mount("-o", "remount,bind,ro", str(folder))
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)  # noqa: S607


def _mount(*arguments):
    if shutil.which("mount") is None:
        pytest.skip("there is no mount command")
    done = subprocess.run(
        ["mount", *arguments],  # noqa: S607
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        pytest.skip(f"this user may not mount: {done.stderr.strip()}")


def fill(folder):
    """Use up all the room there is, in a file that is returned."""
    ballast = folder / "ballast"
    with contextlib.suppress(OSError), ballast.open("ab", buffering=0) as file:
        for size in (65536, 4096, 512, 1):
            with contextlib.suppress(OSError):
                while file.write(b"x" * size):
                    pass
    return ballast
