/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tar.c - the streaming tar reader: blocks, headers, and the data of members.
 *
 * A member is: any number of meta headers ('x' pax, 'g' global pax, 'L'/'K' GNU long names) that
 * describe what follows, one 512-byte header, the data, zeros up to the next 512. Pax records beat
 * GNU long names, which beat the header's own fields. What pax records mean is in tar_pax.c.
 */
#include "oci/tar_int.h"

#include <inttypes.h>

#define TAR_BLOCK_SIZE 512
#define TAR_BUFFER     (256u << 10)

/* Byte offsets in a header block: POSIX ustar, and where GNU and star differ. */
enum {
	H_NAME = 0,
	H_MODE = 100,
	H_UID = 108,
	H_GID = 116,
	H_SIZE = 124,
	H_MTIME = 136,
	H_CHKSUM = 148,
	H_TYPE = 156,
	H_LINK = 157,
	H_MAGIC = 257,
	H_DEVMAJOR = 329,
	H_DEVMINOR = 337,
	H_PREFIX = 345,
	H_GNU_SPARSE = 386, /* four (offset, length) pairs */
	H_GNU_EXTENDED = 482,
	H_GNU_REALSIZE = 483,
	H_STAR_TRAILER = 508,
	X_EXTENDED = 504, /* in an extension block of 21 pairs */
};

struct tar_reader {
	struct oci_reader src;
	uint64_t members; /* asked for so far */
	uint8_t *buf;
	size_t pos, len;
	bool eof, done;
	uint64_t left; /* bytes of the member's data still in the stream */
	unsigned pad;  /* zeros after it */
	uint64_t logical, size;
	size_t seg; /* sparse: segment that `logical` is in or before */
	bool is_sparse;
	struct tar_pax pax, global;
	char *longname, *longlink;
	char path[TAR_MAX_PATH + 1], link[TAR_MAX_PATH + 1];
};

struct tar_reader *tar_open(const struct oci_reader *r, struct error **err)
{
	struct tar_reader *t = xcalloc(1, sizeof(*t));

	t->src = *r;
	t->buf = xcalloc(1, TAR_BUFFER);
	return t;
}

void tar_close(struct tar_reader *t)
{
	if (!t)
		return;
	tar_pax_clear(&t->pax);
	tar_pax_clear(&t->global);
	free(t->longname);
	free(t->longlink);
	free(t->buf);
	free(t);
}

/* ---- bytes ---- */

/* Makes at least n bytes (n <= TAR_BUFFER) available at buf+pos unless the stream ends before. */
static int tar_fill(struct tar_reader *t, size_t n, struct error **err)
{
	if (t->len - t->pos >= n)
		return 0;
	memmove(t->buf, t->buf + t->pos, t->len - t->pos);
	t->len -= t->pos;
	t->pos = 0;
	while (t->len < n && !t->eof) {
		ssize_t got = t->src.read(t->src.arg, t->buf + t->len, TAR_BUFFER - t->len, err);

		if (got < 0)
			return -1;
		if (got == 0)
			t->eof = true;
		t->len += (size_t)got;
	}
	return 0;
}

static int tar_truncated(struct error **err)
{
	return error_set(err, ERR_INVALID_ARGUMENT, "the tar archive is truncated");
}

/* Reads exactly n bytes of the stream into p (NULL: drops them). */
static int tar_take(struct tar_reader *t, void *p, uint64_t n, struct error **err)
{
	uint8_t *out = p;

	while (n) {
		if (t->pos == t->len && tar_fill(t, 1, err) < 0)
			return -1;
		if (t->pos == t->len)
			return tar_truncated(err);
		size_t k = MIN(n, (uint64_t)(t->len - t->pos));

		if (out) {
			memcpy(out, t->buf + t->pos, k);
			out += k;
		}
		t->pos += k;
		n -= k;
	}
	return 0;
}

/* One 512-byte block: 1, 0 when the stream ends here, -1 on error or a partial block. */
static int tar_block(struct tar_reader *t, uint8_t *b, struct error **err)
{
	if (tar_fill(t, TAR_BLOCK_SIZE, err) < 0)
		return -1;
	if (t->len == t->pos)
		return 0;
	if (t->len - t->pos < TAR_BLOCK_SIZE)
		return tar_truncated(err);
	memcpy(b, t->buf + t->pos, TAR_BLOCK_SIZE);
	t->pos += TAR_BLOCK_SIZE;
	return 1;
}

