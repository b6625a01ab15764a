// links: core
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_guest.c - what the guest's init makes of the boot descriptor and of a process to start (class G: the guest's side).
 * Hostile: the JSON, whoever wrote it. The guest's files are included. Checked: what was accepted is what a process can be,
 * and no line of /etc/hosts or /etc/resolv.conf is one that nobody asked for.
 */
#include <limits.h>
#include <sys/stat.h>

#include "core/path.h"
#include "tests/fuzz/fuzz.h"
#include "vmm/guest/cred.c"
#include "vmm/guest/etc.c"
#include "vmm/guest/spawn.c"

static int dir = -1;

/* Where the files go is mnt.c's business. */
int mnt_target(int rootfd, const char *path, bool file, struct error **err)
{
	(void)path;
	(void)file;
	(void)err;
	return dup(rootfd);
}
int cgroup_fd(void)
{
	return -1;
}
int cgroup_of(pid_t pid)
{
	(void)pid;
	return -1;
}
pid_t proc_init_pid(void)
{
	return -1;
}
/* Nothing is started here. */
NORETURN void child_init_main(struct child_side *c, struct json_object *boot)
{
	abort();
}
NORETURN void child_exec_main(struct child_side *c, int init_pidfd)
{
	abort();
}
NORETURN void child_task_main(struct child_side *c, int init_pidfd)
{
	abort();
}
bool task_freezes(const struct spec *s)
{
	return false;
}
void guest_log(const char *fmt, ...)
{
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	dir = open(fuzz_dir(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	FUZZ_CHECK(dir >= 0);
	return 0;
}

static void check_lines(const char *file, const char *const *begins)
{
	CLEANUP_BUF struct buf b = {0};
	char *line, *save = NULL;
	size_t i;

	if (path_read_all(dir, file, 64u << 20, &b, NULL) || !b.len)
		return;
	FUZZ_CHECK(!memchr(b.data, 0, b.len));
	for (line = strtok_r(b.data, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		for (i = 0; begins[i] && strncmp(line, begins[i], strlen(begins[i])); i++)
			;
		FUZZ_CHECK(begins[i] || address_ok(strtok(line, "\t")));
	}
}

static void check_spec(struct json_object *o)
{
	struct spec s;
	size_t i;

	if (!spec_parse(o, &s, NULL)) {
		FUZZ_CHECK(json_object_array_length(json_arr(o, "args")) >= 1);
		for (i = 0; i < json_object_array_length(json_arr(o, "args")); i++) {
			struct json_object *w = json_object_array_get_idx(json_arr(o, "args"), i);

			FUZZ_CHECK(strlen(json_object_get_string(w)) ==
				   (size_t)json_object_get_string_len(w));
		}
	}
	spec_free(&s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const hosts[] = {"127.0.0.1\t", "::1\t", NULL};
	static const char *const resolv[] = {"nameserver ", "domain ", "search ", "options ", NULL};
	CLEANUP_JSON struct json_object *o = json_parse((const char *)data, size, NULL);

	if (!o)
		return 0;
	check_spec(json_obj(o, "process") ? json_obj(o, "process") : o);
	(void)etc_write(dir, o, NULL);
	check_lines("hosts", hosts);
	check_lines("resolv.conf", resolv);
	return 0;
}
