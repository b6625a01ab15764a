// links: vmm core
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_fuse.c - the FUSE server of shared directories. Hostile: every byte of a request but what makes it get anywhere: an input is a
 * sequence of requests whose nodes and open files are mostly ones the server gave, whose names are mostly ones that are there; lengths,
 * flags, offsets and the room for the reply are its own. Beside the shares lies a file that no share leads to, and one share is read-only:
 * neither may change, no descriptor may be left, and after a new INIT nothing of the input is known.
 */
#include <dirent.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "core/path.h"
#include "tests/fuzz/fuzz.h"
#include "vmm/fuse_impl.h"

#define REQUESTS 64
#define KNOWN    16
#define ROOM     16384u

static struct fuse *server[2]; /* as root sees owners, and with squash */
static int top = -1;
static struct stat secret_was, ro_was, old_was;

static struct stat stat_of(const char *name)
{
	struct stat st;

	FUZZ_CHECK(!fstatat(top, name, &st, AT_SYMLINK_NOFOLLOW));
	return st;
}

static void put(const char *name)
{
	int fd = openat(top, name, O_WRONLY | O_CREAT | O_EXCL, 0644);

	FUZZ_CHECK(fd >= 0 && write(fd, "content", 7) == 7);
	close(fd);
}

static struct fuse *start(bool squash)
{
	struct fuse_share s[3] = {{openat(top, "rw", O_PATH | O_CLOEXEC), false},
				  {openat(top, "ro", O_PATH | O_CLOEXEC), true},
				  {openat(top, "file", O_PATH | O_CLOEXEC), false}};
	struct fuse_config cfg = {.shares = s, .nshares = 3, .squash = squash};
	struct fuse *f = fuse_new(&cfg, NULL);

