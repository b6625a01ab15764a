// links: vmm core
/* SPDX-License-Identifier: Apache-2.0 */
/* test_vmm_net_filter.c - what leaves a guest has its own addresses (attack class D). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "tests/unit/net_frame.h"
#include "vmm/net_filter.h"

static struct net_ident own, bare;
static size_t end;

static enum net_verdict judge(const struct nf *f)
{
	return net_filter(&own, f->b, f->n, &end);
}

#define JUDGED(f, as) assert_string_equal(net_verdict_name(judge(&(f))), net_verdict_name(as))
#define PASSES(f)     JUDGED(f, NET_PASS)
#define FAILS(f, why) JUDGED(f, why)

/* Every beginning of a frame that passes is judged without reading on, and none but the whole may claim what it does not. */
static void cut_everywhere(const struct nf *f)
{
	size_t n;

	for (n = 0; n <= f->n; n++) {
		uint8_t *exact = xmemdup(f->b, MAX(n, (size_t)1));

		(void)net_filter(&own, exact, n, &end);
		if (n < ETH_HLEN)
			assert_int_equal(net_filter(&own, exact, n, &end), NET_MALFORMED);
		free(exact);
	}
}

static void test_D_ethernet(void **state)
{
	static const unsigned others[] = {
		0x0000, 0x05dc,                 /* 802.3: spanning tree */
		0x8100, 0x88a8, 0x9100,         /* VLAN tags, one and two */
		0x8809, 0x88cc, 0x8808, 0x888e, /* LACP, LLDP, pause, 802.1X */
		0x8035, 0x8863, 0x8864, 0x8847, 0xffff,
	};
	struct nf f = nf_ip4(nf_ip, nf_ip_other, 6);
	size_t i;

	nf_put(&f, NULL, 20);
	nf_len(&f);
	PASSES(f);
	cut_everywhere(&f);
	memcpy(f.b + 6, nf_other, 6);
	FAILS(f, NET_MAC);
	memset(f.b + 6, 0xff, 6);
	FAILS(f, NET_MAC);
	f = nf_ip4(nf_ip, nf_ip_other, 6);
	for (i = 0; i < ARRAY_SIZE(others); i++) {
		nf_set16(&f, 12, others[i]);
		FAILS(f, NET_TYPE);
	}
}

static void test_D_arp(void **state)
{
	static const uint8_t none[4] = {0};
	static const struct {
		unsigned op;
		const uint8_t *sha, *spa;
		enum net_verdict verdict;
	} cases[] = {
		{1, nf_mac, nf_ip, NET_PASS},      {2, nf_mac, nf_ip, NET_PASS},
		{1, nf_mac, none, NET_PASS}, /* is it free? */
		{2, nf_mac, none, NET_ARP},        {1, nf_mac, nf_ip_other, NET_ARP},
		{2, nf_mac, nf_ip_other, NET_ARP}, {2, nf_other, nf_ip, NET_ARP},
		{3, nf_mac, nf_ip, NET_ARP}, /* RARP */
	};
	struct nf f = nf_arp(1, nf_mac, nf_ip);
	size_t i;

	PASSES(f);
	assert_int_equal(end, 14 + 28);
	cut_everywhere(&f);
	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		f = nf_arp(cases[i].op, cases[i].sha, cases[i].spa);
		JUDGED(f, cases[i].verdict);
	}
	f = nf_arp(1, nf_mac, nf_ip);
	f.b[14 + 4] = 8; /* another length of addresses */
	FAILS(f, NET_ARP);
	f = nf_arp(1, nf_mac, nf_ip);
	f.n = 14 + 27;
	FAILS(f, NET_MALFORMED);
	/* A card without an address claims none. */
	f = nf_arp(1, nf_mac, none);
	assert_int_equal(net_filter(&bare, f.b, f.n, &end), NET_PASS);
	f = nf_arp(2, nf_mac, none);
	assert_int_equal(net_filter(&bare, f.b, f.n, &end), NET_ARP);
}

