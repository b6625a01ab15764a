/* SPDX-License-Identifier: Apache-2.0 */
/*
 * acpi.c - RSDP, XSDT, FADT, MADT and DSDT, the last one in AML from a small emitter.
 *
 * AML terms that have a length (§20.2.4 PkgLength) are written into a buffer of their own first and then wrapped, so
 * lengths are never patched.
 */
#include <linux/types.h>
#include <stdio.h>

#include "vmm/acpi.h"

#define OEM_ID       "CONTNR"
#define OEM_TABLE_ID "CONTAINR"

struct acpi_header {
	char sig[4];
	__le32 length;
	uint8_t revision, checksum;
	char oem_id[6], oem_table_id[8];
	__le32 oem_revision;
	char creator_id[4];
	__le32 creator_revision;
} __attribute__((packed));
_Static_assert(sizeof(struct acpi_header) == 36, "ACPI table header");

struct acpi_rsdp {
	char sig[8];
	uint8_t checksum;
	char oem_id[6];
	uint8_t revision;
	__le32 rsdt;
	__le32 length;
	__le64 xsdt;
	uint8_t ext_checksum, reserved[3];
} __attribute__((packed));
_Static_assert(sizeof(struct acpi_rsdp) == 36, "RSDP");

struct acpi_gas {
	uint8_t space, width, offset, access;
	__le64 address;
} __attribute__((packed));

struct acpi_fadt {
	struct acpi_header h;
	__le32 facs, dsdt;
	uint8_t reserved0, pm_profile;
	__le16 sci_int;
	__le32 smi_cmd;
	uint8_t acpi_enable, acpi_disable, s4bios, pstate_cnt;
	__le32 pm_blocks[8]; /* PM1a_EVT … GPE1: all absent */
	uint8_t lengths[8];
	__le16 p_lvl2_lat, p_lvl3_lat, flush_size, flush_stride;
	uint8_t duty_offset, duty_width, day_alrm, mon_alrm, century;
	__le16 iapc_boot_arch;
	uint8_t reserved1;
	__le32 flags;
	struct acpi_gas reset_reg;
	uint8_t reset_value;
	__le16 arm_boot_arch;
	uint8_t minor;
	__le64 x_facs, x_dsdt;
	struct acpi_gas x_pm_blocks[8];
	struct acpi_gas sleep_control, sleep_status;
	char hypervisor_vendor[8];
} __attribute__((packed));
_Static_assert(sizeof(struct acpi_fadt) == 276, "FADT revision 6");

#define FADT_WBINVD        (1u << 0)
#define FADT_PWR_BUTTON    (1u << 4) /* no fixed-function buttons */
#define FADT_SLP_BUTTON    (1u << 5)
#define FADT_RESET_REG_SUP (1u << 10)
#define FADT_HW_REDUCED    (1u << 20)
#define FADT_BOOT_NO_VGA   (1u << 2)
#define FADT_BOOT_NO_MSI   (1u << 3)
#define FADT_BOOT_NO_ASPM  (1u << 4)
#define FADT_BOOT_NO_RTC   (1u << 5)
#define GAS_SYSTEM_IO      1
#define GAS_BYTE_ACCESS    1

struct acpi_madt {
	struct acpi_header h;
	__le32 lapic_addr, flags; /* flags 0: no 8259 pair */
} __attribute__((packed));

struct madt_lapic {
	uint8_t type, length, uid, apic_id;
	__le32 flags;
} __attribute__((packed));

struct madt_ioapic {
	uint8_t type, length, id, reserved;
	__le32 addr, gsi_base;
} __attribute__((packed));

/* ---- AML ---- */

enum {
	AML_ZERO = 0x00,
	AML_ONE = 0x01,
	AML_NAME = 0x08,
	AML_BYTE = 0x0a,
	AML_WORD = 0x0b,
	AML_DWORD = 0x0c,
	AML_STRING = 0x0d,
	AML_SCOPE = 0x10,
	AML_BUFFER = 0x11,
	AML_PACKAGE = 0x12,
	AML_EXT = 0x5b,
	AML_EXT_DEVICE = 0x82,
};

