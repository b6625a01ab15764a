/* SPDX-License-Identifier: Apache-2.0 */
/* engine.c - which engine: the user's wish, what /dev/kvm can do (kvm_probe.c), and whether QEMU is installed. */
#include <sys/stat.h>

#include "core/proc.h"
#include "vmm/engine.h"

#define QEMU_PROGRAM "qemu-system-x86_64"

static const struct {
	const char *name;
	enum vm_engine engine;
} names[] = {
	{"auto", VM_ENGINE_AUTO},
	{"kvm", VM_ENGINE_KVM},
	{"qemu", VM_ENGINE_QEMU},
};

const char *vm_engine_name(enum vm_engine e)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(names); i++)
		if (names[i].engine == e)
			return names[i].name;
	return "unknown";
}

int vm_engine_parse(const char *s, enum vm_engine *out)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(names); i++) {
		if (str_eq(names[i].name, s)) {
			*out = names[i].engine;
			return 0;
		}
	}
	return -1;
}

static bool executable(const char *path)
{
	struct stat st;

	return !stat(path, &st) && S_ISREG(st.st_mode) && !access(path, X_OK);
}

/* The program's path, owned by the caller; NULL when it is not there. */
static char *find_qemu(const char *wish)
{
	if (wish)
		return executable(wish) ? xstrdup(wish) : NULL;
	return proc_find(QEMU_PROGRAM);
}

static int choose_kvm(enum vm_engine *out, char **why, struct error **err)
{
	CLEANUP_FREE char *seen = NULL;

	if (kvm_probe(&seen))
		return error_set(err, ERR_UNSUPPORTED, "the kvm engine cannot run here: %s", seen);
	*out = VM_ENGINE_KVM;
	*why = xasprintf("kvm as asked; %s", seen);
	return 0;
}

static int choose_qemu(const char *qemu_path, enum vm_engine *out, char **why, struct error **err)
{
	CLEANUP_FREE char *path = find_qemu(qemu_path);

	if (!path)
		return error_set(err, ERR_UNSUPPORTED,
				 "the qemu engine needs %s; install the package qemu-system-x86",
				 qemu_path ? qemu_path : QEMU_PROGRAM);
	*out = VM_ENGINE_QEMU;
	*why = xasprintf("qemu as asked; %s", path);
	return 0;
}

static int choose_auto(const char *qemu_path, enum vm_engine *out, char **why, struct error **err)
{
	CLEANUP_FREE char *seen = NULL;
	CLEANUP_FREE char *path = NULL;

	if (!kvm_probe(&seen)) {
		*out = VM_ENGINE_KVM;
		*why = xasprintf("kvm; %s", seen);
		return 0;
	}
	path = find_qemu(qemu_path);
	if (!path)
		return error_set(
			err, ERR_UNSUPPORTED,
			"no engine can run here: %s; make a working /dev/kvm available (load "
			"kvm_intel or "
			"kvm_amd, join the group kvm), or install the package qemu-system-x86",
			seen);
	*out = VM_ENGINE_QEMU;
	*why = xasprintf("qemu (%s); %s", path, seen);
	return 0;
}

int vm_engine_choose(enum vm_engine wish, const char *qemu_path, enum vm_engine *out, char **why,
		     struct error **err)
{
	switch (wish) {
	case VM_ENGINE_KVM:
		return choose_kvm(out, why, err);
	case VM_ENGINE_QEMU:
		return choose_qemu(qemu_path, out, why, err);
	default:
		return choose_auto(qemu_path, out, why, err);
	}
}
