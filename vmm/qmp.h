/* SPDX-License-Identifier: Apache-2.0 */
/* qmp.h - QEMU's monitor: how its machine ended, and the few things that are asked of it. Loop thread. */
#ifndef VMM_QMP_H
#define VMM_QMP_H

#include "core/loop.h"
#include "core/str.h"
#include "vmm/vm.h"

struct qmp {
	int fd; /* owned; -1: none yet */
	struct loop_source *src;
	struct buf in;
	bool ended;          /* the guest's doing: */
	enum vm_stop reason; /* how */
};

/* qmp_watch: speaks on q->fd from now on. */
int qmp_watch(struct qmp *q, struct loop *l, struct error **err);
/* qmp_rest: takes what QEMU said before it ended. */
void qmp_rest(struct qmp *q);
void qmp_free(struct qmp *q);

/* qmp_link_down: the cable of the card whose -netdev is n<nic> is out. */
void qmp_link_down(struct qmp *q, unsigned nic);
/* qmp_balloon: bytes that the guest is to keep. */
void qmp_balloon(struct qmp *q, uint64_t bytes);
/* qmp_reset: the machine begins anew; its memory, as on any machine, is not cleared. The log says where its CPUs were. */
void qmp_reset(struct qmp *q);

#endif