	FUZZ_CHECK(f);
	f->max_open = 8; /* so that nodes are opened again */
	f->max_files = 12;
	f->max_nodes = 40;
	return f;
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	top = open(fuzz_dir(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	FUZZ_CHECK(top >= 0);
	FUZZ_CHECK(!mkdirat(top, "rw", 0777) && !mkdirat(top, "ro", 0777) &&
		   !mkdirat(top, "ro/d", 0777));
	put("file");
	put("secret");
	put("ro/a");
	server[0] = start(false);
	server[1] = start(true);
	secret_was = stat_of("secret");
	ro_was = stat_of("ro");
	old_was = stat_of("ro/a");
	return 0;
}

/* ---- a guest ---- */

struct guest {
	struct fuse *f;
	uint64_t node[KNOWN], fh[KNOWN];
	unsigned nnode, nfh;
	_Alignas(8) uint8_t req[8192];
	_Alignas(8) uint8_t reply[ROOM];
};

/* Some number the server gave, or any. */
static uint64_t pick(struct fz *z, const uint64_t *known, unsigned n)
{
	uint8_t i = fz_u8(z);

	return i < 0xf0 && n ? known[i % MIN(n, KNOWN)] : i < 0xf8 ? i - 0xf0u : fz_u64(z);
}

static void learn(uint64_t *known, unsigned *n, uint64_t v)
{
	known[(*n)++ % KNOWN] = v;
}

/* A name that may be there, one that may not be said, or any bytes. */
static size_t put_name(struct fz *z, uint8_t *out)
{
	static const char *const names[] = {"a",      "b",  "c", "d", "0",   "1", "2",
					    "user.x", "..", ".", "",  "a/b", "/"};
	uint8_t i = fz_u8(z);
	size_t n;

	if (i < 0xe0) {
		n = strlen(names[i % ARRAY_SIZE(names)]) + 1;
		memcpy(out, names[i % ARRAY_SIZE(names)], n);
		return n;
	}
	n = fz_u8(z) + (i & 1u) * 8u;
	fz_bytes(z, out, n);
	return n;
}

/* Where the numbers of open files and of second nodes stand in a fixed part. */
static void patch(struct guest *g, struct fz *z, uint32_t op, union fuse_arg *a)
{
	switch (op) {
	case FUSE_COPY_FILE_RANGE:
		a->copy.fh_out = pick(z, g->fh, g->nfh);
		a->copy.nodeid_out = pick(z, g->node, g->nnode);
		a->copy.len &= 0xffff00000000ffff; /* it would only cost memory and time */
		__attribute__((fallthrough));
	case FUSE_READ:
	case FUSE_WRITE:
	case FUSE_RELEASE:
	case FUSE_FLUSH:
	case FUSE_FSYNC:
	case FUSE_READDIR:
	case FUSE_READDIRPLUS:
	case FUSE_RELEASEDIR:
	case FUSE_FSYNCDIR:
	case FUSE_LSEEK:
		a->fh = pick(z, g->fh, g->nfh);
		break;
	case FUSE_FALLOCATE:
		a->fh = pick(z, g->fh, g->nfh);
		if (a->fallocate.length < INT64_MAX && a->fallocate.offset < INT64_MAX) {
			a->fallocate.length &= 0xffff;
			a->fallocate.offset &= 0xffff;
		}
		break;
	case FUSE_SETATTR:
		a->setattr.fh = pick(z, g->fh, g->nfh);
		break;
	case FUSE_RENAME:
	case FUSE_RENAME2:
	case FUSE_LINK:
		a->link.oldnodeid = pick(z, g->node, g->nnode);
		break;
	case FUSE_GETXATTR:
	case FUSE_LISTXATTR:
		a->getxattr.size &= 0x1ff;
		break;
	}
}

static size_t arg_size(uint32_t op)
{
	static const uint8_t size[] = {
		[FUSE_FORGET] = 8,   [FUSE_GETATTR] = 16,     [FUSE_SETATTR] = 88,
		[FUSE_MKNOD] = 16,   [FUSE_MKDIR] = 8,        [FUSE_RENAME] = 8,
		[FUSE_LINK] = 8,     [FUSE_OPEN] = 8,         [FUSE_READ] = 40,
		[FUSE_WRITE] = 40,   [FUSE_RELEASE] = 24,     [FUSE_FSYNC] = 16,
		[FUSE_SETXATTR] = 8, [FUSE_GETXATTR] = 8,     [FUSE_LISTXATTR] = 8,
		[FUSE_FLUSH] = 24,   [FUSE_INIT] = 64,        [FUSE_OPENDIR] = 8,
		[FUSE_READDIR] = 40, [FUSE_RELEASEDIR] = 24,  [FUSE_FSYNCDIR] = 16,
		[FUSE_CREATE] = 16,  [FUSE_FALLOCATE] = 32,   [FUSE_READDIRPLUS] = 40,
		[FUSE_RENAME2] = 16, [FUSE_LSEEK] = 24,       [FUSE_COPY_FILE_RANGE] = 56,
		[FUSE_SYNCFS] = 8,   [FUSE_BATCH_FORGET] = 8,
	};

	return op < ARRAY_SIZE(size) ? size[op] : 0;
}

/* The body of a request; its length. */
static size_t body(struct guest *g, struct fz *z, uint32_t op, uint8_t *p)
{
	size_t n = arg_size(op), k = fz_u8(z);
	union fuse_arg a;

	fz_bytes(z, &a, MIN(n, k & 0x7fu));
	memset((uint8_t *)&a + MIN(n, k & 0x7fu), 0, sizeof(a) - MIN(n, k & 0x7fu));
	patch(g, z, op, &a);
	memcpy(p, &a, n);
	switch (op) {
	case FUSE_RENAME:
	case FUSE_RENAME2:
	case FUSE_SYMLINK:
		n += put_name(z, p + n);
		__attribute__((fallthrough));
	case FUSE_LOOKUP:
	case FUSE_MKNOD:
	case FUSE_MKDIR:
	case FUSE_UNLINK:
	case FUSE_RMDIR:
	case FUSE_LINK:
	case FUSE_CREATE:
	case FUSE_SETXATTR:
	case FUSE_GETXATTR:
	case FUSE_REMOVEXATTR:
		n += put_name(z, p + n);
		break;
	}
	if (op == FUSE_WRITE)
		n += MIN(a.write.size, 4096u);
	else if (op == FUSE_SETXATTR)
		n += MIN(a.setxattr.size, 300u);
	else if (op == FUSE_BATCH_FORGET)
		n += 32;
	/* Cut short or with more behind it. */
	return k & 0x80 ? fz_u16(z) % 300 : n;
}

static void one_request(struct guest *g, struct fz *z)
{
	struct fuse_in_header in = {.opcode = fz_u8(z) % 53,
				    .unique = 99,
				    .uid = fz_u8(z) & 3,
				    .gid = 1};
	struct fuse_out_header out;
	size_t n, max, got;
	uint8_t how = fz_u8(z);

	memset(g->req, 'x', sizeof(g->req));
	in.nodeid = pick(z, g->node, g->nnode);
	n = sizeof(in) + body(g, z, in.opcode, g->req + sizeof(in));
	in.len = how == 1 ? fz_u32(z) : (uint32_t)n;
	memcpy(g->req, &in, sizeof(in));
	max = how & 2 ? fz_u8(z) : ROOM;
	got = fuse_handle(g->f, g->req, how == 3 ? fz_u8(z) % (n + 1) : n, g->reply, max);
	FUZZ_CHECK(got <= max);
	if (!got)
		return;
	memcpy(&out, g->reply, sizeof(out));
	FUZZ_CHECK(got >= sizeof(out) && out.len == got && out.unique == 99 && out.error <= 0 &&
		   out.error > -512);
	if (out.error)
		return;
	if (in.opcode == FUSE_LOOKUP || in.opcode == FUSE_CREATE || in.opcode == FUSE_MKDIR ||
	    in.opcode == FUSE_MKNOD || in.opcode == FUSE_SYMLINK || in.opcode == FUSE_LINK)
		learn(g->node, &g->nnode, *(const uint64_t *)(g->reply + sizeof(out)));
	if (in.opcode == FUSE_OPEN || in.opcode == FUSE_OPENDIR)
		learn(g->fh, &g->nfh, *(const uint64_t *)(g->reply + sizeof(out)));
	if (in.opcode == FUSE_CREATE) {
		uint64_t fh;

		memcpy(&fh, g->reply + sizeof(out) + sizeof(struct fuse_entry_out), sizeof(fh));
		learn(g->fh, &g->nfh, fh);
	}
}

static void init(struct guest *g)
{
	struct {
		struct fuse_in_header in;
		struct fuse_init_in a;
	} r = {{.len = sizeof(r), .opcode = FUSE_INIT},
	       {.major = 7, .minor = 37, .flags = FUSE_MAX_PAGES | FUSE_HANDLE_KILLPRIV_V2}};

	FUZZ_CHECK(fuse_handle(g->f, &r, sizeof(r), g->reply, ROOM) >
		   sizeof(struct fuse_out_header));
}

static void look_up_shares(struct guest *g)
{
	struct {
		struct fuse_in_header in;
		char name[2];
	} r = {{.len = sizeof(r.in) + 2, .opcode = FUSE_LOOKUP, .nodeid = 1}, "0"};

	for (; r.name[0] < '3'; r.name[0]++) {
		FUZZ_CHECK(fuse_handle(g->f, &r, r.in.len, g->reply, ROOM) ==
			   sizeof(struct fuse_out_header) + sizeof(struct fuse_entry_out));
		learn(g->node, &g->nnode,
		      *(const uint64_t *)(g->reply + sizeof(struct fuse_out_header)));
	}
}

static bool same(const char *name, const struct stat *was)
{
	struct stat st = stat_of(name);

	return !memcmp(&st, was, sizeof(st));
}

static void plain(const char *name, mode_t mode)
{
	CLEANUP_CLOSE int fd = openat(top, name, O_RDONLY);
	char list[4096];
	ssize_t n = fd < 0 ? -1 : flistxattr(fd, list, sizeof(list)), at;

	FUZZ_CHECK(fd >= 0 && !fchmod(fd, mode) && !fchown(fd, geteuid(), getegid()));
	for (at = 0; at < n; at += (ssize_t)strlen(list + at) + 1)
		(void)fremovexattr(fd, list + at);
}

/* What the input changed is as it was. */
static void clean(void)
{
	DIR *d;
	struct dirent *e;

	plain("rw", 0777);
	plain("file", 0644);
	FUZZ_CHECK((d = fdopendir(openat(top, "rw", O_RDONLY | O_DIRECTORY | O_CLOEXEC))));
	while ((e = readdir(d)))
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
			FUZZ_CHECK(!path_remove_tree(dirfd(d), e->d_name, NULL));
	closedir(d);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct guest g;
	struct fz z = {data, size};
	uint64_t fds = fuzz_open_fds();
	unsigned i;

	g.f = server[size && data[0] & 1];
	g.nnode = g.nfh = 0;
	(void)fz_u8(&z);
	init(&g);
	look_up_shares(&g);
	for (i = 0; i < REQUESTS && z.n; i++)
		one_request(&g, &z);
	init(&g);
	FUZZ_CHECK(g.f->nnodes == 3 && g.f->nopen == 3 && g.f->nfiles == 0);
	FUZZ_CHECK(fuzz_open_fds() == fds);
	FUZZ_CHECK(same("secret", &secret_was) && same("ro", &ro_was) && same("ro/a", &old_was));
	clean();
	return 0;
}