static void aml_byte(struct buf *b, uint8_t v)
{
	buf_append(b, &v, 1);
}

static void aml_le(struct buf *b, uint64_t v, unsigned bytes)
{
	while (bytes--) {
		aml_byte(b, (uint8_t)v);
		v >>= 8;
	}
}

static void aml_int(struct buf *b, uint32_t v)
{
	if (v <= 1) {
		aml_byte(b, v ? AML_ONE : AML_ZERO);
	} else if (v <= UINT8_MAX) {
		aml_byte(b, AML_BYTE);
		aml_le(b, v, 1);
	} else if (v <= UINT16_MAX) {
		aml_byte(b, AML_WORD);
		aml_le(b, v, 2);
	} else {
		aml_byte(b, AML_DWORD);
		aml_le(b, v, 4);
	}
}

static void aml_string(struct buf *b, const char *s)
{
	aml_byte(b, AML_STRING);
	buf_append(b, s, strlen(s) + 1);
}

/* PkgLength counts itself: one byte up to 63, else a lead byte with the low four bits and 1 to 3 more. */
static void aml_pkg_length(struct buf *b, size_t body)
{
	unsigned extra;
	size_t total;

	if (body + 1 < 0x40) {
		aml_byte(b, (uint8_t)(body + 1));
		return;
	}
	for (extra = 1; extra < 3 && (body + 1 + extra) >> (4 + 8 * extra); extra++)
		;
	total = body + 1 + extra;
	aml_byte(b, (uint8_t)(extra << 6 | (total & 0xf)));
	aml_le(b, total >> 4, extra);
}

static void aml_wrap(struct buf *b, uint8_t op, const struct buf *body)
{
	aml_byte(b, op);
	aml_pkg_length(b, body->len);
	buf_append(b, body->data, body->len);
}

/* seg: a NameSeg of exactly four characters, with a leading backslash for the root's. */
static void aml_name(struct buf *b, const char *seg)
{
	aml_byte(b, AML_NAME);
	buf_puts(b, seg);
}

static void aml_device(struct buf *b, const char *seg, const struct buf *inner)
{
	CLEANUP_BUF struct buf body = {0};

	buf_append(&body, seg, 4);
	buf_append(&body, inner->data, inner->len);
	aml_byte(b, AML_EXT);
	aml_wrap(b, AML_EXT_DEVICE, &body);
}

/* _CRS: a Buffer of resource descriptors closed by an end tag (§6.4.2.9; checksum 0: not given). */
static void aml_crs(struct buf *b, struct buf *res)
{
	CLEANUP_BUF struct buf body = {0};

	aml_le(res, 0x0079, 2);
	aml_int(&body, (uint32_t)res->len);
	buf_append(&body, res->data, res->len);
	aml_name(b, "_CRS");
	aml_wrap(b, AML_BUFFER, &body);
}

static void res_memory32_fixed(struct buf *res, uint32_t base, uint32_t len)
{
	aml_byte(res, 0x86);
	aml_le(res, 9, 2);
	aml_byte(res, 1); /* read-write */
	aml_le(res, base, 4);
	aml_le(res, len, 4);
}

/* Extended interrupt (§6.4.3.6): consumer, edge-triggered, active-high, exclusive. */
static void res_interrupt(struct buf *res, uint32_t gsi)
{
	aml_byte(res, 0x89);
	aml_le(res, 6, 2);
	aml_byte(res, 0x03);
	aml_byte(res, 1);
	aml_le(res, gsi, 4);
}

static void res_io(struct buf *res, uint16_t port, uint8_t len)
{
	aml_byte(res, 0x47);
	aml_byte(res, 1); /* decodes 16 bits */
	aml_le(res, port, 2);
	aml_le(res, port, 2);
	aml_byte(res, 1);
	aml_byte(res, len);
}

