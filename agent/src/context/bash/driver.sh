# Runs cells in one lasting shell, for the agent that started it.
#
# What comes in and goes out over the private pipes is what python/channel.py says. The
# shell is the user's: options, traps and variables stay as a cell leaves them, and
# `exit`, or `set -e` and a failure, end it as they would in a terminal.
#
# The loop itself is in the command line that has loaded this (language.rs): there, and
# only on a first line, bash counts the lines of a cell from one.

# Sends an event without a payload: two big-endian 32-bit lengths and a header, of less than 256 bytes.
__csb_send() {
  local length
  printf -v length '%03o' "${#1}"
  printf "\\0\\0\\0\\$length\\0\\0\\0\\0%s" "$1" >&4
}

# Says how the cell before has ended, and waits for the next.
__csb_next() {
  __csb_status=${__csb_interrupted:-$?}
  __csb_running=''
  if [[ $__csb_number ]]; then
    __csb_send "{\"type\":\"done\",\"number\":$__csb_number,\"status\":$__csb_status}"
  fi
  __csb_number='' __csb_interrupted=''
  local length
  read -r __csb_number length <&3 || exit
  LC_ALL=C IFS= read -r -N "$length" __csb_source <&3
  __csb_running=yes
}

# What $? is at the beginning of a cell: the status of the one before.
__csb_was() { return "$__csb_status"; }

# An interrupt ends the command that runs by itself. This leaves the loops around it and what
# comes after, but no function of the user's: where one goes on, the agent ends the shell.
trap '[[ $__csb_running ]] && __csb_interrupted=130 && continue 999' INT

unset __csb_driver __csb_length
__csb_number='' __csb_interrupted=''
__csb_send '{"type":"ready"}'
