#!/usr/bin/env python3
"""Records what a QEMU answers to the questions of `glassbox-qemu --probe`, cut down to what the test looks at.

    record.py qemu-system-x86_64 >qemu-10.0.13.replies     # any command that runs a QEMU

The file has commands and replies in turn, JSON documents with an empty line after each.
"""
import json
import re
import subprocess
import sys

DEVICES = re.compile(r"(virtio-(net|blk|gpu|sound)-pci|igb|e1000e?|ich9-ahci|lsi53c895a|qemu-xhci|piix3-usb-uhci)$")
CPUS = {"EPYC", "EPYC-v2", "Nehalem", "Opteron_G2", "max", "qemu64"}
ARGUMENTS = "-S -no-user-config -nodefaults -display none -serial none -machine none,accel=tcg -qmp stdio".split()

qemu = subprocess.Popen(sys.argv[1:] + ARGUMENTS, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
qemu.stdout.readline()


def ask(command, arguments=None):
    question = {"execute": command} | ({"arguments": arguments} if arguments else {})
    print(json.dumps(question), file=qemu.stdin, flush=True)
    return question, json.loads(qemu.stdout.readline())


def record(command, arguments=None, cut=lambda answer: answer):
    question, reply = ask(command, arguments)
    if "return" in reply:
        reply["return"] = cut(reply["return"])
    print(json.dumps(question), json.dumps(reply), sep="\n\n", end="\n\n")


def schema(entries):
    """The entries on the paths that the probe follows, with other members and variants left out."""
    types = {entry["name"]: entry for entry in entries}
    kept = {}

    def keep(name, steps):
        entry = kept.setdefault(name, types[name] | {"members": [], "variants": []})
        entry = {key: entry[key] for key in entry}
        if "arg-type" in entry:
            keep(entry["arg-type"], steps)
        elif steps:
            key, at = ("case", steps[0][1:]) if steps[0][0] == "=" else ("name", steps[0])
            where = "variants" if key == "case" else "members"
            for part in types[name].get(where, []):
                if part[key] == at and part not in kept[name][where]:
                    kept[name][where].append(part)
                    if part["type"] in types and len(steps) > 1:
                        keep(part["type"], steps[1:])

    for path in ["chardev-add backend =socket data reconnect-ms", "netdev_add =stream reconnect-ms",
                 "netdev_add =stream reconnect", "blockdev-add =qcow2 discard-no-unref"]:
        keep(path.split()[0], path.split()[1:])
    return list(kept.values())


def expansion(answer):
    props = answer["model"]["props"]
    kept = {key: props[key] for key in sorted(props) if props[key] is True or key in ("vendor", "family", "model")}
    return {"model": {"name": answer["model"]["name"], "props": kept}}


ask("qmp_capabilities")
record("query-version")
record("query-kvm")
record("query-machines", cut=lambda all: [one for one in all if "alias" in one or one["name"] in ("isapc", "none")])
record("qom-list-types", {"implements": "device"}, cut=lambda all: [one for one in all if DEVICES.match(one["name"])])
record("query-qmp-schema", cut=schema)
record("device-list-properties", {"typename": "virtio-blk-pci"},
       cut=lambda all: [one for one in all if one["name"] in ("drive", "iothread", "iothread-vq-mapping")])
record("query-cpu-definitions", cut=lambda all: [one for one in all if one["name"] in CPUS])
for name in ["max"] + sorted(CPUS - {"max"}):
    record("query-cpu-model-expansion", {"type": "static", "model": {"name": name}}, cut=expansion)
record("query-sev-capabilities")
ask("quit")
