#!/usr/bin/env python3
"""What one DNS query costs the agent, against a C floor and against conntrack -E plus tcpdump, all in one run.

Everything happens in network namespaces that live only as long as this process: their holders die with it, however it ends.
Standard library only. Needs root, nft, conntrack, tcpdump and curl.
"""
import argparse
import json
import os
import platform
import re
import signal
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time

from lab import Lab, finish, words

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
THRESHOLDS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "thresholds.json")
METRICS = "127.0.0.1:10563"
# Copies of one query that the tap shows: in from the client, out to the server, and the same back.
COPIES = {"answered": 4, "unanswered": 2}


class Void(Exception):
    """A round in which somebody did not see everything."""


def cpu_nanoseconds(processes):
    total = 0
    for process in processes:
        for task in os.listdir(f"/proc/{process.pid}/task"):
            with open(f"/proc/{process.pid}/task/{task}/schedstat") as file:
                total += int(file.read().split()[0])
    return total


def switches(processes):
    total = 0
    for process in processes:
        for task in os.listdir(f"/proc/{process.pid}/task"):
            with open(f"/proc/{process.pid}/task/{task}/status") as file:
                total += sum(int(n) for n in re.findall(r"ctxt_switches:\s+(\d+)", file.read()))
    return total


def memory(process):
    """Resident kibibytes: all, anonymous, file-backed (the ring counts there)."""
    with open(f"/proc/{process.pid}/status") as file:
        found = dict(re.findall(r"^(VmRSS|RssAnon|RssFile|RssShmem):\s+(\d+) kB", file.read(), re.M))
    with open(f"/proc/{process.pid}/smaps") as file:
        ring, inside = 0, False
        for line in file:
            if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
                inside = "socket:" in line
            elif inside and line.startswith("Rss:"):
                ring += int(line.split()[1])
    return {"resident": int(found["VmRSS"]), "anonymous": int(found["RssAnon"]), "ring": ring}


class Floor:
    name = "floor"
    words = ["floor"]

    def __init__(self, lab, options):
        self.processes = [lab.node.popen([lab.racebench, *self.words], 1, stdout=subprocess.PIPE, text=True)]
        self.processes[0].stdout.readline()

    def settle(self, kind, count):
        time.sleep(0.1)

    def verify(self, kind, sent, answered):
        seen = words(finish(self.processes[0])[0])
        expect("floor: events", seen["events"], sent)
        expect("floor: events lost", seen["events_lost"], 0)
        expect("floor: packets", seen["packets"], sent * COPIES[kind])
        expect("floor: packets lost", seen["packets_lost"], 0)


class RingFloor(Floor):
    """The floor with the agent's event ring in the place of the socket's queue."""
    name = "floor by ring"
    words = ["floor", "ring"]


class Nobody:
    """What the load costs by itself."""
    name = "nobody"

    def __init__(self, lab, options):
        self.processes = []

    def settle(self, kind, count):
        time.sleep(0.1)

    def verify(self, kind, sent, answered):
        pass


