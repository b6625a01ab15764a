/* SPDX-License-Identifier: Apache-2.0 */
/*
 * nft.c - one nftables table per network, written as one nfnetlink batch.
 *
 * The batch makes the table, deletes it and makes it anew with its chains and rules: whatever was
 * there before, afterwards exactly ours is, and no packet ever meets half of it. The equivalent
 * ruleset:
 *
 *   table inet NAME {
 *     chain postrouting { type nat hook postrouting priority srcnat;
 *       meta nfproto ipv4 ip saddr SUBNET oifname != BRIDGE masquerade }
 *     chain forward { type filter hook forward priority filter; policy accept;
 *       iifname BRIDGE accept
 *       oifname BRIDGE ct state established,related accept
 *       oifname BRIDGE drop }
 *   }
 *
 * The last rule keeps hosts of the outer network from reaching containers by routing through this
 * host.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <stdio.h>

#include "core/path.h"
#include "net/net.h"
#include "net/netlink.h"

/* Kernel constants of the conntrack state bits as nft's ct expression sees them. */
#define CT_ESTABLISHED (1u << 1)
#define CT_RELATED     (1u << 2)

#define NF_PRI_SRCNAT 100
#define NF_PRI_FILTER 0

#define IPV4_SADDR_OFFSET 12

struct batch {
	struct nl nl;
	struct buf b;
	unsigned acks;
	const char *table;
};

static void batch_free(struct batch *t)
{
	nl_close(&t->nl);
	buf_free(&t->b);
}

static size_t batch_msg(struct batch *t, uint16_t type, uint16_t flags)
{
	struct nfgenmsg g = {.nfgen_family = NFPROTO_INET, .version = NFNETLINK_V0};

	t->acks++;
	return nl_begin(&t->nl, &t->b, (uint16_t)(NFNL_SUBSYS_NFTABLES << 8 | type),
			NLM_F_ACK | flags, &g, sizeof(g));
}

/* batch_edge: the begin or end marker; not acknowledged. */
static void batch_edge(struct batch *t, uint16_t type)
{
	struct nfgenmsg g = {.nfgen_family = AF_UNSPEC,
			     .version = NFNETLINK_V0,
			     .res_id = htons(NFNL_SUBSYS_NFTABLES)};

	nl_end(&t->b, nl_begin(&t->nl, &t->b, type, 0, &g, sizeof(g)));
}

static void batch_table(struct batch *t, uint16_t type, uint16_t flags)
{
	size_t m = batch_msg(t, type, flags);

	nl_put_str(&t->b, NFTA_TABLE_NAME, t->table);
	nl_end(&t->b, m);
}

static void batch_chain(struct batch *t, const char *name, const char *type, uint32_t hook,
			int prio)
{
	size_t m = batch_msg(t, NFT_MSG_NEWCHAIN, NLM_F_CREATE), h;

	nl_put_str(&t->b, NFTA_CHAIN_TABLE, t->table);
	nl_put_str(&t->b, NFTA_CHAIN_NAME, name);
	h = nl_nest(&t->b, NFTA_CHAIN_HOOK);
	nl_put_be32(&t->b, NFTA_HOOK_HOOKNUM, hook);
	nl_put_be32(&t->b, NFTA_HOOK_PRIORITY, (uint32_t)prio);
	nl_nest_end(&t->b, h);
	nl_put_be32(&t->b, NFTA_CHAIN_POLICY, NF_ACCEPT);
	nl_put_str(&t->b, NFTA_CHAIN_TYPE, type);
	nl_end(&t->b, m);
}

/* ---- rules: a rule is a list of expressions over register 1 ---- */

struct rule {
	struct buf *b;
	size_t msg, exprs, elem, data;
};

static struct rule rule_begin(struct batch *t, const char *chain)
{
	struct rule r = {.b = &t->b,
			 .msg = batch_msg(t, NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND)};

	nl_put_str(r.b, NFTA_RULE_TABLE, t->table);
	nl_put_str(r.b, NFTA_RULE_CHAIN, chain);
	r.exprs = nl_nest(r.b, NFTA_RULE_EXPRESSIONS);
	return r;
}

static void rule_end(struct rule *r)
{
	nl_nest_end(r->b, r->exprs);
	nl_end(r->b, r->msg);
}

