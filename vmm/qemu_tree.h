/* SPDX-License-Identifier: Apache-2.0 */
/* qemu_tree.h - what QEMU sees of the host's files. */
#ifndef VMM_QEMU_TREE_H
#define VMM_QEMU_TREE_H

#include "vmm/jail.h"

/* qemu_tree: the tree of a QEMU at that absolute path, with no link in it. place is borrowed; jail_tree_free() frees the rest. */
void qemu_tree(const char *program, const char *place, struct jail_tree *t);

#endif
