/* SPDX-License-Identifier: Apache-2.0 */
/*
 * passt.c - a guest's way out without root: a passt(1) of its own, which makes of the guest's packets sockets of the
 * user's. It speaks Ethernet on a stream socket whose other end is the card's (vmm/net_stream.h).
 *
 * It is started as the daemon it likes to be: its first process checks everything, says what is wrong, and ends when
 * the daemon serves; that one ends when the card's socket closes. So nobody has to look after it, and it outlives the
 * network helper as containers do.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/memfd.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "core/path.h"
#include "core/proc.h"
#include "core/str.h"
#include "net/net.h"

#define CHILD_FD  3 /* proc_spawn() puts the first descriptor there */
#define WORDS_MAX 4096

int net_passt_can(const struct net_publish *ports, size_t n, struct error **err)
{
	char text[NET_PUBLISH_TEXT];

	for (size_t i = 0; i < n; i++) {
		net_publish_text(&ports[i], 0, text);
		if (ports[i].v6)
			return error_set(
				err, ERR_UNSUPPORTED,
				"publish port %s: without root ports are published at IPv4 "
				"addresses only",
				text);
		for (size_t k = 0; k < i; k++) {
			const struct net_publish *a = &ports[i], *b = &ports[k];

			/* It keeps one difference for each number of a port, whatever the address. */
			if (a->udp == b->udp && a->host_port < b->host_port + b->count &&
			    b->host_port < a->host_port + a->count &&
			    a->guest_port - a->host_port != b->guest_port - b->host_port)
				return error_set(
					err, ERR_UNSUPPORTED,
					"publish port %s: without root a port has the same "
					"target at every address",
					text);
		}
	}
	return 0;
}

/* --tcp-ports or --udp-ports for each published port. */
static void port_args(struct strv *v, const struct net_passt *p, bool udp)
{
	const char *flag = udp ? "--udp-ports" : "--tcp-ports";
	char addr[INET_ADDRSTRLEN];
	bool any = false;

	for (size_t i = 0; i < p->nports; i++) {
		const struct net_publish *o = &p->ports[i];

		if (o->udp != udp)
			continue;
		inet_ntop(AF_INET, o->addr, addr, sizeof(addr));
		strv_add(v, flag);
		strv_addf(v, "%s/%u-%u:%u-%u", addr, o->host_port, o->host_port + o->count - 1,
			  o->guest_port, o->guest_port + o->count - 1);
		any = true;
	}
	if (any)
		return;
	strv_add(v, flag);
	strv_add(v, "none");
}

static void passt_args(struct strv *v, const struct net_passt *p)
{
	/* The guest's addresses are in its boot descriptor; the gateway is nobody but the name server; nothing of the
	 * host's loopback is reachable. */
	static const char *const fixed[] = {
		"passt",       "--fd",     "3",       "--ipv4-only", "--no-dhcp",
		"--no-dhcpv6", "--no-ndp", "--no-ra", "--no-map-gw",
	};
	char addr[INET_ADDRSTRLEN], gw[INET_ADDRSTRLEN];
	size_t i;

	inet_ntop(AF_INET, &p->addr, addr, sizeof(addr));
	inet_ntop(AF_INET, &p->gateway, gw, sizeof(gw));
	for (i = 0; i < ARRAY_SIZE(fixed); i++)
		strv_add(v, fixed[i]);
	strv_add(v, "--address");
	strv_add(v, addr);
	strv_add(v, "--netmask");
	strv_addf(v, "%d", p->prefix);
	strv_add(v, "--gateway");
	strv_add(v, gw);
	strv_add(v, "--dns-forward");
	strv_add(v, gw);
	strv_add(v, "--mtu");
	strv_addf(v, "%d", p->mtu);
	port_args(v, p, false);
	port_args(v, p, true);
}

static void strv_freep(struct strv *v)
{
	strv_free(v);
}

int net_passt_spawn(const struct net_passt *p, int *sock, int *words, pid_t *pid,
		    struct error **err)
{
	CLEANUP_FREE char *path = proc_find("passt");
	CLEANUP(strv_freep) struct strv argv = {0}, env = {0};
	CLEANUP_CLOSE int said = -1, ours = -1, its = -1;
	struct proc_spec spec = {.path = path, .fds = &its, .nfds = 1, .new_session = true};
	int sv[2];

	if (!path)
		return error_set(err, ERR_NOT_FOUND,
				 "without root a network needs passt, which is not installed "
				 "(Debian: package passt); --network none does without");
	said = (int)syscall(SYS_memfd_create, "passt", MFD_CLOEXEC);
	if (said < 0 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv) < 0)
		return error_sys(err, errno, "passt: socket");
	ours = sv[0];
	its = sv[1];
	passt_args(&argv, p);
	proc_environment_jailed(&env);
	spec.argv = argv.v;
	spec.envp = env.v;
	spec.stdio[0] = spec.stdio[1] = -1;
	spec.stdio[2] = said;
	if (proc_spawn(&spec, pid, err) < 0)
		return error_wrap(err, "start passt");
	*sock = steal_fd(&ours);
	*words = steal_fd(&said);
	return 0;
}

char *net_passt_complaint(int words)
{
	char text[WORDS_MAX + 1], *line, *save = NULL, *last = NULL;
	ssize_t n = pread(words, text, WORDS_MAX, 0);

	text[MAX(n, 0)] = 0;
	for (line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
		if (strncmp(line, "Failed to send", 14)) /* to a system log that is not there */
			last = line;
	return xstrdup(last ? last : "no reason given");
}
