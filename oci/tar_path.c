/* SPDX-License-Identifier: Apache-2.0 */
/* tar_path.c - paths of an archive's members, as names in the archive: nothing here looks at a file system. */
#include "oci/tar.h"

char *tar_path_clean(const char *s)
{
	CLEANUP_BUF struct buf b = {0};

	if (*s == '/')
		return NULL;
	while (*s) {
		size_t n = strcspn(s, "/");

		if (n == 2 && s[0] == '.' && s[1] == '.')
			return NULL;
		if (n && !(n == 1 && *s == '.')) {
			if (b.len)
				buf_append(&b, "/", 1);
			buf_append(&b, s, n);
		}
		s += n;
		s += strspn(s, "/");
	}
	return b.data ? STEAL(b.data) : xstrdup("");
}

char *tar_path_link(const char *path, const char *target)
{
	CLEANUP_STRV struct strv parts = {0};
	CLEANUP_BUF struct buf b = {0};
	const char *bases[2] = {path, target};
	size_t i;

	if (*target == '/')
		return NULL;
	for (i = 0; i < 2; i++) {
		const char *s = bases[i];

		for (;;) {
			size_t n = strcspn(s, "/");

			if (i == 0 && !s[n]) /* the link's own name */
				break;
			if (n == 2 && !strncmp(s, "..", 2)) {
				if (parts.n == 0)
					return NULL;
				free(parts.v[--parts.n]);
				parts.v[parts.n] = NULL;
			} else if (n && !(n == 1 && *s == '.')) {
				strv_take(&parts, xstrndup(s, n));
			}
			s += n;
			if (!*s)
				break;
			s++;
		}
	}
	for (i = 0; i < parts.n; i++)
		buf_printf(&b, "%s%s", i ? "/" : "", parts.v[i]);
	return b.data ? STEAL(b.data) : NULL;
}