static void expr_begin(struct rule *r, const char *name)
{
	r->elem = nl_nest(r->b, NFTA_LIST_ELEM);
	nl_put_str(r->b, NFTA_EXPR_NAME, name);
	r->data = nl_nest(r->b, NFTA_EXPR_DATA);
}

static void expr_end(struct rule *r)
{
	nl_nest_end(r->b, r->data);
	nl_nest_end(r->b, r->elem);
}

static void expr_meta(struct rule *r, uint32_t key)
{
	expr_begin(r, "meta");
	nl_put_be32(r->b, NFTA_META_DREG, NFT_REG_1);
	nl_put_be32(r->b, NFTA_META_KEY, key);
	expr_end(r);
}

static void put_data(struct rule *r, uint16_t attr, const void *p, size_t n)
{
	size_t d = nl_nest(r->b, attr);

	nl_put(r->b, NFTA_DATA_VALUE, p, n);
	nl_nest_end(r->b, d);
}

static void expr_cmp(struct rule *r, uint32_t op, const void *p, size_t n)
{
	expr_begin(r, "cmp");
	nl_put_be32(r->b, NFTA_CMP_SREG, NFT_REG_1);
	nl_put_be32(r->b, NFTA_CMP_OP, op);
	put_data(r, NFTA_CMP_DATA, p, n);
	expr_end(r);
}

static void expr_mask(struct rule *r, const void *mask, size_t n)
{
	static const uint8_t zero[16];

	expr_begin(r, "bitwise");
	nl_put_be32(r->b, NFTA_BITWISE_SREG, NFT_REG_1);
	nl_put_be32(r->b, NFTA_BITWISE_DREG, NFT_REG_1);
	nl_put_be32(r->b, NFTA_BITWISE_LEN, (uint32_t)n);
	put_data(r, NFTA_BITWISE_MASK, mask, n);
	put_data(r, NFTA_BITWISE_XOR, zero, n);
	expr_end(r);
}

static void expr_saddr(struct rule *r)
{
	expr_begin(r, "payload");
	nl_put_be32(r->b, NFTA_PAYLOAD_DREG, NFT_REG_1);
	nl_put_be32(r->b, NFTA_PAYLOAD_BASE, NFT_PAYLOAD_NETWORK_HEADER);
	nl_put_be32(r->b, NFTA_PAYLOAD_OFFSET, IPV4_SADDR_OFFSET);
	nl_put_be32(r->b, NFTA_PAYLOAD_LEN, 4);
	expr_end(r);
}

static void expr_ct_state(struct rule *r)
{
	expr_begin(r, "ct");
	nl_put_be32(r->b, NFTA_CT_DREG, NFT_REG_1);
	nl_put_be32(r->b, NFTA_CT_KEY, NFT_CT_STATE);
	expr_end(r);
}

static void expr_verdict(struct rule *r, uint32_t code)
{
	size_t d, v;

	expr_begin(r, "immediate");
	nl_put_be32(r->b, NFTA_IMMEDIATE_DREG, NFT_REG_VERDICT);
	d = nl_nest(r->b, NFTA_IMMEDIATE_DATA);
	v = nl_nest(r->b, NFTA_DATA_VERDICT);
	nl_put_be32(r->b, NFTA_VERDICT_CODE, code);
	nl_nest_end(r->b, v);
	nl_nest_end(r->b, d);
	expr_end(r);
}

static void expr_ifname(struct rule *r, uint32_t key, uint32_t op, const char *name)
{
	char padded[16] = {0};

	snprintf(padded, sizeof(padded), "%s", name);
	expr_meta(r, key);
	expr_cmp(r, op, padded, sizeof(padded));
}

static void rule_masquerade(struct batch *t, const char *bridge, struct in_addr subnet, int prefix)
{
	struct rule r = rule_begin(t, "postrouting");
	uint32_t mask = htonl(prefix ? ~0u << (32 - prefix) : 0), net = subnet.s_addr & mask;
	uint8_t v4 = NFPROTO_IPV4;

	expr_meta(&r, NFT_META_NFPROTO);
	expr_cmp(&r, NFT_CMP_EQ, &v4, 1);
	expr_saddr(&r);
	expr_mask(&r, &mask, sizeof(mask));
	expr_cmp(&r, NFT_CMP_EQ, &net, sizeof(net));
	expr_ifname(&r, NFT_META_OIFNAME, NFT_CMP_NEQ, bridge);
	expr_begin(&r, "masq");
	expr_end(&r);
	rule_end(&r);
}