static void aml_virtio_mmio(struct buf *b, const struct acpi_machine *m, unsigned i)
{
	CLEANUP_BUF struct buf dev = {0};
	CLEANUP_BUF struct buf res = {0};
	char seg[5];

	snprintf(seg, sizeof(seg), "VR%02X", i & 0xff);
	aml_name(&dev, "_HID");
	aml_string(&dev, "LNRO0005");
	aml_name(&dev, "_UID");
	aml_int(&dev, i);
	aml_name(&dev, "_CCA"); /* coherent DMA */
	aml_int(&dev, 1);
	res_memory32_fixed(&res, (uint32_t)(m->mmio_base + i * (uint64_t)m->mmio_size),
			   m->mmio_size);
	res_interrupt(&res, m->first_gsi + i);
	aml_crs(&dev, &res);
	aml_device(b, seg, &dev);
}

static void aml_uart(struct buf *b)
{
	CLEANUP_BUF struct buf dev = {0};
	CLEANUP_BUF struct buf res = {0};

	aml_name(&dev, "_HID");
	aml_int(&dev, 0x0105d041); /* EISAID("PNP0501") */
	aml_name(&dev, "_UID");
	aml_int(&dev, 0);
	res_io(&res, 0x3f8, 8);
	res_interrupt(&res, 4);
	aml_crs(&dev, &res);
	aml_device(b, "COM1", &dev);
}

/* \_S5: the sleep type that the guest writes to the sleep control register to power off. */
static void aml_s5(struct buf *b)
{
	CLEANUP_BUF struct buf body = {0};
	unsigned i;

	aml_byte(&body, 4);
	aml_int(&body, ACPI_S5_SLP_TYP);
	for (i = 0; i < 3; i++)
		aml_int(&body, 0);
	aml_name(b, "\\_S5_");
	aml_wrap(b, AML_PACKAGE, &body);
}

static void dsdt_body(struct buf *b, const struct acpi_machine *m)
{
	CLEANUP_BUF struct buf scope = {0};
	unsigned i;

	buf_puts(&scope, "\\_SB_");
	if (m->uart)
		aml_uart(&scope);
	for (i = 0; i < m->nmmio; i++)
		aml_virtio_mmio(&scope, m, i);
	aml_wrap(b, AML_SCOPE, &scope);
	aml_s5(b);
}

/* ---- tables ---- */

static uint8_t checksum(const void *p, size_t n)
{
	const uint8_t *c = p;
	uint8_t sum = 0;

	while (n--)
		sum = (uint8_t)(sum + *c++);
	return (uint8_t)-sum;
}

static struct acpi_header header(const char *sig, uint8_t revision, size_t length)
{
	struct acpi_header h = {.length = (uint32_t)length,
				.revision = revision,
				.oem_revision = 1,
				.creator_revision = 1};

	memcpy(h.sig, sig, sizeof(h.sig));
	memcpy(h.oem_id, OEM_ID, sizeof(h.oem_id));
	memcpy(h.oem_table_id, OEM_TABLE_ID, sizeof(h.oem_table_id));
	memcpy(h.creator_id, "CTNR", sizeof(h.creator_id));
	return h;
}

/* Appends a whole table (header first) at the next 16-byte boundary and returns its address. */
static uint64_t put_table(struct buf *out, size_t base, uint64_t gpa, void *table, size_t len)
{
	static const char zero[16];
	struct acpi_header *h = table;
	size_t pad = (16 - (out->len - base) % 16) % 16;
	uint64_t at;

	h->checksum = 0;
	h->checksum = checksum(table, len);
	buf_append(out, zero, pad);
	at = gpa + (out->len - base);
	buf_append(out, table, len);
	return at;
}

static uint64_t put_dsdt(struct buf *out, size_t base, uint64_t gpa, const struct acpi_machine *m)
{
	CLEANUP_BUF struct buf aml = {0};
	CLEANUP_BUF struct buf t = {0};
	struct acpi_header h;

	dsdt_body(&aml, m);
	h = header("DSDT", 2, sizeof(h) + aml.len);
	buf_append(&t, &h, sizeof(h));
	buf_append(&t, aml.data, aml.len);
	return put_table(out, base, gpa, t.data, t.len);
}

static struct acpi_gas gas_io(uint16_t port)
{
	return (struct acpi_gas){.space = GAS_SYSTEM_IO,
				 .width = 8,
				 .access = GAS_BYTE_ACCESS,
				 .address = port};
}

