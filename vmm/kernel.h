/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kernel.h - guest kernels: importing one, and composing what it boots with.
 *
 * An imported kernel is a directory: vmlinux (ELF, never compressed), modules.cpio (newc, the
 * modules our guest needs, with their load order in /modules.list; absent when everything is built
 * in), nested.cpio (KVM's modules, for containers that are offered virtualization; absent when there are none), kernel.json
 * {name, release, source, sha256}.
 */
#ifndef VMM_KERNEL_H
#define VMM_KERNEL_H

#include "core/json.h"
#include "core/str.h"

#define KERNEL_NESTED "nested.cpio"

/*
 * kernel_import: reads binary (ELF vmlinux or a bzImage/vmlinuz with gzip, zstd, lz4 or xz
 * payload), checks that it is an x86-64 kernel, and writes the directory's files below dest_dirfd.
 * modules_dir is a /lib/modules/<release> (may be NULL: then modules are looked for at <modules of
 * the same release> beside the usual place, and their absence is fine for a kernel with all built
 * in). Modules our guest needs: virtio_mmio virtio_blk virtio_net virtio_console virtio-rng
 * vmw_vsock_virtio_transport overlay erofs fuse, with dependencies resolved from .modinfo of the
 * files themselves, built-in ones (modules.builtin) left out. Plain .ko, .ko.xz, .ko.zst, .ko.gz.
 * *info: {name, release, source, sha256, modules:[…]}; owned by the caller. "This is not a kernel"
 * is invalidArgument.
 */
int kernel_import(const char *binary, const char *modules_dir, int dest_dirfd,
		  struct json_object **info, struct error **err);
/* kernel_import_fd: the same of an open file, borrowed and read from where it stands; name is what it is called in messages and in
 * kernel.json. */
int kernel_import_fd(int fd, const char *name, const char *modules_dir, int dest_dirfd,
		     struct json_object **info, struct error **err);

/* kernel_recommended: what `kernel set --recommended` takes: CONTAINER_INSTALL_ROOT's
 * share/container/vmlinux or kernel/vmlinux (make kernel) when there, else the newest distribution cloud kernel in
 * /boot with its modules; notFound names the package to install. */
int kernel_recommended(const char *install_root, char **binary, char **modules_dir,
		       struct error **err);

/* cpio_*: newc archives in memory (the initramfs pieces). */
void cpio_file(struct buf *out, const char *path, uint32_t mode, const void *p, size_t n);
void cpio_dir(struct buf *out, const char *path, uint32_t mode);
void cpio_node(struct buf *out, const char *path, uint32_t mode, uint32_t major, uint32_t minor);
void cpio_end(struct buf *out); /* trailer and padding to 512 */

/* guest_init_cpio: appends the guest's init as an initramfs piece of its own. */
int guest_init_cpio(struct buf *out, struct error **err);

/* The same as it was embedded at build time: one zstd frame. */
extern const unsigned char guest_init_start[], guest_init_end[];

#endif
