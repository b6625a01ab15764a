// links: vmm core
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The machine side of the kvm engine without KVM: ACPI tables, boot parameters, the
 * virtio-mmio registers (class A), the UART, CPUID, and the choice of an engine.
 */
#include <asm/bootparam.h>
#include <elf.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <cmocka.h>

#include "core/path.h"
#include "core/proc.h"
#include "vmm/acpi.h"
#include "vmm/kvm.h"

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

/* ---- ACPI ---- */

struct table {
	const uint8_t *p;
	uint32_t len;
};

static uint64_t le(const uint8_t *p, unsigned n)
{
	uint64_t v = 0;

	while (n--)
		v = v << 8 | p[n];
	return v;
}

static uint8_t sum(const uint8_t *p, size_t n)
{
	uint8_t s = 0;

	while (n--)
		s = (uint8_t)(s + *p++);
	return s;
}

static struct table table_at(const struct buf *b, uint64_t gpa, const char *sig)
{
	struct table t;

	assert_true(gpa >= ACPI_TABLES_GPA && gpa + 36 <= ACPI_TABLES_GPA + b->len);
	t.p = (const uint8_t *)b->data + (gpa - ACPI_TABLES_GPA);
	t.len = (uint32_t)le(t.p + 4, 4);
	assert_true(gpa + t.len <= ACPI_TABLES_GPA + b->len);
	assert_memory_equal(t.p, sig, 4);
	assert_int_equal(sum(t.p, t.len), 0);
	return t;
}

static struct acpi_machine machine(unsigned vcpus, unsigned nmmio)
{
	return (struct acpi_machine){.vcpus = vcpus,
				     .nmmio = nmmio,
				     .mmio_base = MMIO_BASE,
				     .mmio_size = MMIO_SIZE,
				     .first_gsi = MMIO_FIRST_GSI,
				     .uart = true};
}

static unsigned count(const struct table *t, const char *needle)
{
	unsigned n = 0;
	size_t i, len = strlen(needle);

	for (i = 0; i + len <= t->len; i++)
		n += !memcmp(t->p + i, needle, len);
	return n;
}

