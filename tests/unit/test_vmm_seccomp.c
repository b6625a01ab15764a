// links: vmm core
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Filters for containers: what the programs say, run by a small interpreter here; the default profile's promises; and
 * profiles of others against what libseccomp makes of them.
 */
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <cmocka.h>

#include "core/caps.h"
#include "core/path.h"
#include "vmm/seccomp.h"

#define ALLOW  SECCOMP_RET_ALLOW
#define REFUSE (SECCOMP_RET_ERRNO | EPERM)
#define ABSENT (SECCOMP_RET_ERRNO | ENOSYS)
#define ADMIN  (1ull << CAP_SYS_ADMIN)

/* What the kernel would do; every jump and load must be one it would accept. */
static uint32_t run(const struct sock_filter *f, size_t n, const struct seccomp_data *d)
{
	uint32_t a = 0;
	size_t pc;

	for (pc = 0; pc < n; pc++) {
		const struct sock_filter *i = &f[pc];
		bool hit;

		switch (i->code) {
		case BPF_LD | BPF_W | BPF_ABS:
			assert_true(i->k + 4 <= sizeof(*d) && i->k % 4 == 0);
			memcpy(&a, (const char *)d + i->k, 4);
			continue;
		case BPF_ALU | BPF_AND | BPF_K:
			a &= i->k;
			continue;
		case BPF_RET | BPF_K:
			return i->k;
		case BPF_JMP | BPF_JA:
			pc += i->k;
			continue;
		case BPF_JMP | BPF_JEQ | BPF_K:
			hit = a == i->k;
			break;
		case BPF_JMP | BPF_JGT | BPF_K:
			hit = a > i->k;
			break;
		case BPF_JMP | BPF_JGE | BPF_K:
			hit = a >= i->k;
			break;
		case BPF_JMP | BPF_JSET | BPF_K: /* libseccomp's */
			hit = a & i->k;
			break;
		default:
			fail_msg("instruction %zu: code %#x", pc, i->code);
			return 0;
		}
		pc += hit ? i->jt : i->jf;
	}
	fail_msg("ran off the end");
	return 0;
}

struct program {
	struct buf b;
};

static uint32_t ask(const struct program *p, uint32_t arch, int nr, const uint64_t *args)
{
	struct seccomp_data d = {.nr = nr, .arch = arch};

	if (args)
		memcpy(d.args, args, sizeof(d.args));
	return run((const struct sock_filter *)(const void *)p->b.data,
		   p->b.len / sizeof(struct sock_filter), &d);
}

static uint32_t native(const struct program *p, int nr, uint64_t a0, uint64_t a1, uint64_t a2)
{
	uint64_t args[6] = {a0, a1, a2};

	return ask(p, AUDIT_ARCH_X86_64, nr, args);
}

static struct program compiled(const char *json, uint64_t caps)
{
	CLEANUP_JSON struct json_object *o = json ? json_parse(json, strlen(json), NULL) : NULL;
	struct program p = {0};
	struct error *e = NULL;

	assert_true(!json || o);
	if (seccomp_compile(o, caps, &p.b, &e))
		fail_msg("%s", e->msg);
	assert_int_equal(p.b.len % sizeof(struct sock_filter), 0);
	assert_true(p.b.len / sizeof(struct sock_filter) <= BPF_MAXINSNS);
	return p;
}

/* ---- the default profile ---- */

