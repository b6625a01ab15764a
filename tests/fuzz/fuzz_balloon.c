// links: vmm core
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_balloon.c - the balloon. Hostile: page numbers, reported ranges, queues that are discarded while they are served.
 * What lies behind the guest's memory must never change: the file is larger than what the guest is shown.
 */
#include "tests/fuzz/fuzz_virtio.h"

#define HIDDEN 0x4000u /* bytes of the high region that the guest does not have */

static struct guest g;

static uint8_t *hidden(void)
{
	return g.m.regions[1].hva + GUEST_HIGH - HIDDEN;
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	guest_init(&g);
	g.m.regions[1].size -= HIDDEN;
	guest_take(&g, virtio_balloon_new(g.l, &g.m, NULL));
	return 0;
}

static void host(struct guest *guest, struct fz *f)
{
	virtio_balloon_want(guest->d, fz_u64(f));
	(void)virtio_balloon_given(guest->d);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	unsigned i;

	g.host = host;
	memset(hidden(), 0x5a, HIDDEN);
	guest_run(&g, data, size);
	for (i = 0; i < HIDDEN; i++)
		FUZZ_CHECK(hidden()[i] == 0x5a);
	return 0;
}