static void tar_member_data(struct tar_reader *t, uint64_t n)
{
	t->left = n;
	t->pad = (unsigned)(-n & (TAR_BLOCK_SIZE - 1));
}

/* There are writers that leave out the padding of the last member and all behind it. */
static int tar_skip_data(struct tar_reader *t, struct error **err)
{
	uint64_t n = t->left;
	unsigned pad = t->pad;

	t->left = t->pad = 0;
	if (tar_take(t, NULL, n, err) < 0 || tar_fill(t, pad, err) < 0)
		return -1;
	t->pos += MIN(pad, t->len - t->pos);
	return 0;
}

/* What is behind the end counts for the digest of the whole; a kilobyte of zstd can be terabytes of it. */
static int tar_drain(struct tar_reader *t, struct error **err)
{
	uint64_t total = 0;

	t->done = true;
	do {
		t->pos = t->len = 0;
		if (tar_fill(t, 1, err) < 0)
			return -1;
		total += t->len;
		if (total > TAR_MAX_TRAILER)
			return error_set(err, ERR_INVALID_ARGUMENT,
					 "tar: more than %u MiB behind the end of the archive",
					 TAR_MAX_TRAILER >> 20);
	} while (t->len);
	return 0;
}

/* ---- header fields ---- */

static int tar_parse_base256(const uint8_t *f, size_t n, int64_t *out)
{
	bool neg = f[0] & 0x40;
	/* The marker bit is not part of the number; bit 6 is its sign. */
	uint64_t v = neg ? UINT64_MAX : 0;

	for (size_t i = 0; i < n; i++) {
		uint8_t c = i ? f[i] : (uint8_t)((f[0] & 0x7f) | (neg ? 0x80 : 0));

		if (v >> 56 != (neg ? 0xff : 0))
			return -1;
		v = v << 8 | c;
	}
	if (((int64_t)v < 0) != neg)
		return -1;
	*out = (int64_t)v;
	return 0;
}

/* A numeric field: octal digits between blanks and NULs, or GNU base-256. */
static int tar_number(const uint8_t *f, size_t n, int64_t *out)
{
	uint64_t v = 0;
	size_t i = 0;

	if (f[0] & 0x80)
		return tar_parse_base256(f, n, out);
	while (i < n && (f[i] == ' ' || f[i] == 0))
		i++;
	for (; i < n && f[i] >= '0' && f[i] <= '7'; i++) {
		if (v >> 60)
			return -1;
		v = v << 3 | (unsigned)(f[i] - '0');
	}
	for (; i < n; i++)
		if (f[i] != ' ' && f[i] != 0)
			return -1;
	*out = (int64_t)v;
	return 0;
}

static int tar_field(const uint8_t *h, size_t off, size_t n, const char *what, int64_t min,
		     int64_t max, int64_t *out, struct error **err)
{
	if (tar_number(h + off, n, out) < 0 || *out < min || *out > max)
		return error_set(err, ERR_INVALID_ARGUMENT, "tar header: %s is out of range", what);
	return 0;
}

static int tar_check_sum(const uint8_t *h, struct error **err)
{
	int64_t want = 0, u = 0, s = 0;

	for (size_t i = 0; i < TAR_BLOCK_SIZE; i++) {
		bool in = i >= H_CHKSUM && i < H_CHKSUM + 8;

		u += in ? ' ' : h[i];
		s += in ? ' ' : (int8_t)h[i];
	}
	/* Some ancient writers summed signed bytes. */
	if (tar_number(h + H_CHKSUM, 8, &want) < 0 || (want != u && want != s))
		return error_set(err, ERR_INVALID_ARGUMENT,
				 "not a tar archive, or a damaged one: header checksum mismatch");
	return 0;
}

