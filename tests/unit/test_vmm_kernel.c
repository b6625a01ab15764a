// links: vmm core
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest kernels: what is imported is a checked vmlinux whatever it came in, modules come in load order, and a
 * file with hostile headers (attack class S) is refused before anything is read out of bounds.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>
#include <elf.h>
#include <fcntl.h>
#include <lz4.h>
#include <lzma.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <zlib.h>
#include <zstd.h>

#include "core/path.h"
#include "vmm/kernel_priv.h"

#define BANNER "Linux version 6.1.0-test (someone@somewhere) (gcc) #1 SMP"

struct fake {
	Elf64_Ehdr eh;
	Elf64_Phdr ph[2];
	char text[256];
};

/* A kernel as small as one can be: one segment at 16 MiB that holds the banner. */
static struct fake fake_kernel(void)
{
	struct fake f = {
		.eh = {.e_type = ET_EXEC,
		       .e_machine = EM_X86_64,
		       .e_entry = 0x1000000,
		       .e_phoff = offsetof(struct fake, ph),
		       .e_phentsize = sizeof(Elf64_Phdr),
		       .e_phnum = 2},
		.ph = {{.p_type = PT_LOAD,
			.p_offset = offsetof(struct fake, text),
			.p_paddr = 0x1000000,
			.p_vaddr = 0xffffffff81000000,
			.p_filesz = 256,
			.p_memsz = 4096},
		       {.p_type = PT_NOTE, .p_offset = 0, .p_filesz = 64}},
	};

	memcpy(f.eh.e_ident, ELFMAG, SELFMAG);
	f.eh.e_ident[EI_CLASS] = ELFCLASS64;
	f.eh.e_ident[EI_DATA] = ELFDATA2LSB;
	snprintf(f.text, sizeof(f.text), "Linux version %%s (%%s)%c%s", 0, BANNER);
	memcpy(f.text + 64, BANNER, sizeof(BANNER));
	return f;
}

static int check(const struct fake *f)
{
	return kernel_elf_check(f, sizeof(*f), NULL);
}

static void elf_headers(void **state)
{
	struct fake f = fake_kernel();
	struct error *e = NULL;

	assert_int_equal(kernel_elf_check(&f, sizeof(f), &e), 0);
	assert_null(e);
	assert_int_equal(kernel_elf_check(&f, 10, &e), -1);
	assert_int_equal(e->code, ERR_INVALID_ARGUMENT);
	error_free(e);
}

static void test_S_elf_hostile(void **state)
{
	struct fake f;

#define REFUSED(change)                          \
	do {                                     \
		f = fake_kernel();               \
		change;                          \
		assert_int_equal(check(&f), -1); \
	} while (0)
	REFUSED(f.eh.e_ident[EI_CLASS] = ELFCLASS32);
	REFUSED(f.eh.e_ident[EI_DATA] = ELFDATA2MSB);
	REFUSED(f.eh.e_machine = EM_AARCH64);
	REFUSED(f.eh.e_type = ET_DYN);
	REFUSED(f.eh.e_phnum = 0);
	REFUSED(f.eh.e_phnum = 0xffff);
	REFUSED(f.eh.e_phentsize = 55);
	REFUSED(f.eh.e_phoff = UINT64_MAX - 8);
	REFUSED(f.eh.e_phoff = sizeof(f) - 8);
	REFUSED(f.ph[0].p_offset = UINT64_MAX - 8);
	REFUSED(f.ph[0].p_offset = sizeof(f) - 255);
	REFUSED(f.ph[0].p_filesz = UINT64_MAX);
	REFUSED(f.ph[0].p_filesz = 8192);
	REFUSED(f.ph[0].p_memsz = UINT64_MAX);
	REFUSED(f.ph[0].p_memsz = 255);
	REFUSED(f.ph[0].p_paddr = UINT64_MAX - 4095);
	REFUSED(f.ph[0].p_paddr = 4ull << 30);
	REFUSED(f.ph[0].p_vaddr = UINT64_MAX - 100);
	REFUSED(f.ph[0].p_type = PT_NULL);
	REFUSED(f.eh.e_entry = 0x2000000);
	REFUSED(f.ph[1].p_filesz = UINT64_MAX);
	REFUSED(f.ph[1].p_type = PT_INTERP);
#undef REFUSED
}

