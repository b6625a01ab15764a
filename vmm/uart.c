/* SPDX-License-Identifier: Apache-2.0 */
/* uart.c - a 16550A that only talks. */
#include <linux/serial_reg.h>

#include "vmm/uart.h"

#define IIR_FIFO 0xc0 /* FIFOs enabled: how a driver tells a 16550A */

void uart_init(struct uart *u, void (*out)(void *arg, const void *p, size_t len),
	       void (*raise)(void *arg), void *arg)
{
	*u = (struct uart){.out = out, .raise = raise, .arg = arg};
	pthread_mutex_init(&u->lock, NULL);
}

void uart_fini(struct uart *u)
{
	pthread_mutex_destroy(&u->lock);
}

static void flush(struct uart *u)
{
	if (u->len)
		u->out(u->arg, u->line, u->len);
	u->len = 0;
}

void uart_flush(struct uart *u)
{
	pthread_mutex_lock(&u->lock);
	flush(u);
	pthread_mutex_unlock(&u->lock);
}

/* The transmitter is empty (again): an interrupt when the driver asked for that. */
static void thr_empty(struct uart *u)
{
	if (!(u->ier & UART_IER_THRI))
		return;
	u->thr_pending = true;
	u->raise(u->arg);
}

static uint8_t read_iir(struct uart *u)
{
	uint8_t fifo = u->fcr & UART_FCR_ENABLE_FIFO ? IIR_FIFO : 0;

	if (!u->thr_pending)
		return fifo | UART_IIR_NO_INT;
	u->thr_pending = false;
	return fifo | UART_IIR_THRI;
}

/* In loopback the four outputs of MCR are wired to the inputs of MSR; drivers probe with that. */
static uint8_t read_msr(const struct uart *u)
{
	uint8_t v = 0;

	if (!(u->mcr & UART_MCR_LOOP))
		return UART_MSR_DCD | UART_MSR_DSR | UART_MSR_CTS;
	if (u->mcr & UART_MCR_RTS)
		v |= UART_MSR_CTS;
	if (u->mcr & UART_MCR_DTR)
		v |= UART_MSR_DSR;
	if (u->mcr & UART_MCR_OUT1)
		v |= UART_MSR_RI;
	if (u->mcr & UART_MCR_OUT2)
		v |= UART_MSR_DCD;
	return v;
}

static uint8_t reg_read(struct uart *u, unsigned off)
{
	bool dlab = u->lcr & UART_LCR_DLAB;

	switch (off) {
	case UART_RX:
		return dlab ? u->dll : 0;
	case UART_IER:
		return dlab ? u->dlm : u->ier;
	case UART_IIR:
		return read_iir(u);
	case UART_LCR:
		return u->lcr;
	case UART_MCR:
		return u->mcr;
	case UART_LSR:
		return UART_LSR_TEMT | UART_LSR_THRE;
	case UART_MSR:
		return read_msr(u);
	case UART_SCR:
		return u->scr;
	default:
		return 0xff;
	}
}

static void transmit(struct uart *u, uint8_t val)
{
	if (u->mcr & UART_MCR_LOOP)
		return;
	u->line[u->len++] = (char)val;
	if (val == '\n' || u->len == sizeof(u->line))
		flush(u);
	thr_empty(u);
}

static void reg_write(struct uart *u, unsigned off, uint8_t val)
{
	bool dlab = u->lcr & UART_LCR_DLAB;

	switch (off) {
	case UART_TX:
		if (dlab)
			u->dll = val;
		else
			transmit(u, val);
		break;
	case UART_IER:
		if (dlab) {
			u->dlm = val;
			break;
		}
		u->ier = val & 0x0f;
		thr_empty(u);
		break;
	case UART_FCR:
		u->fcr = val & (UART_FCR_ENABLE_FIFO | UART_FCR_TRIGGER_MASK);
		break;
	case UART_LCR:
		u->lcr = val;
		break;
	case UART_MCR:
		u->mcr = val & 0x1f;
		break;
	case UART_SCR:
		u->scr = val;
		break;
	default:
		break;
	}
}

uint8_t uart_read(struct uart *u, unsigned off)
{
	uint8_t v;

	pthread_mutex_lock(&u->lock);
	v = reg_read(u, off);
	pthread_mutex_unlock(&u->lock);
	return v;
}

void uart_write(struct uart *u, unsigned off, uint8_t val)
{
	pthread_mutex_lock(&u->lock);
	reg_write(u, off, val);
	pthread_mutex_unlock(&u->lock);
}
