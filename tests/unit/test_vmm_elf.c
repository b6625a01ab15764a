// links: vmm core
/* SPDX-License-Identifier: Apache-2.0 */
/* test_vmm_elf.c - the loader of an ELF kernel, and files that lie to it (attack class S). */
#include <elf.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/mman.h>
#include <cmocka.h>

#include "core/path.h"
#include "core/str.h"
#include "vmm/boot.h"

#define MIB (1ull << 20)

static struct gmem mem;

static int setup(void **state)
{
	return gmem_new(64 * MIB, &mem, NULL);
}

static int teardown(void **state)
{
	gmem_free(&mem);
	return 0;
}

#define IMG_SIZE  0x4000
#define IMG_NOTES 0x3000
#define IMG_PADDR 0x1000000ull

struct image {
	Elf64_Ehdr eh;
	Elf64_Phdr ph[3];
	uint8_t rest[IMG_SIZE - sizeof(Elf64_Ehdr) - 3 * sizeof(Elf64_Phdr)];
};

struct note {
	Elf64_Nhdr h;
	char name[4];
	uint32_t entry;
};

static void image_init(struct image *img)
{
	struct note n = {{4, 4, 18}, "Xen", (uint32_t)IMG_PADDR + 0x10};
	uint8_t *raw = (uint8_t *)img;

	memset(img, 0, sizeof(*img));
	memcpy(img->eh.e_ident, ELFMAG, SELFMAG);
	img->eh.e_ident[EI_CLASS] = ELFCLASS64;
	img->eh.e_ident[EI_DATA] = ELFDATA2LSB;
	img->eh.e_type = ET_EXEC;
	img->eh.e_machine = EM_X86_64;
	img->eh.e_entry = IMG_PADDR + 0x20;
	img->eh.e_phoff = offsetof(struct image, ph);
	img->eh.e_phentsize = sizeof(Elf64_Phdr);
	img->eh.e_phnum = 3;
	img->ph[0] = (Elf64_Phdr){.p_type = PT_LOAD,
				  .p_offset = 0x1000,
				  .p_paddr = IMG_PADDR,
				  .p_filesz = 0x1800,
				  .p_memsz = 0x5000};
	img->ph[1] = (Elf64_Phdr){.p_type = PT_LOAD,
				  .p_offset = 0x2804,
				  .p_paddr = IMG_PADDR + 0x6004,
				  .p_filesz = 8,
				  .p_memsz = 8};
	img->ph[2] = (Elf64_Phdr){.p_type = PT_NOTE, .p_offset = IMG_NOTES, .p_filesz = sizeof(n)};
	memset(raw + 0x1000, 0xaa, 0x1800);
	memcpy(raw + 0x2804, "segment2", 8);
	memcpy(raw + IMG_NOTES, &n, sizeof(n));
}

/* Why load_bytes() last failed: what is refused later, for another reason, was not noticed where it should. */
static char refusal[256];

static int load_bytes(const void *p, size_t n, struct boot_kernel *k)
{
	CLEANUP_CLOSE int fd = memfd_create("kernel", MFD_CLOEXEC);
	CLEANUP_ERROR struct error *err = NULL;
	CLEANUP_FREE char *text = NULL;
	struct gmem m;
	int rc;

	assert_int_equal(fd_write_full(fd, p, n, NULL), 0);
	assert_int_equal(gmem_new(64 * MIB, &m, NULL), 0);
	rc = boot_load_elf(fd, &m, k, &err);
	text = error_text(err);
	snprintf(refusal, sizeof(refusal), "%s", rc ? text : "accepted");
	if (!rc) {
		assert_true(k->end <= 64 * MIB);
		assert_true(k->entry < 64 * MIB);
	}
	gmem_free(&m);
	return rc;
}