static int tar_check_name(const char *s, bool components, const char *what, struct error **err)
{
	if (strlen(s) >= TAR_MAX_PATH)
		return error_set(err, ERR_INVALID_ARGUMENT, "tar: %s is longer than %d bytes", what,
				 TAR_MAX_PATH - 1);
	for (const char *p = s; components && *p;) {
		size_t n = strcspn(p, "/");

		if (n > TAR_MAX_COMPONENT)
			return error_set(err, ERR_INVALID_ARGUMENT,
					 "tar: a component of %s is longer than %d bytes", what,
					 TAR_MAX_COMPONENT);
		p += n + (p[n] == '/');
	}
	return 0;
}

/* The name from the header itself, prefix and all, into t->path. */
static void tar_header_name(struct tar_reader *t, const uint8_t *h)
{
	size_t max = 155, n = 0;

	if (memcmp(h + H_MAGIC, "ustar\0", 6) == 0 && h[H_PREFIX]) {
		if (memcmp(h + H_STAR_TRAILER, "tar\0", 4) == 0)
			max = 131;
		n = strnlen((const char *)h + H_PREFIX, max);
		memcpy(t->path, h + H_PREFIX, n);
		t->path[n++] = '/';
	}
	size_t k = strnlen((const char *)h + H_NAME, 100);

	memcpy(t->path + n, h + H_NAME, k);
	t->path[n + k] = 0;
}

static int tar_names(struct tar_reader *t, const uint8_t *h, struct tar_entry *e,
		     struct error **err)
{
	size_t k = strnlen((const char *)h + H_LINK, 100);
	const char *path = t->pax.sparse_name ? t->pax.sparse_name : t->pax.path;
	const char *link = t->pax.linkpath ? t->pax.linkpath : t->longlink;

	if (!path)
		path = t->longname;
	tar_header_name(t, h);
	memcpy(t->link, h + H_LINK, k);
	t->link[k] = 0;
	e->path = path ? path : t->path;
	e->linkname = link ? link : t->link;
	if (!*e->path)
		return error_set(err, ERR_INVALID_ARGUMENT, "tar: a member has no name");
	if (tar_check_name(e->path, true, "a path", err) < 0)
		return -1;
	if (e->type != TAR_HARDLINK && e->type != TAR_SYMLINK) {
		e->linkname = "";
		return 0;
	}
	if (!*e->linkname)
		return error_set(err, ERR_INVALID_ARGUMENT, "tar: the link %s has no target",
				 e->path);
	return tar_check_name(e->linkname, e->type == TAR_HARDLINK, "a link target", err);
}

static int tar_owner_times(struct tar_reader *t, const uint8_t *h, struct tar_entry *e,
			   struct error **err)
{
	const struct tar_pax *p[] = {&t->global, &t->pax};
	int64_t mode = 0, uid = 0, gid = 0, mtime = 0;

	if (tar_field(h, H_MODE, 8, "mode", 0, INT64_MAX, &mode, err) < 0 ||
	    tar_field(h, H_UID, 8, "uid", 0, INT64_MAX, &uid, err) < 0 ||
	    tar_field(h, H_GID, 8, "gid", 0, INT64_MAX, &gid, err) < 0 ||
	    tar_field(h, H_MTIME, 12, "mtime", INT64_MIN, INT64_MAX, &mtime, err) < 0)
		return -1;
	e->mode = (uint32_t)mode & 07777;
	e->uid = (uint64_t)uid;
	e->gid = (uint64_t)gid;
	e->mtime = mtime;
	for (size_t i = 0; i < ARRAY_SIZE(p); i++) {
		if (p[i]->has_uid)
			e->uid = p[i]->uid;
		if (p[i]->has_gid)
			e->gid = p[i]->gid;
		if (p[i]->has_mtime) {
			e->mtime = p[i]->mtime;
			e->mtime_nsec = p[i]->mtime_nsec;
		}
		if (p[i]->nxattrs) {
			e->xattrs = p[i]->xattrs;
			e->nxattrs = p[i]->nxattrs;
		}
	}
	return 0;
}

static int tar_device(const uint8_t *h, struct tar_entry *e, struct error **err)
{
	int64_t maj = 0, min = 0;

	/* The kernel's dev_t: 12 bits of major, 20 of minor. */
	if (tar_field(h, H_DEVMAJOR, 8, "device major", 0, 0xfff, &maj, err) < 0 ||
	    tar_field(h, H_DEVMINOR, 8, "device minor", 0, 0xfffff, &min, err) < 0)
		return -1;
	e->devmajor = (uint32_t)maj;
	e->devminor = (uint32_t)min;
	return 0;
}

