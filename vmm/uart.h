/* SPDX-License-Identifier: Apache-2.0 */
/*
 * uart.h - the output half of a 16550A serial port at I/O 0x3f8, for the guest kernel's console.
 *
 * The transmitter is always empty: a byte written is a byte gone. Nothing is ever received. Registers keep what
 * drivers need to see to believe in a 16550A (scratch, divisor latch, FIFO bits, loopback of modem lines).
 * Called from vCPU threads; locks itself.
 */
#ifndef VMM_UART_H
#define VMM_UART_H

#include <pthread.h>
#include "core/base.h"

#define UART_BASE 0x3f8
#define UART_SIZE 8
#define UART_GSI  4

struct uart {
	pthread_mutex_t lock;
	uint8_t ier, lcr, mcr, scr, fcr, dll, dlm;
	bool thr_pending; /* "transmitter empty" has not been read from IIR yet */
	/* out: bytes for the console; batched up to a newline or a full line buffer. Called with the lock held. */
	void (*out)(void *arg, const void *p, size_t len);
	void (*raise)(void *arg); /* an edge on the interrupt line */
	void *arg;
	size_t len;
	char line[128];
};

void uart_init(struct uart *u, void (*out)(void *arg, const void *p, size_t len),
	       void (*raise)(void *arg), void *arg);
void uart_fini(struct uart *u);
/* off: 0..7 from the base. */
uint8_t uart_read(struct uart *u, unsigned off);
void uart_write(struct uart *u, unsigned off, uint8_t val);
/* uart_flush: hands an unfinished line out. */
void uart_flush(struct uart *u);

#endif