static void release_banner(void **state)
{
	struct fake f = fake_kernel();
	char *r = kernel_release(&f, sizeof(f));

	assert_string_equal(r, "6.1.0-test");
	free(r);
	assert_null(kernel_release("Linux version 6.1/../../etc (x)", 31));
	assert_null(kernel_release("Linux version ", 14));
	assert_null(kernel_release("Linux version 6.1", 17)); /* cut off by the end of the file */
}

/* ---- bzImage ---- */

static void pack(enum unpack_kind k, const void *p, size_t n, struct buf *out)
{
	buf_reserve(out, n + 4096);
	if (k == UNPACK_GZIP) {
		z_stream z = {.next_in = (Bytef *)p,
			      .avail_in = (uInt)n,
			      .next_out = (Bytef *)out->data,
			      .avail_out = (uInt)(n + 4096)};

		assert_int_equal(deflateInit2(&z, 6, Z_DEFLATED, 15 + 16, 8, 0), Z_OK);
		assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
		out->len = z.total_out;
		deflateEnd(&z);
	} else if (k == UNPACK_ZSTD) {
		out->len = ZSTD_compress(out->data, n + 4096, p, n, 3);
	} else if (k == UNPACK_XZ) {
		size_t pos = 0;

		assert_int_equal(lzma_easy_buffer_encode(6, LZMA_CHECK_CRC32, NULL, p, n,
							 (uint8_t *)out->data, &pos, n + 4096),
				 LZMA_OK);
		out->len = pos;
	} else {
		int got = LZ4_compress_default(p, out->data + 8, (int)n, (int)n + 4000);
		uint32_t magic = 0x184c2102, size = (uint32_t)got;

		memcpy(out->data, &magic, 4);
		memcpy(out->data + 4, &size, 4);
		out->len = 8 + size;
	}
	buf_append(out, "\0\1\0\0", 4); /* the unpacked size, as a kernel's build appends it */
}

static void put32(struct buf *b, size_t at, uint32_t v)
{
	memcpy(b->data + at, &v, 4);
}

static void bzimage(enum unpack_kind k, const void *p, size_t n, struct buf *out)
{
	CLEANUP_BUF struct buf payload = {0};
	char zero[512 * 3] = {0};

	pack(k, p, n, &payload);
	buf_append(out, zero,
		   sizeof(zero)); /* boot sector, one setup sector, 512 bytes of loader */
	out->data[0x1f1] = 1;
	memcpy(out->data + 0x1fe, "\x55\xaa", 2);
	memcpy(out->data + 0x202, "HdrS\x0f\x02", 6);
	put32(out, 0x248, 512);
	put32(out, 0x24c, (uint32_t)payload.len);
	buf_append(out, payload.data, payload.len);
}

static void test_S_bzimage_all_kinds(void **state)
{
	static const enum unpack_kind kinds[] = {UNPACK_GZIP, UNPACK_ZSTD, UNPACK_XZ, UNPACK_LZ4};
	struct fake f = fake_kernel();
	size_t i;

	for (i = 0; i < ARRAY_SIZE(kinds); i++) {
		CLEANUP_BUF struct buf image = {0}, out = {0};
		struct error *e = NULL;
		const void *v;
		size_t n;

		bzimage(kinds[i], &f, sizeof(f), &image);
		if (kernel_image_unpack(image.data, image.len, &out, &v, &n, &e))
			fail_msg("%s: %s", unpack_kind_name(kinds[i]), error_text(e));
		assert_int_equal(n, sizeof(f));
		assert_memory_equal(v, &f, sizeof(f));
	}
}

/* Memory that ends where its n bytes do: whoever reads on gets a signal. */
struct guarded {
	uint8_t *map, *p;
	size_t room;
};

static struct guarded guard(const void *p, size_t n)
{
	struct guarded g = {.room = ALIGN_UP(n, (size_t)4096) + 4096};