static void run_iasl(const char *dir, const char *name, const struct table *t, struct buf *dsl)
{
	CLEANUP_FREE char *iasl = proc_find("iasl");
	CLEANUP_FREE char *aml = xasprintf("%s/%s.aml", dir, name);
	CLEANUP_FREE char *out = xasprintf("%s/%s.dsl", dir, name);
	char *argv[] = {"iasl", "-d", aml, NULL};
	struct proc_spec spec = {.path = iasl, .argv = argv, .stdio = {-1, -1, -1}};
	CLEANUP_CLOSE int fd = -1;
	int status;
	pid_t pid;

	if (!iasl)
		skip();
	fd = open(aml, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	assert_int_equal(fd_write_full(fd, t->p, t->len, NULL), 0);
	assert_int_equal(proc_spawn(&spec, &pid, NULL), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(proc_exit_code(status), 0);
	assert_int_equal(path_read_all(AT_FDCWD, out, MIB, dsl, NULL), 0);
	unlink(aml);
	unlink(out);
}

static void check_tables(unsigned vcpus, unsigned nmmio, bool disassemble)
{
	struct acpi_machine m = machine(vcpus, nmmio);
	CLEANUP_BUF struct buf b = {0};
	CLEANUP_BUF struct buf dsl = {0};
	struct table xsdt, fadt, madt, dsdt;
	const uint8_t *r;
	char dir[] = "/tmp/test-acpi.XXXXXX";
	size_t i;

	assert_int_equal(acpi_build(&m, ACPI_TABLES_GPA, &b, NULL), 0);
	r = (const uint8_t *)b.data;
	assert_memory_equal(r, "RSD PTR ", 8);
	assert_int_equal(sum(r, 20), 0);
	assert_int_equal(sum(r, 36), 0);
	xsdt = table_at(&b, le(r + 24, 8), "XSDT");
	assert_int_equal(xsdt.len, 36 + 2 * 8);
	fadt = table_at(&b, le(xsdt.p + 36, 8), "FACP");
	madt = table_at(&b, le(xsdt.p + 44, 8), "APIC");
	dsdt = table_at(&b, le(fadt.p + 140, 8), "DSDT");
	assert_true(le(fadt.p + 112, 4) & 1u << 20); /* hardware-reduced */
	assert_int_equal(le(fadt.p + 120, 8), ACPI_RESET);
	assert_int_equal(le(fadt.p + 248, 8), ACPI_SLEEP_CONTROL);
	assert_int_equal(le(fadt.p + 260, 8), ACPI_SLEEP_STATUS);
	/* No legacy: boot architecture flags without devices on the ISA bus and 8042, with "no VGA, MSI, ASPM, RTC"; none of the
	 * fixed hardware's ports; no pair of 8259 beside the APICs. */
	assert_int_equal(le(fadt.p + 109, 2), 0x3c);
	for (i = 46; i < 96; i++)
		assert_int_equal(fadt.p[i], 0);
	for (i = 148; i < 244; i++)
		assert_int_equal(fadt.p[i], 0);
	assert_int_equal(le(madt.p + 40, 4), 0);
	assert_int_equal(madt.len, 44 + vcpus * 8 + 12);
	assert_int_equal(madt.p[44 + (vcpus - 1) * 8 + 3], vcpus - 1);
	assert_int_equal(count(&dsdt, "LNRO0005"), nmmio);
	assert_int_equal(count(&dsdt, "_S5_"), 1);
	if (!disassemble)
		return;
	assert_non_null(mkdtemp(dir));
	run_iasl(dir, "dsdt", &dsdt, &dsl);
	assert_non_null(strstr(dsl.data, "Name (_HID, \"LNRO0005\")"));
	assert_non_null(strstr(dsl.data, "0xD0001000,         // Address Base"));
	assert_non_null(
		strstr(dsl.data, "Interrupt (ResourceConsumer, Edge, ActiveHigh, Exclusive"));
	assert_non_null(strstr(dsl.data, "0x00000006,"));
	assert_non_null(strstr(dsl.data, "EisaId (\"PNP0501\")"));
	assert_null(strstr(dsl.data, "Invalid"));
	assert_null(strstr(dsl.data, "Unknown"));
	dsl.len = 0;
	run_iasl(dir, "facp", &fadt, &dsl);
	assert_non_null(strstr(dsl.data, "Hardware Reduced (V5) : 1"));
	dsl.len = 0;
	run_iasl(dir, "apic", &madt, &dsl);
	assert_null(strstr(dsl.data, "Unknown"));
	rmdir(dir);
}

static void test_acpi_tables(void **state)
{
	check_tables(1, 0, false);
	check_tables(2, 5, false);
	check_tables(VM_MAX_VCPUS, VM_MAX_DEVS, false);
}

static void test_acpi_iasl(void **state)
{
	check_tables(3, 5, true);
}

static void test_acpi_limits(void **state)
{
	struct acpi_machine none = machine(0, 0), many = machine(255, 0), far = machine(1, 1);
	CLEANUP_BUF struct buf b = {0};

	far.mmio_base = 0x100000000ull;
	assert_int_equal(acpi_build(&none, ACPI_TABLES_GPA, &b, NULL), -1);
	assert_int_equal(acpi_build(&many, ACPI_TABLES_GPA, &b, NULL), -1);
	assert_int_equal(acpi_build(&far, ACPI_TABLES_GPA, &b, NULL), -1);
}

/* ---- initramfs and parameters ---- */

static void test_initrd(void **state)
{
	struct iovec iov[] = {{"abcde", 5}, {"", 0}, {"12345678", 8}};
	struct iovec big = {.iov_base = NULL, .iov_len = 62 * MIB}, huge = {NULL, SIZE_MAX};
	struct boot_kernel k = {.end = 2 * MIB};
	CLEANUP_ERROR struct error *err = NULL;
	uint64_t gpa, len;

	assert_int_equal(boot_load_initrd(iov, ARRAY_SIZE(iov), &mem, &k, &gpa, &len, NULL), 0);
	assert_int_equal(len, 16);
	assert_int_equal(gpa, 64 * MIB - 4096);
	assert_memory_equal(gmem_ptr(&mem, gpa, 16), "abcde\0\0\00012345678", 16);
	assert_int_equal(boot_load_initrd(NULL, 0, &mem, &k, &gpa, &len, NULL), 0);
	assert_int_equal(len, 0);
	assert_int_equal(boot_load_initrd(&big, 1, &mem, &k, &gpa, &len, &err), -1);
	assert_int_equal(err->code, ERR_INVALID_ARGUMENT);
	assert_int_equal(boot_load_initrd(&huge, 1, &mem, &k, &gpa, &len, NULL), -1);
}

static void test_params(void **state)
{
	struct boot_kernel k = {.end = 2 * MIB};
	struct boot_params_in in = {.kernel = &k,
				    .cmdline = "a=b quiet",
				    .initrd_gpa = 0x3000000,
				    .initrd_len = 77,
				    .rsdp_gpa = ACPI_TABLES_GPA};
	static char words[4096];
	struct boot_params bp;
	struct gmem m;
	uint8_t si[56];
	unsigned i;
	uint64_t ram = 0;

	assert_int_equal(gmem_new(5120 * MIB, &m, NULL), 0);
	assert_int_equal(boot_write_params(&in, &m, NULL), 0);
	assert_int_equal(gmem_read(&m, BOOT_ZERO_GPA, &bp, sizeof(bp)), 0);
	assert_string_equal(gmem_ptr(&m, bp.hdr.cmd_line_ptr, 10), "a=b quiet");
	assert_int_equal(bp.hdr.ramdisk_image, 0x3000000);
	assert_int_equal(bp.hdr.ramdisk_size, 77);
	assert_int_equal(bp.acpi_rsdp_addr, ACPI_TABLES_GPA);
	for (i = 0; i < bp.e820_entries; i++) {
		const struct boot_e820_entry *e = &bp.e820_table[i];

		assert_true(!i || e->addr >= bp.e820_table[i - 1].addr + bp.e820_table[i - 1].size);
		/* Neither the tables nor the devices are in RAM. */
		assert_false(e->type == 1 && e->addr < MMIO_BASE &&
			     e->addr + e->size > GMEM_LOW_END);
		assert_false(e->type == 1 && e->addr < 0x100000 &&
			     e->addr + e->size > ACPI_TABLES_GPA);
		ram += e->type == 1 ? e->size : 0;
	}
	assert_true(ram <= 5120 * MIB && ram > 5119 * MIB);
	assert_int_equal(gmem_read(&m, BOOT_START_GPA, si, sizeof(si)), 0);
	assert_int_equal(le(si, 4), 0x336ec578);
	assert_int_equal(le(si + 12, 4), 1);
	assert_int_equal(le(gmem_ptr(&m, le(si + 16, 8), 16), 8), 0x3000000);
	assert_int_equal(le(si + 24, 8), BOOT_CMDLINE_GPA);
	assert_int_equal(le(si + 32, 8), ACPI_TABLES_GPA);
	assert_int_equal(le(si + 48, 4), bp.e820_entries);

	memset(words, 'x', sizeof(words) - 1);
	in.cmdline = words;
	assert_int_equal(boot_write_params(&in, &m, NULL), -1);
	words[VM_CMDLINE_MAX] = 0;
	assert_int_equal(boot_write_params(&in, &m, NULL), 0);
	gmem_free(&m);
}

/* ---- virtio-mmio (class A) ---- */

static struct fake {
	struct virtio_dev dev;
	struct vmmio t;
	struct loop *loop;
	unsigned kicks, raised, resets;
	uint8_t config[16];
} fake;

static void fake_config_read(struct virtio_dev *dev, uint32_t off, void *buf, uint32_t len)
{
	memcpy(buf, fake.config + off, len);
}

static void fake_config_write(struct virtio_dev *dev, uint32_t off, const void *buf, uint32_t len)
{
	memcpy(fake.config + off, buf, len);
}

static void fake_reset(struct virtio_dev *dev)
{
	fake.resets++;
}

static void fake_kick(struct virtio_dev *dev, unsigned q)
{
	fake.kicks++;
}

static void fake_free(struct virtio_dev *dev)
{
}

static const struct virtio_dev_ops fake_ops = {.name = "fake",
					       .config_read = fake_config_read,
					       .config_write = fake_config_write,
					       .reset = fake_reset,
					       .queue_kick = fake_kick,
					       .free = fake_free};

static void fake_raise(void *arg)
{
	fake.raised++;
}

static int mmio_setup(void **state)
{
	if (gmem_new(64 * MIB, &mem, NULL))
		return -1;
	memset(&fake, 0, sizeof(fake));
	fake.loop = loop_new(NULL);
	fake.dev.nqueues = 2;
	fake.dev.vq[0].max_size = fake.dev.vq[1].max_size = 256;
	fake.dev.config_len = sizeof(fake.config);
	fake.dev.features_offered = VIRTIO_F(5);
	if (virtio_dev_init(&fake.dev, &fake_ops, 4, fake.loop, &mem, NULL))
		return -1;
	vmmio_init(&fake.t, &fake.dev, fake_raise, NULL);
	return 0;
}

static int mmio_teardown(void **state)
{
	virtio_dev_fini(&fake.dev);
	loop_free(fake.loop);
	gmem_free(&mem);
	return 0;
}

static uint32_t rd(uint32_t off)
{
	uint32_t v = 0xdeadbeef;

	vmmio_read(&fake.t, off, &v, 4);
	return v;
}

static void wr(uint32_t off, uint32_t v)
{
	vmmio_write(&fake.t, off, &v, 4);
}

enum {
	R_MAGIC = 0x00,
	R_VERSION = 0x04,
	R_DEVICE = 0x08,
	R_DEVFEAT = 0x10,
	R_DEVFEATSEL = 0x14,
	R_DRVFEAT = 0x20,
	R_DRVFEATSEL = 0x24,
	R_QSEL = 0x30,
	R_QMAX = 0x34,
	R_QNUM = 0x38,
	R_QREADY = 0x44,
	R_NOTIFY = 0x50,
	R_ISR = 0x60,
	R_ACK = 0x64,
	R_STATUS = 0x70,
	R_DESC = 0x80,
	R_AVAIL = 0x90,
	R_USED = 0xa0,
	R_CONFIG = 0x100,
};

#define QUEUE_GPA 0x200000u

static void stage_queue(uint32_t q, uint32_t num, uint64_t gpa)
{
	wr(R_QSEL, q);
	wr(R_QNUM, num);
	wr(R_DESC, (uint32_t)gpa);
	wr(R_DESC + 4, (uint32_t)(gpa >> 32));
	wr(R_AVAIL, (uint32_t)gpa + 0x2000);
	wr(R_AVAIL + 4, (uint32_t)(gpa >> 32));
	wr(R_USED, (uint32_t)gpa + 0x4000);
	wr(R_USED + 4, (uint32_t)(gpa >> 32));
	wr(R_QREADY, 1);
}

static void negotiate(void)
{
	wr(R_STATUS, 0);
	wr(R_STATUS, 1);
	wr(R_STATUS, 3);
	wr(R_DRVFEATSEL, 1);
	wr(R_DRVFEAT, 1);
	wr(R_STATUS, 11);
	assert_int_equal(rd(R_STATUS), 11);
}

static void test_mmio_identity(void **state)
{
	assert_int_equal(rd(R_MAGIC), 0x74726976);
	assert_int_equal(rd(R_VERSION), 2);
	assert_int_equal(rd(R_DEVICE), 4);
	assert_int_equal(rd(R_DEVFEAT) & 1u << 5, 1u << 5);
	wr(R_DEVFEATSEL, 1);
	assert_int_equal(rd(R_DEVFEAT) & 1, 1); /* VERSION_1 */
	wr(R_DEVFEATSEL, 2);
	assert_int_equal(rd(R_DEVFEAT), 0);
	wr(R_DEVFEATSEL, UINT32_MAX);
	assert_int_equal(rd(R_DEVFEAT), 0);
	wr(R_MAGIC, 1);
	assert_int_equal(rd(R_MAGIC), 0x74726976);
}

static void test_A_mmio_features(void **state)
{
	wr(R_STATUS, 3);
	wr(R_DRVFEATSEL, 0);
	wr(R_DRVFEAT, 1u << 5);
	wr(R_STATUS, 11); /* no VERSION_1 */
	assert_int_equal(rd(R_STATUS), 3);
	wr(R_DRVFEATSEL, 1);
	wr(R_DRVFEAT, 1 | 1u << 20); /* not offered */
	wr(R_STATUS, 11);
	assert_int_equal(rd(R_STATUS), 3);
	wr(R_STATUS, 15); /* DRIVER_OK without FEATURES_OK */
	assert_int_equal(rd(R_STATUS), 3);
	assert_false(fake.dev.active);
	wr(R_DRVFEAT, 1);
	wr(R_DRVFEATSEL, 7);
	wr(R_DRVFEAT, UINT32_MAX); /* no such word */
	wr(R_STATUS, 11);
	assert_int_equal(rd(R_STATUS), 11);
	assert_int_equal(fake.dev.features_acked, 1ull << 32 | 1u << 5);
	wr(R_DRVFEATSEL, 0);
	wr(R_DRVFEAT, 0); /* too late */
	assert_int_equal(fake.dev.features_acked, 1ull << 32 | 1u << 5);
}

static void test_A_mmio_queue_limits(void **state)
{
	static const uint32_t bad[] = {0, 3, 255, 257, 512, 65536, 0x80000000, UINT32_MAX};
	size_t i;

	negotiate();
	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		stage_queue(0, bad[i], QUEUE_GPA);
		assert_int_equal(rd(R_QREADY), 0);
	}
	stage_queue(2, 16, QUEUE_GPA);
	assert_int_equal(rd(R_QREADY), 0);
	assert_int_equal(rd(R_QMAX), 0);
	stage_queue(UINT32_MAX, 16, QUEUE_GPA);
	assert_int_equal(rd(R_QREADY), 0);
	wr(R_QSEL, 1);
	assert_int_equal(rd(R_QMAX), 256);
}

static void test_A_mmio_frozen(void **state)
{
	negotiate();
	stage_queue(0, 16, QUEUE_GPA);
	assert_int_equal(rd(R_QREADY), 1);
	wr(R_DESC, 0x700000); /* ready: ignored */
	wr(R_QNUM, 64);
	assert_int_equal(fake.dev.vq[0].desc, QUEUE_GPA);
	wr(R_STATUS, 15);
	assert_int_equal(rd(R_STATUS), 15);
	assert_true(fake.dev.vq[0].ready);
	wr(R_QREADY, 0);
	assert_int_equal(rd(R_QREADY), 1);
	wr(R_DESC, 0x700000);
	wr(R_QREADY, 1);
	stage_queue(1, 16, QUEUE_GPA + 0x10000);
	assert_int_equal(rd(R_QREADY), 0);
	assert_int_equal(fake.dev.vq[0].desc, QUEUE_GPA);
	assert_int_equal(fake.dev.vq[0].size, 16);
	assert_int_equal(fake.dev.vq[1].size, 0);
	/* Bits are not taken away one by one. */
	wr(R_STATUS, 1);
	assert_int_equal(rd(R_STATUS), 15);
	assert_true(fake.dev.active);
	wr(R_STATUS, 0);
	assert_int_equal(rd(R_STATUS), 0);
	assert_false(fake.dev.active);
	assert_int_equal(rd(R_QREADY), 0);
	assert_int_equal(fake.resets, 2);
	negotiate();
	stage_queue(0, 32, QUEUE_GPA);
	wr(R_STATUS, 15);
	assert_int_equal(fake.dev.vq[0].size, 32);
}

static void test_A_mmio_bad_rings(void **state)
{
	static const uint64_t bad[] = {64 * MIB,      64 * MIB - 0x3000, 0xffffffffffff0000ull,
				       QUEUE_GPA + 1, 0xd0000000,        0x4000000000000000ull};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		negotiate();
		stage_queue(0, 16, bad[i]);
		wr(R_STATUS, 15);
		assert_int_equal(rd(R_STATUS) & 0x40, 0x40); /* DEVICE_NEEDS_RESET */
		assert_int_equal(rd(R_ISR) & 2, 2);
		assert_false(fake.dev.vq[0].ready);
	}
}

