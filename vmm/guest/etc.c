/* SPDX-License-Identifier: Apache-2.0 */
/*
 * etc.c - hostname, hosts and resolv.conf in the container's /etc.
 *
 * The files are made anew: whatever the image has there is unlinked, not followed and not truncated, so a
 * symlink planted as /etc/hosts leads nowhere.
 */
#include <arpa/inet.h>
#include <fcntl.h>

#include "vmm/guest/guest.h"

#define MAX_LIST 64

/* A word of a line: no blanks or control characters that could start another line or field. */
static bool word_ok(const char *s)
{
	const unsigned char *p = (const unsigned char *)s;

	if (!s || !*s)
		return false;
	for (; *p; p++)
		if (*p <= ' ' || *p == 0x7f)
			return false;
	return true;
}

static bool address_ok(const char *s)
{
	unsigned char bin[16];

	return s && (inet_pton(AF_INET, s, bin) == 1 || inet_pton(AF_INET6, s, bin) == 1);
}

static const char *nth_word(struct json_object *arr, size_t i)
{
	struct json_object *o = json_object_array_get_idx(arr, i);
	const char *s = json_object_is_type(o, json_type_string) ? json_object_get_string(o) : NULL;

	return word_ok(s) ? s : NULL;
}

static size_t length(struct json_object *arr)
{
	return arr ? MIN(json_object_array_length(arr), (size_t)MAX_LIST) : 0;
}

static int write_file(int etc, const char *name, const struct buf *b, struct error **err)
{
	CLEANUP_CLOSE int fd = -1;

	if (unlinkat(etc, name, 0) && errno == EISDIR && unlinkat(etc, name, AT_REMOVEDIR))
		return error_sys(err, errno, "replace /etc/%s", name);
	fd = openat(etc, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
	if (fd < 0)
		return error_sys(err, errno, "create /etc/%s", name);
	if (fd_write_full(fd, b->data, b->len, err))
		return error_wrap(err, "/etc/%s", name);
	return 0;
}

static int write_hosts(int etc, struct json_object *hosts, struct error **err)
{
	CLEANUP_BUF struct buf b = {0};
	size_t i, k;

	buf_puts(&b, "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n");
	for (i = 0; i < length(hosts); i++) {
		struct json_object *h = json_object_array_get_idx(hosts, i);
		unsigned n = 0;
		struct json_object *names = json_arr(h, "names");
		const char *address = json_str(h, "address", NULL), *name;

		if (!address_ok(address) || !length(names))
			continue;
		buf_puts(&b, address);
		for (k = 0; k < length(names); k++) {
			name = nth_word(names, k);
			if (name)
				buf_printf(&b, "%c%s", n++ ? ' ' : '\t', name);
		}
		buf_puts(&b, "\n");
	}
	return write_file(etc, "hosts", &b, err);
}

static void put_list(struct buf *b, const char *key, struct json_object *arr)
{
	size_t i, n = 0;

	for (i = 0; i < length(arr); i++) {
		const char *w = nth_word(arr, i);

		if (w)
			buf_printf(b, "%s %s", n++ ? "" : key, w);
	}
	if (n)
		buf_puts(b, "\n");
}

static int write_resolv(int etc, struct json_object *dns, struct error **err)
{
	CLEANUP_BUF struct buf b = {0};
	struct json_object *servers = json_arr(dns, "nameservers");
	const char *domain = json_str(dns, "domain", "");
	size_t i;

	buf_reserve(&b, 64);
	for (i = 0; i < length(servers); i++) {
		const char *s = nth_word(servers, i);

		if (address_ok(s))
			buf_printf(&b, "nameserver %s\n", s);
	}
	if (word_ok(domain))
		buf_printf(&b, "domain %s\n", domain);
	put_list(&b, "search", json_arr(dns, "search"));
	put_list(&b, "options", json_arr(dns, "options"));
	return write_file(etc, "resolv.conf", &b, err);
}

int etc_write(int rootfd, struct json_object *boot, struct error **err)
{
	const char *hostname = json_str(boot, "hostname", "");
	CLEANUP_CLOSE int mark = mnt_target(rootfd, "/etc", false, err), etc = -1;

	if (mark < 0)
		return -1;
	etc = openat(mark, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (etc < 0)
		return error_sys(err, errno, "open /etc");
	if (word_ok(hostname)) {
		CLEANUP_BUF struct buf b = {0};

		buf_printf(&b, "%s\n", hostname);
		if (write_file(etc, "hostname", &b, err))
			return -1;
	}
	if (json_arr(boot, "hosts") && write_hosts(etc, json_arr(boot, "hosts"), err))
		return -1;
	if (json_obj(boot, "dns") && write_resolv(etc, json_obj(boot, "dns"), err))
		return -1;
	return 0;
}