static void test_elf_loads(void **state)
{
	CLEANUP_CLOSE int fd = memfd_create("kernel", MFD_CLOEXEC);
	struct boot_kernel k;
	struct image img;
	const uint8_t *at;

	image_init(&img);
	assert_int_equal(fd_write_full(fd, &img, sizeof(img), NULL), 0);
	assert_int_equal(boot_load_elf(fd, &mem, &k, NULL), 0);
	assert_true(k.pvh);
	assert_int_equal(k.entry, IMG_PADDR + 0x10);
	assert_int_equal(k.end, IMG_PADDR + 0x6004 + 8);
	at = gmem_ptr(&mem, IMG_PADDR, 0x7000);
	assert_int_equal(at[0], 0xaa);      /* a mapped page */
	assert_int_equal(at[0x17ff], 0xaa); /* the tail, read */
	assert_int_equal(at[0x1800], 0);    /* bss */
	assert_memory_equal(at + 0x6004, "segment2", 8);
	/* Writing to the guest's copy leaves the file alone. */
	((uint8_t *)gmem_ptr(&mem, IMG_PADDR, 1))[0] = 0x55;
	assert_int_equal(fd_pread_full(fd, &img, sizeof(img), 0, NULL), 0);
	assert_int_equal(((uint8_t *)&img)[0x1000], 0xaa);

	img.ph[2].p_type = PT_NULL;
	assert_int_equal(load_bytes(&img, sizeof(img), &k), 0);
	assert_false(k.pvh);
	assert_int_equal(k.entry, IMG_PADDR + 0x20);
}

enum field {
	E_MAGIC,
	E_CLASS,
	E_MACHINE,
	E_TYPE,
	E_PHNUM,
	E_PHENT,
	E_PHOFF,
	P_OFFSET,
	P_FILESZ,
	P_MEMSZ,
	P_PADDR,
	P1_PADDR,
	E_ENTRY,
	PVH_ENTRY,
};

static void poke(struct image *img, enum field f, uint64_t v)
{
	switch (f) {
	case E_MAGIC:
		img->eh.e_ident[0] = (uint8_t)v;
		break;
	case E_CLASS:
		img->eh.e_ident[EI_CLASS] = (uint8_t)v;
		break;
	case E_MACHINE:
		img->eh.e_machine = (uint16_t)v;
		break;
	case E_TYPE:
		img->eh.e_type = (uint16_t)v;
		break;
	case E_PHNUM:
		img->eh.e_phnum = (uint16_t)v;
		break;
	case E_PHENT:
		img->eh.e_phentsize = (uint16_t)v;
		break;
	case E_PHOFF:
		img->eh.e_phoff = v;
		break;
	case P_OFFSET:
		img->ph[0].p_offset = v;
		break;
	case P_FILESZ:
		img->ph[0].p_filesz = v;
		break;
	case P_MEMSZ:
		img->ph[0].p_memsz = v;
		break;
	case P_PADDR:
		img->ph[0].p_paddr = v;
		break;
	case P1_PADDR:
		img->ph[1].p_paddr = v;
		break;
	case E_ENTRY:
		img->eh.e_entry = v;
		img->ph[2].p_type = PT_NULL;
		break;
	case PVH_ENTRY:
		memcpy((uint8_t *)img + IMG_NOTES + 16, &v, 4);
		break;
	}
}

