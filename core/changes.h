/* SPDX-License-Identifier: Apache-2.0 */
/*
 * changes.h - what an overlay's upper directory changes of what is below it: as a list, and as a layer of an image.
 *
 * The tree may be anything that root in a container can make of it: nothing in it is followed, and it is walked by descriptors, to a
 * bounded depth. What a machine's init puts into every container (mount points, /etc/hosts and the like) is left out.
 */
#ifndef CORE_CHANGES_H
#define CORE_CHANGES_H

#include "core/error.h"

/* changes_list: to `out`, for each path that differs a letter, A (added), C (changed) or D (deleted), the absolute path and a NUL;
 * directories before what is in them, in the order of the names. */
int changes_list(int out, int upper, int lower, struct error **err);

/* changes_layer: to `out`, a layer tar (OCI image spec, layer.md): what was added and changed with owners, attributes and
 * links, directories on the way to it, `.wh.<name>` for what was deleted, `.wh..wh..opq` in what replaced a directory. */
int changes_layer(int out, int upper, int lower, struct error **err);

#endif