static void test_default(void **state)
{
	struct program p = compiled(NULL, caps_default);
	uint64_t none[6] = {0};

	assert_int_equal(native(&p, SYS_read, 0, 0, 0), ALLOW);
	assert_int_equal(native(&p, SYS_openat2, 0, 0, 0), ALLOW);
	assert_int_equal(native(&p, SYS_chroot, 0, 0, 0), ALLOW); /* CAP_SYS_CHROOT */
	assert_int_equal(native(&p, SYS_mount, 0, 0, 0), REFUSE);
	assert_int_equal(native(&p, SYS_unshare, 0, 0, 0), REFUSE);
	assert_int_equal(native(&p, SYS_io_uring_setup, 0, 0, 0), REFUSE);
	assert_int_equal(native(&p, SYS_keyctl, 0, 0, 0), REFUSE);
	assert_int_equal(native(&p, SYS_kexec_load, 0, 0, 0), REFUSE);
	assert_int_equal(native(&p, 2000, 0, 0, 0), ABSENT);
	assert_int_equal(native(&p, -1, 0, 0, 0), ABSENT);
	assert_int_equal(native(&p, 0x40000000, 0, 0, 0), ABSENT);    /* x32's read */
	assert_int_equal(ask(&p, AUDIT_ARCH_I386, 3, none), ALLOW);   /* read */
	assert_int_equal(ask(&p, AUDIT_ARCH_I386, 21, none), REFUSE); /* mount */
	assert_int_equal(ask(&p, AUDIT_ARCH_AARCH64, 63, none), SECCOMP_RET_KILL_PROCESS);
	buf_free(&p.b);
}

static void test_default_args(void **state)
{
	struct program p = compiled(NULL, caps_default), q = compiled(NULL, 0);

	assert_int_equal(native(&p, SYS_clone, CLONE_VM | CLONE_THREAD | SIGCHLD, 0, 0), ALLOW);
	assert_int_equal(native(&p, SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0), REFUSE);
	assert_int_equal(native(&p, SYS_clone, CLONE_NEWNS, 0, 0), REFUSE);
	assert_int_equal(native(&p, SYS_clone, 1ull << 40, 0, 0),
			 ALLOW); /* no flag of a namespace */
	assert_int_equal(native(&p, SYS_clone3, 0, 0, 0), ABSENT);
	assert_int_equal(native(&p, SYS_personality, 0xffffffff, 0, 0), ALLOW);
	assert_int_equal(native(&p, SYS_personality, 0x20008, 0, 0), ALLOW);
	assert_int_equal(native(&p, SYS_personality, 0x0040000 /* no randomness */, 0, 0), ABSENT);
	assert_int_equal(native(&p, SYS_socket, AF_INET, SOCK_STREAM, 0), ALLOW);
	assert_int_equal(native(&p, SYS_socket, AF_VSOCK, SOCK_STREAM, 0), REFUSE);
	assert_int_equal(native(&p, SYS_socket, AF_NETLINK, SOCK_RAW, 9), ALLOW);
	assert_int_equal(native(&q, SYS_socket, AF_NETLINK, SOCK_RAW, 9),
			 SECCOMP_RET_ERRNO | EINVAL);
	assert_int_equal(native(&q, SYS_socket, AF_NETLINK, SOCK_RAW, 0), ALLOW);
	assert_int_equal(native(&q, SYS_chroot, 0, 0, 0), REFUSE);
	buf_free(&p.b);
	buf_free(&q.b);
}

static void test_default_caps(void **state)
{
	struct program p = compiled(NULL, CAPS_ALL), q = compiled(NULL, 1ull << CAP_SYSLOG);

	assert_int_equal(native(&p, SYS_mount, 0, 0, 0), ALLOW);
	assert_int_equal(native(&p, SYS_clone, CLONE_NEWNS, 0, 0), ALLOW);
	assert_int_equal(native(&p, SYS_clone3, 0, 0, 0), ALLOW);
	assert_int_equal(native(&p, SYS_reboot, 0, 0, 0), ALLOW);
	assert_int_equal(native(&p, SYS_socket, AF_VSOCK, SOCK_STREAM, 0), REFUSE);
	assert_int_equal(native(&q, SYS_syslog, 0, 0, 0), ALLOW);
	assert_int_equal(native(&q, SYS_bpf, 0, 0, 0), REFUSE);
	buf_free(&p.b);
	buf_free(&q.b);
}

/* The table is searched by name. */
static void test_names(void **state)
{
	size_t i;

	for (i = 1; i < seccomp_nnames; i++)
		assert_true(strcmp(seccomp_names[i - 1].name, seccomp_names[i].name) < 0);
	for (i = 0; i < seccomp_nnames; i++) {
		int nr = seccomp_syscall_resolve_name_arch(SCMP_ARCH_X86_64, seccomp_names[i].name);

		if (seccomp_names[i].nr64 >= 0 && nr != __NR_SCMP_ERROR)
			assert_int_equal(nr, seccomp_names[i].nr64);
	}
}