static void test_mmio_unready(void **state)
{
	negotiate();
	stage_queue(0, 16, QUEUE_GPA);
	wr(R_QREADY, 0);
	assert_int_equal(rd(R_QREADY), 0);
	wr(R_STATUS, 15);
	assert_false(fake.dev.vq[0].ready);
}

static void test_A_mmio_widths(void **state)
{
	uint8_t b[8] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
	static const unsigned widths[] = {1, 2, 8};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(widths); i++) {
		memset(b, 0xff, sizeof(b));
		vmmio_write(&fake.t, R_STATUS, b, widths[i]);
		assert_int_equal(rd(R_STATUS), 0);
		vmmio_read(&fake.t, R_MAGIC, b, widths[i]);
		assert_int_equal(b[0], 0);
	}
	memset(b, 0xff, sizeof(b));
	vmmio_read(&fake.t, R_MAGIC + 2, b, 4);
	assert_int_equal(le(b, 4), 0);
}

static void test_A_mmio_config(void **state)
{
	uint8_t b[8] = {1, 2, 3, 4, 5, 6, 7, 8};

	vmmio_write(&fake.t, R_CONFIG + 8, b, 8);
	assert_memory_equal(fake.config + 8, b, 8);
	vmmio_write(&fake.t, R_CONFIG + 15, b, 2); /* across the end */
	assert_int_equal(fake.config[15], 8);
	vmmio_write(&fake.t, R_CONFIG, b, 3); /* no such width */
	assert_int_equal(fake.config[0], 0);
	memset(b, 0xff, sizeof(b));
	vmmio_read(&fake.t, R_CONFIG + 12, b, 8);
	assert_int_equal(le(b, 8), 0);
	memset(b, 0xff, sizeof(b));
	vmmio_read(&fake.t, 0xffc, b, 8);
	assert_int_equal(le(b, 8), 0);
	vmmio_read(&fake.t, R_CONFIG + 9, b, 1);
	assert_int_equal(b[0], 2);
	/* An end that wraps: no register says that, whoever calls might. */
	virtio_config_write(&fake.dev, UINT64_MAX - 3, b, 8);
	memset(b, 0xff, sizeof(b));
	virtio_config_read(&fake.dev, UINT64_MAX - 3, b, 8);
	assert_int_equal(le(b, 8), 0);
}

