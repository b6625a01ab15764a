// links: vmm core
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_module.c - kernel modules on their way into the initramfs. Hostile: the four compressions, ELF sections,
 * .modinfo strings, the signature's trailer; and names and contents put into a cpio archive, which must come out with
 * every member where its header says.
 */
#include "tests/fuzz/fuzz.h"
#include "vmm/kernel_priv.h"

static void pair(void *arg, const char *key, size_t key_len, const char *value)
{
	size_t *sum = arg;

	*sum += key_len + strlen(value) + (key_len ? (size_t)key[key_len - 1] : 0);
}

static void slim(const uint8_t *p, size_t n)
{
	struct buf ko = {0};
	size_t sum = 0;

	if (modinfo_parse(p, n, pair, &sum, NULL))
		return;
	buf_append(&ko, p, n);
	module_slim(&ko, false);
	FUZZ_CHECK(ko.len <= n);
	buf_free(&ko);
}

static uint32_t hex(const char *p)
{
	char s[9];

	memcpy(s, p, 8);
	s[8] = 0;
	return (uint32_t)strtoul(s, NULL, 16);
}

static void archive(struct fz *f)
{
	struct buf b = {0};
	size_t at = 0;
	unsigned n = 1 + fz_u8(f) % 4, seen = 0;

	while (n--) {
		char *name = fz_string(f);
		struct fz body = fz_take(f, fz_u8(f));

		if (*name)
			cpio_file(&b, name, 0644, body.p, body.n);
		free(name);
	}
	cpio_dir(&b, "d", 0755);
	cpio_node(&b, "n", 0600, 1, 3);
	cpio_end(&b);
	FUZZ_CHECK(b.len % 512 == 0);
	for (;;) {
		const char *h = b.data + at;
		size_t size, name;

		FUZZ_CHECK(b.len - at >= 110 && !memcmp(h, "070701", 6));
		size = hex(h + 54);
		name = hex(h + 94);
		FUZZ_CHECK(name && at + 110 + name <= b.len && !h[110 + name - 1]);
		if (!strcmp(h + 110, "TRAILER!!!") && !size && b.len - at < 124 + 512)
			break;
		FUZZ_CHECK(++seen < 16);
		at = ALIGN_UP(at + 110 + name, 4);
		at = ALIGN_UP(at + size, 4);
	}
	buf_free(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fz f = {data, size};
	struct buf out = {0};
	enum unpack_kind k;

	if (fz_u8(&f) & 1) {
		archive(&f);
		return 0;
	}
	slim(f.p, f.n);
	k = unpack_kind_of(f.p, f.n);
	(void)unpack_kind_name(k);
	if (unpack(k, f.p, f.n, 1u << 20, &out, NULL) == 0) {
		FUZZ_CHECK(out.len <= 1u << 20);
		slim((const uint8_t *)out.data, out.len);
	}
	buf_free(&out);
	return 0;
}
