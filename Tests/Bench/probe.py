#!/usr/bin/env python3
"""What the kernel probe costs bystanders: packets a second of a UDP flood through the node, with it and without, in turn, in one run.

The agent watches port 5353 and the flood goes to port 53: nothing of it is the agent's, so what is left is the price of the programs in the kernel (and
of the tap's filter, which is there both times). Each packet is the first of its flow. Needs root, nft and conntrack; no names, gone with the process.
"""
import argparse
import os
import re
import statistics
import subprocess
import tempfile
import time

import bench
from lab import Lab, finish

FLOODS = {
    "translated and forwarded": "",
    "dropped by a rule": "table ip bench { chain drops { type filter hook forward priority 0; udp dport 53 drop; }; }",
}
# Against each other in the same run.
MODES = {"without": ["--kernel-probe", "off"], "with": ["--kernel-probe", "require"]}


class Agent:
    def __init__(self, lab, options, mode):
        self.log = tempfile.TemporaryFile("w+")
        self.process = lab.node.popen(
            [options.agent, "agent", "--incidents.output", "/dev/null", "--web.listen-address", bench.METRICS, "--web.api-address", "127.0.0.1:10564",
             "--dns.port", "5353"] + mode, 1, stdout=subprocess.DEVNULL, stderr=self.log)
        deadline = time.monotonic() + 20
        while "msg=started" not in self.text():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit("the agent did not start: " + self.text()[-2000:])
            time.sleep(0.05)

    def text(self):
        self.log.seek(0)
        return self.log.read()

    def close(self):
        finish(self.process)


def flood(lab, count, is_dropped):
    lab.forget()
    lab.serve("unanswered")
    result = lab.send(100_000_000, count)
    time.sleep(0.2)
    received = lab.stop_serving()
    if is_dropped and received != 0 or not is_dropped and received < count * 0.98:
        raise bench.Void(f"{received} of {count} arrived")
    return count * 1e9 / result["nanoseconds"]


def measure(lab, options, name):
    rates = {mode: [] for mode in MODES}
    rung = "none"
    voids = 0
    for number in range(options.rounds + 1):
        for mode in list(MODES) if number % 2 else reversed(list(MODES)):
            agent = Agent(lab, options, MODES[mode] + (options.rung if mode == "with" else []))
            try:
                rate = flood(lab, options.packets, bool(FLOODS[name]))
                # The first round warms caches and tables up.
                if number:
                    rates[mode].append(rate)
            except bench.Void as reason:
                voids += 1
                print(f"void round: {reason}")
            if mode == "with":
                rung = re.search(r'"kernel probe runs" rung=(\S+)', agent.text())[1]
            agent.close()
    if voids > options.rounds:
        raise SystemExit("too many void rounds")
    return rates, rung


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--packets", type=int, default=100_000)
    parser.add_argument("--rung", type=lambda rung: ["--kernel-probe.rung", rung], default=[])
    parser.add_argument("--build", default=os.path.join(bench.ROOT, ".build/release"))
    parser.add_argument("--agent", default=os.path.join(bench.ROOT, ".build/racetrack"))
    options = parser.parse_args()
    if os.geteuid() != 0:
        raise SystemExit("make bench-probe: needs root for its network namespaces")
    for name, rules in FLOODS.items():
        lab = Lab(os.path.join(options.build, "racebench"))
        try:
            if rules:
                lab.node.run(["nft", "-f", "-"], rules)
            rates, rung = measure(lab, options, name)
        finally:
            lab.close()
        print(f"UDP flood, {name}; rung {rung}; packets/s, median (lowest-highest) of {options.rounds} rounds each")
        for mode, values in rates.items():
            print(f"  {mode:8} {statistics.median(values):10,.0f} ({min(values):,.0f}-{max(values):,.0f})")
        ratio = statistics.median(rates["with"]) / statistics.median(rates["without"])
        print(f"  with / without {ratio:.3f}")


if __name__ == "__main__":
    main()
