// links: oci core
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_url.c - where a registry sends its client: realms, redirects, the headers of an answer. Hostile: the URL, what is
 * appended to it, the Location it redirects to, header lines, what it says of errors. An origin that is taken names a host and a port and no
 * user; appending to a URL never changes its origin; a redirect that is taken leads to http or https only. The file is
 * included whole for the functions that only it has.
 */
#include "oci/http.c"
#include "tests/fuzz/fuzz.h"

static void redirect(const char *from, const char *to)
{
	char *url = resolve_location(from, to, NULL);
	struct http_origin o;

	if (url && http_origin_of(url, &o, NULL) == 0)
		FUZZ_CHECK(!strncmp(url, o.https ? "https://" : "http://", o.https ? 8 : 7));
	free(url);
}

static void headers(const char *line, size_t n)
{
	struct http_result res = {0};
	struct hop hop = {.res = &res, .range_start = -1};

	FUZZ_CHECK(on_header((char *)(uintptr_t)line, 1, n, &hop) == n);
	FUZZ_CHECK(hop.range_start >= -1 && res.retry_after <= 3600);
	free(hop.location);
	http_result_free(&res);
}

/* What a registry says: short and printable, whatever it was. */
static void text_check(char *text)
{
	const char *p;

	for (p = text; p && *p; p++)
		FUZZ_CHECK((unsigned char)*p >= ' ' && *p != 0x7f);
	FUZZ_CHECK(!text || (*text && p - text <= 240));
	free(text);
}

static void texts(const char *s, size_t n)
{
	CLEANUP_FREE char *quoted = xasprintf("299 - \"%s", s);
	int64_t wait = http_retry_after(s);

	text_check(http_error_text(s, n));
	text_check(http_warning_text(s));
	text_check(http_warning_text(quoted));
	FUZZ_CHECK(wait >= 0 && wait <= 3600);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fz f = {data, size};
	char *url = fz_string(&f), *service = fz_string(&f), *scope = fz_string(&f), *longer;
	const char *const query[][2] = {{"service", service}, {"scope", *scope ? scope : NULL}};
	struct http_origin a, b;
	uint64_t port;

	if (http_origin_of(url, &a, NULL) == 0) {
		FUZZ_CHECK(a.host[0] && !strpbrk(a.host, "@/ \r\n"));
		FUZZ_CHECK(!parse_u64(a.port, &port) && port <= 65535);
		longer = http_url_query(url, query, 2, NULL);
		if (longer) {
			FUZZ_CHECK(!strpbrk(longer, "\r\n"));
			FUZZ_CHECK(!http_origin_of(longer, &b, NULL));
			FUZZ_CHECK(a.https == b.https && !strcmp(a.host, b.host) &&
				   !strcmp(a.port, b.port));
			free(longer);
		}
	} else {
		FUZZ_CHECK(!a.host[0] && !a.port[0]);
	}
	redirect("https://registry.example/v2/a/blobs/x?y=z", url);
	redirect(url, service);
	headers((const char *)data, size);
	texts(service, strlen(service));
	free(url);
	free(service);
	free(scope);
	return 0;
}
