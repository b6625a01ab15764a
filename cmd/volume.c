/* SPDX-License-Identifier: Apache-2.0 */
/* volume.c - what a volume may be called. */
#include "cmd/volume.h"

#define ALNUM "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"

bool volume_name_ok(const char *name)
{
	size_t n = strspn(name, ALNUM "_.-");

	return n && !name[n] && n <= VOLUME_NAME_MAX && strchr(ALNUM, *name);
}