static void test_mmio_interrupts(void **state)
{
	negotiate();
	fake.dev.notify_irq(fake.dev.notify_arg, 1);
	assert_int_equal(rd(R_ISR), 1);
	fake.dev.notify_irq(fake.dev.notify_arg, -1);
	assert_int_equal(rd(R_ISR), 3);
	assert_int_equal(fake.raised, 2);
	wr(R_ACK, 1);
	assert_int_equal(rd(R_ISR), 2);
	wr(R_ACK, UINT32_MAX);
	assert_int_equal(rd(R_ISR), 0);
	fake.dev.notify_irq(fake.dev.notify_arg, 0);
	wr(R_STATUS, 0);
	assert_int_equal(rd(R_ISR), 0);
}

static void test_A_mmio_notify(void **state)
{
	int i;

	wr(R_NOTIFY, 0); /* before DRIVER_OK: nothing to run */
	loop_turn(fake.loop, 0, NULL);
	assert_int_equal(fake.kicks, 0);
	negotiate();
	stage_queue(0, 16, QUEUE_GPA);
	wr(R_STATUS, 15);
	for (i = 0; i < 4; i++)
		loop_turn(fake.loop, 0, NULL);
	fake.kicks = 0;
	wr(R_NOTIFY, 2);
	wr(R_NOTIFY, UINT32_MAX);
	wr(R_NOTIFY, 1); /* a queue that is off */
	loop_turn(fake.loop, 0, NULL);
	assert_int_equal(fake.kicks, 0);
	wr(R_NOTIFY, 0);
	loop_turn(fake.loop, 0, NULL);
	assert_int_equal(fake.kicks, 1);
}