/* ---- sparse files ---- */

/* Takes the pairs of an old GNU 'S' header and its extension blocks. */
static int tar_sparse_old(struct tar_reader *t, const uint8_t *h, struct error **err)
{
	uint8_t ext[TAR_BLOCK_SIZE];
	const uint8_t *pair = h + H_GNU_SPARSE;
	bool more = h[H_GNU_EXTENDED];
	size_t n = 4;
	int64_t real = 0;

	if (tar_field(h, H_GNU_REALSIZE, 12, "sparse size", 0, INT64_MAX, &real, err) < 0)
		return -1;
	t->pax.sparse_size = (uint64_t)real;
	for (;;) {
		for (size_t i = 0; i < n && pair[24 * i]; i++) {
			int64_t off = 0, len = 0;

			if (tar_field(pair, 24 * i, 12, "sparse offset", 0, INT64_MAX, &off, err) <
				    0 ||
			    tar_field(pair, 24 * i + 12, 12, "sparse length", 0, INT64_MAX, &len,
				      err) < 0 ||
			    tar_pax_segment(&t->pax, (uint64_t)off, (uint64_t)len, err) < 0)
				return -1;
		}
		if (!more)
			return 0;
		if (tar_take(t, ext, sizeof(ext), err) < 0)
			return -1;
		pair = ext;
		n = 21;
		more = ext[X_EXTENDED];
	}
}

/* One "decimal\n" of a 1.0 map at the head of the data. */
static int tar_sparse_line(struct tar_reader *t, uint64_t *used, uint64_t *out, struct error **err)
{
	char c, s[24];
	size_t n = 0;

	for (;;) {
		if (!t->left)
			return tar_truncated(err);
		if (tar_take(t, &c, 1, err) < 0)
			return -1;
		t->left--;
		++*used;
		if (c == '\n')
			break;
		if (n == sizeof(s) - 1)
			return error_set(err, ERR_INVALID_ARGUMENT, "tar: bad sparse map");
		s[n++] = c;
	}
	s[n] = 0;
	if (memchr(s, 0, n) || parse_u64(s, out) < 0 || *out > INT64_MAX)
		return error_set(err, ERR_INVALID_ARGUMENT, "tar: bad sparse map");
	return 0;
}

static int tar_sparse_10(struct tar_reader *t, struct error **err)
{
	uint64_t used = 0, n = 0, off = 0, len = 0;

	t->pax.nsparse = 0;
	if (tar_sparse_line(t, &used, &n, err) < 0)
		return -1;
	if (n > TAR_MAX_SPARSE)
		return error_set(err, ERR_INVALID_ARGUMENT,
				 "tar: a sparse file of more than %d segments", TAR_MAX_SPARSE);
	while (n--) {
		if (tar_sparse_line(t, &used, &off, err) < 0 ||
		    tar_sparse_line(t, &used, &len, err) < 0 ||
		    tar_pax_segment(&t->pax, off, len, err) < 0)
			return -1;
	}
	uint64_t pad = -used & (TAR_BLOCK_SIZE - 1);

	if (pad > t->left)
		return tar_truncated(err);
	t->left -= pad;
	return tar_take(t, NULL, pad, err);
}

static int tar_sparse_setup(struct tar_reader *t, const uint8_t *h, struct tar_entry *e,
			    struct error **err)
{
	uint64_t end = 0, total = 0;

	if (h[H_TYPE] == 'S') {
		if (tar_sparse_old(t, h, err) < 0)
			return -1;
	} else if (t->pax.sparse_major == 1 && t->pax.sparse_minor == 0) {
		if (tar_sparse_10(t, err) < 0)
			return -1;
	} else if (t->pax.sparse_major != 0 || t->pax.sparse_minor > 1) {
		return error_set(err, ERR_UNSUPPORTED, "tar: sparse format %u.%u is unknown",
				 t->pax.sparse_major, t->pax.sparse_minor);
	}
	for (size_t i = 0; i < t->pax.nsparse; i++) {
		const struct tar_sparse *s = &t->pax.sparse[i];

		if (s->offset < end || !add_ok(s->offset, s->len, &end) ||
		    end > t->pax.sparse_size || !add_ok(total, s->len, &total))
			return error_set(err, ERR_INVALID_ARGUMENT, "tar: bad sparse map of %s",
					 e->path);
	}
	if (total != t->left)
		return error_set(err, ERR_INVALID_ARGUMENT,
				 "tar: the sparse map of %s does not match its data", e->path);
	e->size = t->pax.sparse_size;
	e->sparse = t->pax.sparse;
	e->nsparse = t->pax.nsparse;
	t->is_sparse = true;
	return 0;
}

