// links: oci core
/* SPDX-License-Identifier: Apache-2.0 */
/* test_oci_login.c - logins: tried, kept encrypted, and what a store with another key or damaged files does (attack class K). */
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "core/state.h"
#include "tests/unit/oci_mock_push.h"

static void assert_not_on_disk(struct fx *f, const char *secret)
{
	CLEANUP_BUF struct buf b = {0};

	assert_int_equal(path_read_all(f->store->root, "credentials", 1 << 20, &b, NULL), 0);
	assert_null(memmem(b.data, b.len, secret, strlen(secret)));
	assert_null(memmem(b.data, b.len, USER, strlen(USER)));
}

static void login_works(struct fx *f, struct mock *m)
{
	CLEANUP_FREE char *server = xasprintf("127.0.0.1:%d", m->port), *user = NULL,
			  *secret = NULL;
	CLEANUP_JSON struct json_object *list = NULL;
	struct error *e = NULL;
	struct stat st;

	reg.want_basic = true;
	assert_int_equal(oci_login(f->store, server, "auto", USER, "wrong", true, NULL, NULL, &e),
			 -1);
	fx_assert_error(e, "refuses these credentials");
	credentials_get(f->store, server, &user, &secret);
	assert_null(user);
	e = NULL;
	if (oci_login(f->store, server, "auto", USER, PASS, true, NULL, NULL, &e) < 0)
		fail_msg("%s", error_text(e));
	assert_not_on_disk(f, PASS);
	assert_int_equal(fstatat(f->store->root, "credentials", &st, 0), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	credentials_get(f->store, server, &user, &secret);
	assert_string_equal(user, USER);
	assert_string_equal(secret, PASS);
	assert_int_equal(oci_logins(f->store, &list, NULL), 0);
	assert_int_equal(json_object_array_length(list), 1);
	assert_null(strstr(json_object_to_json_string(list), PASS));
}

/* Whether this kernel gives a key back. */
static bool have_keyring(void)
{
	long serial = syscall(SYS_add_key, "user", "container:test", "x", (size_t)1, -4);
	char c;

	return serial >= 0 && syscall(SYS_keyctl, 11 /* read */, serial, &c, (size_t)1) == 1;
}

/* The key is in a file exactly where it can be nowhere else. */
static void assert_key_file(struct fx *f, bool want)
{
	struct stat st;

	assert_int_equal(fstatat(f->store->root, "credentials.key", &st, 0), want ? 0 : -1);
	if (!want)
		return;
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_int_equal(st.st_size, 32);
}

static void test_login(void **state)
{
	struct fx_image im = {.text = "hello"};
	CLEANUP_FREE char *server = NULL;
	struct error *e = NULL;
	struct mock m = {0};

	store_image(&m, *state, &im);
	login_works(*state, &m);
	assert_key_file(*state, !have_keyring());
	assert_pushed(&m, &im, false); /* as who is logged in */
	server = xasprintf("http://127.0.0.1:%d/v2/", m.port);
	assert_int_equal(oci_logout(m.f->store, server, NULL), 0);
	assert_int_equal(oci_logout(m.f->store, server, &e), -1);
	fx_assert_error(e, "not logged in");
	mock_stop(&m);
}

static void test_login_key_file(void **state)
{
	struct fx_image im = {.text = "hello"};
	unsigned char key[32];
	struct mock m = {0};

	store_image(&m, *state, &im);
	random_bytes(key, sizeof(key));
	assert_int_equal(state_write_text(m.f->store->root, "credentials.key", key, sizeof(key),
					  0600, NULL),
			 0);
	login_works(*state, &m);
	mock_stop(&m);
}

/* A thread whose kernel has no add_key(2). */
static void *without_keyring(void *arg)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_add_key, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = {.len = ARRAY_SIZE(code), .filter = code};
	struct mock *m = arg;
	CLEANUP_FREE char *server = xasprintf("127.0.0.1:%d", m->port);

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
	    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog) < 0)
		return NULL;
	m->other = 1;
	return oci_login(m->f->store, server, "auto", USER, PASS, true, NULL, NULL, NULL) == 0
		       ? arg
		       : NULL;
}

static void test_login_no_keyring(void **state)
{
	struct fx_image im = {.text = "hello"};
	struct mock m = {0};
	pthread_t t;
	void *done;

	store_image(&m, *state, &im);
	reg.want_basic = true;
	assert_int_equal(pthread_create(&t, NULL, without_keyring, &m), 0);
	pthread_join(t, &done);
	if (!m.other) {
		mock_stop(&m);
		skip(); /* no seccomp here */
	}
	assert_non_null(done);
	assert_key_file(*state, true);
	assert_not_on_disk(*state, PASS);
	assert_pushed(&m, &im, false);
	mock_stop(&m);
}

/* What was changed on disk is noticed, nobody is logged in by it, and the next login sets it right. */
static void test_login_damaged(void **state)
{
	CLEANUP_FREE char *user = NULL, *secret = NULL, *server = NULL;
	struct fx_image im = {.text = "hello"};
	struct json_object *list = NULL;
	struct error *e = NULL;
	struct mock m = {0};
	char c;
	int fd;

	store_image(&m, *state, &im);
	login_works(*state, &m);
	server = xasprintf("127.0.0.1:%d", m.port);
	fd = openat(m.f->store->root, "credentials", O_RDWR);
	assert_int_equal(pread(fd, &c, 1, 40), 1);
	c ^= 1;
	assert_int_equal(pwrite(fd, &c, 1, 40), 1);
	close(fd);
	credentials_get(m.f->store, server, &user, &secret);
	assert_null(user);
	assert_int_equal(oci_logins(m.f->store, &list, &e), -1);
	fx_assert_error(e, "damaged");
	assert_int_equal(oci_login(m.f->store, server, "auto", USER, PASS, true, NULL, NULL, NULL),
			 0);
	mock_stop(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_login, fx_setup, fx_teardown),
		cmocka_unit_test_setup_teardown(test_login_key_file, fx_setup, fx_teardown),
		cmocka_unit_test_setup_teardown(test_login_no_keyring, fx_setup, fx_teardown),
		cmocka_unit_test_setup_teardown(test_login_damaged, fx_setup, fx_teardown),
	};
	int rc;

	alarm(120);
	rc = cmocka_run_group_tests(tests, NULL, NULL);
	reg_reset();
	return rc;
}
