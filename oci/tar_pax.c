/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tar_pax.c - the records of pax extended headers: "<length> <key>=<value>\n", length in decimal
 * and counting itself. Unknown keys are ignored, as POSIX says; those known are checked.
 */
#include "oci/tar_int.h"

#define XATTR_PREFIX "SCHILY.xattr."

void tar_pax_clear(struct tar_pax *p)
{
	free(p->path);
	free(p->linkpath);
	free(p->sparse_name);
	for (size_t i = 0; i < p->nxattrs; i++) {
		free(p->xattrs[i].name);
		free(p->xattrs[i].value);
	}
	free(p->xattrs);
	free(p->sparse);
	memset(p, 0, sizeof(*p));
}

int tar_pax_segment(struct tar_pax *p, uint64_t offset, uint64_t len, struct error **err)
{
	if (!len)
		return 0;
	if (p->nsparse == TAR_MAX_SPARSE)
		return error_set(err, ERR_INVALID_ARGUMENT,
				 "tar: a sparse file of more than %d segments", TAR_MAX_SPARSE);
	if (p->nsparse == p->cap_sparse) {
		p->cap_sparse = p->cap_sparse ? p->cap_sparse * 2 : 16;
		p->sparse = xreallocarray(p->sparse, p->cap_sparse, sizeof(*p->sparse));
	}
	p->sparse[p->nsparse++] = (struct tar_sparse){.offset = offset, .len = len};
	return 0;
}

static int pax_bad(const char *key, struct error **err)
{
	return error_set(err, ERR_INVALID_ARGUMENT, "tar: bad pax record %s", key);
}

static int pax_u64(const char *key, const char *v, uint64_t *out, struct error **err)
{
	if (parse_u64(v, out) < 0 || *out > INT64_MAX)
		return pax_bad(key, err);
	return 0;
}

/* "-12.5": seconds rounded down, and the nanoseconds above them. */
static int pax_time(const char *key, const char *v, int64_t *sec, uint32_t *nsec,
		    struct error **err)
{
	bool neg = *v == '-';
	CLEANUP_FREE char *whole = xstrdup(v + neg);
	char *dot = strchr(whole, '.');
	uint64_t s;
	uint32_t ns = 0, scale = 100000000;

	if (dot) {
		*dot = 0;
		for (const char *d = dot + 1; *d; d++, scale /= 10) {
			if (*d < '0' || *d > '9')
				return pax_bad(key, err);
			ns += (uint32_t)(*d - '0') * scale;
		}
	}
	if (pax_u64(key, whole, &s, err) < 0)
		return -1;
	*sec = neg ? -(int64_t)s : (int64_t)s;
	if (neg && ns) {
		--*sec;
		ns = 1000000000 - ns;
	}
	*nsec = ns;
	return 0;
}

static int pax_xattr(struct tar_pax *p, const char *name, const void *v, size_t len,
		     struct error **err)
{
	struct tar_xattr *x = NULL;

	if (!*name || strlen(name) > TAR_MAX_COMPONENT)
		return error_set(err, ERR_INVALID_ARGUMENT, "tar: bad extended attribute name");
	for (size_t i = 0; i < p->nxattrs; i++)
		if (str_eq(p->xattrs[i].name, name))
			x = &p->xattrs[i];
	p->xattr_bytes += len;
	if (len > TAR_MAX_XATTR || p->xattr_bytes > 2 * TAR_MAX_XATTR ||
	    (!x && p->nxattrs == TAR_MAX_XATTRS))
		return error_set(err, ERR_INVALID_ARGUMENT, "tar: too many extended attributes");
	if (!x) {
		p->xattrs = xreallocarray(p->xattrs, p->nxattrs + 1, sizeof(*p->xattrs));
		x = &p->xattrs[p->nxattrs++];
		*x = (struct tar_xattr){.name = xstrdup(name)};
	}
	free(x->value);
	x->value = xmemdup(v, len);
	x->len = len;
	return 0;
}

/* "off,len,off,len" of sparse format 0.1 */
static int pax_sparse_map(struct tar_pax *p, const char *key, char *v, struct error **err)
{
	uint64_t pair[2];
	int i = 0;

	p->nsparse = 0;
	while (v) {
		char *next = strchr(v, ',');

		if (next)
			*next++ = 0;
		if (pax_u64(key, v, &pair[i], err) < 0)
			return -1;
		if (i == 1 && tar_pax_segment(p, pair[0], pair[1], err) < 0)
			return -1;
		i ^= 1;
		v = next;
	}
	return i ? pax_bad(key, err) : 0;
}