/* ---- against libseccomp ---- */

/* `profile` has one rule for each call, or several with the same action, as libseccomp wants them. */
static struct program theirs(struct json_object *profile, uint32_t fallback)
{
	scmp_filter_ctx ctx = seccomp_init(fallback);
	struct json_object *calls = json_arr(profile, "syscalls");
	static const struct {
		const char *name;
		enum scmp_compare op;
	} ops[] = {
		{"SCMP_CMP_NE", SCMP_CMP_NE},
		{"SCMP_CMP_LT", SCMP_CMP_LT},
		{"SCMP_CMP_LE", SCMP_CMP_LE},
		{"SCMP_CMP_EQ", SCMP_CMP_EQ},
		{"SCMP_CMP_GE", SCMP_CMP_GE},
		{"SCMP_CMP_GT", SCMP_CMP_GT},
		{"SCMP_CMP_MASKED_EQ", SCMP_CMP_MASKED_EQ},
	};
	struct program p = {0};
	size_t i, k, m;
	int fd = memfd_create("bpf", MFD_CLOEXEC);

	assert_non_null(ctx);
	for (i = 0; i < json_object_array_length(calls); i++) {
		struct json_object *o = json_object_array_get_idx(calls, i);
		struct json_object *names = json_arr(o, "names"), *args = json_arr(o, "args");
		struct scmp_arg_cmp cmp[6];
		size_t n = args ? json_object_array_length(args) : 0;

		for (k = 0; k < n; k++) {
			struct json_object *a = json_object_array_get_idx(args, k);

			for (m = 0; strcmp(ops[m].name, json_str(a, "op", "")); m++)
				;
			cmp[k] = (struct scmp_arg_cmp){
				.arg = (unsigned)json_int(a, "index", 0),
				.op = ops[m].op,
				.datum_a = json_object_get_uint64(json_get(a, "value")),
				.datum_b = json_object_get_uint64(json_get(a, "valueTwo"))};
		}
		for (k = 0; k < json_object_array_length(names); k++) {
			const char *name =
				json_object_get_string(json_object_array_get_idx(names, k));
			int nr = seccomp_syscall_resolve_name_arch(SCMP_ARCH_X86_64, name);

			assert_true(nr >= 0);
			assert_int_equal(seccomp_rule_add_array(ctx, SCMP_ACT_ALLOW, nr,
								(unsigned)n, cmp),
					 0);
		}
	}
	assert_int_equal(seccomp_export_bpf(ctx, fd), 0);
	lseek(fd, 0, SEEK_SET);
	assert_int_equal(fd_read_all(fd, 1 << 20, &p.b, NULL), 0);
	close(fd);
	seccomp_release(ctx);
	return p;
}

static const char *const op_names[] = {"SCMP_CMP_NE",       "SCMP_CMP_LT", "SCMP_CMP_LE",
				       "SCMP_CMP_EQ",       "SCMP_CMP_GE", "SCMP_CMP_GT",
				       "SCMP_CMP_MASKED_EQ"};
static const uint64_t values[] = {
	0,          1,           2,           9,           0x7fffffff,         0x80000000,
	0xffffffff, 0x100000000, 0x100000001, 0x1ffffffff, 0x8000000000000000, ~0ull,
};

/* A profile with each comparison of each value on a call of its own, and pairs of arguments. */
static char *many_rules(void)
{
	struct buf b = {0};
	size_t i, k, call = 0;

	buf_puts(
		&b,
		"{\"defaultAction\": \"SCMP_ACT_ERRNO\", \"defaultErrnoRet\": 38, \"syscalls\": [");
	for (i = 0; i < ARRAY_SIZE(op_names); i++)
		for (k = 0; k < ARRAY_SIZE(values); k++) {
			while (call < seccomp_nnames && seccomp_names[call].nr64 < 0)
				call++;
			buf_printf(
				&b,
				"%s{\"names\": [\"%s\"], \"action\": \"SCMP_ACT_ALLOW\", "
				"\"args\": [{\"index\": %zu, \"value\": %llu, \"valueTwo\": %llu, "
				"\"op\": \"%s\"}, {\"index\": %zu, \"value\": %llu, \"valueTwo\": "
				"1, \"op\": \"SCMP_CMP_%s\"}]}",
				i || k ? ", " : "", seccomp_names[call++].name, k % 3,
				(unsigned long long)values[k],
				(unsigned long long)(values[k] &
						     values[(k + 5) % ARRAY_SIZE(values)]),
				op_names[i], 3 + k % 3,
				(unsigned long long)values[(k + 3) % ARRAY_SIZE(values)],
				k % 2 ? "GE" : "NE");
		}
	buf_puts(&b, "]}");
	return b.data;
}

