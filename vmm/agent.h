/* SPDX-License-Identifier: Apache-2.0 */
/*
 * agent.h - the contract between the runtime role and the guest's init (vmm/guest/), PID 1 of the
 * microVM.
 *
 * DOC: Boot
 * The initramfs holds /init, /modules.list and /lib/modules/… (from the kernel's directory), and
 * /boot.json, the boot descriptor: all the guest needs to start its container, so that no round
 * trip is spent on it:
 *
 *   { "version": 1,
 *     "hostname": "web",
 *     "root": {"lower": "/dev/vda", "lowerType": "erofs", "upper": "/dev/vdb", "upperType": "ext4",
 * "readonly": false}, "volumes": [{"device": "/dev/vdc", "readonly": false}] (ext4 disks; the mounts {"type": "volume",
 * "volume": 0, …} say where; with "part": 1, "start": 0, "bytes": 1048576 it is that part of one), "mounts": [{"type": "tmpfs", "source": "tmpfs", "destination": "/run",
 * "options": ["mode=755", "size=…"]}], "network": [{"name": "eth0", "address": "192.168.64.3/24",
 * "gateway": "192.168.64.1", "mtu": 1280}], "dns": {"nameservers": [], "domain": "", "search": [],
 * "options": []},      (absent: resolv.conf is left alone) "hosts": [{"address": "192.168.64.3",
 * "names": ["web"]}], "resources": {"cpus": 2, "memory": 1073741824, "pids": 0, "memoryLow": 0, "cpuShares": 0},
 *     (cgroup v2 limits)
 *     "sysctls": {"vm.overcommit_memory": "1"},
 *     "maskedPaths": […], "readonlyPaths": […],                                   (absent: the OCI
 * defaults) "shmSize": 67108864, "privileged": false (all devices, /sys and cgroups writable), "virtualization": false (/dev/kvm), "init": false, (a small init as the container's PID 1) "debug":
 * false, "process": {…process object, "id": "init"…} }
 *
 * "relays": [{"path": "/run/x.sock", "mode": 432, "port": n}]: sockets of the host's. The guest listens at each path of the container and dials
 * the port for every client. "sockets": ["/run/app.sock"]: sockets of the container's that clients of the host are connected to.
 *
 * With "shares": true there is a virtio-fs device, tag AGENT_SHARES_TAG, and mounts of "type": "virtiofs" whose "source" is the name
 * of an entry of its root: a directory, or a file.
 *
 * "askClock": true when the machine's clock is not the host's: the guest asks by `clock`.
 * "emulator": {"name": "aarch64", "class": 2, "data": 1, "machine": 183}: /emulator runs ELF programs of that kind.
 * /seccomp.bpf, when it is there, is the system call filter (struct sock_filter[]) of all the container's processes.
 *
 * With "files": true there is no process and no network: the machine of a stopped container serves tasks on its files, and
 * only `version`, `root` and `debug` count besides. It says "started" of "init" when it is ready, and ends by `shutdown`.
 *
 * process object:
 *   { "id": "init", "args": ["sh", "-c", "…"], "env": ["K=V"], "cwd": "/", "tty": false, "rows":
 * 24, "cols": 80, "user": {"uid": 0, "gid": 0} or {"name": "www-data[:group]"}, "additionalGids":
 * [], "additionalGroups": ["audio"], "capabilities": ["CAP_CHOWN", …], "noNewPrivileges": false, "rlimits": [{"type":
 * "RLIMIT_NOFILE", "soft": 1, "hard": 1}], "oomScoreAdj": 0, "stdin": port, "stdout": port,
 * "stderr": port }       vsock ports the guest dials, 0: /dev/null. With tty, stdin and stdout
 * carry the pty and stderr is 0. Names are resolved in the container's /etc/passwd and /etc/group,
 * opened in-root. HOME is set from passwd when absent, PATH when absent; TERM=xterm with tty when
 * absent. args[0] without a slash is searched on the container's PATH.
 *
 * In process.start "builtin": true makes args a task of the agent's, run as root with the container's files:
 * ["put", path, …] writes a tar stream of path to stdout, ["export"] one of the root file system, ["get", path, …] extracts
 * what comes on stdin (core/archive.h), ["changes"] lists what differs from the image, and ["layer"] writes it as a layer
 * (core/changes.h), with "freeze" behind it while the container stands still. Words behind the path say how: "owner", "as-is", "sparse", "follow".
 * What goes wrong is on stderr, and the code is 1.
 *
 * DOC: Connections
 * When the mounts stand, the guest dials AGENT_PORT_CONTROL on CID 2 and speaks rpc.h framing (no
 * descriptors) there, and dials every stdio port before the process starts. Guest's notices: noTicks {}   its
 * timer does not fire: only a reset helps   clock {}   what time is it?   ready
 * {"uptimeUs": n, "kernel": "6.1.0-…", "initUs": n}   init is up (uptimeUs: guest's monotonic clock
 * when /init began) started  {"process": "init", "pid": n} failed   {"process": "init", "code":
 * "notFound", "message": "exec foo: No such file or directory"}   did not start exited {"process":
 * "init", "code": n, "signal": n, "oom": false}   oom: killed for want of memory, or for "init" whether anything was; oom
 * {"kills": n} when that happens; code as shells give it (128+signal); all its
 * output was written to the streams before, and they are shut down Host's calls: process.start
 * {process object} → {"pid"}; process.signal {"process", "signal"}; process.end {"process"} → {} (SIGKILL
 * to it and to all in its session); process.resize {"process", "rows", "cols"}; shutdown {} → {} (sync, unmount, power off; the machine goes away after the
 * reply); stats {} → counters;
 * socket.connect {"socket": index in the boot descriptor's "sockets", "port"} → {}: it is connected to, and the guest dials the port and carries
 * the bytes between the two, each direction to its end; {"busy": true}: the container's listener takes nobody now;
 * clock {"ns": since the epoch} → {}, when it was asked for;
 * limits {"cpus", "memory", "pids", "memoryLow", "cpuShares", each if it is to change} → {};
 * top {} → {"processes": [{"pid" (as the container sees it), "uid", "timeMs", "command"}]}. When the init process has exited the guest by itself kills what is
 * left, unmounts, and powers off; it does not wait for the host.
 * Once the init process runs the guest dials AGENT_PORT_BOOTLOG and writes its kernel's log there, from the
 * ring's beginning and then what is added, as lines "[    0.123456] text"; the host closes it when it has enough.
 */
#ifndef VMM_AGENT_H
#define VMM_AGENT_H

#define AGENT_VERSION      1
#define AGENT_SHARES_TAG   "container"
#define AGENT_PORT_CONTROL 1024
#define AGENT_PORT_BOOTLOG 1025
#define AGENT_PORT_STDIO_MIN \
	0x10000 /* streams have a number from here on that nobody can guess, see runtime_port_new() */

#endif
