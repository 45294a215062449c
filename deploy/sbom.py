#!/usr/bin/env python3
"""Writes what is linked into strayd as a CycloneDX 1.5 document: deploy/sbom.py [FILE]; without FILE to standard output.

It lists the crates that Cargo.lock fixes and the program links on this machine's platform, with licences and checksums. Tests,
benches, build scripts and procedural macros are left out: nothing of them is in the binary. Libraries that the binary loads
(OpenBLAS, OpenSSL, zlib, the C library) are the system's and are listed by the package that depends on them. librdkafka is
linked, as a part of rdkafka-sys, whose version ends in librdkafka's own.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def ask(*command):
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout


def checksums():
    """Cargo.lock's checksums by name and version."""
    found = {}
    for block in (ROOT / "Cargo.lock").read_text().split("[[package]]")[1:]:
        said = dict(re.findall(r'^(name|version|checksum) = "(.*)"$', block, re.MULTILINE))
        if "checksum" in said:
            found[said["name"], said["version"]] = said["checksum"]
    return found


def linked(metadata):
    """Ids of the packages that are linked, each with those that it needs."""
    # Not metadata's own graph: tests switch on features there that the program doesn't have.
    options = ["--locked", "--edges", "normal,no-proc-macro", "--prefix", "none", "--format", "{p}"]
    named = {tuple(line.split()[:2]) for line in ask("cargo", "tree", *options).splitlines() if line}
    ids = {p["id"] for p in metadata["packages"] if (p["name"], f"v{p['version']}") in named}
    nodes = (node for node in metadata["resolve"]["nodes"] if node["id"] in ids)
    return {node["id"]: sorted(need["pkg"] for need in node["deps"] if need["pkg"] in ids) for node in nodes}


def main():
    host = re.search(r"^host: (.*)$", ask("rustc", "-vV"), re.MULTILINE).group(1)
    metadata = json.loads(ask("cargo", "metadata", "--locked", "--format-version", "1", "--filter-platform", host))
    packages = {package["id"]: package for package in metadata["packages"]}
    needs, sums = linked(metadata), checksums()

    def purl(at):
        return f"pkg:cargo/{packages[at]['name']}@{packages[at]['version'].replace('+', '%2B')}"

    def component(at, kind):
        package = packages[at]
        said = {"type": kind, "bom-ref": purl(at), "name": package["name"], "version": package["version"], "purl": purl(at)}
        if package["license"]:
            # Older crates write MIT/Apache-2.0 where SPDX says OR.
            said["licenses"] = [{"expression": re.sub(r" */ *", " OR ", package["license"])}]
        if checksum := sums.get((package["name"], package["version"])):
            said["hashes"] = [{"alg": "SHA-256", "content": checksum}]
        if package["repository"]:
            said["externalReferences"] = [{"type": "vcs", "url": package["repository"]}]
        return said

    root = metadata["resolve"]["root"]
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": component(root, "application")},
        "components": [component(at, "library") for at in sorted(needs, key=purl) if at != root],
        "dependencies": [{"ref": purl(at), "dependsOn": [purl(need) for need in needs[at]]} for at in sorted(needs, key=purl)],
    }
    text = json.dumps(document, indent=1) + "\n"
    if len(sys.argv) > 1:
        Path(sys.argv[1]).parent.mkdir(parents=True, exist_ok=True)
        Path(sys.argv[1]).write_text(text)
    else:
        sys.stdout.write(text)


if __name__ == "__main__":
    main()