static void test_D_ip4(void **state)
{
	static const uint8_t none[4] = {0}, all[4] = {255, 255, 255, 255}, lo[4] = {127, 0, 0, 1};
	struct nf f = nf_ip4(nf_ip, nf_ip_other, 17);

	nf_udp(&f, 1000, 53);
	PASSES(f);
	assert_int_equal(end, 14 + 20 + 4);
	cut_everywhere(&f);
	f = nf_ip4(nf_ip_other, nf_ip, 6);
	FAILS(f, NET_IP4);
	f = nf_ip4(lo, nf_ip, 6);
	FAILS(f, NET_IP4);
	f = nf_ip4(all, nf_ip, 6);
	FAILS(f, NET_IP4);
	f = nf_ip4(none, nf_ip_other, 6);
	FAILS(f, NET_IP4);
	/* A card without an address. */
	f = nf_ip4(nf_ip, nf_ip_other, 6);
	assert_int_equal(net_filter(&bare, f.b, f.n, &end), NET_IP4);

	f = nf_ip4(nf_ip, nf_ip_other, 6);
	f.b[14] = 0x65;
	FAILS(f, NET_MALFORMED);
	f.b[14] = 0x44;
	FAILS(f, NET_MALFORMED);
	f.b[14] = 0x4f; /* options that are not there */
	FAILS(f, NET_MALFORMED);
	nf_put(&f, NULL, 40);
	PASSES(f);
	assert_int_equal(end, 14 + 60);
}

static void test_D_dhcp(void **state)
{
	static const uint8_t none[4] = {0}, all[4] = {255, 255, 255, 255};
	static const struct {
		const uint8_t *src, *dst;
		unsigned from, to;
		enum net_verdict verdict;
	} cases[] =
		{
			{none, all, 68, 67, NET_PASS},
			{none, all, 68, 66, NET_IP4},
			{none, nf_ip_other, 68, 67, NET_IP4},
			{nf_ip, all, 67, 68, NET_ROUTER},
			/* Clients do not look at a server's port. */
			{nf_ip, nf_ip_other, 5000, 68, NET_ROUTER},
		},
	  cases6[] = {
		  {nf_link_local, NULL, 546, 547, NET_PASS},
		  {nf_link_local, NULL, 547, 546, NET_ROUTER},
		  {nf_ip6, NULL, 1, 546, NET_ROUTER},
	  };
	struct nf f;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		f = nf_ip4(cases[i].src, cases[i].dst, 17);
		nf_udp(&f, cases[i].from, cases[i].to);
		JUDGED(f, cases[i].verdict);
	}
	for (i = 0; i < ARRAY_SIZE(cases6); i++) {
		f = nf_6(cases6[i].src, 17);
		nf_udp(&f, cases6[i].from, cases6[i].to);
		JUDGED(f, cases6[i].verdict);
	}
	f = nf_ip4(none, all, 17);
	nf_udp(&f, 68, 67);
	assert_int_equal(net_filter(&bare, f.b, f.n, &end), NET_PASS);
	/* Behind options too. */
	f = nf_ip4(nf_ip, nf_ip_other, 17);
	f.b[14] = 0x46;
	nf_put(&f, NULL, 4);
	nf_udp(&f, 67, 68);
	FAILS(f, NET_ROUTER);
	/* A later fragment has no ports; a first one without them is none. */
	nf_set16(&f, 14 + 6, 3);
	PASSES(f);
	assert_int_equal(end, 14 + 24);
	nf_set16(&f, 14 + 6, 0x2000);
	f.n = 14 + 24 + 2;
	FAILS(f, NET_MALFORMED);
	/* Ports in the padding are none. */
	f = nf_ip4(nf_ip, nf_ip_other, 17);
	nf_udp(&f, 1000, 53);
	nf_set16(&f, 16, 20);
	FAILS(f, NET_MALFORMED);
}

