/* SPDX-License-Identifier: Apache-2.0 */
/*
 * guest_init.c - the guest's init out of the binary. It is kept as one zstd frame, which is half a megabyte less to copy to a
 * host; a guest gets it as it is, because an emulated CPU would take longer to unpack it than this host's own does.
 */
#include <zstd.h>

#include "vmm/kernel.h"

#define INIT_MAX (16u << 20)

int guest_init_cpio(struct buf *out, struct error **err)
{
	size_t n = (uintptr_t)guest_init_end - (uintptr_t)guest_init_start, got;
	unsigned long long size = ZSTD_getFrameContentSize(guest_init_start, n);
	CLEANUP_BUF struct buf init = {0};

	if (!size || size > INIT_MAX) /* the two error codes are above it too */
		return error_set(err, ERR_INTERNAL, "the guest's init in this binary is damaged");
	buf_reserve(&init, size);
	got = ZSTD_decompress(init.data, size, guest_init_start, n);
	if (ZSTD_isError(got) || got != size)
		return error_set(err, ERR_INTERNAL, "the guest's init in this binary: %s",
				 ZSTD_isError(got) ? ZSTD_getErrorName(got) : "cut short");
	cpio_file(out, "init", 0755, init.data, size);
	cpio_end(out);
	return 0;
}