static void rules_forward(struct batch *t, const char *bridge)
{
	struct rule r = rule_begin(t, "forward");
	uint32_t want = CT_ESTABLISHED | CT_RELATED, zero = 0;

	expr_ifname(&r, NFT_META_IIFNAME, NFT_CMP_EQ, bridge);
	expr_verdict(&r, NF_ACCEPT);
	rule_end(&r);

	r = rule_begin(t, "forward");
	expr_ifname(&r, NFT_META_OIFNAME, NFT_CMP_EQ, bridge);
	expr_ct_state(&r);
	expr_mask(&r, &want, sizeof(want));
	expr_cmp(&r, NFT_CMP_NEQ, &zero, sizeof(zero));
	expr_verdict(&r, NF_ACCEPT);
	rule_end(&r);

	r = rule_begin(t, "forward");
	expr_ifname(&r, NFT_META_OIFNAME, NFT_CMP_EQ, bridge);
	expr_verdict(&r, NF_DROP);
	rule_end(&r);
}

static int batch_send(struct batch *t, struct error **err)
{
	return nl_talk(&t->nl, &t->b, t->acks, NULL, err);
}

static int forwarding_on(struct error **err)
{
	CLEANUP_CLOSE int fd = open("/proc/sys/net/ipv4/ip_forward", O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		return error_sys(err, errno, "open net.ipv4.ip_forward");
	return fd_write_full(fd, "1\n", 2, err);
}

int net_nat_ensure(const char *table, const char *bridge, struct in_addr subnet, int prefix,
		   struct error **err)
{
	CLEANUP(batch_free) struct batch t = {.nl = {.fd = -1}, .table = table};

	if (forwarding_on(err) < 0)
		return error_wrap(err, "forwarding");
	if (nl_open(&t.nl, NETLINK_NETFILTER, err) < 0)
		return -1;
	batch_edge(&t, NFNL_MSG_BATCH_BEGIN);
	batch_table(&t, NFT_MSG_NEWTABLE, NLM_F_CREATE);
	batch_table(&t, NFT_MSG_DELTABLE, 0);
	batch_table(&t, NFT_MSG_NEWTABLE, NLM_F_CREATE);
	batch_chain(&t, "postrouting", "nat", NF_INET_POST_ROUTING, NF_PRI_SRCNAT);
	batch_chain(&t, "forward", "filter", NF_INET_FORWARD, NF_PRI_FILTER);
	rule_masquerade(&t, bridge, subnet, prefix);
	rules_forward(&t, bridge);
	batch_edge(&t, NFNL_MSG_BATCH_END);
	return batch_send(&t, err) < 0 ? error_wrap(err, "nftables table %s", table) : 0;
}

int net_nft_check(struct error **err)
{
	CLEANUP(batch_free) struct batch t = {.nl = {.fd = -1}};

	if (nl_open(&t.nl, NETLINK_NETFILTER, err) < 0)
		return -1;
	nl_end(&t.b, batch_msg(&t, NFT_MSG_GETGEN, 0));
	return batch_send(&t, err) < 0 ? error_wrap(err, "nftables") : 0;
}

int net_nat_delete(const char *table, struct error **err)
{
	CLEANUP(batch_free) struct batch t = {.nl = {.fd = -1}, .table = table};

	if (nl_open(&t.nl, NETLINK_NETFILTER, err) < 0)
		return -1;
	batch_edge(&t, NFNL_MSG_BATCH_BEGIN);
	batch_table(&t, NFT_MSG_NEWTABLE,
		    NLM_F_CREATE); /* deleting what is not there is an error otherwise */
	batch_table(&t, NFT_MSG_DELTABLE, 0);
	batch_edge(&t, NFNL_MSG_BATCH_END);
	return batch_send(&t, err) < 0 ? error_wrap(err, "nftables table %s", table) : 0;
}
