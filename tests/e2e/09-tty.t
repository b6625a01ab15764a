#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Terminals, in tmux: size, resize, Ctrl-C, raw mode and its end.
. "$(dirname "$0")/../lib/system.sh"
command -v tmux >/dev/null || skip_all 'tmux is not installed'
ready_system

tm()
{
	tmux -S "$T/tmux" -f /dev/null "$@"
}
screen()
{
	tm capture-pane -p -J -t t
}
shows() # regex
{
	screen | grep -Eq -- "$1"
}
typed() # keys…
{
	tm send-keys -t t "$@"
}
export C
tm new-session -d -s t -x 91 -y 33 "PS1='host> ' bash --norc --noprofile"
tm set-option -g status off
tm resize-window -t t -x 91 -y 33
ok 'a terminal' wait_until 10 shows 'host> *$'
typed "stty -g >$T/before" Enter
typed 'clear; $C run -it --rm --name tty demo sh' Enter
ok 'testTermIODoesNotPanic: run -it gives a prompt' wait_until "$T_LIMIT" shows '/ #'
typed 'stty size; tty; echo TERM=$TERM; test -t 0 -a -t 1 -a -t 2 && echo all-ttys' Enter
ok 'the size of the window' wait_until 20 shows '^33 91'
ok 'a pseudo-terminal' wait_until 10 shows '^/dev/pts/|^/dev/console'
ok 'TERM' wait_until 10 shows '^TERM=[a-z]'
ok 'all three streams are it' wait_until 10 shows '^all-ttys'
tm resize-window -t t -x 100 -y 40
sized()
{
	typed 'clear; stty size' Enter
	sleep 0.5
	shows '^40 100'
}
ok 'a new size of the window' wait_until 20 sized
# What is typed before the shell has begun the line would end the line and not the program.
typed 'clear; echo be""gun; sleep 1000' Enter
ok 'a program runs' wait_until 20 shows '^begun'
typed C-c
wait_until 10 shows '^/ # *$'
typed 'echo status=$?' Enter
ok 'Ctrl-C ends the program in the container' wait_until 20 shows '^status=130'
ok 'and not the container' "$C" exec tty true
# Typed ahead, while a program runs.
typed 'clear; trap "echo got-int" INT; sleep 1' Enter
typed 'exit 12' Enter
ok 'testTermIODoesNotPanic: what is typed ends it, back at the host' wait_until 30 shows 'host> *$'
typed 'echo code=$?' Enter
ok 'with the exit status' wait_until 10 shows '^code=12'
typed "stty -g >$T/after" Enter
wait_until 5 test -s "$T/after"
is 'the terminal is as it was' "$(cat "$T/after")" "$(cat "$T/before")"

# exec -it, and the client killed in raw mode by its container's end.
run_ok 'a container' "$C" run -d --name srv demo sleep 1000
typed 'clear; $C exec -it srv sh' Enter
ok 'exec -it' wait_until 30 shows '/ #'
typed 'clear; stty size' Enter
ok 'the size there' wait_until 10 shows '^40 100'
typed 'exit' Enter
ok 'and its end' wait_until 30 shows 'host> *$'

# The table of stats, which is drawn anew until Ctrl-C: on the terminal's second screen, with the cursor hidden.
rm -f "$T/after"
typed 'clear; echo first screen; $C stats' Enter
table() # drawn at least twice: a share of the CPU comes of two samples
{
	shows '^Container ID +Cpu %' && shows '^srv +[0-9.]+%'
}
ok 'stats: a header and the container' wait_until 60 table
is 'on a screen of its own, without a cursor' "$(tm display-message -p -t t '#{alternate_on} #{cursor_flag}')" '1 0'
typed C-c
ok 'stats: Ctrl-C ends it' wait_until 30 shows 'host> *$'
ok 'the first screen is back' wait_until 10 shows '^first screen'
is 'and the cursor' "$(tm display-message -p -t t '#{alternate_on} #{cursor_flag}')" '0 1'
typed 'echo code=$?' Enter
ok 'stats: that is no failure' wait_until 10 shows '^code=0'
typed "stty -g >$T/after" Enter
wait_until 5 test -s "$T/after"
is 'stats: the terminal is as it was' "$(cat "$T/after")" "$(cat "$T/before")"

typed 'clear; $C exec -it srv sh' Enter
ok 'exec -it' wait_until 30 shows '/ #'
run_ok 'the container goes away' "$C" delete -f srv
ok 'the client ends' wait_until 30 shows 'host> *$'
rm -f "$T/after"
typed '' Enter
typed "stty -g >$T/after" Enter
wait_until 5 test -s "$T/after"
is 'the terminal is as it was' "$(cat "$T/after")" "$(cat "$T/before")"

# Ctrl-C without a terminal in the container: the signal is passed on.
typed 'clear; $C run --rm demo sh -c "trap \"echo caught; exit 4\" INT; echo up; while :; do sleep 0.2; done"; echo code=$?' Enter
ok 'runs' wait_until "$T_LIMIT" shows '^up'
typed C-c
ok 'SIGINT is passed on' wait_until 20 shows 'caught$'
ok 'and its exit status comes back' wait_until 20 shows '^code=4'

# -t without -i, output to a pipe.
run_ok 'run -t' "$C" run --rm -t demo sh -c 'test -t 1 && echo tty; stty size'
like 'gives the process a terminal' "$out" 'tty'
tm kill-server
stop_system
done_testing