	g.map = mmap(NULL, g.room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_true(g.map != MAP_FAILED);
	g.p = g.map + g.room - 4096 - n;
	if (n)
		memcpy(g.p, p, n);
	assert_int_equal(mprotect(g.map + g.room - 4096, 4096, PROT_NONE), 0);
	return g;
}

/* Why try_image() last failed. */
static char refusal[256];

static int try_image(const struct buf *image)
{
	struct guarded g = guard(image->data, image->len);
	CLEANUP_BUF struct buf out = {0};
	CLEANUP_ERROR struct error *err = NULL;
	CLEANUP_FREE char *text = NULL;
	const void *v;
	size_t n;
	int rc;

	rc = kernel_image_unpack(g.p, image->len, &out, &v, &n, &err);
	text = error_text(err);
	snprintf(refusal, sizeof(refusal), "%s", rc ? text : "accepted");
	munmap(g.map, g.room);
	return rc;
}

static void refused(const struct buf *image, const char *why)
{
	assert_int_equal(try_image(image), -1);
	if (!strstr(refusal, why))
		fail_msg("%s, and not: %s", refusal, why);
}

static void test_S_bzimage_hostile(void **state)
{
	CLEANUP_BUF struct buf image = {0};
	struct fake f = fake_kernel();
	size_t i, full;

	bzimage(UNPACK_GZIP, &f, sizeof(f), &image);
	full = image.len;
	assert_int_equal(try_image(&image), 0);
	for (image.len = 0; image.len < full - 4; image.len++)
		assert_int_equal(try_image(&image), -1); /* cut anywhere */
	image.len = full;
	put32(&image, 0x248, UINT32_MAX);
	refused(&image, "payload lies outside");
	put32(&image, 0x248, UINT32_MAX - 1023); /* in 32 bits, the file's beginning */
	refused(&image, "payload lies outside");
	put32(&image, 0x248, 512);
	put32(&image, 0x24c, UINT32_MAX);
	refused(&image, "payload lies outside");
	put32(&image, 0x24c, (uint32_t)(full - 1535));
	refused(&image, "payload lies outside");
	put32(&image, 0x24c, 0);
	refused(&image, "payload lies outside");
	put32(&image, 0x24c, (uint32_t)(full - 1536));
	image.data[0x1f1] = (char)255;
	refused(&image, "bad setup size");
	image.data[0x1f1] = 1;
	image.data[0x206] = 7; /* protocol 2.07 says nothing of a payload */
	refused(&image, "older than 2.08");
	image.data[0x206] = 15;
	assert_int_equal(try_image(&image), 0);
	for (i = 1536 + 10; i < full; i++) { /* damage never crashes */
		image.data[i] ^= 0x55;
		try_image(&image);
		image.data[i] ^= 0x55;
	}
}

/* What comes out of a payload is looked at as closely as a file that was not packed. */
static void test_S_bzimage_hides(void **state)
{
	static const char text[] = "no kernel";
	struct fake f;
	size_t i;

	for (i = 0; i < 4; i++) {
		CLEANUP_BUF struct buf image = {0};

		f = fake_kernel();
		if (i == 1)
			f.ph[0].p_offset = UINT64_MAX - 8;
		if (i == 2)
			f.eh.e_phnum = 0xffff;
		if (i == 3)
			f.eh.e_entry = 1;
		bzimage(UNPACK_ZSTD, i ? (const void *)&f : text, i ? sizeof(f) : sizeof(text),
			&image);
		refused(&image, "bzImage payload");
	}
}

/* A bomb stops at the limit and not at what memory there is. */
static void test_S_unpack_bounded(void **state)
{
	static const enum unpack_kind kinds[] = {UNPACK_GZIP, UNPACK_ZSTD, UNPACK_XZ, UNPACK_LZ4};
	size_t n = 4u << 20, i;
	char *zero = xcalloc(1, n);

	for (i = 0; i < ARRAY_SIZE(kinds); i++) {
		CLEANUP_BUF struct buf packed = {0}, out = {0};
		struct error *e = NULL;

		pack(kinds[i], zero, n, &packed);
		assert_int_equal(unpack(kinds[i], packed.data, packed.len, 1u << 20, &out, &e), -1);
		assert_int_equal(e->code, ERR_INVALID_ARGUMENT);
		assert_true(out.len <= (1u << 20) + 1);
		error_free(e);
		buf_free(&out);
		assert_int_equal(unpack(kinds[i], packed.data, packed.len, n, &out, NULL), 0);
		assert_int_equal(out.len, n);
	}
	free(zero);
}

/* A dictionary or a window of gigabytes, of which the data uses a few bytes: it is the claim that costs. */
static void test_S_unpack_memory(void **state)
{
	static const uint8_t zstd[] = {0x28, 0xb5, 0x2f, 0xfd, 0,  (31 - 10) << 3, 0x29, 0, 0,
				       'h',  'e',  'l',  'l',  'o'};
	CLEANUP_BUF struct buf packed = {0}, out = {0};
	uint8_t *header;
	uint32_t crc;
	size_t n;

	assert_int_equal(unpack(UNPACK_ZSTD, zstd, sizeof(zstd), 1u << 20, &out, NULL), -1);
	pack(UNPACK_XZ, "hello", 5, &packed);
	packed.len -= 4;
	assert_int_equal(unpack(UNPACK_XZ, packed.data, packed.len, 1u << 20, &out, NULL), 0);
	assert_int_equal(out.len, 5);
	/* Behind the stream's header the block's: its length in words, flags, filter 0x21 with a byte of properties, a checksum. */
	header = (uint8_t *)packed.data + 12;
	n = header[0] * 4u;
	assert_int_equal(header[1], 0xc0); /* two sizes come first, of a byte each */
	assert_int_equal(header[4], 0x21);
	header[6] = 37; /* 1.5 GiB */
	crc = lzma_crc32(header, n, 0);
	memcpy(header + n, &crc, 4);
	assert_int_equal(unpack(UNPACK_XZ, packed.data, packed.len, 1u << 20, &out, NULL), -1);
}

static void test_S_lz4_hostile_sizes(void **state)
{
	static const uint32_t sizes[] = {0,          1,          57,         100,
					 0x7fffffff, 0xffffffff, 0x00a00000, 0x00800000};
	CLEANUP_BUF struct buf out = {0};
	struct guarded g;
	uint8_t data[64];
	size_t i;

	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		memset(data, 0xff, sizeof(data));
		memcpy(data, "\x02\x21\x4c\x18", 4);
		memcpy(data + 4, &sizes[i], 4);
		g = guard(data, sizeof(data));
		assert_int_equal(unpack(UNPACK_LZ4, g.p, sizeof(data), 1u << 20, &out, NULL), -1);
		munmap(g.map, g.room);
	}
}