/* ---- members ---- */

/* The data of a meta header, as a NUL-terminated string the caller owns. */
static char *tar_meta(struct tar_reader *t, uint64_t size, uint64_t max, struct error **err)
{
	CLEANUP_FREE char *s = NULL;

	if (size > max) {
		error_set(err, ERR_INVALID_ARGUMENT, "tar: an extended header of %" PRIu64 " bytes",
			  size);
		return NULL;
	}
	s = xmalloc(size + 1);
	s[size] = 0;
	tar_member_data(t, size);
	if (tar_take(t, s, size, err) < 0)
		return NULL;
	t->left = 0;
	if (tar_skip_data(t, err) < 0)
		return NULL;
	return STEAL(s);
}

/* 1: h was a meta header and is dealt with; 0: it is a member. */
static int tar_meta_header(struct tar_reader *t, const uint8_t *h, uint64_t size,
			   struct error **err)
{
	char **name = h[H_TYPE] == 'L' ? &t->longname : &t->longlink;

	switch (h[H_TYPE]) {
	case 'L':
	case 'K':
		free(STEAL(*name));
		*name = tar_meta(t, size, TAR_MAX_PATH + 1, err);
		return *name ? 1 : -1;
	case 'x':
	case 'X':
	case 'g': {
		CLEANUP_FREE char *s = tar_meta(t, size, TAR_MAX_PAX, err);

		if (!s)
			return -1;
		if (h[H_TYPE] == 'g')
			return tar_pax_parse(&t->global, s, size, true, err) < 0 ? -1 : 1;
		return tar_pax_parse(&t->pax, s, size, false, err) < 0 ? -1 : 1;
	}
	case 'V': /* GNU volume label */
		tar_member_data(t, size);
		return tar_skip_data(t, err) < 0 ? -1 : 1;
	default:
		return 0;
	}
}

static int tar_type(const uint8_t *h, enum tar_type *type, struct error **err)
{
	size_t n = strnlen((const char *)h + H_NAME, 100);

	switch (h[H_TYPE]) {
	case 0:
		/* Before POSIX, a directory was a file whose name ends in a slash. */
		*type = n && h[H_NAME + n - 1] == '/' ? TAR_DIR : TAR_FILE;
		return 0;
	case '0':
	case '7':
	case 'S':
		*type = TAR_FILE;
		return 0;
	case '1':
		*type = TAR_HARDLINK;
		return 0;
	case '2':
		*type = TAR_SYMLINK;
		return 0;
	case '3':
		*type = TAR_CHAR;
		return 0;
	case '4':
		*type = TAR_BLOCK;
		return 0;
	case '5':
		*type = TAR_DIR;
		return 0;
	case '6':
		*type = TAR_FIFO;
		return 0;
	default:
		return error_set(err, ERR_UNSUPPORTED,
				 "tar: members of type 0x%02x are not supported", h[H_TYPE]);
	}
}

static int tar_member(struct tar_reader *t, const uint8_t *h, uint64_t size, struct tar_entry *e,
		      struct error **err)
{
	if (tar_type(h, &e->type, err) < 0 || tar_names(t, h, e, err) < 0 ||
	    tar_owner_times(t, h, e, err) < 0)
		return -1;
	t->logical = t->size = 0;
	t->seg = 0;
	t->is_sparse = false;
	if (e->type == TAR_CHAR || e->type == TAR_BLOCK)
		return tar_device(h, e, err) < 0 ? -1 : 1;
	if (e->type != TAR_FILE)
		return 1; /* other types have no data, whatever their size field says */
	if (t->pax.has_size)
		size = t->pax.size;
	e->size = size;
	tar_member_data(t, size);
	if ((h[H_TYPE] == 'S' || t->pax.has_sparse) && tar_sparse_setup(t, h, e, err) < 0)
		return -1;
	t->size = e->size;
	return 1;
}