/* ---- UART ---- */

static struct {
	struct buf out;
	unsigned raised;
} port;

static void uart_out(void *arg, const void *p, size_t len)
{
	buf_append(&port.out, p, len);
}

static void uart_raise(void *arg)
{
	port.raised++;
}

static void test_uart(void **state)
{
	struct uart u;
	const char *p;
	int i;

	uart_init(&u, uart_out, uart_raise, NULL);
	for (p = "hello\nwo"; *p; p++)
		uart_write(&u, 0, (uint8_t)*p);
	assert_string_equal(port.out.data, "hello\n");
	uart_flush(&u);
	assert_string_equal(port.out.data, "hello\nwo");
	for (i = 0; i < 1000; i++) /* no line end: the line buffer is bounded */
		uart_write(&u, 0, 'x');
	assert_true(port.out.len > 8 + 800);
	assert_int_equal(uart_read(&u, 5), 0x60);
	assert_int_equal(uart_read(&u, 2) & 0x0f, 1); /* no interrupt */
	uart_write(&u, 1, 2);                         /* "transmitter empty" wanted */
	assert_int_equal(port.raised, 1);
	assert_int_equal(uart_read(&u, 2) & 0x0f, 2);
	assert_int_equal(uart_read(&u, 2) & 0x0f, 1);
	uart_write(&u, 0, 'x');
	assert_int_equal(port.raised, 2);
	/* What autoconfiguration looks at. */
	uart_write(&u, 7, 0x5a);
	assert_int_equal(uart_read(&u, 7), 0x5a);
	uart_write(&u, 2, 1);
	assert_int_equal(uart_read(&u, 2) & 0xc0, 0xc0);
	uart_write(&u, 4, 0x1a);
	assert_int_equal(uart_read(&u, 6) & 0xf0, 0x90);
	uart_write(&u, 3, 0x80);
	uart_write(&u, 0, 0x12);
	uart_write(&u, 1, 0x34);
	assert_int_equal(uart_read(&u, 0), 0x12);
	assert_int_equal(uart_read(&u, 1), 0x34);
	uart_fini(&u);
	buf_free(&port.out);
}