static uint64_t put_fadt(struct buf *out, size_t base, uint64_t gpa, uint64_t dsdt)
{
	struct acpi_fadt f = {
		.h = header("FACP", 6, sizeof(f)),
		.dsdt = (uint32_t)dsdt,
		.iapc_boot_arch =
			FADT_BOOT_NO_VGA | FADT_BOOT_NO_MSI | FADT_BOOT_NO_ASPM | FADT_BOOT_NO_RTC,
		.flags = FADT_WBINVD | FADT_PWR_BUTTON | FADT_SLP_BUTTON | FADT_RESET_REG_SUP |
			 FADT_HW_REDUCED,
		.reset_reg = gas_io(ACPI_RESET),
		.reset_value = ACPI_RESET_VALUE,
		.minor = 4,
		.x_dsdt = dsdt,
		.sleep_control = gas_io(ACPI_SLEEP_CONTROL),
		.sleep_status = gas_io(ACPI_SLEEP_STATUS),
	};

	return put_table(out, base, gpa, &f, sizeof(f));
}

static uint64_t put_madt(struct buf *out, size_t base, uint64_t gpa, const struct acpi_machine *m)
{
	struct madt_ioapic io = {.type = 1, .length = sizeof(io), .addr = ACPI_IOAPIC_ADDR};
	struct acpi_madt madt = {.lapic_addr = ACPI_LAPIC_ADDR};
	CLEANUP_BUF struct buf t = {0};
	unsigned i;

	madt.h =
		header("APIC", 5, sizeof(madt) + m->vcpus * sizeof(struct madt_lapic) + sizeof(io));
	buf_append(&t, &madt, sizeof(madt));
	for (i = 0; i < m->vcpus; i++) {
		struct madt_lapic l = {.type = 0,
				       .length = sizeof(l),
				       .uid = (uint8_t)i,
				       .apic_id = (uint8_t)i,
				       .flags = 1 /* enabled */};

		buf_append(&t, &l, sizeof(l));
	}
	buf_append(&t, &io, sizeof(io));
	return put_table(out, base, gpa, t.data, t.len);
}

static uint64_t put_xsdt(struct buf *out, size_t base, uint64_t gpa, uint64_t fadt, uint64_t madt)
{
	struct {
		struct acpi_header h;
		__le64 entry[2];
	} __attribute__((packed)) x = {.h = header("XSDT", 1, sizeof(x)), .entry = {fadt, madt}};

	return put_table(out, base, gpa, &x, sizeof(x));
}

int acpi_build(const struct acpi_machine *m, uint64_t gpa, struct buf *out, struct error **err)
{
	struct acpi_rsdp rsdp = {.revision = 2, .length = sizeof(rsdp)};
	size_t base = out->len;
	uint64_t dsdt, fadt, madt;

	if (m->vcpus < 1 || m->vcpus > 254 || m->nmmio > 256 ||
	    gpa > UINT32_MAX - ACPI_TABLES_MAX || m->mmio_base > UINT32_MAX ||
	    m->nmmio * (uint64_t)m->mmio_size > UINT32_MAX - m->mmio_base)
		return error_set(err, ERR_INVALID_ARGUMENT,
				 "a machine that ACPI tables cannot describe");
	buf_append(out, &rsdp, sizeof(rsdp));
	dsdt = put_dsdt(out, base, gpa, m);
	fadt = put_fadt(out, base, gpa, dsdt);
	madt = put_madt(out, base, gpa, m);
	rsdp.xsdt = put_xsdt(out, base, gpa, fadt, madt);
	if (out->len - base > ACPI_TABLES_MAX)
		return error_set(err, ERR_INTERNAL, "ACPI tables do not fit");
	memcpy(rsdp.sig, "RSD PTR ", sizeof(rsdp.sig));
	memcpy(rsdp.oem_id, OEM_ID, sizeof(rsdp.oem_id));
	rsdp.checksum = checksum(&rsdp, 20);
	rsdp.ext_checksum = checksum(&rsdp, sizeof(rsdp));
	memcpy(out->data + base, &rsdp, sizeof(rsdp));
	return 0;
}