static void test_D_ip6(void **state)
{
	static const uint8_t none[16] = {0};
	uint8_t near[16];
	struct nf f;
	unsigned i;

	f = nf_6(nf_link_local, 6);
	nf_put(&f, NULL, 20);
	PASSES(*nf_len(&f));
	cut_everywhere(&f);
	f = nf_6(nf_ip6, 17);
	nf_udp(&f, 1000, 53);
	PASSES(f);
	assert_int_equal(net_filter(&bare, f.b, f.n, &end), NET_IP6);
	f = nf_6(nf_ip6_other, 17);
	nf_udp(&f, 1000, 53);
	FAILS(f, NET_IP6);
	f = nf_6(none, 17);
	nf_udp(&f, 1000, 53);
	FAILS(f, NET_IP6);
	for (i = 0; i < 16; i++) { /* another's link-local address differs in any byte */
		memcpy(near, nf_link_local, 16);
		near[i] ^= 1;
		f = nf_6(near, 6);
		FAILS(f, NET_IP6);
	}
	f = nf_6(nf_ip6, 6);
	f.b[14] = 0x40;
	FAILS(f, NET_MALFORMED);
	f.n = 53;
	FAILS(f, NET_MALFORMED);
}

static void test_D_nd(void **state)
{
	static const uint8_t none[16] = {0};
	static const struct {
		const uint8_t *src;
		unsigned type;
		const uint8_t *target;
		unsigned option;
		const uint8_t *mac;
		enum net_verdict verdict;
	} cases[] = {
		/* Solicitations: of anyone, with our own address; from :: only for an address of ours. */
		{nf_link_local, 135, nf_ip6_other, 1, nf_mac, NET_PASS},
		{nf_link_local, 135, nf_ip6_other, 1, nf_other, NET_ND},
		{none, 135, nf_link_local, 0, NULL, NET_PASS},
		{none, 135, nf_ip6_other, 0, NULL, NET_ND},
		/* Advertisements: of ours, with our MAC address. An option that is not known does not count. */
		{nf_ip6, 136, nf_ip6, 2, nf_mac, NET_PASS},
		{nf_ip6, 136, nf_ip6_other, 2, nf_mac, NET_ND},
		{nf_ip6, 136, nf_ip6, 2, nf_other, NET_ND},
		{nf_ip6, 136, nf_ip6, 14, nf_other, NET_PASS},
		/* What routers say; echo. */
		{nf_link_local, 134, none, 0, NULL, NET_ROUTER},
		{nf_link_local, 137, none, 0, NULL, NET_ROUTER},
		{nf_ip6, 128, none, 0, NULL, NET_PASS},
		{none, 128, none, 0, NULL, NET_IP6},
	};
	struct nf f;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		f = nf_6(cases[i].src, 58);
		nf_nd(&f, cases[i].type, cases[i].target, cases[i].option, cases[i].mac);
		JUDGED(f, cases[i].verdict);
	}
	f = nf_6(nf_link_local, 58);
	nf_nd(&f, 135, nf_ip6_other, 1, nf_mac);
	PASSES(f);
	assert_int_equal(end, f.n);
	cut_everywhere(&f);
	f = nf_6(nf_ip6, 58);
	nf_nd(&f, 136, nf_ip6, 2, nf_mac);
	f.b[f.n - 7] = 2; /* an option longer than the message */
	FAILS(f, NET_MALFORMED);
	f.b[f.n - 7] = 0;
	FAILS(f, NET_MALFORMED);
	/* The second option counts too. */
	f = nf_6(nf_ip6, 58);
	nf_nd(&f, 136, nf_ip6, 14, nf_other);
	nf_put(&f, "\2\1", 2);
	nf_put(&f, nf_other, 6);
	FAILS(*nf_len(&f), NET_ND);
	/* Router solicitations; multicast reports. */
	f = nf_6(nf_link_local, 58);
	nf_put(&f, "\x85\0\0\0\0\0\0\0", 8);
	PASSES(*nf_len(&f));
	nf_put(&f, "\1\1", 2);
	nf_put(&f, nf_other, 6);
	FAILS(*nf_len(&f), NET_ND);
	f = nf_6(none, 0);
	nf_put(&f, "\x3a\0\5\2\0\0\1\0", 8); /* router alert, then MLDv2 */
	nf_nd(&f, 143, none, 0, NULL);
	PASSES(f);
}

