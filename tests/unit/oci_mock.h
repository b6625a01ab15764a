/* SPDX-License-Identifier: Apache-2.0 */
/*
 * oci_mock.h - a registry on a loopback port, one thread, one request per connection. It serves an fx's blobs, and a test's
 * hook may answer any request in its own way.
 */
#ifndef TESTS_OCI_MOCK_H
#define TESTS_OCI_MOCK_H

#include <arpa/inet.h>
#include <pthread.h>
#include <sys/socket.h>

#include "tests/unit/oci_fixture.h"

struct mock_request {
	int fd;
	char text[8192]; /* the whole head, and what came of the body with it */
	size_t len;
	char method[16], path[2048];
};

struct mock {
	struct fx *f;
	int listen_fd, port;
	pthread_t thread;
	const char *manifest; /* digest served for tag "t" */
	const char *type;     /* its Content-Type */
	/* Returns true when it has answered. */
	bool (*hook)(struct mock *m, struct mock_request *r);
	int count, other; /* for the hook */
	struct mock *peer;
};

UNUSED static void mock_send(struct mock_request *r, const void *p, size_t n)
{
	while (n) {
		ssize_t k = send(r->fd, p, n, MSG_NOSIGNAL);

		if (k <= 0)
			return;
		p = (const char *)p + k;
		n -= (size_t)k;
	}
}

/* A whole answer; headers are lines that end in \r\n. */
UNUSED static void mock_reply(struct mock_request *r, const char *status, const char *headers,
			      const void *body, size_t n)
{
	CLEANUP_FREE char *head =
		xasprintf("HTTP/1.1 %s\r\nConnection: close\r\nContent-Length: %zu\r\n%s\r\n",
			  status, n, headers);

	mock_send(r, head, strlen(head));
	mock_send(r, body, n);
}

UNUSED static bool mock_is(const struct mock_request *r, const char *part)
{
	return strstr(r->path, part) != NULL;
}

UNUSED static bool mock_has_header(const struct mock_request *r, const char *line)
{
	return strstr(r->text, line) != NULL;
}

/* The body as its Content-Length says, at most max bytes of it. */
UNUSED static void mock_body(struct mock_request *r, size_t max, struct buf *out)
{
	const char *at = strcasestr(r->text, "\r\nContent-Length:");
	const char *body = strstr(r->text, "\r\n\r\n") + 4;
	size_t want = at ? strtoul(at + 17, NULL, 10) : 0, have;

	want = MIN(want, max);
	have = MIN(r->len - (size_t)(body - r->text), want);
	buf_append(out, body, have);
	while (have < want) {
		char chunk[4096];
		ssize_t k = recv(r->fd, chunk, MIN(sizeof(chunk), want - have), 0);

		if (k <= 0)
			return;
		buf_append(out, chunk, (size_t)k);
		have += (size_t)k;
	}
}

UNUSED static void mock_serve(struct mock *m, struct mock_request *r)
{
	CLEANUP_FREE char *type = NULL;
	const char *digest = strcmp(r->method, "GET") ? NULL : strstr(r->path, "sha256:");
	struct fx_blob *b;

	if (!strcmp(r->method, "GET") && mock_is(r, "/manifests/t"))
		digest = m->manifest;
	b = digest ? fx_get(m->f, digest) : NULL;
	if (!b) {
		mock_reply(r, "404 Not Found", "", "{}", 2);
		return;
	}
	type = xasprintf("Content-Type: %s\r\n", m->type ? m->type : "application/json");
	mock_reply(r, "200 OK", mock_is(r, "/manifests/t") ? type : "", b->data.data, b->data.len);
}

UNUSED static void mock_one(struct mock *m, int fd)
{
	struct mock_request r = {.fd = fd};
	size_t n = 0;

	while (n < sizeof(r.text) - 1 && !strstr(r.text, "\r\n\r\n")) {
		ssize_t k = recv(fd, r.text + n, sizeof(r.text) - 1 - n, 0);

		if (k <= 0)
			return;
		n += (size_t)k;
	}
	r.len = n;
	if (sscanf(r.text, "%15s %2047s", r.method, r.path) == 2 && !(m->hook && m->hook(m, &r)))
		mock_serve(m, &r);
	shutdown(fd, SHUT_WR);
}

UNUSED static void *mock_thread(void *arg)
{
	struct mock *m = arg;
	int fd;

	while ((fd = accept(m->listen_fd, NULL, NULL)) >= 0) {
		mock_one(m, fd);
		close(fd);
	}
	return NULL;
}

UNUSED static void mock_start(struct mock *m, struct fx *f)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(a);

	m->f = f;
	m->listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(m->listen_fd, (struct sockaddr *)&a, sizeof(a)), 0);
	assert_int_equal(listen(m->listen_fd, 16), 0);
	getsockname(m->listen_fd, (struct sockaddr *)&a, &len);
	m->port = ntohs(a.sin_port);
	assert_int_equal(pthread_create(&m->thread, NULL, mock_thread, m), 0);
}

UNUSED static void mock_stop(struct mock *m)
{
	shutdown(m->listen_fd, SHUT_RDWR);
	pthread_join(m->thread, NULL);
	close(m->listen_fd);
}

#endif