/* ---- CPUID ---- */

static const struct kvm_cpuid_entry2 *leaf(const struct kvm_cpuid2 *c, uint32_t function,
					   uint32_t index)
{
	unsigned i;

	for (i = 0; i < c->nent; i++)
		if (c->entries[i].function == function && c->entries[i].index == index)
			return &c->entries[i];
	return NULL;
}

static void test_cpuid(void **state)
{
	CLEANUP_FREE struct kvm_cpuid2 *c =
		xcalloc(1, sizeof(*c) + KVM_CPUID_MAX * sizeof(struct kvm_cpuid_entry2));
	static const struct kvm_cpuid_entry2 in[] = {
		{.function = 0, .eax = 0x1f},
		{.function = 1, .ebx = 0xff7f1234, .ecx = 1u << 5 | 1u << 2 | 1, .edx = 1u << 21},
		{.function = 4, .index = 0, .eax = 0xfc004121},
		{.function = 4, .index = 3, .eax = 0xfc004163},
		{.function = 0xa, .eax = 0x12345678},
		{.function = 0xb, .index = 0, .edx = 99},
		{.function = 0x1f, .index = 0, .edx = 99},
		{.function = 0x80000001, .ecx = 1u << 2 | 1u << 23 | 1u << 24 | 1u << 28},
		{.function = 0x8000000a, .eax = 1},
		{.function = 0x8000001e, .eax = 77},
		{.function = 0x80000022, .eax = 1, .ebx = 6},
	};

	c->nent = ARRAY_SIZE(in);
	memcpy(c->entries, in, sizeof(in));
	assert_int_equal(kvm_cpuid_nested(c), KVM_NESTED_SVM);
	kvm_cpuid_adapt(c, 5, 6, false);
	assert_int_equal(kvm_cpuid_nested(c), KVM_NESTED_NONE);
	assert_int_equal(leaf(c, 1, 0)->ebx, 5u << 24 | 6u << 16 | 0x1234);
	assert_int_equal(leaf(c, 1, 0)->ecx & 1u << 5, 0); /* no VMX */
	assert_true(leaf(c, 1, 0)->ecx & 1u << 31);
	assert_true(leaf(c, 1, 0)->edx & 1u << 28);
	assert_int_equal(leaf(c, 4, 0)->eax >> 14 & 0xfff, 0);
	assert_int_equal(leaf(c, 4, 3)->eax >> 14 & 0xfff, 5);
	assert_int_equal(leaf(c, 4, 3)->eax >> 26, 5);
	/* No performance counters, of either maker, nor the buffer that Intel's write to. */
	assert_int_equal(leaf(c, 0xa, 0)->eax, 0);
	assert_int_equal(leaf(c, 0x80000022, 0)->eax | leaf(c, 0x80000022, 0)->ebx, 0);
	assert_int_equal(leaf(c, 1, 0)->ecx & 1u << 2, 0);
	assert_int_equal(leaf(c, 1, 0)->edx & 1u << 21, 0);
	assert_int_equal(leaf(c, 0xb, 0)->eax, 0);
	assert_int_equal(leaf(c, 0xb, 1)->eax, 3); /* 6 cores: 3 bits */
	assert_int_equal(leaf(c, 0xb, 1)->ebx, 6);
	assert_int_equal(leaf(c, 0xb, 1)->ecx, 2u << 8 | 1);
	assert_int_equal(leaf(c, 0xb, 1)->edx, 5);
	assert_null(leaf(c, 0x1f, 0));
	assert_null(leaf(c, 0x8000000a, 0));
	assert_int_equal(leaf(c, 0x80000001, 0)->ecx, 1u << 1);
	assert_int_equal(leaf(c, 0x8000001e, 0)->eax, 5);
	/* A machine that may have virtualization sees what the host's KVM nests, and no more than that. */
	c->nent = ARRAY_SIZE(in);
	memcpy(c->entries, in, sizeof(in));
	kvm_cpuid_adapt(c, 0, 1, true);
	assert_int_equal(leaf(c, 0x8000000a, 0)->eax, 1);
	assert_int_equal(leaf(c, 0x80000001, 0)->ecx, 1u << 2);
	assert_true(leaf(c, 1, 0)->ecx & 1u << 5);
	c->nent = ARRAY_SIZE(in);
	memcpy(c->entries, in, sizeof(in));
	c->entries[1].ecx = 0;
	c->entries[7].ecx = 0;
	assert_int_equal(kvm_cpuid_nested(c), KVM_NESTED_NONE);
	c->entries[1].ecx = 1u << 5;
	assert_int_equal(kvm_cpuid_nested(c), KVM_NESTED_VMX);
}