/* An advertisement for another behind `n` bytes of extension headers. */
static struct nf nd_behind(unsigned first, const void *ext, size_t n)
{
	struct nf f = nf_6(nf_link_local, first);

	nf_put(&f, ext, n);
	nf_nd(&f, 136, nf_ip6_other, 2, nf_other);
	return f;
}

static void test_D_extensions(void **state)
{
	static const uint8_t hop[] = {58, 0, 1, 4, 0, 0, 0, 0};
	static const uint8_t chain[] = {60, 0, 1, 4, 0, 0, 0,  0, 43, 0, 1, 4, 0, 0, 0, 0, 51, 0,
					9,  0, 0, 0, 0, 0, 58, 1, 0,  0, 0, 0, 0, 0, 0, 0, 0,  0};
	static const uint8_t first[] = {58, 0, 0, 1, 0, 0, 0, 1},
			     atomic[] = {58, 0, 0, 0, 0, 0, 0, 1},
			     later[] = {58, 0, 0, 8, 0, 0, 0, 1};
	uint8_t big[248] = {58, 30, 1, 4};
	struct nf f = nd_behind(0, hop, sizeof(hop));

	FAILS(f, NET_ND);
	cut_everywhere(&f);
	f = nd_behind(0, chain, sizeof(chain));
	FAILS(f, NET_ND);
	/* Fragments: a first one is judged and may not be neighbour discovery at all (RFC 6980). */
	f = nd_behind(44, first, 8);
	FAILS(f, NET_ND);
	f = nd_behind(44, atomic, 8);
	FAILS(f, NET_ND);
	f = nd_behind(44, later, 8);
	PASSES(f);
	/* Not even of its own address. */
	f = nf_6(nf_ip6, 44);
	nf_put(&f, atomic, 8);
	nf_nd(&f, 136, nf_ip6, 2, nf_mac);
	FAILS(f, NET_ND);
	f.b[14 + 40 + 3] = 1;
	FAILS(f, NET_ND);
	/* Headers longer than what is looked at. */
	f = nd_behind(60, big, sizeof(big));
	FAILS(f, NET_MALFORMED);
	/* A chain that goes on in the next fragment: what lies behind this one is padding (RFC 7112). */
	f = nf_6(nf_link_local, 44);
	nf_put(&f, "\x3c\0\0\1\0\0\0\1", 8);
	nf_put(&f, "\x3a\1\0\0\0\0\0\0", 8); /* 16 bytes long */
	nf_len(&f);
	nf_put(&f, NULL, 8);
	nf_put(&f, "\x80\0\0\0\0\0\0\0", 8); /* looks like an echo request */
	FAILS(f, NET_MALFORMED);
}

static int setup(void **state)
{
	net_ident_init(&own, nf_mac, nf_ip, nf_ip6);
	net_ident_init(&bare, nf_mac, NULL, NULL);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_D_ethernet),   cmocka_unit_test(test_D_arp),
		cmocka_unit_test(test_D_ip4),        cmocka_unit_test(test_D_dhcp),
		cmocka_unit_test(test_D_ip6),        cmocka_unit_test(test_D_nd),
		cmocka_unit_test(test_D_extensions),
	};

	return cmocka_run_group_tests(tests, setup, NULL);
}