static void test_comparisons(void **state)
{
	CLEANUP_FREE char *text = many_rules();
	CLEANUP_JSON struct json_object *o = json_parse(text, strlen(text), NULL);
	struct program ours = compiled(text, 0), other = theirs(o, SCMP_ACT_ERRNO(ENOSYS));
	unsigned seed = 1;
	int nr, i, k;

	for (nr = 0; nr < 460; nr++)
		for (i = 0; i < 400; i++) {
			uint64_t args[6];

			for (k = 0; k < 6; k++)
				args[k] = values[(seed = seed * 1103515245 + 12345) / 65536 %
						 ARRAY_SIZE(values)];
			assert_int_equal(ask(&ours, AUDIT_ARCH_X86_64, nr, args),
					 ask(&other, AUDIT_ARCH_X86_64, nr, args));
		}
	buf_free(&ours.b);
	buf_free(&other.b);
}

/* ---- profiles as they come ---- */

static void test_first_counts(void **state)
{
	struct program p =
		compiled("{\"defaultAction\": \"SCMP_ACT_KILL_PROCESS\", \"syscalls\": ["
			 "{\"names\": [\"read\", \"no_such_call\"], \"action\": "
			 "\"SCMP_ACT_ERRNO\", \"errnoRet\": 5,"
			 " \"args\": [{\"index\": 0, \"value\": 3, \"op\": \"SCMP_CMP_EQ\"}]},"
			 "{\"name\": \"read\", \"action\": \"SCMP_ACT_LOG\"},"
			 "{\"names\": [\"read\", \"write\"], \"action\": \"SCMP_ACT_ALLOW\"},"
			 "{\"names\": [\"mount\"], \"action\": \"SCMP_ACT_ALLOW\", \"includes\": "
			 "{\"caps\": [\"CAP_SYS_ADMIN\"]}},"
			 "{\"names\": [\"brk\"], \"action\": \"SCMP_ACT_ALLOW\", \"excludes\": "
			 "{\"caps\": [\"CAP_SYS_ADMIN\"]}},"
			 "{\"names\": [\"dup\"], \"action\": \"SCMP_ACT_ALLOW\", \"includes\": "
			 "{\"arches\": [\"amd64\"]}},"
			 "{\"names\": [\"dup2\"], \"action\": \"SCMP_ACT_ALLOW\", \"includes\": "
			 "{\"arches\": [\"s390x\"]}}]}",
			 ADMIN);
	uint64_t none[6] = {0};

	assert_int_equal(native(&p, SYS_read, 3, 0, 0), SECCOMP_RET_ERRNO | 5);
	assert_int_equal(native(&p, SYS_read, 4, 0, 0), SECCOMP_RET_LOG);
	assert_int_equal(native(&p, SYS_write, 0, 0, 0), ALLOW);
	assert_int_equal(native(&p, SYS_mount, 0, 0, 0), ALLOW);
	assert_int_equal(native(&p, SYS_brk, 0, 0, 0), SECCOMP_RET_KILL_PROCESS);
	assert_int_equal(native(&p, SYS_dup, 0, 0, 0), ALLOW);
	assert_int_equal(native(&p, SYS_dup2, 0, 0, 0), SECCOMP_RET_KILL_PROCESS);
	/* It lists no other architecture. */
	assert_int_equal(ask(&p, AUDIT_ARCH_I386, 3, none), SECCOMP_RET_KILL_PROCESS);
	buf_free(&p.b);
}

