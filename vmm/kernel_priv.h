/* SPDX-License-Identifier: Apache-2.0 */
/* kernel_priv.h - what the files of the kernel import share; nobody else includes it. */
#ifndef VMM_KERNEL_PRIV_H
#define VMM_KERNEL_PRIV_H

#include "vmm/kernel.h"

#define KERNEL_MAX_FILE     (256u << 20) /* a kernel file as given */
#define KERNEL_MAX_UNPACKED (256u << 20) /* vmlinux */
#define KERNEL_MAX_MODULE   (32u << 20)  /* one unpacked module */
#define KERNEL_MAX_RELEASE  64           /* bytes of a release string, as in struct utsname */

/* How bytes are packed, known by their magic. */
enum unpack_kind { UNPACK_NONE, UNPACK_GZIP, UNPACK_ZSTD, UNPACK_LZ4, UNPACK_XZ };

/* unpack_kind_of: by the first bytes; UNPACK_NONE when no magic is known. */
enum unpack_kind unpack_kind_of(const void *p, size_t n);
const char *unpack_kind_name(enum unpack_kind k);

/* unpack: appends the unpacked form of p[0..n) to out, at most max bytes (more is an error). Bytes
 * after the end of the stream are ignored: a kernel's build appends the unpacked size.
 * invalidArgument when the stream is damaged or ends early. */
int unpack(enum unpack_kind k, const void *p, size_t n, size_t max, struct buf *out,
	   struct error **err);

/* kernel_image_unpack: finds the vmlinux in a file's bytes: itself when ELF, else the payload of a
 * bzImage (Linux boot protocol 2.08 and later). *out is filled only in the second case, *vmlinux
 * points to the ELF bytes in either. The ELF has been checked by kernel_elf_check(). */
int kernel_image_unpack(const void *p, size_t n, struct buf *out, const void **vmlinux,
			size_t *vmlinux_len, struct error **err);

/* kernel_elf_check: an ELF64 little-endian x86-64 executable, all of whose headers and segments lie
 * within p[0..n) and load below 4 GiB without wrapping, with the entry point in one of them. */
int kernel_elf_check(const void *p, size_t n, struct error **err);

/* kernel_release: the release out of the "Linux version ..." banner; owned by the caller, NULL if
 * none. */
char *kernel_release(const void *p, size_t n);

/* modinfo: a module file's .modinfo section, "key=value" strings; section bounds checked. Calls fn
 * for each pair with a NUL-terminated value. */
typedef void (*modinfo_fn)(void *arg, const char *key, size_t key_len, const char *value);
int modinfo_parse(const void *p, size_t n, modinfo_fn fn, void *arg, struct error **err);

/* module_slim: takes the signature and the BTF type information out of a module that modinfo_parse() accepted.
 * With keep_signature (a kernel that insists on them) nothing is changed. */
void module_slim(struct buf *ko, bool keep_signature);

/* modules_collect: picks what the guest needs from a module directory (a /lib/modules/<release>),
 * and appends the archive to cpio (nothing when no module is needed), one of KVM's modules to nested. names receives the modules in
 * load order. With `required`, a module the guest cannot do without that is neither there nor built
 * in is notFound. */
int modules_collect(int dirfd, const char *release, bool required, bool signatures,
		    struct buf *cpio, struct buf *nested, struct strv *names, struct error **err);

#endif