/* ---- modules ---- */

static void write_file(int dirfd, const char *path, const void *p, size_t n)
{
	int fd = openat(dirfd, path, O_WRONLY | O_CREAT | O_TRUNC, 0644);

	assert_true(fd >= 0);
	assert_int_equal(fd_write_full(fd, p, n, NULL), 0);
	close(fd);
}

/* A relocatable file with a .modinfo section and nothing else. */
static size_t fake_module(uint8_t *out, size_t cap, const char *depends, const char *release)
{
	static const char names[] = "\0.modinfo\0.shstrtab";
	Elf64_Ehdr eh = {.e_type = ET_REL,
			 .e_machine = EM_X86_64,
			 .e_shentsize = sizeof(Elf64_Shdr),
			 .e_shnum = 3,
			 .e_shstrndx = 2};
	Elf64_Shdr sh[3] = {{0}};
	char info[256];
	int n = snprintf(info, sizeof(info), "license=GPL%cdepends=%s%cvermagic=%s SMP mod_unload ",
			 0, depends, 0, release);

	assert_true(sizeof(eh) + sizeof(sh) + sizeof(names) + (size_t)n + 1 <= cap);
	memcpy(eh.e_ident, ELFMAG, SELFMAG);
	eh.e_ident[EI_CLASS] = ELFCLASS64;
	eh.e_ident[EI_DATA] = ELFDATA2LSB;
	eh.e_shoff = sizeof(eh);
	sh[1] = (Elf64_Shdr){.sh_name = 1,
			     .sh_type = SHT_PROGBITS,
			     .sh_offset = sizeof(eh) + sizeof(sh) + sizeof(names),
			     .sh_size = (size_t)n + 1};
	sh[2] = (Elf64_Shdr){.sh_name = 10,
			     .sh_type = SHT_STRTAB,
			     .sh_offset = sizeof(eh) + sizeof(sh),
			     .sh_size = sizeof(names)};
	memcpy(out, &eh, sizeof(eh));
	memcpy(out + sizeof(eh), sh, sizeof(sh));
	memcpy(out + sizeof(eh) + sizeof(sh), names, sizeof(names));
	memcpy(out + sh[1].sh_offset, info, (size_t)n + 1);
	return sh[1].sh_offset + (size_t)n + 1;
}

static void put_module(int dir, const char *path, const char *depends, const char *release)
{
	uint8_t ko[1024];

	write_file(dir, path, ko, fake_module(ko, sizeof(ko), depends, release));
}

static int make_dir(char *path)
{
	int fd;

	assert_non_null(mkdtemp(path));
	fd = path_open_dir(path, NULL);
	assert_true(fd >= 0);
	return fd;
}