class Peers:
    name = "conntrack -E + tcpdump"

    def __init__(self, lab, options):
        self.conntrack = lab.node.popen(
            ["conntrack", "-E", "-e", "NEW", "-p", "udp", "-b", "8388608"], 1, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        self.tcpdump = lab.node.popen(
            ["tcpdump", "-n", "-i", "any", "-s", "512", "-B", "4096", "-w", "/dev/null", "udp port 53"], 1, stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE, text=True)
        self.processes = [self.conntrack, self.tcpdump]
        line = self.tcpdump.stderr.readline()
        while line and "listening on" not in line:
            line = self.tcpdump.stderr.readline()
        time.sleep(0.3)

    def settle(self, kind, count):
        # tcpdump's ring hands over a block that is not full after a second.
        time.sleep(1.5 if count else 0)

    def verify(self, kind, sent, answered):
        events = re.search(r"(\d+) flow events", finish(self.conntrack, signal.SIGINT)[1])
        report = finish(self.tcpdump, signal.SIGINT)[1]
        expect("conntrack -E: events", int(events.group(1)) if events else -1, sent)
        expect("tcpdump: packets", int(re.search(r"(\d+) packets captured", report).group(1)), sent * COPIES[kind])
        expect("tcpdump: packets dropped", int(re.search(r"(\d+) packets dropped by kernel", report).group(1)), 0)


class Agent:
    name = "racetrack"

    def __init__(self, lab, options, environment=None):
        self.lab = lab
        self.command = [
            options.agent, "agent", "--incidents.output", "/dev/null", "--web.listen-address", METRICS, "--web.api-address", "127.0.0.1:10564",
            "--dns.timeout", f"{options.timeout}s",
        ]
        self.timeout = options.timeout
        self.log = tempfile.TemporaryFile("w+")
        process = lab.node.popen(self.command, options.agent_cpu, stdout=subprocess.DEVNULL, stderr=self.log, env=environment or os.environ)
        self.processes = [process]
        deadline = time.monotonic() + 20
        while True:
            page = self.page()
            # Not before the loop turns: blindness of the start ends then.
            if page and all(value == 0 for name, value in page.items() if name.startswith("racetrack_blind{")):
                break
            if process.poll() is not None or time.monotonic() > deadline:
                self.log.seek(0)
                raise RuntimeError("the agent does not see: " + self.log.read()[-2000:])
            time.sleep(0.05)

    def page(self):
        process = self.lab.node.popen(["curl", "-sf", f"http://{METRICS}/metrics"], 0, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        text = process.communicate()[0]
        return {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line and line[0] != "#"}

    def settle(self, kind, count):
        # The fate of what was not answered is decided within the time-out; that costs the agent too.
        time.sleep(0.3 if kind == "answered" else self.timeout + 1)

    def verify(self, kind, sent, answered):
        for _ in range(6):
            page = self.page()
            if page.get("racetrack_dns_open") == 0:
                break
            # A page is rendered for who asks, at most once a second.
            time.sleep(0.3)
        finish(self.processes[0])
        total = lambda name, label="": sum(v for n, v in page.items() if (n == name or n.startswith(name + "{")) and label in n)
        expect("racetrack: events", total("racetrack_conntrack_events_total", '"new"'), sent)
        expect("racetrack: events lost", total("racetrack_conntrack_events_lost_total"), 0)
        expect("racetrack: packets", total("racetrack_packets_total"), sent * COPIES[kind])
        expect("racetrack: packets lost", total("racetrack_packets_lost_total"), 0)
        expect("racetrack: transmissions", total("racetrack_dns_transmissions_total", '"client"'), sent)
        expect("racetrack: answered", total("racetrack_dns_fates_total", '"answered"'), answered)
        expect("racetrack: lost", total("racetrack_dns_fates_total", '"lost"'), sent - answered)
        expect("racetrack: open", total("racetrack_dns_open"), 0)


def expect(what, seen, wanted):
    if seen != wanted:
        raise Void(f"{what} {seen:.0f}, not {wanted}")


def measure(lab, consumer_type, kind, options):
    """Microseconds of CPU per query of one consumer in one round, and its context switches per 1,000 queries."""
    lab.forget()
    lab.serve(kind)
    consumer = consumer_type(lab, options)
    try:
        # The window opens on a warm consumer: its tables were filled once, so none of it is first touches. The peers have no tables, and lose
        # events and packets at this rate.
        warm = lab.send(options.rate, 2000) if consumer_type is Peers else lab.send(options.rate * 3, options.warm)
        consumer.settle(kind, 0)
        before, switched = cpu_nanoseconds(consumer.processes), switches(consumer.processes)
        responder = cpu_nanoseconds([lab.responder])
        load = lab.send(options.rate, options.rate * options.seconds)
        consumer.settle(kind, load["sent"])
        cost, switched = cpu_nanoseconds(consumer.processes) - before, switches(consumer.processes) - switched
        # What the kernel does for a packet, watchers' filters and copies too, it does in the context of who sent it.
        senders = load["cpu"] + cpu_nanoseconds([lab.responder]) - responder
        usage = memory(consumer.processes[0]) if consumer_type is Agent else None
        sent, answered = load["sent"] + warm["sent"], load["answered"] + warm["answered"]
        expect("server: queries", lab.stop_serving(), sent)
        expect("client: answers", answered, sent if kind == "answered" else 0)
        consumer.verify(kind, sent, answered)
        return {"cost": cost / load["sent"] / 1000, "switches": switched * 1000 / load["sent"], "memory": usage,
                "senders": senders / load["sent"] / 1000}
    finally:
        for process in consumer.processes:
            if process.poll() is None:
                process.kill()
                process.wait()
        if lab.responder:
            lab.responder.kill()
            lab.responder = None


def rotate(lab, kind, rounds, options):
    """All consumers one at a time, in another order each round; a round counts only if everyone saw everything."""
    consumers = [Floor, Agent, RingFloor] + ([] if options.no_peers else [Peers]) + [Nobody]
    results, voided = [], 0
    while len(results) < rounds and voided <= rounds:
        turn = (len(results) + voided) % len(consumers)
        try:
            found = {}
            for consumer in consumers[turn:] + consumers[:turn]:
                found[consumer.name] = measure(lab, consumer, kind, options)
            results.append(found)
            print(f"  {kind} round {len(results)}: " + ", ".join(f"{c.name} {found[c.name]['cost']:.2f} µs" for c in consumers if c is not Nobody), flush=True)
        except Void as reason:
            voided += 1
            print(f"  {kind} round void: {reason}", flush=True)
    if not results:
        raise SystemExit(f"every {kind} round was void")
    return results


class Allocations:
    """Heap allocations of the agent, counted by a library that stands before glibc's: first thread and others."""

    def __init__(self, lab, options):
        self.file = tempfile.NamedTemporaryFile()
        environment = dict(os.environ, LD_PRELOAD=options.shim, RACETRACK_ALLOCATIONS=self.file.name)
        self.agent = Agent(lab, options, environment)

    def read(self):
        with open(self.file.name, "rb") as file:
            return struct.unpack("=2Q", file.read(16))


class Sending:
    """Sends beside what the block does."""

    def __init__(self, lab, rate, count):
        self.thread = threading.Thread(target=lambda: setattr(self, "sent", lab.send(rate, count)))

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *failure):
        self.thread.join()


def sample(counted, seconds):
    """Allocations in each of many short samples, and how long all took."""
    counts, start = [], time.monotonic()
    last = sum(counted.read())
    while time.monotonic() - start < seconds:
        time.sleep(0.02)
        now = sum(counted.read())
        counts.append(now - last)
        last = now
    return counts, time.monotonic() - start


def count_allocations(lab, kind, options):
    """Allocations of the agent per 1,000 queries, after its tables are warm."""
    lab.forget()
    lab.serve(kind)
    counted = Allocations(lab, options)
    try:
        lab.send(options.rate, options.rate * 2)
        counted.agent.settle(kind, 0)
        idle, _ = sample(counted, 2)
        tick = statistics.median(sorted(idle)[-3:])
        # Not before the first losses fall due.
        lead = 1 if kind == "answered" else options.timeout + 1
        with Sending(lab, options.rate, options.rate * (lead + 5)) as sending:
            time.sleep(lead)
            loaded, took = sample(counted, 4)
        lab.stop_serving()
        # Once a second the agent renders its pages, loaded or not.
        queries = options.rate * took
        if kind == "answered":
            # The samples in which it did stand out and are left out, and as much of the load.
            steady = [count for count in loaded if count < max(tick, 1) / 2 or not tick]
            queries *= len(steady) / len(loaded)
        else:
            # Lost queries make records, and as many allocations as a page: here the pages are taken off.
            steady = [max(0, sum(loaded) - tick * int(took))]
        return {"per_1000": sum(steady) * 1000 / queries, "queries": queries, "tick": tick, "sent": sending.sent["sent"]}
    finally:
        finish(counted.agent.processes[0])


def spread(values):
    return f"{statistics.median(values):.2f} ({min(values):.2f}-{max(values):.2f})"


def machine():
    model = re.search(r"model name\s*:\s*(.*)", open("/proc/cpuinfo").read())
    return {
        "kernel": platform.release(), "cpus": os.cpu_count(), "model": model.group(1) if model else platform.machine(),
        "load": "%.2f" % os.getloadavg()[0],
        "conntrack": subprocess.run(["conntrack", "--version"], capture_output=True, text=True).stdout.split("(")[0].strip(),
        "tcpdump": subprocess.run(["tcpdump", "--version"], capture_output=True, text=True).stdout.splitlines()[0],
    }


def report(results, allocations, options):
    facts = machine()
    print(f"\n{facts['cpus']} x {facts['model']}, Linux {facts['kernel']}, load {facts['load']}, {facts['conntrack']}, {facts['tcpdump']}")
    print(f"{options.rate} queries/s for {options.seconds} s a round; load on CPU 0, consumers on CPU 1; median (lowest-highest)\n")
    status = 0
    thresholds = json.load(open(THRESHOLDS))
    for kind, rounds in results.items():
        print(f"{kind}: {len(rounds)} rounds in which everyone saw everything")
        for name in rounds[0]:
            own = "" if name == Nobody.name else (
                f"{spread([r[name]['cost'] for r in rounds])} µs a query, "
                f"{statistics.median(r[name]['switches'] for r in rounds):.0f} context switches per 1,000 queries; ")
            print(f"  {name:25} {own}client and server {spread([r[name]['senders'] for r in rounds])} µs")
        for other, label in ((Floor, "floor"), (RingFloor, "floor by ring"), (Peers, "peers")):
            if other.name in rounds[0]:
                print(f"  {'racetrack / ' + label:25} {spread([r['racetrack']['cost'] / r[other.name]['cost'] for r in rounds])}")
        usage = max((r["racetrack"]["memory"] for r in rounds), key=lambda m: m["resident"])
        print(f"  racetrack resident        {usage['resident'] / 1024:.1f} MiB, of it anonymous {usage['anonymous'] / 1024:.1f}, "
              f"packet ring {usage['ring'] / 1024:.1f}\n")
    for kind, found in allocations.items():
        limit = thresholds[f"allocations_per_1000_{kind}"]
        verdict = "within" if found["per_1000"] <= limit else "ABOVE"
        print(f"heap allocations per 1,000 {kind} queries: {found['per_1000']:.3f}, {verdict} the threshold of {limit} "
              f"(and {found['tick']:.0f} a second for the pages, whatever the load)")
        if found["per_1000"] > limit:
            status = 1
    return status


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds: under a minute")
    parser.add_argument("--only", choices=["answered", "unanswered"])
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--no-cost", action="store_true", help="count allocations only")
    parser.add_argument("--no-allocations", action="store_true")
    parser.add_argument("--rate", type=int, default=10000)
    parser.add_argument("--seconds", type=int)
    parser.add_argument("--timeout", type=int, default=2, help="--dns.timeout of the agent, seconds")
    parser.add_argument("--build", default=os.path.join(ROOT, ".build/release"), help="where racebench and libAllocationShim.so are")
    parser.add_argument("--agent", default=os.path.join(ROOT, ".build/racetrack"))
    parser.add_argument("--agent-cpu", type=int, default=1)
    parser.add_argument("--json", help="write the figures to this file as well")
    options = parser.parse_args()
    options.seconds = options.seconds or (2 if options.quick else 3)
    options.warm = 20000 if options.quick else 60000
    options.shim = os.path.join(options.build, "libAllocationShim.so")
    if os.geteuid() != 0:
        raise SystemExit("make bench: needs root for its network namespaces")
    if os.cpu_count() < 2:
        raise SystemExit("make bench: needs two CPUs, one for the load and one for who watches")
    for name in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(name, lambda number, frame: sys.exit(128 + number))
    lab = Lab(os.path.join(options.build, "racebench"))
    try:
        results, allocations = {}, {}
        for kind in ("answered", "unanswered"):
            if options.only and kind != options.only:
                continue
            if not options.no_cost:
                rounds = options.rounds or ((2 if kind == "answered" else 1) if options.quick else (5 if kind == "answered" else 2))
                results[kind] = rotate(lab, kind, rounds, options)
            if not options.no_allocations and (kind == "answered" or not options.quick):
                allocations[kind] = count_allocations(lab, kind, options)
        status = report(results, allocations, options)
        if options.json:
            with open(options.json, "w") as file:
                json.dump({"machine": machine(), "results": results, "allocations": allocations}, file, indent=1)
        return status
    finally:
        lab.close()


if __name__ == "__main__":
    sys.exit(main())