static void test_refused(void **state)
{
	static const char *const bad[] = {
		"{}",
		"{\"defaultAction\": \"SCMP_ACT_PERHAPS\"}",
		"{\"defaultAction\": \"SCMP_ACT_NOTIFY\"}",
		"{\"defaultAction\": \"SCMP_ACT_ERRNO\", \"defaultErrnoRet\": 70000}",
		"{\"defaultAction\": \"SCMP_ACT_ALLOW\", \"syscalls\": 1}",
		"{\"defaultAction\": \"SCMP_ACT_ALLOW\", \"syscalls\": [1]}",
		"{\"defaultAction\": \"SCMP_ACT_ALLOW\", \"syscalls\": [{\"names\": [1], "
		"\"action\": \"SCMP_ACT_LOG\"}]}",
		"{\"defaultAction\": \"SCMP_ACT_ALLOW\", \"syscalls\": [{\"names\": [\"read\"], "
		"\"action\": \"SCMP_ACT_LOG\", "
		"\"args\": [{\"index\": 6, \"value\": 0, \"op\": \"SCMP_CMP_EQ\"}]}]}",
		"{\"defaultAction\": \"SCMP_ACT_ALLOW\", \"syscalls\": [{\"names\": [\"read\"], "
		"\"action\": \"SCMP_ACT_LOG\", "
		"\"args\": [{\"index\": 0, \"value\": 0, \"op\": \"SCMP_CMP_ODD\"}]}]}",
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		CLEANUP_JSON struct json_object *o = json_parse(bad[i], strlen(bad[i]), NULL);
		CLEANUP_ERROR struct error *e = NULL;
		CLEANUP_BUF struct buf b = {0};

		assert_non_null(o);
		assert_int_equal(seccomp_compile(o, 0, &b, &e), -1);
		assert_non_null(e);
	}
}

/* Conditions on every call: too long for the kernel, and said so; just below, with jumps that reach. */
static void test_long(void **state)
{
	int n, fits = 0, refused = 0;

	for (n = 100; n <= 360; n += 65) {
		CLEANUP_ERROR struct error *e = NULL;
		CLEANUP_JSON struct json_object *o = NULL;
		CLEANUP_BUF struct buf text = {0}, b = {0};
		size_t i, used = 0;

		buf_puts(&text, "{\"defaultAction\": \"SCMP_ACT_ERRNO\", \"syscalls\": [");
		for (i = 0; i < seccomp_nnames && used < (size_t)n; i++)
			if (seccomp_names[i].nr64 >= 0)
				buf_printf(
					&text,
					"%s{\"names\": [\"%s\"], \"action\": \"SCMP_ACT_ALLOW\", "
					"\"args\": [{\"index\": 0, \"value\": 1, \"op\": "
					"\"SCMP_CMP_EQ\"}, {\"index\": 5, \"value\": 2, \"op\": "
					"\"SCMP_CMP_LT\"}, {\"index\": 3, \"value\": 2, \"op\": "
					"\"SCMP_CMP_GT\"}]}",
					used++ ? ", " : "", seccomp_names[i].name);
		buf_puts(&text, "]}");
		o = json_parse(text.data, text.len, NULL);
		assert_non_null(o);
		if (seccomp_compile(o, 0, &b, &e)) {
			refused++;
			continue;
		}
		fits++;
		for (i = 0; i < seccomp_nnames; i++) {
			struct program p = {b};
			uint64_t yes[6] = {1, 0, 0, 3, 0, 1};

			if (seccomp_names[i].nr64 >= 0 && !used--)
				break;
			if (seccomp_names[i].nr64 >= 0)
				assert_int_equal(ask(&p, AUDIT_ARCH_X86_64, seccomp_names[i].nr64,
						     yes),
						 ALLOW);
		}
	}
	assert_true(fits && refused);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_default),      cmocka_unit_test(test_default_args),
		cmocka_unit_test(test_default_caps), cmocka_unit_test(test_names),
		cmocka_unit_test(test_comparisons),  cmocka_unit_test(test_first_counts),
		cmocka_unit_test(test_refused),      cmocka_unit_test(test_long),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