static void drop_dir(int fd, const char *path)
{
	close(fd);
	assert_int_equal(path_remove_tree(AT_FDCWD, path, NULL),
			 -1); /* not a plain name: done from its parent */
	fd = path_open_dir("/tmp", NULL);
	assert_int_equal(path_remove_tree(fd, path + 5, NULL), 0);
	close(fd);
}

static size_t position(const struct strv *s, const char *name)
{
	size_t i;

	for (i = 0; i < s->n; i++)
		if (!strcmp(s->v[i], name))
			return i;
	fail_msg("%s is missing", name);
	return 0;
}

static void module_order(void **state)
{
	char path[] = "/tmp/test_kernel.XXXXXX";
	int dir = make_dir(path);
	CLEANUP_BUF struct buf cpio = {0}, nested = {0};
	CLEANUP_STRV struct strv names = {0};
	struct error *e = NULL;

	assert_int_equal(mkdirat(dir, "kernel", 0755), 0);
	put_module(dir, "kernel/virtio.ko", "virtio_ring", "6.1.0-test");
	put_module(dir, "kernel/virtio_ring.ko", "", "6.1.0-test");
	put_module(dir, "kernel/virtio_mmio.ko", "virtio,virtio-ring", "6.1.0-test");
	put_module(dir, "kernel/virtio-rng.ko", "virtio", "6.1.0-test");
	put_module(dir, "kernel/overlay.ko", "", "6.1.0-test");
	put_module(dir, "kernel/virtio_blk.ko", "virtio", "6.1.0-test");
	put_module(dir, "kernel/virtio_net.ko", "virtio", "6.1.0-test");
	put_module(dir, "kernel/kvm-amd.ko", "kvm", "6.1.0-test");
	put_module(dir, "kernel/kvm.ko", "irqbypass", "6.1.0-test");
	put_module(dir, "kernel/irqbypass.ko", "", "6.1.0-test");
	write_file(dir, "modules.builtin",
		   "kernel/fs/erofs/erofs.ko\nkernel/net/vmw_vsock_virtio_transport.ko\n", 66);
	if (modules_collect(dir, "6.1.0-test", true, false, &cpio, &nested, &names, &e))
		fail_msg("%s", error_text(e));
	assert_true(position(&names, "virtio_ring") < position(&names, "virtio"));
	assert_true(position(&names, "virtio") < position(&names, "virtio_mmio"));
	position(&names, "virtio_rng");
	assert_int_equal(names.n, 10); /* nothing twice, nothing built in */
	assert_int_equal(cpio.len % 512, 0);
	assert_non_null(memmem(cpio.data, cpio.len,
			       "/lib/modules/virtio_ring.ko\n/lib/modules/virtio.ko\n", 51));
	/* KVM's in an archive of their own. */
	assert_null(memmem(cpio.data, cpio.len, "kvm", 3));
	assert_int_equal(nested.len % 512, 0);
	assert_non_null(memmem(nested.data, nested.len,
			       "/lib/modules/irqbypass.ko\n/lib/modules/kvm.ko\n"
			       "/lib/modules/kvm_amd.ko\n",
			       70));
	assert_null(memmem(nested.data, nested.len, "virtio", 6));
	drop_dir(dir, path);
}

/* Signature and type information go; what is left is the same module. */
static void module_slimming(void **state)
{
	static const char trailer[] = "\0\0\0\0\0\0\0\0\0\0\0\5~Module signature appended~\n";
	uint8_t ko[1024];
	size_t n = fake_module(ko, sizeof(ko), "", "6.1");
	CLEANUP_BUF struct buf b = {0};

	buf_append(&b, ko, n);
	buf_append(&b, "SIGNA", 5);
	buf_append(&b, trailer, sizeof(trailer) - 1);
	module_slim(&b, true);
	assert_int_equal(b.len, n + 5 + sizeof(trailer) - 1);
	module_slim(&b, false);
	assert_int_equal(b.len, n);
	assert_memory_equal(b.data, ko, n);
	/* A signature that claims to be longer than the file is left alone. */
	buf_append(&b, "\0\0\0\0\0\0\0\0\xff\xff\xff\xff", 12);
	buf_append(&b, trailer + 12, sizeof(trailer) - 13);
	module_slim(&b, false);
	assert_int_equal(b.len, n + sizeof(trailer) - 1);
}

