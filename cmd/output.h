/* SPDX-License-Identifier: Apache-2.0 */
/* output.h - where an archive goes: the file of --output, or standard output. */
#ifndef CMD_OUTPUT_H
#define CMD_OUTPUT_H

#include "core/error.h"

struct output {
	int fd;
	const char *path; /* NULL: standard output */
	char *tmp;        /* NULL: written in place */
};

/* output_open: path NULL or "-" is standard output, which must not be a terminal. A file appears under its name when it is whole and
 * output_commit() says so; what is there and no file (a FIFO, a device) is written to as it is. *o is fit for output_close() in any
 * case. */
int output_open(struct output *o, const char *path, struct error **err);
int output_commit(struct output *o, struct error **err);
void output_close(struct output *o);

#endif
