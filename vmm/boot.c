/* SPDX-License-Identifier: Apache-2.0 */
/*
 * boot.c - what a kernel finds in memory when it is entered: initramfs, command line, memory map, start info or zero
 * page, identity page tables.
 */
#include <asm/bootparam.h>
#include <string.h>

#include "vmm/acpi.h"
#include "vmm/boot.h"

#define INITRD_MAX     (1ull << 30)
#define CMDLINE_MAX    2047
#define PAGE           4096ull
#define KERNEL_SLACK   (1ull << 20) /* between the kernel's bss and the initramfs */
#define PVH_MAGIC      0x336ec578u
#define LOADER_UNKNOWN 0xff
#define BOOT_FLAG      0xaa55
#define HDRS_MAGIC     0x53726448u
#define BOOT_PROTOCOL  0x020f

enum { MAP_RAM = 1, MAP_RESERVED = 2 }; /* the same in e820 and in PVH's map */

struct hvm_start_info {
	uint32_t magic, version, flags, nr_modules;
	uint64_t modlist, cmdline, rsdp, memmap;
	uint32_t memmap_entries, reserved;
};

struct hvm_modlist_entry {
	uint64_t paddr, size, cmdline, reserved;
};

struct hvm_memmap_entry {
	uint64_t addr, size;
	uint32_t type, reserved;
};

#define MAP_MAX (3 + GMEM_MAX_REGIONS)

struct memmap {
	struct hvm_memmap_entry e[MAP_MAX];
	unsigned n;
};

static void map_add(struct memmap *map, uint64_t addr, uint64_t end, uint32_t type)
{
	if (end > addr)
		map->e[map->n++] =
			(struct hvm_memmap_entry){.addr = addr, .size = end - addr, .type = type};
}

static void map_build(const struct gmem *m, struct memmap *map)
{
	const struct gmem_region *low = &m->regions[0];
	unsigned i;

	*map = (struct memmap){0};
	map_add(map, 0, BOOT_EBDA_GPA, MAP_RAM);
	map_add(map, ACPI_TABLES_GPA, BOOT_HIMEM_GPA, MAP_RESERVED);
	map_add(map, BOOT_HIMEM_GPA, low->gpa + low->size, MAP_RAM);
	for (i = 1; i < m->nregions && i < GMEM_MAX_REGIONS; i++)
		map_add(map, m->regions[i].gpa, m->regions[i].gpa + m->regions[i].size, MAP_RAM);
}

static int initrd_size(const struct iovec *iov, size_t n, uint64_t *size, struct error **err)
{
	uint64_t total = 0;
	size_t i;

	for (i = 0; i < n; i++) {
		if (iov[i].iov_len > INITRD_MAX || total > INITRD_MAX)
			return error_set(err, ERR_INVALID_ARGUMENT,
					 "initramfs larger than %llu MiB", INITRD_MAX >> 20);
		total = ALIGN_UP(total, 4) + iov[i].iov_len;
	}
	*size = total;
	return 0;
}

int boot_load_initrd(const struct iovec *iov, size_t n, const struct gmem *m,
		     const struct boot_kernel *k, uint64_t *gpa, uint64_t *len, struct error **err)
{
	uint64_t end = m->regions[0].gpa + m->regions[0].size, size = 0, at, off = 0;
	size_t i;

	*gpa = *len = 0;
	if (initrd_size(iov, n, &size, err))
		return -1;
	if (!size)
		return 0;
	if (size > end || ALIGN_DOWN(end - size, PAGE) < k->end + KERNEL_SLACK)
		return error_set(err, ERR_INVALID_ARGUMENT,
				 "%llu MiB of memory are too few for a kernel of %llu MiB and an "
				 "initramfs of %llu MiB",
				 (unsigned long long)(end >> 20),
				 (unsigned long long)(k->end >> 20),
				 (unsigned long long)(size >> 20));
	at = ALIGN_DOWN(end - size, PAGE);
	for (i = 0; i < n; i++) {
		off = ALIGN_UP(off, 4);
		if (iov[i].iov_len && gmem_write(m, at + off, iov[i].iov_base, iov[i].iov_len))
			return error_set(err, ERR_INTERNAL, "initramfs outside guest memory");
		off += iov[i].iov_len;
	}
	*gpa = at;
	*len = size;
	return 0;
}