static int tar_next_member(struct tar_reader *t, struct tar_entry *e, struct error **err)
{
	uint8_t h[TAR_BLOCK_SIZE] = {0};
	bool meta = false;

	if (tar_skip_data(t, err) < 0)
		return -1;
	tar_pax_clear(&t->pax);
	free(STEAL(t->longname));
	free(STEAL(t->longlink));
	for (;;) {
		int64_t size = 0;
		int r = tar_block(t, h, err);

		if (r < 0)
			return -1;
		if (r == 0 || mem_is_zero(h, TAR_BLOCK_SIZE)) {
			if (meta)
				return tar_truncated(err);
			if (r == 1 && (r = tar_block(t, h, err)) < 0)
				return -1;
			if (r == 1 && !mem_is_zero(h, TAR_BLOCK_SIZE))
				return error_set(err, ERR_INVALID_ARGUMENT,
						 "tar: a single zero block inside the archive");
			return tar_drain(t, err);
		}
		if (tar_check_sum(h, err) < 0 ||
		    tar_field(h, H_SIZE, 12, "size", 0, INT64_MAX, &size, err) < 0)
			return -1;
		r = tar_meta_header(t, h, (uint64_t)size, err);
		if (r < 0)
			return -1;
		if (r == 0)
			return tar_member(t, h, (uint64_t)size, e, err);
		meta = h[H_TYPE] != 'g' && h[H_TYPE] != 'V';
	}
}

int tar_next(struct tar_reader *t, struct tar_entry *e, struct error **err)
{
	int rc;

	memset(e, 0, sizeof(*e));
	if (t->done)
		return 0;
	t->members++;
	rc = tar_next_member(t, e, err);
	if (rc < 0 && e->path)
		return error_wrap(err, "member %" PRIu64 ", \"%.200s\"", t->members, e->path);
	return rc < 0 ? error_wrap(err, "member %" PRIu64, t->members) : rc;
}

/* ---- data ---- */

static ssize_t tar_read_raw(struct tar_reader *t, void *p, uint64_t n, struct error **err)
{
	ssize_t got;

	n = MIN(n, t->left);
	if (!n)
		return 0;
	if (t->pos < t->len) {
		got = (ssize_t)MIN(n, (uint64_t)(t->len - t->pos));
		memcpy(p, t->buf + t->pos, (size_t)got);
		t->pos += (size_t)got;
	} else {
		got = t->src.read(t->src.arg, p, n, err);
		if (got < 0)
			return -1;
		if (got == 0)
			return tar_truncated(err);
	}
	t->left -= (uint64_t)got;
	return got;
}

ssize_t tar_read_run(struct tar_reader *t, void *p, size_t n, uint64_t *hole, struct error **err)
{
	*hole = 0;
	if (t->logical == t->size || !n)
		return 0;
	n = MIN(n, (size_t)SSIZE_MAX);
	if (t->is_sparse) {
		const struct tar_sparse *s = t->pax.sparse + t->seg,
					*end = t->pax.sparse + t->pax.nsparse;

		while (s < end && t->logical >= s->offset + s->len)
			s++;
		t->seg = (size_t)(s - t->pax.sparse);
		if (s == end || t->logical < s->offset) {
			uint64_t to = s == end ? t->size : s->offset;

			*hole = to - t->logical;
			t->logical = to;
			return 0;
		}
		n = MIN(n, s->offset + s->len - t->logical);
	}
	ssize_t got = tar_read_raw(t, p, n, err);

	if (got > 0)
		t->logical += (uint64_t)got;
	return got;
}

ssize_t tar_read(struct tar_reader *t, void *p, size_t n, struct error **err)
{
	uint64_t at = t->logical, hole;
	ssize_t got = tar_read_run(t, p, n, &hole, err);

	if (got || !hole)
		return got;
	/* Hand out the hole as zeros, a buffer at a time. */
	n = MIN((uint64_t)MIN(n, (size_t)SSIZE_MAX), hole);
	memset(p, 0, n);
	t->logical = at + n;
	return (ssize_t)n;
}