static void test_S_elf_hostile(void **state)
{
	static const struct {
		enum field field;
		uint64_t value;
		const char *why;
	} bad[] = {
		{E_MAGIC, 0, "no ELF magic"},
		{E_CLASS, ELFCLASS32, "another architecture"},
		{E_MACHINE, EM_386, "another architecture"},
		{E_MACHINE, EM_AARCH64, "another architecture"},
		{E_TYPE, ET_REL, "not an executable"},
		{E_PHNUM, 0, "bad program header table"},
		{E_PHNUM, 65, "bad program header table"},
		{E_PHNUM, 0xffff, "bad program header table"},
		{E_PHENT, 32, "bad program header table"},
		{E_PHENT, 0, "bad program header table"},
		{E_PHOFF, IMG_SIZE - 8, "program headers outside the file"},
		{E_PHOFF, UINT64_MAX, "program headers outside the file"},
		{E_PHOFF, UINT64_MAX - 100, "program headers outside the file"},
		{P_OFFSET, IMG_SIZE, "reaches outside the file"},
		{P_OFFSET, UINT64_MAX, "reaches outside the file"},
		{P_OFFSET, UINT64_MAX - 0x1000, "reaches outside the file"},
		{P_FILESZ, UINT64_MAX, "larger in the file"},
		{P_FILESZ, 0x5001, "larger in the file"},
		{P_FILESZ, 0x3001, "reaches outside the file"},
		{P_MEMSZ, 0, "entry point"}, /* not loaded: no entry point in it */
		{P_MEMSZ, UINT64_MAX, "where no kernel can be"},
		{P_MEMSZ, 64 * MIB, "needs memory up to"},
		{P_MEMSZ, 0x17ff, "larger in the file"},
		{P_PADDR, 0, "where no kernel can be"},
		{P_PADDR, 0xff000, "where no kernel can be"},
		{P_PADDR, 64 * MIB, "needs memory up to"},
		{P_PADDR, 64 * MIB - 0x1000, "needs memory up to"},
		{P_PADDR, UINT64_MAX - 0x1000, "where no kernel can be"},
		{P_PADDR, 0xffffffff81000000ull, "needs memory up to"},
		{P1_PADDR, IMG_PADDR + 0x4fff, "overlap"},
		{P1_PADDR, IMG_PADDR, "overlap"},
		{E_ENTRY, 0, "entry point"},
		{E_ENTRY, UINT64_MAX, "entry point"},
		{E_ENTRY, IMG_PADDR + 0x4000, "entry point"},
		{PVH_ENTRY, 0, "entry point"},
		{PVH_ENTRY, UINT32_MAX, "entry point"},
	};
	struct boot_kernel k;
	struct image img;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		image_init(&img);
		poke(&img, bad[i].field, bad[i].value);
		if (!load_bytes(&img, sizeof(img), &k))
			fail_msg("case %zu: field %d = %#llx was accepted", i, bad[i].field,
				 (unsigned long long)bad[i].value);
		if (!strstr(refusal, bad[i].why))
			fail_msg("case %zu: %s, and not: %s", i, refusal, bad[i].why);
	}
}

/* Segments that are all pages, or all zeroes: nothing of them is read, so nothing but the checks can notice. */
static void test_S_elf_whole_pages(void **state)
{
	static const struct {
		uint64_t offset, paddr, filesz, memsz;
		const char *why;
	} bad[] = {
		{IMG_SIZE, IMG_PADDR + 0x100000, 0x1000, 0x1000, "reaches outside the file"},
		{0x1000, IMG_PADDR + 0x100000, 0x4000, 0x4000, "reaches outside the file"},
		{1ull << 62, IMG_PADDR + 0x100000, 0x1000, 0x1000, "reaches outside the file"},
		{0, 64 * MIB, 0, 0x1000, "needs memory up to"},
		{0, IMG_PADDR + 0x100000, 0, 64 * MIB, "needs memory up to"},
		{0, UINT64_MAX - 0xfff, 0, 0x2000, "where no kernel can be"},
		{0, IMG_PADDR + 0x100000, 0, UINT64_MAX, "where no kernel can be"},
		{0, 0x1000, 0, 0x1000, "where no kernel can be"},
		{0, IMG_PADDR + 0x1000, 0, 0x1000, "overlap"},
		{0, IMG_PADDR - 0x1000, 0, 0x1001, "overlap"},
	};
	struct boot_kernel k;
	struct image img;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		image_init(&img);
		img.ph[1] = (Elf64_Phdr){.p_type = PT_LOAD,
					 .p_offset = bad[i].offset,
					 .p_paddr = bad[i].paddr,
					 .p_filesz = bad[i].filesz,
					 .p_memsz = bad[i].memsz};
		assert_int_equal(load_bytes(&img, sizeof(img), &k), -1);
		if (!strstr(refusal, bad[i].why))
			fail_msg("case %zu: %s, and not: %s", i, refusal, bad[i].why);
	}
}

