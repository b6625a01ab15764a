// links: net core
/* SPDX-License-Identifier: Apache-2.0 */
/* test_net.c - links, rules and leases, in a network namespace that this program makes for itself.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <arpa/inet.h>
#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <sys/wait.h>
#include <sys/mount.h>

#include "core/path.h"
#include "core/state.h"
#include "net/net.h"

static bool own_netns;

static struct in_addr ip(const char *s)
{
	struct in_addr a;

	assert_int_equal(inet_pton(AF_INET, s, &a), 1);
	return a;
}

static void ok(int r, struct error *e)
{
	if (r < 0)
		fail_msg("%s", error_text(e));
}

/* nft_list: what Debian's own nft says of a table; "" when it is not there. */
static void nft_list(const char *table, struct buf *out)
{
	int p[2];
	pid_t pid;
	char chunk[4096];
	ssize_t n;

	assert_int_equal(pipe(p), 0);
	pid = fork();
	if (pid == 0) {
		dup2(p[1], 1);
		close(2);
		close(p[0]);
		execl("/usr/sbin/nft", "nft", "list", "table", "inet", table, NULL);
		_exit(127);
	}
	close(p[1]);
	while ((n = read(p[0], chunk, sizeof(chunk))) > 0)
		buf_append(out, chunk, (size_t)n);
	buf_puts(out, "");
	close(p[0]);
	waitpid(pid, NULL, 0);
}

/* The host has given a link no IPv6 address, so it says nothing on it unasked. */
static void no_ipv6(const char *name)
{
	CLEANUP_BUF struct buf b = {0};

	if (path_read_all(AT_FDCWD, "/proc/self/net/if_inet6", 64 << 10, &b, NULL) == 0 && b.data &&
	    strstr(b.data, name))
		fail_msg("%s has an address: %s", name, b.data);
}

static void test_bridge_tap(void **state)
{
	struct error *e = NULL;
	int tap[NET_TAP_QUEUES], i;

	if (!own_netns)
		skip(); /* not root: no namespace of our own */
	ok(net_bridge_ensure("ctest-0", ip("192.168.64.1"), 24, 1500, &e), e);
	ok(net_bridge_ensure("ctest-0", ip("192.168.64.1"), 24, 1500, &e), e);
	assert_int_not_equal(if_nametoindex("ctest-0"), 0);
	ok(net_tap_open("ctestt%d", "ctest-0", 1400, 3, tap, &e), e);
	assert_int_not_equal(if_nametoindex("ctestt0"), 0);
	assert_int_equal(if_nametoindex("ctestt1"), 0); /* three queues are one link */
	no_ipv6("ctestt0");
	no_ipv6("ctest-0");
	for (i = 0; i < 3; i++)
		close(tap[i]);
	for (i = 0; i < 100 && if_nametoindex("ctestt0"); i++)
		usleep(10000);
	assert_int_equal(if_nametoindex("ctestt0"), 0);
	assert_int_equal(net_tap_open("x", "nobridge", 1500, 1, tap, &e), -1);
	assert_int_equal(e->code, ERR_NOT_FOUND);
	error_free(STEAL(e));
	/* a link of the name that is no bridge is left alone */
	ok(net_tap_open("cttap", "ctest-0", 1500, 1, tap, &e), e);
	assert_int_equal(net_bridge_ensure("cttap", ip("10.0.0.1"), 24, 1500, &e), -1);
	assert_int_equal(e->code, ERR_EXISTS);
	error_free(e);
	close(tap[0]);
	ok(net_link_delete("ctest-0", NULL), NULL);
	ok(net_link_delete("ctest-0", NULL), NULL);
	assert_int_equal(if_nametoindex("ctest-0"), 0);
}

static void test_nat(void **state)
{
	struct error *e = NULL;
	CLEANUP_BUF struct buf text = {0};
	CLEANUP_BUF struct buf again = {0};
	CLEANUP_BUF struct buf gone = {0};

	if (!own_netns)
		skip();
	ok(net_nat_ensure("container_test", "ctest-0", ip("192.168.64.0"), 24, &e), e);
	nft_list("container_test", &text);
	assert_non_null(
		strstr(text.data, "ip saddr 192.168.64.0/24 oifname != \"ctest-0\" masquerade"));
	assert_non_null(strstr(text.data, "iifname \"ctest-0\" accept"));
	assert_non_null(
		strstr(text.data, "oifname \"ctest-0\" ct state established,related accept"));
	assert_non_null(strstr(text.data, "oifname \"ctest-0\" drop"));
	ok(net_nat_ensure("container_test", "ctest-0", ip("192.168.64.0"), 24, &e), e);
	nft_list("container_test", &again);
	assert_string_equal(text.data, again.data); /* no rule is there twice */
	ok(net_nat_delete("container_test", &e), e);
	ok(net_nat_delete("container_test", &e), e);
	nft_list("container_test", &gone);
	assert_string_equal(gone.data, "");
}

static void test_ipam(void **state)
{
	char dir[] = "/tmp/test-ipam-XXXXXX";
	struct error *e = NULL;
	struct in_addr a, b;
	struct ipam *p;
	int fd;

	assert_non_null(mkdtemp(dir));
	fd = path_open_dir(dir, &e);
	p = ipam_open(fd, ip("10.9.8.0"), 29, &e);
	assert_non_null(p);
	ok(ipam_allocate(p, "one", &a, &e), e);
	assert_string_equal(inet_ntoa(a), "10.9.8.2");
	ok(ipam_allocate(p, "one", &b, &e), e);
	assert_int_equal(a.s_addr, b.s_addr);
	ok(ipam_allocate(p, "two", &b, &e), e);
	assert_string_equal(inet_ntoa(b), "10.9.8.3");
	/* an address given back is not the next to be used */
	ok(ipam_release(p, "one", &e), e);
	ok(ipam_allocate(p, "three", &b, &e), e);
	assert_string_equal(inet_ntoa(b), "10.9.8.4");
	/* leases live on in the file */
	ipam_free(p);
	p = ipam_open(fd, ip("10.9.8.0"), 29, &e);
	assert_non_null(p);
	ok(ipam_allocate(p, "two", &b, &e), e);
	assert_string_equal(inet_ntoa(b), "10.9.8.3");
	/* .2 .3 .4 .5 .6 are all there is */
	ok(ipam_allocate(p, "four", &b, &e), e);
	ok(ipam_allocate(p, "five", &b, &e), e);
	ok(ipam_allocate(p, "six", &b, &e), e);
	assert_int_equal(ipam_allocate(p, "seven", &b, &e), -1);
	error_free(STEAL(e));
	CLEANUP_JSON struct json_object *keep = json_object_new_array();
	json_add_str(keep, "six");
	ok(ipam_reconcile(p, keep, &e), e);
	ok(ipam_allocate(p, "seven", &b, &e), e);
	ipam_free(p);
	assert_null(ipam_open(fd, ip("10.9.8.0"), 31, &e));
	error_free(e);
	path_remove_tree(AT_FDCWD, dir, NULL);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bridge_tap),
		cmocka_unit_test(test_nat),
		cmocka_unit_test(test_ipam),
	};

	own_netns = unshare(CLONE_NEWNET | CLONE_NEWNS) == 0;
	if (own_netns)
		mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL);
	return cmocka_run_group_tests_name("net", tests, NULL, NULL);
}