/* One identity mapping of the first 4 GiB with 2 MiB pages. */
static int write_page_tables(const struct gmem *m)
{
	uint64_t *t = gmem_ptr(m, BOOT_PAGES_GPA, 6 * PAGE);
	unsigned i;

	if (!t)
		return -1;
	t[0] = (BOOT_PAGES_GPA + PAGE) | 3;
	for (i = 0; i < 4; i++)
		t[512 + i] = (BOOT_PAGES_GPA + (2 + i) * PAGE) | 3;
	for (i = 0; i < 4 * 512; i++)
		t[1024 + i] = ((uint64_t)i << 21) | 0x83;
	return 0;
}

/* null, unused, code (64-bit), data, 32-bit code: what the segment registers are loaded with has to be in memory too, as
 * kernels may reload them. */
static int write_gdt(const struct gmem *m)
{
	static const uint64_t gdt[] = {0, 0, 0x00af9b000000ffffull, 0x00cf93000000ffffull,
				       0x00cf9b000000ffffull};

	return gmem_write(m, BOOT_GDT_GPA, gdt, sizeof(gdt));
}

static int write_start_info(const struct boot_params_in *in, const struct gmem *m,
			    const struct memmap *map)
{
	struct hvm_modlist_entry mod = {.paddr = in->initrd_gpa, .size = in->initrd_len};
	uint64_t mod_gpa = BOOT_START_GPA + sizeof(struct hvm_start_info);
	uint64_t map_gpa = mod_gpa + sizeof(mod);
	struct hvm_start_info si = {
		.magic = PVH_MAGIC,
		.version = 1,
		.nr_modules = in->initrd_len ? 1 : 0,
		.modlist = in->initrd_len ? mod_gpa : 0,
		.cmdline = BOOT_CMDLINE_GPA,
		.rsdp = in->rsdp_gpa,
		.memmap = map_gpa,
		.memmap_entries = map->n,
	};

	if (gmem_write(m, BOOT_START_GPA, &si, sizeof(si)) ||
	    gmem_write(m, mod_gpa, &mod, sizeof(mod)))
		return -1;
	return gmem_write(m, map_gpa, map->e, map->n * sizeof(map->e[0]));
}

static int write_zero_page(const struct boot_params_in *in, const struct gmem *m,
			   const struct memmap *map)
{
	struct boot_params bp = {0};
	unsigned i;

	bp.hdr.type_of_loader = LOADER_UNKNOWN;
	bp.hdr.boot_flag = BOOT_FLAG;
	bp.hdr.header = HDRS_MAGIC;
	bp.hdr.version = BOOT_PROTOCOL;
	bp.hdr.kernel_alignment = 0x1000000;
	bp.hdr.loadflags = LOADED_HIGH;
	bp.hdr.cmd_line_ptr = BOOT_CMDLINE_GPA;
	bp.hdr.cmdline_size = (uint32_t)strlen(in->cmdline);
	bp.hdr.ramdisk_image = (uint32_t)in->initrd_gpa;
	bp.hdr.ramdisk_size = (uint32_t)in->initrd_len;
	bp.acpi_rsdp_addr = in->rsdp_gpa;
	for (i = 0; i < map->n; i++)
		bp.e820_table[i] = (struct boot_e820_entry){.addr = map->e[i].addr,
							    .size = map->e[i].size,
							    .type = map->e[i].type};
	bp.e820_entries = (uint8_t)map->n;
	return gmem_write(m, BOOT_ZERO_GPA, &bp, sizeof(bp));
}

int boot_write_params(const struct boot_params_in *in, const struct gmem *m, struct error **err)
{
	size_t len = strlen(in->cmdline);
	struct memmap map;

	if (len > CMDLINE_MAX)
		return error_set(err, ERR_INVALID_ARGUMENT,
				 "kernel command line longer than %d bytes", CMDLINE_MAX);
	map_build(m, &map);
	if (gmem_write(m, BOOT_CMDLINE_GPA, in->cmdline, len + 1) ||
	    write_start_info(in, m, &map) || write_zero_page(in, m, &map) || write_page_tables(m) ||
	    write_gdt(m))
		return error_set(err, ERR_INVALID_ARGUMENT, "guest memory too small to boot in");
	return 0;
}