/* Notes that lie about their sizes are passed over; the ELF entry is used. */
static void test_S_elf_notes(void **state)
{
	static const struct note bad[] = {
		{{0xffffffff, 4, 18}, "Xen", 0}, {{4, 0xffffffff, 18}, "Xen", 0},
		{{4, 0xfffffffc, 18}, "Xen", 0}, {{4, 64, 18}, "Xen", 0},
		{{4, 3, 18}, "Xen", 0},          {{0, 0, 0}, "", 0},
		{{4, 4, 18}, "GNU", 0},
	};
	static struct {
		struct image img;
		uint8_t more[65536];
	} big;
	struct boot_kernel k;
	struct image img;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		image_init(&img);
		memcpy((uint8_t *)&img + IMG_NOTES, &bad[i], sizeof(bad[i]));
		assert_int_equal(load_bytes(&img, sizeof(img), &k), 0);
		assert_false(k.pvh);
	}
	image_init(&img);
	img.ph[2].p_offset = UINT64_MAX - 4;
	assert_int_equal(load_bytes(&img, sizeof(img), &k), -1);
	/* Eight bytes of an address of which the segment has four; padding that it does not have; a segment longer than any of notes. */
	image_init(&img);
	((struct note *)((uint8_t *)&img + IMG_NOTES))->h.n_descsz = 8;
	assert_int_equal(load_bytes(&img, sizeof(img), &k), 0);
	assert_false(k.pvh);
	((struct note *)((uint8_t *)&img + IMG_NOTES))->h.n_descsz = 3;
	img.ph[2].p_filesz = 19;
	assert_int_equal(load_bytes(&img, sizeof(img), &k), 0);
	assert_false(k.pvh);
	image_init(&big.img);
	big.img.ph[2].p_filesz = 65537;
	assert_int_equal(load_bytes(&big, sizeof(big), &k), 0);
	assert_false(k.pvh);
	big.img.ph[2].p_filesz = 65536;
	assert_int_equal(load_bytes(&big, sizeof(big), &k), 0);
	assert_true(k.pvh);
}

static void test_S_elf_short_and_odd(void **state)
{
	CLEANUP_CLOSE int dir = open("/", O_RDONLY | O_DIRECTORY);
	struct boot_kernel k;
	struct image img;
	size_t n;

	image_init(&img);
	for (n = 0; n < sizeof(img.eh) + sizeof(img.ph); n += 7)
		assert_int_equal(load_bytes(&img, n, &k), -1);
	assert_int_equal(boot_load_elf(dir, &mem, &k, NULL), -1);
	assert_int_equal(boot_load_elf(-1, &mem, &k, NULL), -1);
}

/* Whatever a header says, the loader ends and what it accepts is inside memory (load_bytes looks). */
static void test_S_elf_random(void **state)
{
	uint64_t rng = 0x9e3779b97f4a7c15ull;
	struct boot_kernel k;
	struct image img;
	unsigned i, j, accepted = 0;

	for (i = 0; i < 1500; i++) {
		image_init(&img);
		for (j = 0; j < 1 + i % 4; j++) {
			rng = rng * 6364136223846793005ull + 1442695040888963407ull;
			((uint8_t *)&img)[(rng >> 33) % (sizeof(img.eh) + sizeof(img.ph))] =
				(uint8_t)(rng >> 56);
		}
		accepted += !load_bytes(&img, sizeof(img), &k);
	}
	assert_true(accepted > 0 && accepted < 1500);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_elf_loads, setup, teardown),
		cmocka_unit_test(test_S_elf_hostile),
		cmocka_unit_test(test_S_elf_whole_pages),
		cmocka_unit_test(test_S_elf_notes),
		cmocka_unit_test_setup_teardown(test_S_elf_short_and_odd, setup, teardown),
		cmocka_unit_test(test_S_elf_random),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
