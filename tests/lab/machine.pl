#!/usr/bin/perl
# SPDX-License-Identifier: Apache-2.0
# machine.pl: a virtual machine that does nothing and stays until somebody writes to /run/lab-machine. The lab has one all the time.
#
# With the first machine the lab's kernel patches its scheduler (preempt notifiers), with the end of the last one again. QEMU 7.2, with two
# CPUs, now and then goes on with what it translated in between, breakpoint and all: then both CPUs take that breakpoint for ever, or a kernel
# runs what was never written. A program that only makes and ends machines does that to the lab within some hundred of them.
use strict;
use warnings;
use POSIX 'mkfifo';
use constant KVM_CREATE_VM => 0xae01;

open my $kvm, '+<', '/dev/kvm' or die "lab: /dev/kvm: $!\n";
defined ioctl $kvm, KVM_CREATE_VM, 0 or die "lab: a machine: $!\n";
mkfifo '/run/lab-machine', 0600 or die "lab: /run/lab-machine: $!\n";
open my $end, '<', '/run/lab-machine';
unlink '/run/lab-machine';
