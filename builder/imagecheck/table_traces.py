"""Rows of the table: traces of the build."""

from __future__ import annotations

from typing import Final

from builder.imagecheck import packages, traces
from builder.imagecheck.model import CLEAN, Check

TRACES: Final = (
    Check(
        "logs",
        "Logs, journals, records of logins",
        "they tell of the build's users and addresses, and hide what happens first on the new machine",
        "DO: checkLogs; goss: size of /var/log",
        CLEAN,
        traces.logs,
    ),
    Check(
        "histories",
        "Histories of shells, editors, databases",
        "people type secrets",
        "DO: checkRoot, checkUsers",
        CLEAN,
        traces.histories,
    ),
    Check(
        "user-caches",
        "Caches of programs that users ran",
        "they are the build's, not the machine's",
        "none",
        CLEAN,
        traces.user_caches,
    ),
    Check(
        "temporary-files",
        "Files in /tmp and /var/tmp",
        "scripts and uploads of the build, with its variables",
        "DO: checkTMP; image-builder: sysprep",
        CLEAN,
        traces.temporary,
    ),
    Check(
        "build-files",
        "Files of tools that build images",
        "uploads, scripts and policy-rc.d, which would keep services from starting",
        "none",
        CLEAN,
        traces.build_files,
    ),
    Check(
        "crash-dumps",
        "Core dumps and crash reports",
        "memory holds secrets",
        "goss: core dumps; CIS 1.5",
        CLEAN,
        traces.crashes,
    ),
    Check(
        "ballast",
        "Swap files and files that fill the disk",
        "pages of the build's memory, and size",
        "image-builder: sysprep",
        CLEAN,
        traces.ballast,
    ),
    Check(
        "service-state",
        "What services remember",
        "bans, times and rotations of the build",
        "none",
        CLEAN,
        traces.service_state,
    ),
    Check(
        "run-files",
        "Files below /run on the disk, markers of a due reboot too",
        "hidden from a running system, but shipped with the image",
        "none",
        CLEAN,
        traces.run_files,
        "offline",
    ),
    Check(
        "apt-lists",
        "Package lists",
        "out of date soon, and large",
        "image-builder: sysprep",
        CLEAN,
        packages.lists,
    ),
    Check(
        "apt-caches",
        "Caches of apt",
        "packages that are installed already",
        "image-builder: sysprep",
        CLEAN,
        packages.caches,
    ),
    Check(
        "old-settings",
        "Copies of settings that an update replaced",
        "of the bake's updates, and nobody reads them",
        "none",
        CLEAN,
        packages.replaced,
    ),
    Check(
        "build-network",
        "Proxies and mirrors of the build's network",
        "updates would not arrive elsewhere",
        "image-builder: sysprep",
        "restore the sources that the base came with",
        packages.network_of_build,
    ),
)
