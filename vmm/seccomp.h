/* SPDX-License-Identifier: Apache-2.0 */
/*
 * seccomp.h - which system calls a container's processes may make: from a profile to the BPF program that the guest
 * installs (seccomp(2), SECCOMP_SET_MODE_FILTER).
 *
 * DOC: Profiles
 * A profile is the JSON object of the OCI runtime specification ("linux.seccomp") or docker's and containers-common's
 * variant of it: `defaultAction`, `defaultErrnoRet`, `architectures` or `archMap`, `syscalls`: [{`names` or `name`,
 * `action`, `errnoRet`, `args`: [{`index`, `value`, `valueTwo`, `op`}], `includes` and `excludes`: {`caps`, `arches`}}].
 * Without one there is the default profile: what docker allows, where capabilities of the container open what they are
 * for. Calls that no entry names do not exist there (ENOSYS), so that programs take their older ways; those it knows and
 * refuses are not permitted (EPERM).
 *
 * The entries of one call are tried in their order and the first that fits counts. x86-64 and i386 are known; x32 does
 * not exist (ENOSYS). A call by another architecture ends the process. Names the kernel's headers did not have when this
 * was built are passed over, as every runtime does.
 */
#ifndef VMM_SECCOMP_H
#define VMM_SECCOMP_H

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/json.h"
#include "core/str.h"

#define SECCOMP_MAX_CODE 4096 /* instructions, the kernel's limit */

/*
 * seccomp_compile: appends the program (struct sock_filter, for this machine) for a container with the capabilities
 * `caps` (mask of 1 << number) to out. profile NULL: the default one. Errors name what is wrong in the profile. Any thread.
 */
int seccomp_compile(struct json_object *profile, uint64_t caps, struct buf *out,
		    struct error **err);

/* ---- inside: seccomp.c collects entries, seccomp_code.c turns them into instructions ---- */

enum seccomp_op { OP_NE, OP_LT, OP_LE, OP_EQ, OP_GE, OP_GT, OP_MASKED };
#define SECCOMP_MAX_ARGS 6

struct seccomp_rule {
	uint32_t action; /* SECCOMP_RET_*, with its data */
	unsigned nargs;  /* all of them must fit; 0: always */
	struct seccomp_arg {
		unsigned index;
		enum seccomp_op op;
		uint64_t value, value2; /* MASKED: argument & value == value2 */
	} arg[SECCOMP_MAX_ARGS];
};

struct seccomp_entry {
	uint32_t nr;
	uint32_t rule; /* index; ascending is their order */
};

struct seccomp_calls { /* of one architecture */
	struct seccomp_entry *entry;
	size_t n;
};

struct seccomp_set {
	struct seccomp_rule *rule;
	size_t nrules;
	struct seccomp_calls call[2]; /* x86-64, i386 */
	uint32_t fallback;            /* action for all others */
	bool i386;
};

/* seccomp_names.c; by name, -1: not on that architecture. */
struct seccomp_name {
	const char *name;
	int nr64, nr32;
};
extern const struct seccomp_name seccomp_names[];
extern const size_t seccomp_nnames;

int seccomp_code(struct seccomp_set *set, struct buf *out, struct error **err);

#endif