static void test_S_module_refusals(void **state)
{
	char path[] = "/tmp/test_kernel.XXXXXX";
	int dir = make_dir(path);
	CLEANUP_BUF struct buf cpio = {0}, nested = {0};
	CLEANUP_STRV struct strv names = {0};
	struct error *e = NULL;

	/* Nothing there: missing when modules were asked for, fine when they were only looked for. */
	assert_int_equal(modules_collect(dir, "6.1.0-test", true, false, &cpio, &nested, &names,
					 &e),
			 -1);
	assert_int_equal(e->code, ERR_NOT_FOUND);
	error_free(STEAL(e));
	assert_int_equal(modules_collect(dir, "6.1.0-test", false, false, &cpio, &nested, &names,
					 NULL),
			 0);
	assert_int_equal(cpio.len, 0);
	/* A circle. */
	put_module(dir, "virtio.ko", "virtio_mmio", "6.1.0-test");
	put_module(dir, "virtio_mmio.ko", "virtio", "6.1.0-test");
	assert_int_equal(modules_collect(dir, "6.1.0-test", false, false, &cpio, &nested, &names,
					 &e),
			 -1);
	assert_int_equal(e->code, ERR_INVALID_ARGUMENT);
	error_free(STEAL(e));
	/* Another kernel's module. */
	put_module(dir, "virtio_mmio.ko", "", "5.10.0");
	assert_int_equal(modules_collect(dir, "6.1.0-test", false, false, &cpio, &nested, &names,
					 &e),
			 -1);
	assert_int_equal(e->code, ERR_INVALID_ARGUMENT);
	error_free(STEAL(e));
	/* No module at all. */
	write_file(dir, "virtio_mmio.ko", "\177ELF", 4);
	assert_int_equal(modules_collect(dir, "6.1.0-test", false, false, &cpio, &nested, &names,
					 NULL),
			 -1);
	drop_dir(dir, path);
}

static void count_pair(void *arg, const char *key, size_t len, const char *value)
{
	(*(int *)arg)++;
}

static void test_S_modinfo_hostile(void **state)
{
	uint8_t ko[1024], bad[1024];
	size_t n = fake_module(ko, sizeof(ko), "a,b", "6.1"), i, cut;
	int pairs = 0;

	assert_int_equal(modinfo_parse(ko, n, count_pair, &pairs, NULL), 0);
	assert_int_equal(pairs, 3);
	for (cut = 0; cut < n;
	     cut++) { /* in memory of its own, so that a read past the end is seen */
		CLEANUP_FREE void *part = xmemdup(ko, cut ? cut : 1);

		modinfo_parse(part, cut, count_pair, &pairs, NULL);
	}
	for (i = 0; i < n; i++) { /* every byte of the headers set to its extremes */
		memcpy(bad, ko, n);
		bad[i] = 0xff;
		modinfo_parse(bad, n, count_pair, &pairs, NULL);
	}
}

/* ---- the whole ---- */

static void import_fake(void **state)
{
	char path[] = "/tmp/test_kernel.XXXXXX";
	int dir = make_dir(path);
	CLEANUP_BUF struct buf image = {0}, back = {0};
	CLEANUP_JSON struct json_object *info = NULL;
	CLEANUP_FREE char *file = xasprintf("%s/bzImage", path);
	struct fake f = fake_kernel();
	struct error *e = NULL;

	bzimage(UNPACK_ZSTD, &f, sizeof(f), &image);
	write_file(dir, "bzImage", image.data, image.len);
	if (kernel_import(file, NULL, dir, &info, &e))
		fail_msg("%s", error_text(e));
	assert_string_equal(json_str(info, "release", ""), "6.1.0-test");
	assert_string_equal(json_str(info, "name", ""), "bzImage");
	assert_int_equal(path_read_all(dir, "vmlinux", 1u << 20, &back, NULL), 0);
	assert_int_equal(back.len, sizeof(f));
	assert_memory_equal(back.data, &f, sizeof(f));
	assert_int_equal(faccessat(dir, "modules.cpio", F_OK, 0), -1);
	assert_int_equal(faccessat(dir, "kernel.json", F_OK, 0), 0);
	drop_dir(dir, path);
}

