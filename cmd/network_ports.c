/* SPDX-License-Identifier: Apache-2.0 */
/* network_ports.c - the sockets of published ports, and who forwards what comes to them (network.h). */
#include <arpa/inet.h>
#include <fcntl.h>
#include <signal.h>

#include "cmd/network.h"
#include "core/proc.h"

#define AGAIN_MS  20
#define WAIT_MS   1000 /* for a port that is taken, maybe by a forwarder we know nothing of */
#define ENDING_MS 5000 /* when one that we know is about to end */

/* ---- binding ---- */

void ports_close(struct pending *p)
{
	while (p->nsocks)
		close(p->socks[--p->nsocks]);
	free(STEAL(p->socks));
}

static int bind_all(struct pending *p, struct error **err)
{
	size_t total = 0, i;
	unsigned k;

	for (i = 0; i < p->nports; i++)
		total += p->ports[i].count;
	p->socks = xcalloc(total, sizeof(int));
	for (i = 0; i < p->nports; i++) {
		for (k = 0; k < p->ports[i].count; k++) {
			int fd = net_publish_bind(&p->ports[i], k, err);

			if (fd < 0) {
				ports_close(p);
				return -1;
			}
			p->socks[p->nsocks++] = fd;
		}
	}
	return 0;
}

static bool one_is_ending(const struct network *n)
{
	const struct forwarder *f;

	for (f = n->forwarders; f; f = f->next)
		if (f->released)
			return true;
	return false;
}

static void on_again(void *arg)
{
	ports_bind(arg);
}

void ports_bind(struct pending *p)
{
	uint64_t wait = one_is_ending(p->n) ? ENDING_MS : WAIT_MS, now = time_mono_us();
	struct error *e = NULL;

	if (!p->since)
		p->since = now;
	if (!bind_all(p, &e)) {
		loop_source_free(STEAL(p->again));
		network_go(p);
		return;
	}
	if (e->sys != EADDRINUSE || now - p->since > wait * 1000) {
		network_failed(p, e);
		return;
	}
	error_free(e);
	if (!p->again)
		p->again = loop_add_timer(p->n->loop, AGAIN_MS, on_again, p);
	else
		loop_set_timer(p->again, AGAIN_MS);
}

/* ---- forwarders ---- */

static void on_forwarder_end(void *arg, pid_t pid, int status)
{
	struct forwarder *f = arg, **at;

	if (status)
		log_error("forwarder %d of container %s ended with status %#x", (int)pid, f->id,
			  status);
	for (at = &f->n->forwarders; *at != f; at = &(*at)->next)
		;
	*at = f->next;
	free(f->id);
	free_shared(f);
}

void ports_released(struct network *n, const char *id)
{
	struct forwarder *f;

	for (f = n->forwarders; f; f = f->next)
		if (!strcmp(f->id, id))
			f->released = true;
}

static void forwarder_args(const struct pending *p, struct strv *v)
{
	char addr[INET_ADDRSTRLEN];
	size_t i;

	inet_ntop(AF_INET, &p->addr, addr, sizeof(addr));
	strv_add(v, "container-network-vmnet");
	strv_add(v, "start");
	strv_add(v, "--forward");
	strv_add(v, addr);
	strv_add(v, "--id");
	strv_add(v, p->id);
	for (i = 0; i < p->nports; i++) {
		strv_add(v, "--port");
		strv_addf(v, "%s/%u-%u", p->ports[i].udp ? "udp" : "tcp", p->ports[i].guest_port,
			  p->ports[i].guest_port + p->ports[i].count - 1);
	}
}

static int forwarder_spawn(struct pending *p, int life, pid_t *pid, struct error **err)
{
	CLEANUP_STRV struct strv argv = {0}, env = {0};
	CLEANUP_FREE int *fds = xcalloc(p->nsocks + 1, sizeof(int));
	struct proc_spec spec = {.stdio = {-1, -1, -1},
				 .fds = fds,
				 .nfds = p->nsocks + 1,
				 .new_session = true};

	fds[0] = life;
	memcpy(fds + 1, p->socks, p->nsocks * sizeof(int));
	forwarder_args(p, &argv);
	proc_environment_jailed(&env);
	spec.argv = argv.v;
	spec.envp = env.v;
	return proc_spawn(&spec, pid, err);
}

int ports_forward(struct pending *p, int *life, struct error **err)
{
	CLEANUP_CLOSE int its = -1, theirs = -1;
	struct forwarder *f;
	int fds[2];
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC))
		return error_sys(err, errno, "forwarder: pipe");
	its = fds[0];
	theirs = fds[1];
	if (forwarder_spawn(p, its, &pid, err) < 0)
		return error_wrap(err, "start the forwarder");
	ports_close(p);
	f = xcalloc(1, sizeof(*f));
	f->n = p->n;
	f->id = xstrdup(p->id);
	f->child = loop_add_child(p->n->loop, pid, on_forwarder_end, f, err);
	if (!f->child) {
		kill(pid, SIGKILL);
		free(f->id);
		free(f);
		return -1;
	}
	f->next = p->n->forwarders;
	p->n->forwarders = f;
	*life = steal_fd(&theirs);
	return 0;
}
