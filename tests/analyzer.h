/* SPDX-License-Identifier: Apache-2.0 */
/*
 * analyzer.h - what clang's analyzer, which looks at one file at a time, has to be told. Included first by tests/check-static.sh.
 *
 * The functions that make errors return -1, always; not knowing it, the analyzer follows paths on which an error was success.
 */
#ifndef TESTS_ANALYZER_H
#define TESTS_ANALYZER_H

#include "core/error.h"

#define error_set(...)  (error_set(__VA_ARGS__), -1)
#define error_sys(...)  (error_sys(__VA_ARGS__), -1)
#define error_wrap(...) (error_wrap(__VA_ARGS__), -1)
#define error_move(...) (error_move(__VA_ARGS__), -1)

#endif
