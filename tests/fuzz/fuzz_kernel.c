// links: vmm core
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_kernel.c - what a user calls a kernel. Hostile: bzImage headers, packed payloads, ELF headers and notes, both in
 * the import and in the loader, which reads them again. Two questions are asked of each input: as a file as it is, and,
 * when its first byte is odd, of the rest as the payload of a bzImage. Nothing may be loaded outside guest memory.
 */
#include <sys/mman.h>

#include "core/log.h"
#include "tests/fuzz/fuzz.h"
#include "vmm/boot.h"
#include "vmm/kernel_priv.h"

#define MEM (8u << 20)

static struct gmem m;

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	log_init_stderr("fuzz", LOG_LVL_ERROR + 1);
	FUZZ_CHECK(!gmem_new(MEM, &m, NULL));
	return 0;
}

static void load(const void *p, size_t n)
{
	int fd = fuzz_memfd(p, n);
	struct boot_kernel k;

	if (boot_load_elf(fd, &m, &k, NULL) == 0) {
		struct boot_params_in in = {.kernel = &k, .cmdline = "quiet"};

		FUZZ_CHECK(k.end > BOOT_HIMEM_GPA && k.end <= MEM && k.entry >= BOOT_HIMEM_GPA &&
			   k.entry < k.end);
		FUZZ_CHECK(!boot_write_params(&in, &m, NULL));
	}
	close(fd);
	/* The loader maps pages of the file over the memory: the next input starts afresh. */
	FUZZ_CHECK(mmap(m.regions[0].hva, MEM, PROT_READ | PROT_WRITE,
			MAP_SHARED | MAP_FIXED | MAP_NORESERVE, m.fd, 0) != MAP_FAILED);
	(void)fallocate(m.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, MEM);
}

static void import(const void *p, size_t n)
{
	struct buf out = {0};
	const void *vmlinux = NULL;
	size_t len = 0;

	if (kernel_image_unpack(p, n, &out, &vmlinux, &len, NULL) == 0) {
		FUZZ_CHECK(vmlinux == p ? len == n : vmlinux == out.data && len == out.len);
		free(kernel_release(vmlinux, len));
	}
	buf_free(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t *image;

	if (!size)
		return 0;
	if (!(data[0] & 1)) {
		free(kernel_release(data + 1, size - 1));
		import(data + 1, size - 1);
		load(data + 1, size - 1);
		return 0;
	}
	image = xcalloc(1, 1024 + size - 1);
	image[0x1f1] = 1;
	memcpy(image + 0x1fe, "\x55\xaaxxHdrS\x0f\x02", 10);
	image[0x24c] = (uint8_t)(size - 1);
	image[0x24d] = (uint8_t)((size - 1) >> 8);
	image[0x24e] = (uint8_t)((size - 1) >> 16);
	memcpy(image + 1024, data + 1, size - 1);
	import(image, 1024 + size - 1);
	free(image);
	return 0;
}
