#!/usr/bin/env python3
"""Compares the rules and the manifest with what the agent really has: metrics with their labels, options, paths, its version, runbooks."""
import pathlib
import re
import subprocess
import sys

import yaml

ROOT = pathlib.Path(__file__).resolve().parent.parent
RULES = ROOT / "Deploy/rules/racetrack.yaml"
MANIFEST = ROOT / "Deploy/racetrack.yaml"
PAGE = ROOT / "Tests/ReportingTests/Golden/metrics.txt"

problems: list[str] = []


def complain(place, text):
    problems.append(f"{place}: {text}")


def page_labels() -> dict[str, dict[str, set[str]]]:
    """Metric name -> label -> values, of the page that the renderer's tests pin."""
    metrics: dict[str, dict[str, set[str]]] = {}
    for line in PAGE.read_text().splitlines():
        if match := re.match(r"([a-z_]+)(?:\{(.*)\})? ", line):
            labels = metrics.setdefault(match[1], {})
            for name, value in re.findall(r'(\w+)="([^"]*)"', match[2] or ""):
                labels.setdefault(name, set()).add(value)
    return metrics


def check_rules():
    metrics = page_labels()
    rules = yaml.safe_load(RULES.read_text())
    tested = (ROOT / "Deploy/rules/racetrack.test.yaml").read_text()
    for rule in (rule for group in rules["groups"] for rule in group["rules"]):
        name = rule.get("alert") or rule["record"]
        if name not in tested:
            complain(name, "has no test")
        for metric, selector in re.findall(r"(?<![\w:])(racetrack_\w+)(?:\{([^}]*)\})?", rule["expr"]):
            if metric not in metrics:
                complain(name, f"{metric} is not on the agent's page")
                continue
            known = metrics.get(metric, {})
            for label, operator, value in re.findall(r'(\w+)(=~|!~|!=|=)"([^"]*)"', selector):
                if label not in known:
                    complain(name, f"{metric} has no label {label}")
                elif label in known and operator in ("=", "!=") and value not in known[label]:
                    complain(name, f"{metric} never has {label}={value}")
        if "alert" in rule:
            for need in ("summary", "description", "runbook_url"):
                if need not in rule["annotations"]:
                    complain(name, f"has no {need}")
            if rule["labels"].get("severity") not in ("critical", "warning", "info"):
                complain(name, "severity is none of critical, warning, info")
            runbook = rule["annotations"].get("runbook_url", "")
            if pathlib.PurePath(runbook).stem != name or not (ROOT / runbook).is_file():
                complain(name, f"its runbook {runbook} is not there")
    names = {rule.get("alert") for group in rules["groups"] for rule in group["rules"]}
    for runbook in (ROOT / "docs/runbooks").glob("*.md"):
        if runbook.stem not in names:
            complain(runbook.name, "is the runbook of no alert")
    # The operator's object carries the same rules.
    printed = subprocess.run([ROOT / "Deploy/rules/prometheus-rule.sh", "monitoring", "release: x"], capture_output=True, text=True, check=True)
    rendered = yaml.safe_load(printed.stdout)
    if rendered["spec"] != rules or rendered["metadata"]["labels"].get("release") != "x" or rendered["metadata"]["namespace"] != "monitoring":
        complain("prometheus-rule.sh", "does not print the rules as they are")


def check_manifest():
    objects = {document["kind"]: document for document in yaml.safe_load_all(MANIFEST.read_text()) if document}
    spec = objects["DaemonSet"]["spec"]["template"]["spec"]
    container = spec["containers"][0]
    options = (ROOT / "docs/configuration.md").read_text()
    for variable in container["env"]:
        if f"`{variable['name']}`" not in options:
            complain(variable["name"], "is no option of the agent")
    version = re.search(r'static let text = "([^"]+)"', (ROOT / "Sources/Agent/ExitCode.swift").read_text())[1]
    expect = {
        "image": (container["image"].rsplit(":", 1)[-1], version),
        "hostNetwork": (spec.get("hostNetwork"), True),
        "dnsPolicy": (spec.get("dnsPolicy"), "Default"),
        "enableServiceLinks": (spec.get("enableServiceLinks"), False),
        "token of the pod": (spec.get("automountServiceAccountToken"), False),
        "token of the account": (objects["ServiceAccount"].get("automountServiceAccountToken"), False),
        "root file system": (container["securityContext"].get("readOnlyRootFilesystem"), True),
        "CPU limit": (container["resources"]["limits"].get("cpu"), None),
        "mounts that can be written": ([m["name"] for m in container["volumeMounts"] if not m.get("readOnly")], []),
        "mounts": ({m["name"] for m in container["volumeMounts"]}, {v["name"] for v in spec["volumes"]}),
        "liveness": (container["livenessProbe"]["httpGet"]["path"], "/-/healthy"),
        "startup": (container["startupProbe"]["httpGet"]["path"], "/-/healthy"),
        "readiness": (container["readinessProbe"]["httpGet"]["path"], "/-/ready"),
        "selector": (
            objects["DaemonSet"]["spec"]["selector"]["matchLabels"].items() <= objects["DaemonSet"]["spec"]["template"]["metadata"]["labels"].items(), True),
        "namespaces": ({o["metadata"].get("namespace") for o in objects.values() if o["kind"] != "Namespace"}, {objects["Namespace"]["metadata"]["name"]}),
    }
    # The API refuses a privileged container that may not escalate, or that drops what it is given.
    security = container["securityContext"]
    if security.get("privileged") and (security.get("allowPrivilegeEscalation") is False or "capabilities" in security):
        complain("securityContext", "privileged contradicts allowPrivilegeEscalation: false and capabilities")
    environment = {variable["name"]: variable.get("value") for variable in container["env"]}
    port = str(container["ports"][0]["containerPort"])
    annotations = objects["DaemonSet"]["spec"]["template"]["metadata"]["annotations"]
    expect["listening port"] = ((environment.get("RACETRACK_WEB_LISTEN_ADDRESS") or "").rsplit(":", 1)[-1], port)
    expect["scraped port"] = (annotations["prometheus.io/port"], port)
    expect["host's /proc"] = (environment.get("RACETRACK_PATH_PROCFS"), next(m["mountPath"] for m in container["volumeMounts"] if m["name"] == "proc"))
    for what, (found, wanted) in expect.items():
        if found != wanted:
            complain(f"racetrack.yaml: {what}", f"{found!r} instead of {wanted!r}")


check_rules()
check_manifest()
print("\n".join(problems), end="\n" if problems else "")
sys.exit(1 if problems else 0)