static int pax_sparse(struct tar_pax *p, const char *key, char *v, struct error **err)
{
	const char *k = key + strlen("GNU.sparse.");
	uint64_t n = 0;

	p->has_sparse = true;
	if (str_eq(k, "name")) {
		free(p->sparse_name);
		p->sparse_name = *v ? xstrdup(v) : NULL;
		return 0;
	}
	if (str_eq(k, "map"))
		return pax_sparse_map(p, key, v, err);
	if (pax_u64(key, v, &n, err) < 0)
		return -1;
	if (str_eq(k, "size") || str_eq(k, "realsize")) {
		p->sparse_size = n;
	} else if (str_eq(k, "major") || str_eq(k, "minor")) {
		if (n > 99)
			return pax_bad(key, err);
		*(k[1] == 'a' ? &p->sparse_major : &p->sparse_minor) = (unsigned)n;
	} else if (str_eq(k, "offset")) {
		p->sparse_offset = n;
	} else if (str_eq(k, "numbytes")) {
		return tar_pax_segment(p, p->sparse_offset, n, err);
	}
	return 0;
}

static void pax_string(char **slot, const char *v)
{
	free(*slot);
	*slot = *v ? xstrdup(v) : NULL; /* an empty value takes the override back */
}

static int pax_record(struct tar_pax *p, const char *key, char *v, size_t len, bool global,
		      struct error **err)
{
	if (str_prefix(key, XATTR_PREFIX))
		return pax_xattr(p, key + strlen(XATTR_PREFIX), v, len, err);
	bool naming = str_eq(key, "path") || str_eq(key, "linkpath") || str_eq(key, "size") ||
		      str_prefix(key, "GNU.sparse.");

	if (!naming && !str_eq(key, "uid") && !str_eq(key, "gid") && !str_eq(key, "mtime"))
		return 0;
	if (memchr(v, 0, len) || (global && naming))
		return pax_bad(key, err);
	if (str_eq(key, "path"))
		pax_string(&p->path, v);
	else if (str_eq(key, "linkpath"))
		pax_string(&p->linkpath, v);
	else if (naming && *key == 'G')
		return pax_sparse(p, key, v, err);
	else if (!*v) /* takes the override back */
		*(str_eq(key, "size")  ? &p->has_size
		  : str_eq(key, "uid") ? &p->has_uid
		  : str_eq(key, "gid") ? &p->has_gid
				       : &p->has_mtime) = false;
	else if (str_eq(key, "size"))
		return p->has_size = true, pax_u64(key, v, &p->size, err);
	else if (str_eq(key, "uid"))
		return p->has_uid = true, pax_u64(key, v, &p->uid, err);
	else if (str_eq(key, "gid"))
		return p->has_gid = true, pax_u64(key, v, &p->gid, err);
	else
		return p->has_mtime = true, pax_time(key, v, &p->mtime, &p->mtime_nsec, err);
	return 0;
}

int tar_pax_parse(struct tar_pax *p, const char *s, size_t len, bool global, struct error **err)
{
	const char *end = s + len;

	while (s < end) {
		uint64_t n = 0;
		const char *d = s;

		/* GNU tar and others pad with NULs. */
		if (!*s)
			return 0;
		for (; d < end && *d >= '0' && *d <= '9' && n <= TAR_MAX_PAX; d++)
			n = n * 10 + (unsigned)(*d - '0');
		if (d == s || d == end || *d != ' ' || n > (uint64_t)(end - s) ||
		    n < (uint64_t)(d - s) + 4 || s[n - 1] != '\n')
			return error_set(err, ERR_INVALID_ARGUMENT, "tar: malformed pax header");
		const char *key = d + 1, *eq = memchr(key, '=', (size_t)(s + n - 1 - key));

		if (!eq || eq == key || memchr(key, 0, (size_t)(eq - key)))
			return error_set(err, ERR_INVALID_ARGUMENT, "tar: malformed pax header");
		CLEANUP_FREE char *k = xstrndup(key, (size_t)(eq - key));
		size_t vlen = (size_t)(s + n - 1 - (eq + 1));
		CLEANUP_FREE char *v = xmalloc(vlen + 1);

		memcpy(v, eq + 1, vlen);
		v[vlen] = 0;
		if (pax_record(p, k, v, vlen, global, err) < 0)
			return -1;
		s += n;
	}
	return 0;
}
