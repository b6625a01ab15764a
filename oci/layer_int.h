/* SPDX-License-Identifier: Apache-2.0 */
/* layer_int.h - what the parts of layer.c know of each other: the data file, and files packed into it. One thread. */
#ifndef OCI_LAYER_INT_H
#define OCI_LAYER_INT_H

#include "oci/tar.h"
#include "oci/tree.h"

/* ---- layer_data.c: the layer's data, front to back, zeros left as holes ---- */
struct layer_data {
	int fd;
	uint8_t *buf;
	size_t len;       /* bytes in buf */
	uint64_t off;     /* of buf in the file; a multiple of LAYER_CHUNK */
	uint64_t started; /* what lies before is on its way to the disk */
};
int data_open(struct layer_data *d, int dirfd, const char *name, struct error **err);
void data_close(struct layer_data *d); /* after a failed data_open() too */
/* data_end: where the next byte goes. Between files it is a multiple of TREE_ALIGN. */
uint64_t data_end(const struct layer_data *d);
/* data_check_size: refuses files that would make the layer larger than any may be, before any of it is written. */
int data_check_size(const struct layer_data *d, uint64_t more, struct error **err);
int data_put(struct layer_data *d, const void *p, size_t n, struct error **err);
int data_zeros(struct layer_data *d, uint64_t n, struct error **err);
/* data_file: appends what is left of the current file of t, `left` bytes. */
int data_file(struct layer_data *d, struct tar_reader *t, uint64_t left, struct error **err);
/* data_finish: writes out what is buffered. *len: of the file. */
int data_finish(struct layer_data *d, uint64_t *len, struct error **err);
int data_sync(const struct layer_data *d, struct error **err);

/* ---- pack.c: files into the data, compressed where that is worth it ---- */
struct pack;
/* pack_open: the index goes to dirfd/name. About 200 KiB. */
struct pack *pack_open(int dirfd, const char *name, struct error **err);
void pack_close(struct pack *p); /* NULL is fine */
/* pack_file: appends the current file of t, padded to TREE_ALIGN, and says in r where it is. */
int pack_file(struct pack *p, struct layer_data *d, struct tar_reader *t, const struct tar_entry *e,
	      struct tree_entry *r, struct error **err);
/* pack_finish: writes out what is buffered. *len: of the index. */
int pack_finish(struct pack *p, uint64_t *len, struct error **err);
int pack_sync(const struct pack *p, struct error **err);

#endif
