/* SPDX-License-Identifier: Apache-2.0 */
/* volume.c - what a volume may be called and asked to be. */
#include "cmd/volume.h"

#define ALNUM "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"

bool volume_name_ok(const char *name)
{
	size_t n = strspn(name, ALNUM "_.-");

	return n && !name[n] && n <= VOLUME_NAME_MAX && strchr(ALNUM, *name);
}

const char *volume_of(struct json_object *mount)
{
	return json_str(json_obj(json_obj(mount, "type"), "volume"), "name", NULL);
}

static int parse_journal(const char *text, struct ext4_journal *j, struct error **err)
{
	static const char *const modes[] = {
		[EXT4_ORDERED] = "ordered",
		[EXT4_WRITEBACK] = "writeback",
		[EXT4_DATA] = "journal",
	};
	size_t n = strcspn(text, ":"), i;

	for (i = 0; i < ARRAY_SIZE(modes); i++)
		if (strlen(modes[i]) == n && !strncmp(text, modes[i], n))
			break;
	if (i == ARRAY_SIZE(modes))
		return error_set(err, ERR_INVALID_ARGUMENT,
				 "invalid journal mode '%.*s': ordered, writeback or journal "
				 "expected",
				 (int)MIN(n, (size_t)100), text);
	j->mode = (enum ext4_journal_mode)i;
	if (!text[n])
		return 0;
	if (parse_size(text + n + 1, &j->size, err))
		return error_wrap(err, "invalid size of the journal");
	if (!j->size)
		return error_set(err, ERR_INVALID_ARGUMENT, "a journal of no size");
	return 0;
}

int volume_options(struct json_object *options, uint64_t *size, struct ext4_journal *j,
		   struct error **err)
{
	*size = VOLUME_SIZE;
	*j = (struct ext4_journal){.mode = EXT4_ORDERED};
	if (!options)
		return ext4_volume_check(*size, j, err);
	json_object_object_foreach(options, key, value)
	{
		const char *text = json_str(options, key, NULL);

		(void)value;
		if (!text || (strcmp(key, "size") && strcmp(key, "journal")))
			return error_set(err, ERR_INVALID_ARGUMENT,
					 "invalid volume option '%.100s': size=<size> or "
					 "journal=<mode>[:<size>] expected",
					 key);
		if (!strcmp(key, "journal") && parse_journal(text, j, err))
			return -1;
		if (!strcmp(key, "size") && parse_size(text, size, err))
			return error_wrap(err, "invalid volume size");
	}
	return ext4_volume_check(*size, j, err);
}

static bool label_key_ok(const char *key)
{
	size_t n = strlen(key);

	return n && n <= LABEL_KEY_MAX && !key[strspn(key, ALNUM "._-/")] && strchr(ALNUM, *key) &&
	       strchr(ALNUM, key[n - 1]);
}

int labels_check(struct json_object *labels, struct error **err)
{
	if (!labels)
		return 0;
	if (json_object_object_length(labels) > LABELS_MAX)
		return error_set(err, ERR_INVALID_ARGUMENT, "more than %d labels", LABELS_MAX);
	json_object_object_foreach(labels, key, value)
	{
		const char *text = json_str(labels, key, NULL);

		(void)value;
		if (!label_key_ok(key) || !text)
			return error_set(err, ERR_INVALID_ARGUMENT, "invalid label '%.200s'", key);
		if (strlen(key) + 1 + strlen(text) > LABEL_MAX)
			return error_set(err, ERR_INVALID_ARGUMENT,
					 "label '%s' is longer than %d bytes", key, LABEL_MAX);
	}
	return 0;
}
