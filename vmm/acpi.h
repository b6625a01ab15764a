/* SPDX-License-Identifier: Apache-2.0 */
/*
 * acpi.h - the tables that describe the kvm engine's machine to its guest (ACPI 6.4, hardware-reduced).
 *
 * Hardware-reduced because then nothing of a PC has to exist: no PIT, PIC, PM timer or SCI. Power-off and reset are two
 * byte-wide I/O registers of ours. The virtio-mmio devices are in the DSDT: a distribution's kernel does not take them
 * from its command line.
 */
#ifndef VMM_ACPI_H
#define VMM_ACPI_H

#include "core/str.h"

#define ACPI_TABLES_GPA    0xe0000u /* the RSDP is here, all other tables follow */
#define ACPI_TABLES_MAX    0x20000u
#define ACPI_SLEEP_CONTROL 0x600 /* I/O ports */
#define ACPI_SLEEP_STATUS  0x601
#define ACPI_RESET         0x602
#define ACPI_RESET_VALUE   0x01
#define ACPI_S5_SLP_TYP    5
#define ACPI_SLP_EN        0x20 /* in the sleep control register; SLP_TYP is bits 2..4 */
#define ACPI_IOAPIC_ADDR   0xfec00000u
#define ACPI_LAPIC_ADDR    0xfee00000u

struct acpi_machine {
	unsigned vcpus; /* APIC ids 0..vcpus-1; at most 254, an 8-bit id each */
	unsigned
		nmmio; /* virtio-mmio device i: mmio_base + i * mmio_size, interrupt first_gsi + i */
	uint64_t mmio_base;
	uint32_t mmio_size, first_gsi;
	bool uart; /* COM1 at 0x3f8, interrupt 4 */
};

/* acpi_build: appends the tables, laid out for guest-physical address gpa, RSDP first. -1 when the machine is outside
 * what the tables can say. */
int acpi_build(const struct acpi_machine *m, uint64_t gpa, struct buf *out, struct error **err);

#endif
