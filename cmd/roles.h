/* SPDX-License-Identifier: Apache-2.0 */
/* roles.h - the entry points of the five roles; each returns the process's exit status. */
#ifndef CMD_ROLES_H
#define CMD_ROLES_H

int cli_main(int argc, char **argv);
int apiserver_main(int argc, char **argv);
int images_main(int argc, char **argv);
int network_main(int argc, char **argv);
int runtime_main(int argc, char **argv);

#endif
