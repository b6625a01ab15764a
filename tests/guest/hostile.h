/* SPDX-License-Identifier: Apache-2.0 */
/* hostile.h - what the test guest and the test that runs it agree on. */
#ifndef TESTS_GUEST_HOSTILE_H
#define TESTS_GUEST_HOSTILE_H

#define GUEST_MEM_BYTES  (32u << 20)
#define GUEST_CID        3
#define GUEST_PORT_NONE  1 /* nobody listens */
#define GUEST_PORT_STALL 7 /* the listener never reads */
#define GUEST_SECTORS    64u
#define GUEST_MAC        0x02, 0x00, 0x00, 0x00, 0x00, 0x42

/* Shared directories: what their server does, by a request's opcode; none that the other cases come upon by chance. */
#define GUEST_FS_ECHO    0x5f01 /* the body comes back */
#define GUEST_FS_HANG    0x5f02 /* the same, when GO has come */
#define GUEST_FS_HUNG    0x5f03 /* the same, when every worker hangs */
#define GUEST_FS_GO      0x5f04
#define GUEST_FS_END     0x5f05 /* no answer: the server's process ends */
#define GUEST_FS_WORKERS 4
#define GUEST_FS_MAX     (0x100000u + 0x1000u) /* bytes of the longest request */

/* Byte i of the read-only disk. */
#define GUEST_DISK_BYTE(i) ((uint8_t)((i) / 512 + (i) % 7 + 1))

/*
 * What the guest is to do: a word of the command line, "mode=<letter>".
 *   s  the whole suite, then power off      r  the reset register       t  a triple fault
 *   f  console output without end           h  nothing, for ever        k  die as a kernel that panics
 */
#endif