/* ---- the engine and the machine's limits ---- */

static void test_engine(void **state)
{
	enum vm_engine e = VM_ENGINE_AUTO;
	CLEANUP_ERROR struct error *err = NULL;
	CLEANUP_FREE char *why = NULL;
	CLEANUP_FREE char *seen = NULL;
	CLEANUP_FREE char *text = NULL;
	uint64_t t = time_mono_us();
	bool kvm = kvm_probe(&seen) == 0;

	assert_non_null(seen);
	assert_true(time_mono_us() - t < 3000000);
	assert_int_equal(vm_engine_parse("kvm", &e), 0);
	assert_int_equal(e, VM_ENGINE_KVM);
	assert_int_equal(vm_engine_parse("xen", &e), -1);
	assert_int_equal(vm_engine_parse(NULL, &e), -1);
	assert_string_equal(vm_engine_name(VM_ENGINE_QEMU), "qemu");
	assert_int_equal(vm_engine_choose(VM_ENGINE_QEMU, "/nonexistent/qemu", &e, &why, NULL), -1);
	if (kvm) {
		assert_int_equal(vm_engine_choose(VM_ENGINE_AUTO, "/nonexistent/qemu", &e, &why,
						  NULL),
				 0);
		assert_int_equal(e, VM_ENGINE_KVM);
		assert_non_null(strstr(why, "kvm"));
		return;
	}
	/* Neither: the error names both remedies. */
	assert_int_equal(vm_engine_choose(VM_ENGINE_AUTO, "/nonexistent/qemu", &e, &why, &err), -1);
	assert_int_equal(err->code, ERR_UNSUPPORTED);
	text = error_text(err);
	assert_non_null(strstr(text, "/dev/kvm"));
	assert_non_null(strstr(text, "qemu-system-x86"));
	assert_non_null(strstr(text, seen));
	assert_int_equal(vm_engine_choose(VM_ENGINE_KVM, NULL, &e, &why, NULL), -1);
}

static void no_console(void *arg, const void *p, size_t len)
{
}

static void no_stop(void *arg, int reason, const char *detail)
{
}

