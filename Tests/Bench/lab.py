"""A node with a client pod and a server pod, in network namespaces that live only as long as this process."""
import ctypes
import os
import re
import signal
import subprocess

CLONE_NEWNET = 0x40000000
PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None, use_errno=True)
GATEWAY = "02:52:54:00:0b:01"
BACKEND = "10.78.0.2"


def check(result, what):
    if result < 0:
        raise OSError(ctypes.get_errno(), what)


class Namespace:
    """A network namespace without a name, held by a process that dies with this one."""

    def __init__(self):
        ready, told = os.pipe()

        def unshare():
            check(LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL), "prctl")
            check(LIBC.unshare(CLONE_NEWNET), "unshare")
            os.write(told, b".")

        self.holder = subprocess.Popen(["sleep", "infinity"], preexec_fn=unshare, pass_fds=())
        os.read(ready, 1)
        os.close(ready)
        os.close(told)
        self.handle = os.open(f"/proc/{self.holder.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        self.pid = self.holder.pid

    def popen(self, command, cpu=None, **options):
        def enter():
            check(LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL), "prctl")
            check(LIBC.setns(self.handle, CLONE_NEWNET), "setns")
            # Whatever else runs on this machine must not starve the load or who watches it, and must not favour one of them.
            os.setpriority(os.PRIO_PROCESS, 0, -15)
            if cpu is not None:
                os.sched_setaffinity(0, {cpu})

        return subprocess.Popen(command, preexec_fn=enter, **options)

    def run(self, command, text=None, cpu=None):
        process = self.popen(command, cpu, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        output, errors = process.communicate(text)
        if process.returncode != 0:
            raise RuntimeError(f"{' '.join(command)}: {errors.strip() or output.strip()}")
        return output

    def close(self):
        os.close(self.handle)
        self.holder.kill()
        self.holder.wait()


class Lab:
    """A node with one client pod and one server pod on routed links; the service is translated by a rule of nftables."""

    def __init__(self, racebench):
        self.racebench = racebench
        self.node, self.client, self.server = Namespace(), Namespace(), Namespace()
        self.asked = 0
        self.responder = None
        self.node.run(["sysctl", "-qw", "net.ipv4.ip_forward=1"])
        self.node.run(["ip", "-batch", "-"], f"""link set lo up
link add bench1 address {GATEWAY} type veth peer name eth0 address 02:52:54:00:0b:02 netns {self.client.pid}
link add bench2 address 02:52:54:00:0b:03 type veth peer name eth0 address 02:52:54:00:0b:04 netns {self.server.pid}
address add 10.77.255.254/32 dev bench1
address add 10.78.0.1/30 dev bench2
link set bench1 up
link set bench2 up
neighbour replace 10.77.255.253 lladdr 02:52:54:00:0b:02 dev bench1 nud permanent
neighbour replace {BACKEND} lladdr 02:52:54:00:0b:04 dev bench2 nud permanent
route add 10.77.255.253/32 dev bench1
route add 10.77.0.0/16 via 10.77.255.253 dev bench1
""")
        self.client.run(["ip", "-batch", "-"], "link set lo up\nlink set eth0 up\n")
        self.server.run(["ip", "-batch", "-"], f"""link set lo up
address add {BACKEND}/30 dev eth0
link set eth0 up
neighbour replace 10.78.0.1 lladdr 02:52:54:00:0b:03 dev eth0 nud permanent
route add default via 10.78.0.1
""")
        self.node.run(["nft", "-f", "-"], f"""table ip bench {{
  chain services {{ type nat hook prerouting priority -100; ip daddr 10.96.0.10 udp dport 53 dnat to {BACKEND}:53; }}
}}
""")

    def serve(self, kind):
        self.responder = self.server.popen(
            [self.racebench, "respond", "mute" if kind == "unanswered" else "answer"], 0, stdout=subprocess.PIPE, text=True)
        self.responder.stdout.readline()

    def stop_serving(self):
        received = words(finish(self.responder)[0])["received"]
        self.responder = None
        return received

    def send(self, rate, count):
        """Sends queries, each from a port of its own; what was sent and answered."""
        first = self.asked
        self.asked += count
        return words(self.client.run([self.racebench, "send", "eth0", GATEWAY, str(rate), str(count), str(first)], cpu=0))

    def forget(self):
        """Empties the node's conntrack table, so that every query makes an entry."""
        subprocess_quiet(self.node, ["conntrack", "-F"])

    def close(self):
        if self.responder:
            self.responder.kill()
        for namespace in (self.node, self.client, self.server):
            namespace.close()


def subprocess_quiet(namespace, command):
    namespace.popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).wait()


def words(text):
    return {name: int(value) for name, value in re.findall(r"(\w+)=(\d+)", text)}


def finish(process, how=signal.SIGTERM):
    """Ends a process; what it printed."""
    process.send_signal(how)
    try:
        return process.communicate(timeout=20)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.communicate()