static void import_no_kernel(void **state)
{
	char path[] = "/tmp/test_kernel.XXXXXX";
	int dir = make_dir(path);
	struct error *e = NULL;

	assert_int_equal(kernel_import("/bin/true", NULL, dir, NULL, &e), -1);
	assert_int_equal(e->code, ERR_INVALID_ARGUMENT);
	error_free(STEAL(e));
	assert_int_equal(kernel_import("/nonexistent", NULL, dir, NULL, &e), -1);
	assert_int_equal(e->code, ERR_NOT_FOUND);
	error_free(STEAL(e));
	assert_int_equal(kernel_import("/dev/zero", NULL, dir, NULL, &e), -1);
	assert_int_equal(e->code, ERR_INVALID_ARGUMENT);
	error_free(STEAL(e));
	assert_int_equal(faccessat(dir, "vmlinux", F_OK, 0), -1);
	drop_dir(dir, path);
}

static void own_kernel_first(void **state)
{
	static const struct {
		const char *dir, *sub, *file;
	} step[] = {{"kernel", NULL, "kernel/vmlinux"},
		    {"share", "share/container", "share/container/vmlinux"}};
	char path[] = "/tmp/test_kernel.XXXXXX";
	int dir = make_dir(path), fd;
	struct error *e = NULL;
	size_t i;

	/* The later of the two wins: what is installed, over what lies in a build directory. */
	for (i = 0; i < ARRAY_SIZE(step); i++) {
		CLEANUP_FREE char *binary = NULL, *modules = NULL;
		CLEANUP_FREE char *want = xasprintf("%s/%s", path, step[i].file);

		assert_int_equal(mkdirat(dir, step[i].dir, 0755), 0);
		if (step[i].sub)
			assert_int_equal(mkdirat(dir, step[i].sub, 0755), 0);
		fd = openat(dir, step[i].file, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
		assert_true(fd >= 0);
		close(fd);
		assert_int_equal(kernel_recommended(path, &binary, &modules, &e), 0);
		assert_string_equal(binary, want);
		assert_null(modules);
	}
	drop_dir(dir, path);
}

static void import_distribution(void **state)
{
	char path[] = "/tmp/test_kernel.XXXXXX";
	CLEANUP_FREE char *binary = NULL, *modules = NULL;
	CLEANUP_JSON struct json_object *info = NULL;
	struct json_object *list;
	struct error *e = NULL;
	int dir;

	if (kernel_recommended(NULL, &binary, &modules, &e)) {
		print_message("skipped: no distribution cloud kernel in /boot\n");
		error_free(e);
		skip();
	}
	dir = make_dir(path);
	if (kernel_import(binary, modules, dir, &info, &e))
		fail_msg("%s", error_text(e));
	assert_string_equal(json_str(info, "release", ""), strstr(binary, "vmlinuz-") + 8);
	list = json_arr(info, "modules");
	assert_non_null(list);
	assert_int_equal(faccessat(dir, "modules.cpio", F_OK, 0), 0);
	drop_dir(dir, path);
}

static void cpio_format(void **state)
{
	CLEANUP_BUF struct buf b = {0};

	cpio_dir(&b, "dev", 0755);
	cpio_node(&b, "dev/console", 0600, 5, 1);
	cpio_file(&b, "a", 0644, "hello", 5);
	cpio_end(&b);
	assert_int_equal(b.len, 512);
	assert_memory_equal(b.data, "07070100000000000041ED", 22);
	assert_memory_equal(b.data + 110, "dev\0", 4);
	/* The second entry begins at 110 + 4, padded to four. */
	assert_memory_equal(b.data + 116, "0707010000000000002180", 22);
	assert_non_null(memmem(b.data, b.len, "TRAILER!!!", 11));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(elf_headers),
		cmocka_unit_test(test_S_elf_hostile),
		cmocka_unit_test(release_banner),
		cmocka_unit_test(test_S_bzimage_all_kinds),
		cmocka_unit_test(test_S_bzimage_hostile),
		cmocka_unit_test(test_S_bzimage_hides),
		cmocka_unit_test(test_S_unpack_bounded),
		cmocka_unit_test(test_S_unpack_memory),
		cmocka_unit_test(test_S_lz4_hostile_sizes),
		cmocka_unit_test(module_order),
		cmocka_unit_test(module_slimming),
		cmocka_unit_test(test_S_module_refusals),
		cmocka_unit_test(test_S_modinfo_hostile),
		cmocka_unit_test(import_fake),
		cmocka_unit_test(import_no_kernel),
		cmocka_unit_test(own_kernel_first),
		cmocka_unit_test(import_distribution),
		cmocka_unit_test(cpio_format),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