static void test_vm_limits(void **state)
{
	static const struct {
		unsigned vcpus;
		uint64_t mem;
	} bad[] = {{0, 64 * MIB}, {65, 64 * MIB},       {1, 0},
		   {1, 31 * MIB}, {1, 64 * MIB + 4096}, {1, UINT64_MAX}};
	struct loop *l = loop_new(NULL);
	size_t i;

	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		CLEANUP_ERROR struct error *err = NULL;
		struct vm_config cfg = {.engine = VM_ENGINE_KVM,
					.vcpus = bad[i].vcpus,
					.mem_bytes = bad[i].mem,
					.kernel_fd = -1,
					.console = no_console,
					.stopped = no_stop};

		assert_null(vm_new(l, &cfg, &err));
		assert_int_equal(err->code, ERR_INVALID_ARGUMENT);
	}
	loop_free(l);
}

/* A machine whose kernel is no kernel, or whose KVM is missing, is an error and leaves nothing behind. */
static void test_vm_no_kernel(void **state)
{
	CLEANUP_CLOSE int fd = memfd_create("garbage", MFD_CLOEXEC);
	struct loop *l = loop_new(NULL);
	struct vm_config cfg = {.engine = VM_ENGINE_KVM,
				.vcpus = 2,
				.mem_bytes = 64 * MIB,
				.kernel_fd = fd,
				.console = no_console,
				.stopped = no_stop};
	int before, after, i;

	assert_int_equal(fd_write_full(fd, "garbage", 7, NULL), 0);
	before = dup(fd);
	close(before);
	for (i = 0; i < 3; i++) {
		CLEANUP_ERROR struct error *err = NULL;

		assert_null(vm_new(l, &cfg, &err));
		assert_non_null(err);
		loop_turn(l, 0, NULL);
	}
	after = dup(fd);
	close(after);
	assert_int_equal(before, after);
	loop_free(l);
}

/* ---- pause ---- */

static void *parked_vcpu(void *arg)
{
	struct kvm_machine *k = arg;

	pthread_mutex_lock(&k->lock);
	k->parked++;
	pthread_cond_broadcast(&k->cond);
	while (k->pause && !k->stop)
		pthread_cond_wait(&k->cond, &k->lock);
	k->parked--;
	pthread_mutex_unlock(&k->lock);
	return NULL;
}

/* Of two vCPUs one is held up in a device and does not park in time: the other one must not sleep on in a machine that is said to
 * run, and that nobody would resume. */
static void test_pause_fails_whole(void **state)
{
	struct kvm_machine k = {.live = 2, .pause = true, .attention = true, .end_reason = -1};
	struct vm vm = {.priv = &k, .ops = &vm_kvm_ops, .state = VM_RUNNING};
	CLEANUP_ERROR struct error *err = NULL;
	pthread_t t;

	pthread_mutex_init(&k.lock, NULL);
	pthread_cond_init(&k.cond, NULL);
	assert_int_equal(pthread_create(&t, NULL, parked_vcpu, &k), 0);
	assert_int_equal(vm_pause(&vm, &err), -1);
	assert_non_null(strstr(err->msg, "pause"));
	assert_int_equal(vm.state, VM_RUNNING);
	pthread_mutex_lock(&k.lock);
	assert_false(k.pause || k.attention);
	pthread_mutex_unlock(&k.lock);
	assert_int_equal(pthread_join(t, NULL), 0);
	assert_int_equal(k.parked, 0);
	pthread_cond_destroy(&k.cond);
	pthread_mutex_destroy(&k.lock);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_acpi_tables),
		cmocka_unit_test(test_acpi_iasl),
		cmocka_unit_test(test_acpi_limits),
		cmocka_unit_test_setup_teardown(test_initrd, setup, teardown),
		cmocka_unit_test(test_params),
		cmocka_unit_test_setup_teardown(test_mmio_identity, mmio_setup, mmio_teardown),
		cmocka_unit_test_setup_teardown(test_A_mmio_features, mmio_setup, mmio_teardown),
		cmocka_unit_test_setup_teardown(test_A_mmio_queue_limits, mmio_setup,
						mmio_teardown),
		cmocka_unit_test_setup_teardown(test_A_mmio_frozen, mmio_setup, mmio_teardown),
		cmocka_unit_test_setup_teardown(test_A_mmio_bad_rings, mmio_setup, mmio_teardown),
		cmocka_unit_test_setup_teardown(test_mmio_unready, mmio_setup, mmio_teardown),
		cmocka_unit_test_setup_teardown(test_A_mmio_widths, mmio_setup, mmio_teardown),
		cmocka_unit_test_setup_teardown(test_A_mmio_config, mmio_setup, mmio_teardown),
		cmocka_unit_test_setup_teardown(test_mmio_interrupts, mmio_setup, mmio_teardown),
		cmocka_unit_test_setup_teardown(test_A_mmio_notify, mmio_setup, mmio_teardown),
		cmocka_unit_test(test_uart),
		cmocka_unit_test(test_cpuid),
		cmocka_unit_test(test_pause_fails_whole),
		cmocka_unit_test(test_engine),
		cmocka_unit_test(test_vm_limits),
		cmocka_unit_test(test_vm_no_kernel),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
