"""Read an SROS 2 policy as the names that it allows, and ask the ROS graph for the same."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

POLICY = Path(__file__).resolve().parents[2] / "config/security/policy.xml"
KINDS = {
    ("topics", "publish"): "publisher",
    ("topics", "subscribe"): "subscriber",
    ("services", "reply"): "service",
    ("services", "request"): "client",
}
"""How the ROS graph calls what a rule of a policy allows."""
Names = dict[str, set[str]]
"""Full names by kind: publisher, subscriber, service, client."""


@dataclass
class Profile:
    """What one node may do."""

    node: str
    """Name of the node."""
    required: Names = field(default_factory=lambda: defaultdict(set))
    """What it does in every configuration."""
    optional: Names = field(default_factory=lambda: defaultdict(set))
    """What it does in some: blocks that follow a comment with "optional"."""

    def allowed(self, kind: str) -> set[str]:
        """Return all names of a kind."""
        return self.required[kind] | self.optional[kind]


def read_policy(path: Path = POLICY) -> dict[str, Profile]:
    """Return the profile of each enclave, which has one."""
    parser = ElementTree.XMLParser(target=ElementTree.TreeBuilder(insert_comments=True))
    root = ElementTree.parse(path, parser).getroot()
    return {e.attrib["path"]: _profile(e) for e in root.iter("enclave")}


def _profile(enclave: ElementTree.Element) -> Profile:
    (element,) = enclave.iter("profile")
    node, namespace = element.attrib["node"], element.attrib["ns"].rstrip("/")
    profile, comment = Profile(f"{namespace}/{node}"), ""
    for block in element:
        if not isinstance(block.tag, str):
            comment = block.text or ""
            continue
        names = profile.optional if "optional" in comment else profile.required
        comment = ""
        for attribute, allowed in block.attrib.items():
            assert allowed == "ALLOW", "what is not allowed is denied"
            for item in block:
                name = str(item.text)
                if name.startswith("~"):
                    name = f"{namespace}/{node}{name[1:]}"
                elif not name.startswith("/"):
                    name = f"{namespace}/{name}"
                names[KINDS[block.tag, attribute]].add(name)
    return profile


def names_in_graph(asking: Any, node: str, namespace: str) -> Names:
    """Return what a node publishes, subscribes to, serves and calls, as another one finds it."""
    return {
        kind: {
            n for n, _ in getattr(asking, f"get_{kind}_names_and_types_by_node")(node, namespace)
        }
        for kind in KINDS.values()
    }
