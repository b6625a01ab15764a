/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ipam.c - who has which address. Leases outlive the helper in leases.json; addresses go round, so
 * that one just given back is the last to be used again and a stale neighbour entry or name does
 * not lead to a stranger.
 */
#include <arpa/inet.h>
#include <stdio.h>

#include "core/state.h"
#include "net/net.h"

struct ipam {
	int dirfd;
	uint32_t first, last; /* host order; first is the address after the gateway's */
	uint32_t next;
	struct json_object *leases; /* id → dotted address */
};

static int lease_save(struct ipam *p, struct error **err)
{
	CLEANUP_JSON struct json_object *o = json_object_new_object();

	json_set(o, "leases", json_object_get(p->leases));
	json_set_int(o, "next", p->next);
	return state_write(p->dirfd, "leases.json", o, err);
}

/* lease_addr: host-order address of a stored lease, 0 if it is none of this subnet. */
static uint32_t lease_addr(struct ipam *p, struct json_object *v)
{
	struct in_addr a;

	if (!json_object_is_type(v, json_type_string) ||
	    inet_pton(AF_INET, json_object_get_string(v), &a) != 1)
		return 0;
	return ntohl(a.s_addr) >= p->first && ntohl(a.s_addr) <= p->last ? ntohl(a.s_addr) : 0;
}

struct ipam *ipam_open(int dirfd, struct in_addr subnet, int prefix, struct error **err)
{
	CLEANUP_ERROR struct error *e = NULL;
	CLEANUP_JSON struct json_object *o = NULL;
	struct json_object *leases;
	uint32_t net;
	struct ipam *p;

	if (prefix < 8 || prefix > 29) {
		error_set(err, ERR_INVALID_ARGUMENT,
			  "a subnet of /%d has no room for containers or too much", prefix);
		return NULL;
	}
	o = state_read(dirfd, "leases.json", &e);
	if (!o && e->code != ERR_NOT_FOUND) {
		error_move(err, STEAL(e));
		return NULL;
	}
	net = ntohl(subnet.s_addr) & ~0u << (32 - prefix);
	p = xcalloc(1, sizeof(*p));
	p->dirfd = dirfd;
	p->first = net + 2;
	p->last = net + (1u << (32 - prefix)) - 2;
	p->next = (uint32_t)json_int(o, "next", p->first);
	p->leases = json_object_new_object();
	leases = json_obj(o, "leases");
	if (leases) {
		json_object_object_foreach(
			leases, id, v) if (lease_addr(p, v)) /* one of a former subnet is void */
			json_set(p->leases, id, json_object_get(v));
	}
	return p;
}

static bool taken(struct ipam *p, uint32_t addr)
{
	json_object_object_foreach(p->leases, id, v)
	{
		(void)id;
		if (lease_addr(p, v) == addr)
			return true;
	}
	return false;
}

int ipam_allocate(struct ipam *p, const char *id, struct in_addr *out, struct error **err)
{
	uint32_t have = lease_addr(p, json_get(p->leases, id)), n, count = p->last - p->first + 1;
	char text[INET_ADDRSTRLEN];

	for (n = 0; !have && n < count; n++) {
		if (p->next < p->first || p->next > p->last)
			p->next = p->first;
		if (!taken(p, p->next))
			have = p->next;
		p->next++;
	}
	if (!have)
		return error_set(err, ERR_INVALID_STATE,
				 "all %u addresses of the network are in use", count);
	out->s_addr = htonl(have);
	inet_ntop(AF_INET, out, text, sizeof(text));
	json_set_str(p->leases, id, text);
	return lease_save(p, err);
}

int ipam_release(struct ipam *p, const char *id, struct error **err)
{
	if (!json_get(p->leases, id))
		return 0;
	json_object_object_del(p->leases, id);
	return lease_save(p, err);
}

int ipam_reconcile(struct ipam *p, struct json_object *ids, struct error **err)
{
	struct json_object *keep = json_object_new_object();
	size_t i, n = ids ? json_object_array_length(ids) : 0;

	for (i = 0; i < n; i++) {
		const char *id = json_object_get_string(json_object_array_get_idx(ids, i));
		struct json_object *v = id ? json_get(p->leases, id) : NULL;

		if (v)
			json_set(keep, id, json_object_get(v));
	}
	json_object_put(p->leases);
	p->leases = keep;
	return lease_save(p, err);
}

void ipam_free(struct ipam *p)
{
	if (!p)
		return;
	json_object_put(p->leases);
	free(p);
}
